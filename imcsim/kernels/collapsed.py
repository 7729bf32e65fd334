"""The collapsed engine: where converters lose nothing, all cycles and slices are one product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imcsim.functional.dac import PulseTrain, digits
from imcsim.functional.mvm import Columns
from imcsim.kernels.job import Job

_EXACT_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class Collapsed:
    """One matrix for all slices and cycles: ``y_int = sum_p 2^shifts[p] x_int @ pieces[p]^T + constant``.

    Attributes:
        pieces: each (groups, outputs, inputs); several where one product would leave float32's exact
            integers.
        shifts: power of two of each piece.
        constant: (groups, outputs) float64, or None.
        variance: (groups, outputs, inputs) read-noise variance a unit of `pulse_energy`, or None.
        extra_variance: (groups, outputs) noise variance that does not depend on the input, or None.
        exact: whole numbers, whose sums do not depend on their order.
    """

    pieces: tuple[Tensor, ...]
    shifts: tuple[int, ...]
    constant: Tensor | None = None
    variance: Tensor | None = None
    extra_variance: Tensor | None = None
    exact: bool = True

    def deviation(self, from_inputs: Tensor | None, extra: Tensor | None = None) -> Tensor | None:
        """Standard deviation of the noise of each output.

        Args:
            from_inputs: the product of pulse energies and `variance`, or None.
            extra: `extra_variance` in a shape that broadcasts to the output; None: (groups, 1, outputs).

        Returns:
            The deviation, or None without noise.
        """
        if self.extra_variance is None:
            return None if from_inputs is None else from_inputs.sqrt()
        constant = self.extra_variance.unsqueeze(1) if extra is None else extra
        return constant.sqrt() if from_inputs is None else (from_inputs + constant).sqrt()


def collapse(job: Job, dtype: torch.dtype) -> Collapsed | str:
    """The layer as one product, if it is one.

    Args:
        job: the layer.
        dtype: of the model; integer products use float32 wherever every partial sum stays below 2^24.

    Returns:
        The product, or the reason why it is not one.
    """
    if job.loss is None:
        return _exact_pieces(job.w_int, job.input_top)
    if job.converters is not None or job.columns.reshapes or job.columns.disturbed is not None:
        return job.loss
    if job.train.drive is not None:
        return "the cells' I-V bends the input pulses"
    if job.complementary:
        return "programmed complementary cells see the two signs of an input apart"
    weight = effective_weight(job)
    shift = job.train.shift
    constant = job.correction.constant + shift * weight.sum(-1)
    wide = torch.float64 if dtype == torch.float64 or not single_is_exact(weight.device) else torch.float32
    variance = None if job.columns.variance is None else noise_variance(job.columns)
    if variance is not None and job.compensation is not None:
        factor = job.compensation if job.compensation.dim() == 0 else job.compensation.unsqueeze(-1)
        variance = variance * factor.square()
    variance = None if variance is None else variance.to(wide)
    return Collapsed((weight.to(wide),), (0,), constant if shift else None, variance, exact=False)


def _exact_pieces(w_int: Tensor, input_top: int) -> Collapsed:
    """Split integer weights into signed digits narrow enough for exact float32 sums.

    Float64 where that takes over three.
    """
    w = w_int.double()
    if single_is_exact(w.device):
        for count in (1, 2, 3):
            width = -(-16 // count)
            pieces = _signed_digits(w, width, count)
            if all(p.abs().sum(-1).max() * input_top < _EXACT_FLOAT32 for p in pieces):
                return Collapsed(tuple(p.float() for p in pieces), tuple(width * i for i in range(count)))
    return Collapsed((w,), (0,))


def single_is_exact(device: torch.device) -> bool:
    """Whether float32 products keep all 24 bits.

    On a CPU they do unless the user allowed less; on a GPU convolutions may use TF32, or algorithms that
    round in between.
    """
    return device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"


def _signed_digits(w: Tensor, width: int, count: int) -> list[Tensor]:
    out = []
    for _ in range(count - 1):
        high = torch.round(w / (1 << width))
        out.append(w - high * (1 << width))
        w = high
    return [*out, w]


def analog_weight(job: Job) -> Tensor:
    """What the cells contribute to the digital sums, per unit of input code: ``sum_q gain_q f cell_q``.

    Shapes: returns (groups, outputs, rows) float64.

    Args:
        job: the layer.

    Returns:
        The weights, without digital corrections.
    """
    columns: Columns = job.columns
    groups, _, rows, outputs = columns.cells.shape
    out = torch.zeros(groups, rows, outputs, dtype=torch.float64, device=columns.cells.device)
    for r, (start, stop) in enumerate(columns.reads):
        for q, gain in enumerate(columns.gains):
            cells = columns.cells[:, q, start:stop].double() + columns.baseline[q]
            out[:, start:stop] += gain * cells * (1 if columns.flip is None else columns.flip[r, :, q, None])
    return out.transpose(1, 2)


def effective_weight(job: Job) -> Tensor:
    """The weights that programmed cells stand for, in units of one integer weight.

    ``W = compensation x analog weight + drive corrections + unit correction x (unit cell - its baseline)``.

    Shapes: returns (groups, outputs, inputs) float64.

    Args:
        job: a layer with ideal converters.

    Returns:
        The weights.
    """
    out = analog_weight(job).transpose(1, 2).clone()
    if job.compensation is not None:
        out = out * (job.compensation if job.compensation.dim() == 0 else job.compensation.unsqueeze(1))
    for r, (start, stop) in enumerate(job.columns.reads):
        if job.correction.drive is not None:
            out[:, start:stop] += job.correction.drive[r, :, None]
        if job.correction.unit is not None and job.unit is not None:
            unit = job.unit.cells[:, 0, start:stop].double() + job.unit.baseline[0] - job.unit_baseline
            out[:, start:stop] += job.correction.unit[r, :, None] * unit
    return out.transpose(1, 2)


def noise_variance(columns: Columns) -> Tensor:
    """Read-noise variance of an output per unit of `pulse_energy` of each input.

    ``sum_q gain_q^2 variance_q``.

    Shapes: returns (groups, outputs, inputs).

    Args:
        columns: bit lines with read noise.

    Returns:
        The variances.

    Raises:
        ValueError: the columns have no read noise.
    """
    if columns.variance is None:
        raise ValueError("the columns have no read noise")
    gains = torch.tensor(columns.gains, dtype=columns.variance.dtype, device=columns.variance.device)
    return torch.einsum("q,gqkc->gck", gains.square(), columns.variance)


def pulse_energy(x_int: Tensor, train: PulseTrain) -> Tensor:
    """``sum_t weight_t^2 digit_t^2`` of each code: independent reads of a cell add their variances.

    Shapes: x_int (*any); returns the same.

    Args:
        x_int: input codes.
        train: the pulses.

    Returns:
        The energies, looked up in a table over all codes.
    """
    low = -(1 << train.magnitude_bits)
    codes = torch.arange(low, -low + 1, dtype=torch.float64, device=x_int.device)
    if train.shift:
        codes = codes.clamp(min=-train.shift, max=train.shift - 1)
    elif not (train.polarity or train.sign_cycle):
        codes = codes.clamp(min=0)
    weights = torch.tensor(train.weights, dtype=torch.float64, device=x_int.device).square()
    table = torch.einsum("t,tn->n", weights, digits(codes, train).square()).to(x_int.dtype)
    return table.index_select(0, (x_int - low).to(torch.int32).flatten()).view(x_int.shape)


def combine(parts: list[Tensor], shifts: tuple[int, ...]) -> Tensor:
    """``sum_p 2^shift_p part_p``, exact: one part as it is, several in float64.

    Shapes: all the same.
    """
    if len(parts) == 1:
        return parts[0]
    out = parts[0].double()
    for part, shift in zip(parts[1:], shifts[1:], strict=True):
        out = torch.add(out, part.double(), alpha=1 << shift)
    return out

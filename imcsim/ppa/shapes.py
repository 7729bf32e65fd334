"""What a layer asks of a chip, as numbers: no weights, no data."""

from __future__ import annotations

from dataclasses import dataclass

from imcsim.errors import InputError
from imcsim.hardware import Hardware


@dataclass(frozen=True)
class LayerShape:
    """One matrix layer of a network and what follows it, per sample.

    Attributes:
        name: module name.
        groups: independent matrices (1 but for grouped convolutions).
        outputs: columns of one matrix.
        inputs: rows of one matrix.
        vectors: input vectors a sample, each through every group (output positions of a convolution).
        kind: class of the layer.
        sequential: each vector needs the result of the one before (recurrent weights): copies do not help.
        window: fraction of the layer's input that must exist before its first vector can be computed.
        input_elements: values of the layer's input, where known; counted where the network enters the chip.
        signed: whether input codes have a sign; None: as the chip says, unsigned where that is left open.
        activity: mean pulse over full scale of a word line, measured; None: every pulse counts in full.
        activations: values through an activation function after the layer.
        pools: values that enter pooling windows after it.
        vector_ops: element-wise results after it (residual sums, normalisation).
        normalised: values after it that circuits normalise in analog.
        digital_macs: multiply-accumulates outside arrays (attention, layers kept digital).
        on_arrays: False: the layer stays digital, all of it is in `digital_macs`.
        hardware: its chip, where layers differ.
        terms: columns of codes an output has, added digitally (1 but for some training methods).
        passes: times that a vector is sent, added digitally (likewise).
        write_J: what writing one copy took, where write-verify measured it.
        write_s: likewise, cell by cell.
    """

    name: str
    groups: int
    outputs: int
    inputs: int
    vectors: int = 1
    kind: str = "Linear"
    sequential: bool = False
    window: float = 1.0
    input_elements: int = 0
    signed: bool | None = None
    activity: float | None = None
    activations: int = 0
    pools: int = 0
    vector_ops: int = 0
    normalised: int = 0
    digital_macs: int = 0
    on_arrays: bool = True
    hardware: Hardware | None = None
    terms: int = 1
    passes: int = 1
    write_J: float | None = None
    write_s: float | None = None

    def __post_init__(self) -> None:
        for field in ("groups", "outputs", "inputs", "vectors", "terms", "passes"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < (1 if self.on_arrays else 0):
                raise InputError(f"layer {self.name!r}: {field} = {value!r}; give a whole number from 1")
        if not 0 <= self.window <= 1:
            raise InputError(
                f"layer {self.name!r}: window = {self.window!r}; give a fraction between 0 and 1"
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulates on arrays a sample."""
        return self.groups * self.outputs * self.inputs * self.vectors if self.on_arrays else 0

    @property
    def stays_analog(self) -> bool:
        """Whether its results drive other word lines without a conversion."""
        if self.hardware is None or self.hardware.array.output == "digital":
            return False
        return self.hardware.normalisation is not None and self.hardware.normalisation.bits is None

    @property
    def output_elements(self) -> int:
        """Values that the layer puts out a sample."""
        return self.groups * self.outputs * self.vectors

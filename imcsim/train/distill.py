"""Guided training: a teacher of the same structure says what each layer should give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.batches import evaluation_mode
from imcsim.errors import InputError, did_you_mean

Match = Literal["features", "attention"]


class Guidance:
    """Layer-wise knowledge distillation: the distance of a student's layers from its teacher's.

    features: ``sum_l mean (s_l - t_l)^2``. attention: ``sum_l mean_n ||A(s_l) - A(t_l)||^2`` with
    ``A(f) = a / ||a||``, ``a = sum_c f_c^2`` over the channels, a map of where a layer is active.

    A context manager: it watches both networks' layers while it is open. ::

        with Guidance(student, teacher, ["layer1", "layer2"]) as guidance:
            for x, y in batches:
                loss = cross_entropy(student(x), y) + 0.1 * guidance(x)

    Args:
        student: the network that trains.
        teacher: a network with the same layer names and shapes of their outputs; runs in eval mode without
            gradients.
        layers: names of the modules whose outputs are compared.
        match: features or attention.

    Raises:
        InputError: a name that is no module of both, no names, or an unknown match.

    References: B. Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks", CVPR 2018,
        section 3.4 (guided training); B. Martinez et al., "Training binary neural networks with
        real-to-binary convolutions", ICLR 2020, Eq. 4 (attention matching); S. Zagoruyko, N. Komodakis,
        "Paying More Attention to Attention", ICLR 2017.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, layers: Sequence[str], match: Match = "features"
    ) -> None:
        if match not in get_args(Match):
            raise InputError(f"Guidance: match = {match!r} is not one of {', '.join(get_args(Match))}")
        names = [dict(student.named_modules()), dict(teacher.named_modules())]
        for name in layers:
            for modules, who in zip(names, ("student", "teacher"), strict=True):
                if name not in modules:
                    raise InputError(
                        f"Guidance: the {who} has no module {name!r}.{did_you_mean(name, modules)}"
                    )
        if not layers:
            raise InputError("Guidance: layers is empty; name at least one module")
        self.teacher, self.layers, self.match = teacher, tuple(layers), match
        self._distance = _DISTANCES[match]
        self._modules = [[modules[name] for name in layers] for modules in names]
        self._seen: list[dict[str, Tensor]] = [{}, {}]
        self._hooks: list[Any] = []

    def __enter__(self) -> Guidance:
        for modules, seen in zip(self._modules, self._seen, strict=True):
            for name, module in zip(self.layers, modules, strict=True):
                self._hooks.append(module.register_forward_hook(partial(_keep, seen, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for seen in self._seen:
            seen.clear()

    def __call__(self, x: Tensor) -> Tensor:
        """The distance for the batch that the student was just given.

        Shapes: x (batch, ...), the batch; returns a scalar.

        Raises:
            InputError: the student has not been run since the last call, or outputs differ in shape.
        """
        with evaluation_mode(self.teacher):
            self.teacher(x)
        student, teacher = self._seen
        total = x.new_zeros(())
        for name in self.layers:
            if name not in student:
                raise InputError(
                    f"Guidance: the student's layer {name!r} has not run since the last call; call "
                    "student(x) before guidance(x), inside the with block"
                )
            own, want = student[name], teacher[name]
            if own.shape != want.shape:
                raise InputError(
                    f"Guidance: layer {name!r} gives {tuple(own.shape)} in the student and "
                    f"{tuple(want.shape)} in the teacher; compare layers of the same shape, for one batch"
                )
            total = total + self._distance(own, want)
        student.clear()
        teacher.clear()
        return total


def soft_label_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Distance of a student's class probabilities from its teacher's, softened by a temperature.

    ``T^2 KL(softmax(t / T) || softmax(s / T))``, the mean over samples.

    Shapes: student, teacher (batch, classes) logits; returns a scalar.

    Args:
        student: with gradients.
        teacher: without.
        temperature: T, positive.

    Returns:
        The loss.

    Raises:
        InputError: a temperature that is not positive.

    References: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network",
        arXiv:1503.02531, 2015.
    """
    if not temperature > 0:
        raise InputError(f"soft_label_loss: temperature = {temperature!r} is not positive")
    own, want = (F.log_softmax(z / temperature, -1) for z in (student, teacher.detach()))
    return temperature**2 * F.kl_div(own, want, reduction="batchmean", log_target=True)


def attention(features: Tensor) -> Tensor:
    """Where a layer is active: its squares summed over channels, as a unit vector a sample.

    Shapes: features (batch, channels, *space); returns (batch, positions), a single position without space.
    """
    energy = features.square().sum(1).flatten(1) if features.dim() > 2 else features.square()
    return F.normalize(energy, dim=1)


def _features_distance(own: Tensor, want: Tensor) -> Tensor:
    return F.mse_loss(own, want)


def _attention_distance(own: Tensor, want: Tensor) -> Tensor:
    return (attention(own) - attention(want)).square().sum(1).mean()


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "features": _features_distance,
    "attention": _attention_distance,
}


def _keep(seen: dict[str, Tensor], name: str, module: nn.Module, args: Any, out: Tensor) -> None:
    seen[name] = out if torch.is_grad_enabled() else out.detach()

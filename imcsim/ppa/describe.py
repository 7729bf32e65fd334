"""From a model to the shapes of its layers: a forward pass on torch's meta device, which has no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from imcsim.convert import digital_layers, named_layers
from imcsim.errors import InputError
from imcsim.nn import CROSSBAR_OF, CrossbarLayer
from imcsim.nn.norm import analog_norms, ideal_norms
from imcsim.ppa.activity import Activity
from imcsim.ppa.recurrent import attention_shapes, recurrent_shapes
from imcsim.ppa.shapes import LayerShape

_ACTIVATIONS = frozenset(
    "relu relu_ relu6 sigmoid sigmoid_ tanh tanh_ gelu silu elu selu celu leaky_relu hardtanh hardswish "
    "hardsigmoid mish softplus softmax log_softmax prelu logsigmoid softsign sign clamp".split()
)
_POOLS = frozenset(
    f"{prefix}{kind}_pool{n}d" for prefix in ("", "adaptive_") for kind in ("max", "avg") for n in (1, 2, 3)
) | frozenset(f"{p}max_pool{n}d_with_indices" for p in ("", "adaptive_") for n in (1, 2, 3))
_VECTOR_OPS = frozenset(
    "add add_ __add__ __iadd__ __radd__ sub __sub__ __isub__ __rsub__ mul mul_ __mul__ __imul__ __rmul__ div "
    "__truediv__ __rtruediv__ batch_norm layer_norm group_norm instance_norm rms_norm mean "
    "pow __pow__".split()
)
_PRODUCTS = frozenset("matmul __matmul__ bmm mm baddbmm scaled_dot_product_attention".split())


@dataclass
class _Post:
    activations: int = 0
    pools: int = 0
    vector_ops: int = 0
    normalised: int = 0
    digital_macs: int = 0


class _Recorder(TorchFunctionMode):
    """Counts element-wise work between matrix layers; work inside them is theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.work: dict[str, _Post] = {"": _Post()}
        self.last = ""
        self.inside = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.inside == 0:
            self._note(getattr(func, "__name__", ""), args, out)
        return out

    def _note(self, name: str, args: Any, out: Any) -> None:
        post = self.work[self.last]
        result = out[0] if isinstance(out, tuple) and out else out
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return
        if name in _ACTIVATIONS:
            post.activations += result.numel()
        elif name in _POOLS and args:
            post.pools += args[0].numel()
        elif name in _VECTOR_OPS and result.dim() > 0:
            post.vector_ops += result.numel()
        elif name in _PRODUCTS and len(args) > 1:
            post.digital_macs += result.numel() * args[0].shape[-1]
            if name == "scaled_dot_product_attention":
                post.digital_macs += args[0].numel() * args[1].shape[-2] - result.numel() * args[0].shape[-1]
                post.digital_macs += result.numel() * args[1].shape[-2]


def describe(
    model: nn.Module, x: Any, *, batch: int | None = None, activity: bool = False
) -> tuple[LayerShape, ...]:
    """The matrix layers of a model in the order they run, from a converted or a float one.

    Nothing is programmed and no data is unfolded: parameters and inputs go to the meta device, which
    computes shapes only. A model that cannot run there (it looks at its data) runs once on x in floats.

    Args:
        model: converted or float. Of a converted one, layers carry their chips, and what
            stayed digital is digital.
        x: an input, or a tuple of them; only shapes count unless `activity`.
        batch: samples in x; without it the first tensor's leading size.
        activity: also run x through the layers' float arithmetic, and measure the mean pulse on their
            word lines.

    Returns:
        One shape a matrix; a layer that runs twice has the vectors of both. Element-wise work counts for
        the matrix layer before it (that before the first: for the first).

    Raises:
        InputError: x or batch does not fit, or the model has no matrix layer that runs.
    """
    inputs = tuple(x) if isinstance(x, tuple | list) else (x,)
    first = next((item for item in inputs if isinstance(item, Tensor)), None)
    if first is None or first.dim() == 0:
        raise InputError(f"describe takes the model's input, a tensor, but got {type(x).__name__}")
    converted = any(isinstance(m, CrossbarLayer) for m in model.modules())
    if activity and not converted:
        raise InputError(
            "activity is measured on the pulses of a chip's layers, but the model has none; convert it first "
            "with imcsim.convert"
        )
    samples = first.shape[0] if batch is None else batch
    if samples < 1:
        raise InputError(f"describe needs at least one sample, but got {samples}")
    digital = digital_layers(model) if converted else {}
    with _float_arithmetic(model):
        try:
            found, recorder = _trace(model, inputs, digital, on_meta=True)
        except (RuntimeError, NotImplementedError):  # it looks at its data, or has an operator without shapes
            found, recorder = _run(model, inputs, digital)
    if not found:
        raise InputError(
            "no linear, convolutional or recurrent layer of the model ran; there is nothing to estimate"
        )
    shapes = _per_sample(found, recorder, samples)
    if not activity:
        return shapes
    with _float_arithmetic(model):
        means = Activity(model).measure(inputs)
    return tuple(replace(shape, activity=means.get(shape.name)) for shape in shapes)


def _run(
    model: nn.Module, inputs: tuple[Any, ...], digital: Mapping[str, str]
) -> tuple[dict[str, LayerShape], _Recorder]:
    """As `_trace` on the data, where the meta device did not do; what fails here too is the input's fault."""
    try:
        return _trace(model, inputs, digital, on_meta=False)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        sizes = ", ".join(str(tuple(item.shape)) for item in inputs if isinstance(item, Tensor))
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the model does not run on an input of shape {sizes}: {reason}; give an input that it takes"
        ) from error


def _trace(
    model: nn.Module, inputs: tuple[Any, ...], digital: Mapping[str, str], *, on_meta: bool
) -> tuple[dict[str, LayerShape], _Recorder]:
    """Run the model once and note its layers; shapes and work are of the whole batch."""
    found: dict[str, LayerShape] = {}
    recorder = _Recorder()
    state: dict[str, Tensor] = {}
    if on_meta:
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        state = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
        inputs = tuple(item.to("meta") if isinstance(item, Tensor) else item for item in inputs)
    with _hooks(model, found, recorder, digital), recorder, torch.no_grad():
        torch.func.functional_call(model, state, inputs)
    return found, recorder


@contextmanager
def _float_arithmetic(model: nn.Module) -> Iterator[None]:
    """Eval mode, and crossbar layers compute their float products; all restored afterwards."""
    training = {module: module.training for module in model.modules()}
    arrays = [module.array for module in model.modules() if isinstance(module, CrossbarLayer)]
    observers = [array.observer for array in arrays]
    try:
        for module in training:
            module.training = False
        for array in arrays:
            array.observer = _look_away
        with ideal_norms(model):
            yield
    finally:
        for module, was in training.items():
            module.training = was
        for array, observer in zip(arrays, observers, strict=True):
            array.observer = observer


def _look_away(_: Tensor) -> None:
    return


@contextmanager
def _hooks(
    model: nn.Module, found: dict[str, LayerShape], recorder: _Recorder, digital: Mapping[str, str]
) -> Iterator[None]:
    handles = _norm_hooks(model, recorder)
    own: tuple[type[nn.Module], ...] = (*CROSSBAR_OF, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
    closed: tuple[str, ...] = ()
    layers = named_layers(model)
    for name, module in model.named_modules():
        if not isinstance(module, own) or (closed and name.startswith(closed)):
            continue
        closed = (*closed, f"{name}.") if name else closed

        def enter(_module: nn.Module, _args: Any) -> None:
            recorder.inside += 1

        def leave(module: nn.Module, args: Any, kwargs: Any, out: Any, name: str = name) -> None:
            recorder.inside -= 1
            for shape in _shapes_of(name, module, (*args, *kwargs.values()), out):
                kept = name in digital or shape.name in digital
                array = layers[shape.name].array if shape.name in layers else None
                if array is not None:
                    terms, passes = array.written.codes.terms, array.input_quantizer.passes
                    shape = replace(
                        shape, hardware=array.hardware, signed=array.signed, terms=terms, passes=passes
                    )
                    if array.write_report is not None:
                        wrote = array.write_report
                        shape = replace(shape, write_J=wrote.energy_J, write_s=wrote.time_s)
                _add(found, _as_digital(shape) if kept else shape)
                recorder.last = shape.name
                recorder.work.setdefault(shape.name, _Post())

        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, with_kwargs=True),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _norm_hooks(model: nn.Module, recorder: _Recorder) -> list[Any]:
    """Count what analog circuits normalise for the layer before them, and no digital work for it."""

    def enter(_module: nn.Module, _args: Any) -> None:
        recorder.inside += 1

    def leave(_module: nn.Module, _args: Any, out: Tensor) -> None:
        recorder.inside -= 1
        recorder.work[recorder.last].normalised += out.numel()

    norms = analog_norms(model)
    return [norm.register_forward_pre_hook(enter) for norm in norms] + [
        norm.register_forward_hook(leave) for norm in norms
    ]


def _shapes_of(name: str, module: nn.Module, args: Any, out: Any) -> tuple[LayerShape, ...]:
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return recurrent_shapes(name, module, args[0])
    if isinstance(module, nn.MultiheadAttention):
        return attention_shapes(name, module, args)
    layer: Any = module
    x = args[0]
    chip = module.array.hardware if isinstance(module, CrossbarLayer) else None
    signed = module.array.signed if isinstance(module, CrossbarLayer) else None
    kind = type(module).__name__.removeprefix("Crossbar")
    common: dict[str, Any] = {"kind": kind, "hardware": chip, "signed": signed, "input_elements": x.numel()}
    if isinstance(module, nn.Linear):
        vectors = out.numel() // layer.out_features
        window = 1.0 if x.dim() < 3 else 1.0 / math.prod(x.shape[1:-1])
        return (LayerShape(name, 1, layer.out_features, layer.in_features, vectors, window=window, **common),)
    kernel = math.prod(layer.kernel_size)
    groups, vectors = layer.groups, out.numel() // layer.out_channels
    return (
        LayerShape(
            name,
            groups,
            layer.out_channels // groups,
            layer.in_channels // groups * kernel,
            vectors,
            window=_first_window(layer, x),
            **common,
        ),
    )


def _first_window(layer: Any, x: Tensor) -> float:
    """Fraction of a convolution's input, in raster order, that its first whole window needs."""
    sizes = x.shape[-len(layer.kernel_size) :]
    need, row = 0, 1
    for size, kernel, dilation in reversed(list(zip(sizes, layer.kernel_size, layer.dilation, strict=True))):
        reach = min(size, dilation * (kernel - 1) + 1)
        need += (reach - 1) * row
        row *= size
    return min(1.0, (need + 1) / row)


def _as_digital(shape: LayerShape) -> LayerShape:
    return replace(shape, on_arrays=False, digital_macs=shape.digital_macs + shape.macs, hardware=None)


def _add(found: dict[str, LayerShape], shape: LayerShape) -> None:
    before = found.get(shape.name)
    if before is not None:
        shape = replace(
            shape,
            vectors=before.vectors + shape.vectors,
            digital_macs=before.digital_macs + shape.digital_macs,
            activations=before.activations + shape.activations,
            vector_ops=before.vector_ops + shape.vector_ops,
            input_elements=max(before.input_elements, shape.input_elements),
        )
    found[shape.name] = shape


def _per_sample(found: dict[str, LayerShape], recorder: _Recorder, samples: int) -> tuple[LayerShape, ...]:
    out = []
    for index, shape in enumerate(found.values()):
        posts = [recorder.work[shape.name], *([recorder.work[""]] if index == 0 else [])]
        fields = {"vectors": shape.vectors, "input_elements": shape.input_elements}
        for field in ("activations", "pools", "vector_ops", "normalised", "digital_macs"):
            fields[field] = getattr(shape, field) + sum(getattr(post, field) for post in posts)
        for field, value in fields.items():
            if value % samples and field == "vectors":
                raise InputError(
                    f"layer {shape.name!r} runs {value} vectors, which {samples} samples do not share "
                    "evenly; give batch, the number of samples in x"
                )
            fields[field] = -(-value // samples)
        out.append(replace(shape, **fields))  # type: ignore[arg-type]
    return tuple(out)

"""A torch model becomes one whose layers run on simulated crossbars."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from imcsim.errors import ConversionError, did_you_mean
from imcsim.fold import fold_batchnorm as fold
from imcsim.hardware import Hardware
from imcsim.kernels.engines import ENGINES
from imcsim.nn import CROSSBAR_OF, AnalogNorm, CrossbarLayer, CrossbarMatrices, Projection
from imcsim.nn.array import CrossbarArray
from imcsim.quant.base import Quantizer
from imcsim.quant.methods.base import Method

HardwareMap = Mapping[str, Hardware | None]
MethodMap = Mapping[str, Method | None]

Choice = TypeVar("Choice")

_DIGITAL_RECORD = "imcsim_digital"


def convert(
    model: nn.Module,
    hardware: Hardware | HardwareMap,
    *,
    fold_batchnorm: bool = False,
    engine: str = "auto",
    qat: Method | MethodMap | None = None,
) -> nn.Module:
    """A copy of a model whose layers of weights run on crossbars, programmed with seed 0.

    Linear, convolutional, recurrent and attention layers; the last two have several matrices, each on arrays
    of its own, named after it: "lstm.weight_hh_l0", "attention.out_proj".

    Args:
        model: any torch model; left as it is.
        hardware: the chip for every layer, or chips by module or matrix name (`fnmatch` patterns, the last
            match wins; None: stay digital).
        fold_batchnorm: fold each BatchNorm into the layer before it (needs eval mode and a model that
            torch.fx can trace).
        engine: auto, reference, collapsed, matmul, table or statistical.
        qat: a training method of `imcsim.quant` for every layer on crossbars, or methods by module or matrix
            name (`fnmatch` patterns, the last match wins; None: the hardware's own quantizers).

    Returns:
        The converted copy. What stays digital is listed by `imcsim.summary`, with the reason.

    Raises:
        ConversionError: the model, a pattern, or the engine's name is wrong, or nothing would be converted.
        MappingError: weights that cells cannot hold.
    """
    chips = _by_pattern(model, hardware)
    if engine not in ENGINES:
        raise ConversionError(
            f"engine = {engine!r} is not one of {', '.join(ENGINES)}.{did_you_mean(str(engine), ENGINES)}"
        )
    methods = _methods_by_pattern(model, qat)
    sim = copy.deepcopy(model)
    if fold_batchnorm:
        sim = fold(sim)
    digital: dict[str, str] = {}
    replaced: dict[int, nn.Module] = {}
    called = _all_names(sim)
    for name, module in list(_candidates(sim)):
        keys = {
            key: {part for alias in called[module] for part in (alias, join(alias, key))}
            for key in _matrix_keys(module)
        }
        own = {key: _chip_for(names, chips) for key, names in keys.items()}
        chosen = {key: chip for key, (chip, _) in own.items() if chip is not None}
        without = {join(name, key): why for key, (_, why) in own.items() if why is not None}
        reason = _why_digital(module) if chosen else next(iter(without.values()))
        if reason is not None:
            digital[name] = reason
            continue
        digital.update(without)
        trained = {key: _last_match(keys[key], methods) for key in chosen}
        replaced[id(module)] = _crossbar(module, chosen, trained, name, engine)
    sim = _swap(sim, replaced)
    _leave_fast_paths(sim)
    if not replaced:
        what = (
            "; ".join(f"{n or 'the model'}: {r}" for n, r in digital.items())
            or "it has no linear, convolutional, recurrent or attention layer"
        )
        raise ConversionError(f"nothing would run on crossbars: {what}")
    record_digital(sim, digital)
    for layer, array in arrays(sim):
        array.sync(layer.weight)
    return sim


def arrays(sim: nn.Module) -> list[tuple[CrossbarLayer, CrossbarArray]]:
    """Every crossbar layer of a model once, with its arrays.

    Args:
        sim: a converted model.

    Returns:
        The layers in module order.

    Raises:
        ConversionError: there is none.
    """
    if not isinstance(sim, nn.Module):
        raise ConversionError(
            f"a converted model is wanted, but got {type(sim).__name__}; make one with "
            "imcsim.convert(model, hardware)"
        )
    found = [(m, m.array) for m in sim.modules() if isinstance(m, CrossbarLayer)]
    if not found:
        raise ConversionError(
            "the model has no crossbar layer; convert it first with imcsim.convert(model, hardware)"
        )
    return found


def named_layers(sim: nn.Module) -> dict[str, CrossbarLayer]:
    """Crossbar layers by name: their module's, of several matrices their module's and the matrix's.

    Args:
        sim: a converted model.

    Returns:
        The layers in module order.
    """
    found: dict[str, CrossbarLayer] = {}
    for name, module in sim.named_modules():
        if isinstance(module, CrossbarMatrices):
            parts = {key: module.projection(key) for key in module.matrix_keys(module)}
            found.update({join(name, key): part for key, part in parts.items() if part is not None})
        elif isinstance(module, CrossbarLayer) and not isinstance(module, Projection):
            found[name] = module
    return found


def join(name: str, key: str) -> str:
    """A matrix's name from its module's and its own, which is empty where the module has only one."""
    return ".".join(part for part in (name, key) if part)


def record_digital(sim: nn.Module, reasons: dict[str, str]) -> None:
    """Keep on a converted model why layers stayed digital."""
    setattr(sim, _DIGITAL_RECORD, reasons)


def digital_layers(sim: nn.Module) -> dict[str, str]:
    """Names of the layers with parameters that stayed digital, and why."""
    record: dict[str, str] = dict(getattr(sim, _DIGITAL_RECORD, {}))
    inside: tuple[str, ...] = ()
    on_chip = (CrossbarLayer, CrossbarMatrices, CrossbarArray, Quantizer, AnalogNorm)
    for name, module in sim.named_modules():
        if name.startswith(inside):
            continue
        if isinstance(module, CrossbarMatrices):
            inside = (*inside, f"{name}." if name else "")
        if name in record or isinstance(module, on_chip):
            continue
        if any(True for _ in module.parameters(recurse=False)) and not any(
            name.startswith(f"{n}.") for n in record if n
        ):
            record[name] = f"{type(module).__name__} has no crossbar form"
    return record


def _by_pattern(model: nn.Module, hardware: Hardware | HardwareMap) -> HardwareMap:
    if not isinstance(model, nn.Module):
        raise ConversionError(f"convert takes a torch.nn.Module, but got {type(model).__name__}")
    if any(isinstance(m, CrossbarLayer) for m in model.modules()):
        raise ConversionError("the model already runs on crossbars; convert the float model it came from")
    if isinstance(hardware, Hardware):
        return {"*": hardware}
    if not isinstance(hardware, Mapping) or not hardware:
        raise ConversionError(
            "hardware is an imcsim.Hardware, or a dict from module-name patterns to Hardware or None, "
            f"but got {hardware!r:.80}; "
            "load one with imcsim.load_hardware"
        )
    names, layers = _names(model)
    for pattern, chip in hardware.items():
        if not isinstance(pattern, str) or not (chip is None or isinstance(chip, Hardware)):
            raise ConversionError(
                f"hardware[{pattern!r}] = {chip!r:.80}: keys are module-name patterns, values "
                "imcsim.Hardware or None; load one with imcsim.load_hardware"
            )
        if not any(fnmatchcase(name, pattern) for name in (names if chip is None else layers)):
            raise ConversionError(
                f"pattern {pattern!r} matches no "
                f"{'module' if chip is None else 'linear or convolutional layer'}."
                f"{did_you_mean(pattern, names)} Layers: "
                f"{', '.join(layers[:12])}{' ...' if len(layers) > 12 else ''}"
            )
    return hardware


def _all_names(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every name of each module; a shared one has several."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return names


def _names(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names that patterns may match: of all modules and matrices, and of those that can go on arrays."""
    every = list(model.named_modules(remove_duplicate=False))
    own = [(name, module) for name, module in every if _torch_layer(module)]
    matrices = [join(name, key) for name, module in own for key in _matrix_keys(module) if key]
    layers = list(dict.fromkeys([*(name for name, _ in own), *matrices]))
    return list(dict.fromkeys([*(name for name, _ in every), *matrices])), layers


def _methods_by_pattern(model: nn.Module, qat: Any) -> MethodMap:
    if qat is None or isinstance(qat, Method):
        return {"*": qat}
    if not isinstance(qat, Mapping):
        raise ConversionError(
            f"qat = {qat!r:.80} is not a training method; give one such as imcsim.quant.DoReFa(), or a dict "
            "from module-name patterns to methods or None"
        )
    _, layers = _names(model)
    for pattern, method in qat.items():
        if not isinstance(pattern, str) or not (method is None or isinstance(method, Method)):
            raise ConversionError(
                f"qat[{pattern!r}] = {method!r:.80}: keys are module-name patterns, values training methods "
                "such as imcsim.quant.DoReFa(), or None"
            )
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ConversionError(
                f"qat: pattern {pattern!r} matches no layer.{did_you_mean(pattern, layers)} Layers: "
                f"{', '.join(layers[:12])}{' ...' if len(layers) > 12 else ''}"
            )
    return qat


def _candidates(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Layers that multiply by a weight, outside modules that use their children's weights directly."""
    found: list[tuple[str, nn.Module]] = []
    closed: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(prefix) for prefix in closed):
            continue
        if _torch_layer(module) is not None:
            found.append((name, module))
            closed.append(f"{name}." if name else "")
    return found


def _torch_layer(module: nn.Module) -> type[nn.Module] | None:
    return next((base for base in CROSSBAR_OF if isinstance(module, base)), None)


def _matrix_keys(module: nn.Module) -> tuple[str, ...]:
    """Names of a torch layer's matrices within it; a single matrix has none of its own."""
    base = _torch_layer(module)
    cls: type[nn.Module] = nn.Module if base is None else CROSSBAR_OF[base]
    return cls.matrix_keys(module) if issubclass(cls, CrossbarMatrices) else ("",)


def _chip_for(names: set[str], chips: HardwareMap) -> tuple[Hardware | None, str | None]:
    """The chip of a matrix, and why it has none."""
    chip = _last_match(names, chips)
    if chip is not None:
        return chip, None
    named = any(fnmatchcase(name, pattern) for pattern in chips for name in names)
    return None, "kept digital by the caller" if named else "no pattern names it"


def _last_match(names: set[str], patterns: Mapping[str, Choice]) -> Choice | None:
    """What the last pattern says that matches a matrix, by its own name or its module's."""
    matches = [
        choice for pattern, choice in patterns.items() if any(fnmatchcase(name, pattern) for name in names)
    ]
    return matches[-1] if matches else None


def _why_digital(module: nn.Module) -> str | None:
    base = _torch_layer(module)
    if base is None:
        return f"{type(module).__name__} has no crossbar form"
    if parametrize.is_parametrized(module):
        return "its weight is parametrized; remove the parametrization and convert again"
    if any(p.is_complex() for p in module.parameters(recurse=False) if not is_lazy(p)):
        return "its weights are complex numbers"
    cls = type(module)
    for method in ("forward", "_conv_forward"):
        if getattr(cls, method, None) is not getattr(base, method, None) and not issubclass(
            cls, nn.modules.lazy.LazyModuleMixin
        ):
            return f"{cls.__name__} overrides {method}"
    return None


def _crossbar(
    module: nn.Module,
    chips: dict[str, Hardware],
    methods: Mapping[str, Method | None],
    name: str,
    engine: str,
) -> nn.Module:
    """A layer's crossbar form; `chips` are those of its matrices that go on arrays, `methods` train them."""
    if any(is_lazy(p) for p in module.parameters(recurse=False)):
        raise ConversionError(
            f"layer {name!r} is lazy and has no shape yet; run one batch through the model, then convert it"
        )
    if any(p.is_meta for p in module.parameters(recurse=False)):
        raise ConversionError(
            f"layer {name!r} is on the meta device and has no values; load its weights, then convert it"
        )
    cls = next(crossbar for base, crossbar in CROSSBAR_OF.items() if isinstance(module, base))
    layer: Any = CrossbarLayer.from_float(module, cls)
    if isinstance(layer, CrossbarMatrices):
        layer.module_name = name
        layer.crossbars = nn.ModuleDict({key: Projection(layer, key) for key in chips})
    for key, chip in chips.items():
        part = layer.crossbars[key] if key else layer
        part.array = CrossbarArray(chip, join(name, key), engine, part.weight_matrix, methods[key])
        _place_quantizers(part.array, part.weight)
    layer.train(module.training)
    return layer


def _place_quantizers(array: CrossbarArray, weight: Tensor) -> None:
    """Move a layer's quantizers to its weight's device, and to its dtype unless that is too narrow."""
    wide = weight.dtype if weight.dtype.itemsize >= 4 else torch.float32
    for module in array.children():
        module.to(weight.device, wide)
    with torch.no_grad():
        matrix = array.weight_matrix(weight.detach())
        array.weight_quantizer.start(matrix)
        array.input_quantizer.start(matrix)


def _swap(model: nn.Module, replaced: dict[int, nn.Module]) -> nn.Module:
    if id(model) in replaced:
        return replaced[id(model)]
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if child is not None and id(child) in replaced:
                parent._modules[key] = replaced[id(child)]
    return model


def _leave_fast_paths(model: nn.Module) -> None:
    """Torch's fused Transformer encoder reads its children's weights and would bypass the arrays."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False

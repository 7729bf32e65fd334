"""Converted models on disk: safetensors, programmed state included, no pickle."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from imcsim.convert import HardwareMap, arrays, convert, digital_layers, named_layers, record_digital
from imcsim.errors import ConversionError, DataError, FileMissingError
from imcsim.fold import FoldedBatchNorm
from imcsim.hardware import Hardware, write_atomically
from imcsim.hardware_tables import Normalisation
from imcsim.nn.norm import AnalogNorm
from imcsim.quant.methods.base import method_from_record

FORMAT = "imcsim 1"


def save(sim: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a converted model: weights, hardware, ranges and programmed arrays.

    Args:
        sim: a converted model.
        path: a .safetensors file; written under a temporary name and renamed.

    Raises:
        ConversionError: the model was not converted.
        FileMissingError: the folder does not exist.
    """
    layers = arrays(sim)
    for layer, array in layers:
        array.sync(layer.weight)
    names = {id(layer): name for name, layer in named_layers(sim).items()}
    meta = {
        "format": FORMAT,
        "fold_batchnorm": any(isinstance(m, FoldedBatchNorm) for m in sim.modules()),
        "engine": {names[id(layer)]: array.engine for layer, array in layers},
        "hardware": {
            names[id(layer)]: array.described.model_dump(by_alias=True, exclude_unset=True, mode="json")
            for layer, array in layers
        },
        "qat": {
            names[id(layer)]: array.method.record() for layer, array in layers if array.method is not None
        },
        "digital": digital_layers(sim),
        "state": {
            names[id(layer)]: {
                "seed": array.seed,
                "seconds": array.seconds,
                "compensation": array.compensation,
                "read_seed": array.read_seed,
                "samples_read": array.samples_read,
                "by_user": array.programmed_by_user,
            }
            for layer, array in layers
        },
        "norms": {name: _norm_record(m) for name, m in sim.named_modules() if isinstance(m, AnalogNorm)},
    }
    tensors: dict[str, Tensor] = {}
    storage: set[tuple[Any, ...]] = set()
    for key, value in sim.state_dict().items():
        if isinstance(value, Tensor):
            place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
            tensors[key] = value.contiguous().clone() if place in storage else value.contiguous()
            storage.add(place)
    write_atomically(Path(path), to_bytes(tensors, {"imcsim": json.dumps(meta)}))


def load(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Read a converted model back.

    Args:
        path: what `save` wrote.
        model: the float model's architecture; left as it is, its weights do not matter.

    Returns:
        The converted model as it was saved, its arrays not programmed again.

    Raises:
        FileMissingError: there is no such file.
        DataError: it is truncated or not one that `save` wrote.
        ConversionError: it belongs to another architecture.
    """
    file = Path(path)
    if not file.is_file():
        raise FileMissingError(f"{str(file)!r} does not exist; give the path that imcsim.save wrote")
    try:
        with safe_open(str(file), framework="pt") as stored:
            meta = json.loads((stored.metadata() or {}).get("imcsim", "null"))
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(
            f"{str(file)!r} is not a complete safetensors file ({error}); save the model again"
        ) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DataError(
            f"{str(file)!r} was not written by imcsim.save (format {FORMAT!r}); for a plain checkpoint "
            "use load_state_dict and imcsim.convert"
        )
    chips: HardwareMap = {
        glob.escape(name): Hardware.model_validate(_revive(chip)) for name, chip in meta["hardware"].items()
    }
    base = model if not meta["fold_batchnorm"] else _in_eval_mode(model)
    methods = {glob.escape(name): method_from_record(record) for name, record in meta.get("qat", {}).items()}
    sim = convert(base, chips, fold_batchnorm=meta["fold_batchnorm"], qat=methods)
    record_digital(sim, meta["digital"])
    for name, record in meta.get("norms", {}).items():
        sim.set_submodule(name, _norm_from(record, sim.get_submodule(name)))
    names = named_layers(sim)
    for name, state in meta["state"].items():
        array = names[name].array
        array.engine = meta["engine"][name]
        array.seed, array.seconds, array.programmed_by_user = (
            state["seed"],
            state["seconds"],
            state["by_user"],
        )
        array.compensation = state.get("compensation")
        array.read_seed, array.samples_read = state["read_seed"], state["samples_read"]
    try:
        with torch.no_grad():
            sim.load_state_dict(tensors)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise ConversionError(f"{str(file)!r} belongs to another architecture: {said:.400}") from None
    for layer, array in arrays(sim):
        array.sync(layer.weight)
    sim.train(model.training)
    return sim


def _norm_record(norm: AnalogNorm) -> dict[str, Any]:
    """Circuits are drawn from their seed; no tensor of theirs is stored."""
    return {
        "table": norm.table.model_dump(),
        "name": norm.name,
        "channel_axis": norm.channel_axis,
        "seed": norm.seed,
        "read_seed": norm.read_seed,
        "samples_read": norm.samples_read,
    }


def _norm_from(record: dict[str, Any], module: Any) -> AnalogNorm:
    norm = AnalogNorm(module, Normalisation(**record["table"]), record["name"], record["channel_axis"])
    norm.program(record["seed"])
    norm.seed_reads(record["read_seed"])
    norm.samples_read = record["samples_read"]
    return norm


def _revive(chip: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: pydantic writes it as null."""
    device = chip.get("device")
    if isinstance(device, dict) and "on_off_ratio" in device and device["on_off_ratio"] is None:
        device["on_off_ratio"] = float("inf")
    return chip


def _in_eval_mode(model: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(model).eval()

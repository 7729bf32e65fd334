"""Arrays for a laboratory, and measured ones back: an .npz file of matrices and a .json manifest."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imcsim.convert import named_layers
from imcsim.errors import ConversionError, DataError, FileMissingError, InputError
from imcsim.hardware import write_atomically
from imcsim.nn.array import CrossbarArray
from imcsim.nn.readout import array_rows
from imcsim.nn.tiles import from_tiles, to_tiles

FORMAT = "imcsim arrays 1"


@dataclass(frozen=True)
class ImportedLayer:
    """What measured arrays changed in one layer.

    Attributes:
        name: of the layer.
        arrays: matrices read.
        cells: cells of the layer.
        missing: those not measured (nan), which stay as they were.
        changed: those whose conductance is another now.
        change_max: largest change, in siemens (or in units of g_max where the chip states none).
        change_rms: root mean square of the changes, over measured cells.
        error_rms: of measured conductance less target, over measured cells.
    """

    name: str
    arrays: int
    cells: int
    missing: int
    changed: int
    change_max: float
    change_rms: float
    error_rms: float


@dataclass(frozen=True)
class ImportReport:
    """What `import_arrays` changed, a row a layer; `str` gives a table, `frame` a pandas one."""

    rows: tuple[ImportedLayer, ...]

    @property
    def changed(self) -> int:
        """Cells whose conductance is another now."""
        return sum(row.changed for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def __str__(self) -> str:
        return str(self.frame().to_string(index=False))


@dataclass(frozen=True)
class _Matrix:
    """One matrix of the file: where it lies, and the cells of it that hold something."""

    key: str
    about: dict[str, Any]
    used: NDArray[np.bool_]


def export_arrays(sim: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Write the conductances of every array: what to program, and what the model holds now.

    Each array is a matrix of its full word lines and bit lines, the driver to the left, the ground at the
    bottom, nan where a cell holds nothing. ``KEY.target_S`` is what to aim at; ``KEY.measured_S`` is what the
    model computes with, for the laboratory to overwrite. The manifest beside it, of the same name with the
    ending .json, says for each key the layer, where the array lies in it, which input drives each word line
    and what each bit line holds.

    Units: siemens; units of g_max where the chip states no conductance (the manifest says so).

    Args:
        sim: a converted model.
        path: a .npz file; both files are written under temporary names and renamed.

    Returns:
        The path of the .npz file.

    Raises:
        ConversionError: the model was not converted.
        InputError: the path does not end in .npz, or the chip moves its cells about (`[mitigation]`
            remap_rows, spare_columns, compensate_faults or shuffle).
        FileMissingError: the folder does not exist.
    """
    file = _npz(path, "export_arrays")
    values: dict[str, NDArray[np.float32]] = {}
    layers = []
    for name, array in _arrays(sim):
        targets, held = array.target_conductance(), _held(array)
        matrices = _matrices(name, array)
        for part, cells in (("target_S", targets), ("measured_S", held)):
            for matrix, content in zip(matrices, _full(array, cells), strict=True):
                values[f"{matrix.key}.{part}"] = np.where(matrix.used, content, np.nan).astype(np.float32)
        for key, target, unit in _unit_columns(name, array):
            values[f"{key}.target_S"], values[f"{key}.measured_S"] = target, unit
        layers.append(
            {
                "name": name,
                "normalised": array.device_model.window.normalised,
                "g_max_S": array.device_model.window.g_max_S,
                "g_min_S": array.device_model.window.g_min_S,
                "arrays": [matrix.about for matrix in matrices],
                "unit_columns": [key for key, _, _ in _unit_columns(name, array)],
                "hardware": array.hardware.model_dump(by_alias=True, exclude_unset=True, mode="json"),
            }
        )
    manifest = {
        "format": FORMAT,
        "unit": "siemens; units of g_max for layers that say normalised",
        "layers": layers,
    }
    packed = io.BytesIO()
    np.savez_compressed(packed, **values)  # type: ignore[arg-type]
    write_atomically(file, packed.getvalue())
    write_atomically(file.with_suffix(".json"), (json.dumps(manifest, indent=1) + "\n").encode())
    return file


def import_arrays(sim: nn.Module, path: str | os.PathLike[str]) -> ImportReport:
    """Put measured conductances into a model, in the place of the ones it drew.

    They count as programmed at the verify read: `age` and read noise go on from them. `program`, and a
    changed weight, write the arrays anew. What was just exported changes nothing.

    Args:
        sim: the converted model that was exported, with the same weights.
        path: the .npz file, its manifest beside it; ``KEY.measured_S`` is read, nan cells stay as they are.

    Returns:
        What changed, layer by layer.

    Raises:
        ConversionError: the model was not converted.
        InputError: the path, or a chip that moves its cells about.
        FileMissingError: one of the two files is not there.
        DataError: they are not what `export_arrays` wrote, belong to other layers or weights, or hold
            conductances that are negative or infinite.
    """
    file = _npz(path, "import_arrays")
    values = _read(file)
    return ImportReport(tuple(_import_layer(name, array, values, file) for name, array in _arrays(sim)))


def _arrays(sim: nn.Module) -> Iterator[tuple[str, CrossbarArray]]:
    """Every layer's arrays, written, by name."""
    layers = named_layers(sim)
    if not layers:
        raise ConversionError(
            "the model has no crossbar layer; convert it first with imcsim.convert(model, hardware)"
        )
    for name, layer in layers.items():
        how = layer.array.hardware.mitigation
        if how.of_faults or how.shuffle != "none":
            raise InputError(
                f"layer {name!r}: the arrays of a chip with mitigation.remap_rows, spare_columns, "
                "compensate_faults or shuffle do not hold the plain targets; convert with these off to hand "
                "arrays over"
            )
        layer.array.sync(layer.weight)
        yield name, layer.array


def _npz(path: str | os.PathLike[str], what: str) -> Path:
    file = Path(path)
    if file.suffix != ".npz":
        raise InputError(f"{what}: path = {str(file)!r} does not end in .npz; give one that does")
    return file


def _held(array: CrossbarArray) -> Tensor:
    """Programmed conductances, or targets where cells are ideal."""
    return array.cells["conductance_S"] if array.cells else array.target_conductance()


def _rows(array: CrossbarArray) -> tuple[tuple[int, int], ...]:
    return array_rows(array.hardware, array.written.w_int.shape[2])


def _full(array: CrossbarArray, cells: Tensor) -> list[NDArray[np.float32]]:
    """Cells as full arrays, in the order of `_matrices`; one copy stands for all where only one is given."""
    copies, (height, width) = (
        array.hardware.mitigation.copies,
        (array.hardware.array.rows, array.hardware.array.cols),
    )
    lead = cells if cells.dim() == 6 else cells.expand(copies, *cells.shape)
    out = []
    for tile in to_tiles(lead, array.hardware, _rows(array)):
        flat = tile.reshape(-1, *tile.shape[-2:]).cpu().numpy()
        for one in flat:
            whole = np.zeros((height, width), dtype=np.float32)
            whole[: one.shape[0], : one.shape[1]] = one
            out.append(whole)
    return out


def _matrices(name: str, array: CrossbarArray) -> list[_Matrix]:
    """Key, place and used cells of every array of a layer."""
    hardware, rows = array.hardware, _rows(array)
    groups, outputs, _ = array.written.w_int.shape
    shape = array.target_conductance().shape
    _, planes, slices, height, _ = shape
    index = torch.arange(planes * slices * outputs).view(1, planes, slices, 1, outputs)
    held = to_tiles(index.expand(groups, planes, slices, height, outputs) + 1, hardware, rows)
    lines = 2 if hardware.weights.encoding == "xnor" else 1
    found = []
    for block, ((start, stop), tile) in enumerate(zip(rows, held, strict=True)):
        copies = tile.expand(hardware.mitigation.copies, *tile.shape)
        for copy, group, apart, column in np.ndindex(*copies.shape[:4]):
            holds = copies[copy, group, apart, column][0].tolist()
            used = np.zeros((hardware.array.rows, hardware.array.cols), dtype=bool)
            used[: stop - start, : len(holds)] = np.array(holds) > 0
            key = f"{name or 'model'}.{block}.{copy}.{group}.{apart}.{column}"
            about = {
                "key": key,
                "copy": copy,
                "group": group,
                "inputs": [start // lines, stop // lines],
                "word_lines_an_input": lines,
                "column_block": column,
                "bit_lines": [_bit_line(k - 1, slices, outputs, planes) for k in holds if k > 0],
            }
            found.append(_Matrix(key, about, used))
    return found


def _bit_line(index: int, slices: int, outputs: int, planes: int) -> dict[str, Any]:
    plane, rest = divmod(index, slices * outputs)
    slice_, output = divmod(rest, outputs)
    line: dict[str, Any] = {"output": output, "slice": slice_}
    return {**line, "side": ("plus", "minus")[plane]} if planes == 2 else line


def _unit_columns(
    name: str, array: CrossbarArray
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.float32]]]:
    """Key, target and held conductance of the unit columns. Shapes: (copies, groups, word lines)."""
    if not array.has_unit_column:
        return
    target = array.unit_target()
    held = array.unit_cells["conductance_S"] if array.unit_cells else target
    held = held if held.dim() == 6 else held.expand(array.hardware.mitigation.copies, *held.shape)
    first, second = (t.expand(held.shape)[:, :, 0, 0, :, 0].cpu().numpy().copy() for t in (target, held))
    yield f"{name or 'model'}.unit", first, second


def _read(file: Path) -> dict[str, NDArray[np.float32]]:
    """The matrices of a file whose manifest is right."""
    manifest = file.with_suffix(".json")
    for needed in (file, manifest):
        if not needed.is_file():
            raise FileMissingError(
                f"{str(needed)!r} does not exist; import_arrays needs the .npz file and the .json manifest "
                "that "
                "export_arrays wrote"
            )
    try:
        about = json.loads(manifest.read_text(encoding="utf-8"))
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            values = {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{str(file)!r} or its manifest cannot be read: {error}; export the arrays again"
        ) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(f"{str(manifest)!r} is not a manifest of format {FORMAT!r}; export the arrays again")
    return values


def _import_layer(
    name: str, array: CrossbarArray, values: dict[str, NDArray[np.float32]], file: Path
) -> ImportedLayer:
    matrices, before, targets = _matrices(name, array), _held(array), array.target_conductance()
    measured, missing = [], 0
    for matrix, target, now in zip(matrices, _full(array, targets), _full(array, before), strict=True):
        _check_target(values, matrix.key, np.where(matrix.used, target, np.nan), file)
        got = _measured(values, matrix.key, target.shape, file)
        unknown = np.isnan(got) & matrix.used
        missing += int(unknown.sum())
        measured.append(np.where(matrix.used & ~unknown, got, now))
    after = _from_full(array, measured, before)
    changed = after != before
    units = [
        _import_unit(key, target, held, values, file) for key, target, held in _unit_columns(name, array)
    ]
    new_unit = next((new for new, moved in units if moved), None)
    if bool(changed.any()) or new_unit is not None:
        array.set_conductances(after, None if new_unit is None else torch.from_numpy(new_unit))
    difference, error = (after.double() - t.double() for t in (before, targets.expand(before.shape)))
    known = max(after.numel() - missing, 1)
    return ImportedLayer(
        name=name,
        arrays=len(matrices),
        cells=after.numel(),
        missing=missing,
        changed=int(changed.sum()),
        change_max=float(difference.abs().max()),
        change_rms=float((difference.square().sum() / known).sqrt()),
        error_rms=float((error.square().sum() / after.numel()).sqrt()),
    )


def _import_unit(
    key: str,
    target: NDArray[np.float32],
    held: NDArray[np.float32],
    values: dict[str, NDArray[np.float32]],
    file: Path,
) -> tuple[NDArray[np.float32], bool]:
    """A unit column as measured, and whether it is another than before."""
    _check_target(values, key, target, file)
    got = _measured(values, key, target.shape, file)
    new = np.where(np.isnan(got), held, got).astype(np.float32)
    return new, not np.array_equal(new, held)


def _check_target(values: dict[str, NDArray[np.float32]], key: str, target: NDArray[Any], file: Path) -> None:
    """The file's targets must be those of the model."""
    stored = values.get(f"{key}.target_S")
    if stored is None:
        raise DataError(f"{str(file)!r} has no {key}.target_S; it belongs to another model or another chip")
    if stored.shape != target.shape or not np.array_equal(stored, target.astype(np.float32), equal_nan=True):
        raise DataError(
            f"{str(file)!r}: {key}.target_S is not what the model asks for now; its weights, calibration or "
            "chip "
            "changed since the export: export again, or load the model that was exported"
        )


def _measured(
    values: dict[str, NDArray[np.float32]], key: str, shape: tuple[int, ...], file: Path
) -> NDArray[np.float32]:
    got = values.get(f"{key}.measured_S")
    if got is None or got.shape != shape:
        found = "is missing" if got is None else f"has shape {got.shape}"
        raise DataError(f"{str(file)!r}: {key}.measured_S {found}; a matrix of {shape} is needed")
    bad = np.isinf(got) | (got < 0)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{str(file)!r}: {key}.measured_S holds {got[bad][0]:g} at {where}; conductances are finite and "
            "0 or more, nan where a cell was not measured"
        )
    return got.astype(np.float32)


def _from_full(array: CrossbarArray, matrices: list[NDArray[np.float32]], like: Tensor) -> Tensor:
    """The inverse of `_full`."""
    hardware, rows = array.hardware, _rows(array)
    whole = like if like.dim() == 6 else like.expand(hardware.mitigation.copies, *like.shape)
    tiles, at = [], 0
    for tile in to_tiles(whole, hardware, rows):
        count = tile[..., 0, 0].numel()
        part = np.stack([m[: tile.shape[-2], : tile.shape[-1]] for m in matrices[at : at + count]])
        tiles.append(torch.from_numpy(part).view(tile.shape))
        at += count
    return from_tiles(tiles, whole, hardware).view(like.shape).to(like.device)

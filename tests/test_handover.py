"""Arrays to a laboratory and back: nothing changes by itself, measured values arrive, wrong files say so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import imcsim
from imcsim.convert import named_layers
from imcsim.errors import ConversionError, DataError, FileMissingError, InputError

CHIPS = {
    "ideal": {},
    "pcm": {"device": {"card": "pcm_gst"}},
    "faults": {"device": {"card": "cmo_hfox", "stuck_on": 0.02}},
    "separate": {"weights": {"bits": 6, "cell_bits": 2, "placement": "separate", "pair": "arrays"}},
    "unit": {
        "device": {"card": "pcm_gst"},
        "weights": {"bits": 6, "cell_bits": 2, "encoding": "isaac"},
        "adc": {"bits": 10, "offset_correction": "unit_column"},
    },
    "xnor": {"weights": {"bits": 1, "encoding": "xnor"}, "inputs": {"bits": 1, "range": "dynamic"}},
    "copies": {"device": {"card": "pcm_gst"}, "mitigation": {"copies": 3}},
    "verified": {
        "device": {
            "card": "taox_hfox",
            "programming": {"kind": "write_verify", "tolerance": 0.02, "max_pulses": 80},
        }
    },
}
X = torch.rand(4, 4, 6, 6, generator=torch.Generator().manual_seed(2)) - 0.3


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10))


def sim_of(which: str) -> nn.Module:
    tables = {"array": {"rows": 32, "cols": 20}, "inputs": {"range": "dynamic"}, **CHIPS[which]}
    if which not in ("separate", "unit", "xnor"):
        tables["weights"] = {"bits": 6, "cell_bits": 2}
    return imcsim.convert(net(), imcsim.Hardware.model_validate(tables))


def read(sim: nn.Module) -> torch.Tensor:
    """Outputs of the first layer (which no later rounding hides) and of the network."""
    imcsim.seed_reads(sim, 0)
    return torch.cat([sim[0](X).flatten(), sim(X).flatten()])


@pytest.mark.parametrize("which", CHIPS)
def test_round_trip_changes_nothing(which: str, tmp_path) -> None:
    sim = sim_of(which)
    imcsim.program(sim, seed=3)
    imcsim.age(sim, 1e3)
    before = read(sim)
    cells = {
        n: {k: v.clone() for k, v in layer.array.cells.items()} for n, layer in named_layers(sim).items()
    }
    file = imcsim.export_arrays(sim, tmp_path / "arrays.npz")
    report = imcsim.import_arrays(sim, file)
    assert report.changed == 0
    assert all(row.missing == 0 for row in report.rows)
    assert torch.equal(read(sim), before)
    for name, layer in named_layers(sim).items():
        assert layer.array.cells.keys() == cells[name].keys()
        assert all(torch.equal(layer.array.cells[k], v) for k, v in cells[name].items())


@pytest.mark.parametrize("which", CHIPS)
def test_another_models_arrays_make_it_that_model(which: str, tmp_path) -> None:
    """Exported from the chip of seed 5, imported into that of seed 0: the same conductances, bit for bit."""
    there, here = sim_of(which), sim_of(which)
    imcsim.program(there, seed=5)
    report = imcsim.import_arrays(here, imcsim.export_arrays(there, tmp_path / "a.npz"))
    assert (report.changed > 0) == (which in ("pcm", "faults", "unit", "copies", "verified"))
    for a, b in zip(named_layers(here).values(), named_layers(there).values(), strict=True):
        for mine, other in ((a.array.cells, b.array.cells), (a.array.unit_cells, b.array.unit_cells)):
            assert mine.keys() == other.keys()
            if mine:
                assert torch.equal(mine["conductance_S"], other["conductance_S"])


def test_matrices_lie_as_the_arrays_do(tmp_path) -> None:
    sim = sim_of("pcm")
    file = imcsim.export_arrays(sim, tmp_path / "a.npz")
    values, manifest = np.load(file), json.loads(file.with_suffix(".json").read_text())
    assert manifest["format"] == "imcsim arrays 1"
    layer = sim[3].array
    target = layer.target_conductance()
    entry = next(one for one in manifest["layers"] if one["name"] == "3")
    for about in entry["arrays"]:
        matrix = values[f"{about['key']}.target_S"]
        assert matrix.shape == (32, 20)
        start, stop = about["inputs"]
        for column, line in enumerate(about["bit_lines"]):
            side = ("plus", "minus").index(line["side"])
            want = target[about["group"], side, line["slice"], start:stop, line["output"]].numpy()
            assert np.array_equal(matrix[: stop - start, column], want)
        assert np.isnan(matrix[stop - start :]).all()
        assert np.isnan(matrix[:, len(about["bit_lines"]) :]).all()


def change(file, key_part: str, how) -> str:
    values = dict(np.load(file))
    key = next(k for k in values if key_part in k)
    values[key] = how(values[key].copy())
    np.savez(file, **values)
    return key


def test_measured_values_arrive_and_are_reported(tmp_path) -> None:
    sim = sim_of("pcm")
    file = imcsim.export_arrays(sim, tmp_path / "a.npz")
    before = read(sim)

    def measure(g):
        g[0, 0] += 2e-6
        g[1, 1] = np.nan  # not measured
        return g

    change(file, "measured_S", measure)
    report = imcsim.import_arrays(sim, file)
    first, second = report.rows
    assert (first.changed, first.missing, second.changed) == (1, 1, 0)
    assert first.change_max == pytest.approx(2e-6, rel=1e-3)
    assert report.changed == 1
    assert "change_max" in str(report)
    assert list(report.frame()["name"]) == ["0", "3"]
    after = read(sim)
    assert not torch.equal(after, before)
    imcsim.save(sim, tmp_path / "a.safetensors")
    assert torch.equal(read(imcsim.load(tmp_path / "a.safetensors", net())), after)
    imcsim.program(sim, seed=0)
    assert torch.equal(read(sim), before)


def test_measured_values_of_ideal_cells(tmp_path) -> None:
    sim = sim_of("ideal")
    file = imcsim.export_arrays(sim, tmp_path / "a.npz")
    before = read(sim)
    change(file, "measured_S", lambda g: 0.9 * g)
    assert imcsim.import_arrays(sim, file).rows[0].changed > 0
    after = read(sim)
    assert not torch.equal(after, before)
    imcsim.save(sim, tmp_path / "a.safetensors")
    assert torch.equal(read(imcsim.load(tmp_path / "a.safetensors", net())), after)


def test_wrong_files_say_so(tmp_path) -> None:
    sim = sim_of("pcm")
    file = imcsim.export_arrays(sim, tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"does not end in \.npz"):
        imcsim.export_arrays(sim, tmp_path / "a.csv")
    with pytest.raises(FileMissingError, match="does not exist; import_arrays needs"):
        imcsim.import_arrays(sim, tmp_path / "b.npz")
    with pytest.raises(FileMissingError, match="the folder"):
        imcsim.export_arrays(sim, tmp_path / "no" / "a.npz")
    with pytest.raises(ConversionError, match="convert it first"):
        imcsim.export_arrays(net(), tmp_path / "a.npz")
    good = file.read_bytes()
    file.write_bytes(good[:100])
    with pytest.raises(DataError, match=r"cannot be read.*export the arrays again"):
        imcsim.import_arrays(sim, file)
    file.write_bytes(good)
    key = change(file, "measured_S", lambda g: -g)
    with pytest.raises(DataError, match=rf"{key}.* holds -.* at \(\d+, \d+\); conductances are finite"):
        imcsim.import_arrays(sim, file)
    file.write_bytes(good)
    change(file, "measured_S", lambda g: g[:5])
    with pytest.raises(DataError, match=r"has shape \(5, 20\); a matrix of \(32, 20\)"):
        imcsim.import_arrays(sim, file)
    file.write_bytes(good)
    sim[3].weight.data.add_(0.5)
    with pytest.raises(DataError, match="is not what the model asks for now; its weights"):
        imcsim.import_arrays(sim, file)
    file.with_suffix(".json").write_text("{}")
    with pytest.raises(DataError, match="is not a manifest of format"):
        imcsim.import_arrays(sim, file)


def test_chips_that_move_cells_are_refused(tmp_path) -> None:
    chip = imcsim.Hardware.model_validate(
        {"mitigation": {"remap_rows": True}, "inputs": {"range": "dynamic"}}
    )
    sim = imcsim.convert(net(), chip)
    with pytest.raises(InputError, match="convert with these off"):
        imcsim.export_arrays(sim, tmp_path / "a.npz")

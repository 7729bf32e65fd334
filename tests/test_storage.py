"""Converted models on disk and in state_dicts."""

from __future__ import annotations

import copy
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import imcsim
from imcsim.errors import ConversionError, DataError, FileMissingError
from imcsim.nn.array import CrossbarArray
from tests.test_fold import trained

NOISY = imcsim.Hardware(
    device={"card": "pcm_gst"},
    array={"rows": 16},
    inputs={"range": "calibrated"},
    adc={"bits": 6, "range": "calibrated", "offset_correction": "unit_column"},
    weights={"encoding": "offset"},
)
BINARY = imcsim.Hardware(
    device={"programming": {"kind": "range", "sigma": 0.1}},
    inputs={"range": "dynamic"},
    weights={"cell_bits": [3, 4]},
)
CHIPS = {"*": NOISY, "conv2": BINARY, "fc": None}
X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(5))


def chip(fold: bool = False) -> nn.Module:
    sim = imcsim.convert(trained(), CHIPS, fold_batchnorm=fold)
    imcsim.program(sim, seed=7)
    imcsim.calibrate(sim, [X])
    imcsim.age(sim, seconds=3600.0)
    imcsim.seed_reads(sim, 11)
    sim(X[:3])
    return sim


def no_programming(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: CrossbarArray) -> None:
        raise AssertionError(f"{self.name} was programmed again")

    monkeypatch.setattr(CrossbarArray, "_write", refuse)


@pytest.mark.parametrize("fold", [False, True])
def test_round_trip_without_programming_again(
    tmp_path: Path, fold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = chip(fold)
    path = tmp_path / "chip.safetensors"
    imcsim.save(sim, path)
    assert [file.name for file in tmp_path.iterdir()] == ["chip.safetensors"]
    other = trained()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    before = {k: v.clone() for k, v in other.state_dict().items()}
    back = imcsim.load(path, other)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
    with monkeypatch.context() as patch:
        no_programming(patch)
        assert torch.equal(back(X), sim(X))  # the stream of read noise goes on where it was
    assert torch.equal(back(X[:1]), sim(X[:1]))
    assert str(imcsim.summary(back)) == str(imcsim.summary(sim))
    state, back_state = sim.state_dict(), back.state_dict()
    assert state.keys() == back_state.keys()
    assert all(torch.equal(v, back_state[k]) for k, v in state.items())
    imcsim.age(back, 0)
    imcsim.age(sim, 0)
    assert torch.equal(back(X), sim(X))
    imcsim.program(back, seed=8)
    imcsim.program(sim, seed=8)
    assert torch.equal(back(X), sim(X))


@pytest.mark.parametrize("seed", [2**53 + 1, -3])
def test_compensation_and_any_seed_come_back(tmp_path: Path, seed: int) -> None:
    sim = imcsim.convert(trained(), CHIPS)
    imcsim.calibrate(sim, [X])
    imcsim.program(sim, seed=seed)
    imcsim.age(sim, seconds=1e6, compensation="global")
    imcsim.save(sim, tmp_path / "a.safetensors")
    loaded = imcsim.load(tmp_path / "a.safetensors", trained())
    by_state = imcsim.convert(trained(), CHIPS)
    by_state.load_state_dict(sim.state_dict(), strict=True)
    by_state = by_state.eval()
    for flip in (False, True):
        outputs = []
        for model in (sim, loaded, by_state):
            if flip:  # arrays are programmed again, with their seed
                with torch.no_grad():
                    model.conv1.weight.neg_()
            imcsim.seed_reads(model, 0)
            outputs.append(model(X))
        assert torch.equal(outputs[1], outputs[0])
        assert torch.equal(outputs[2], outputs[0])


def test_engine_and_modes_come_back(tmp_path: Path) -> None:
    sim = imcsim.convert(trained(), imcsim.Hardware(inputs={"range": "dynamic"}), engine="reference")
    imcsim.save(sim, tmp_path / "a.safetensors")
    back = imcsim.load(tmp_path / "a.safetensors", trained().train())
    assert back.training
    rows = [row.engine for row in imcsim.summary(back).rows if row.arrays]
    assert set(rows) == {"reference"}


def test_hardware_comes_back(tmp_path: Path) -> None:
    sim = chip()
    imcsim.save(sim, tmp_path / "a.safetensors")
    back = imcsim.load(tmp_path / "a.safetensors", trained())
    assert back.conv1.array.hardware == NOISY
    assert back.conv2.array.hardware == BINARY
    assert back.conv2.array.hardware.weights.cell_bits == (3, 4)


def test_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    imcsim.save(chip(), path)
    assert not zipfile.is_zipfile(path)
    with pytest.raises(pickle.UnpicklingError), path.open("rb") as file:
        pickle.load(file)
    with safe_open(str(path), framework="pt") as stored:
        assert "conv1.weight" in stored.keys()


def test_shared_layers_and_tied_weights(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = self.a
            self.c = nn.Linear(4, 4)
            self.c.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x)))

    torch.manual_seed(0)
    net, x = Net(), torch.randn(3, 4)
    sim = imcsim.convert(net, BINARY)
    imcsim.save(sim, tmp_path / "a.safetensors")
    back = imcsim.load(tmp_path / "a.safetensors", Net())
    assert torch.equal(back(x), sim(x))
    assert back.a is back.b


def test_float64_models(tmp_path: Path) -> None:
    sim = imcsim.convert(trained().double(), BINARY)
    imcsim.save(sim, tmp_path / "a.safetensors")
    assert torch.equal(
        imcsim.load(tmp_path / "a.safetensors", trained().double())(X.double()), sim(X.double())
    )


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    sim = chip()
    imcsim.save(sim, path)
    content = path.read_bytes()

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        imcsim.save(sim, path)
    assert path.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_truncated_files(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.safetensors"
    imcsim.save(chip(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.safetensors' is not a complete .*save the model again"):
        imcsim.load(path, trained())


def test_other_files(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file(trained().state_dict(), path)
    with pytest.raises(DataError, match=r"was not written by imcsim\.save .*load_state_dict"):
        imcsim.load(path, trained())
    with pytest.raises(FileMissingError, match=r"nothing\.safetensors' does not exist"):
        imcsim.load(tmp_path / "nothing.safetensors", trained())
    imcsim.save(chip(), path)
    with pytest.raises(ConversionError):
        imcsim.load(path, nn.Sequential(nn.Linear(3, 3)))
    wider = trained()
    wider.conv2 = nn.Conv2d(4, 5, 3)
    with pytest.raises(ConversionError, match="belongs to another architecture"):
        imcsim.load(path, wider)


class TestStateDict:
    """Arrays in a state_dict stay if they belong to its weights, else they are programmed again."""

    def test_arrays_are_kept_by_their_fingerprint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sim = chip()
        state = copy.deepcopy(sim.state_dict())
        fresh = imcsim.convert(trained(), CHIPS)
        fresh.load_state_dict(state, strict=True)
        imcsim.seed_reads(sim, 0)
        imcsim.seed_reads(fresh, 0)
        no_programming(monkeypatch)
        assert torch.equal(fresh(X), sim(X))

    def test_arrays_of_other_weights_are_dropped(self) -> None:
        sim = chip()
        state = copy.deepcopy(sim.state_dict())
        other = trained()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(-0.5)
        mixed = {**state, **other.state_dict()}
        got, want = imcsim.convert(trained(), CHIPS), imcsim.convert(other, CHIPS)
        got.load_state_dict(mixed, strict=True)
        imcsim.program(want, seed=7)  # the stored seed
        imcsim.calibrate(want, [X])
        for name in ("conv1", "conv2"):
            a, b = getattr(got, name).array.cells, getattr(want, name).array.cells
            got(X)
            a = getattr(got, name).array.cells
            assert a.keys() == b.keys()
            assert all(torch.equal(a[key], b[key]) for key in a)

    @pytest.mark.parametrize(
        "change",
        [
            {"weights.cell_bits": [4, 3]},
            {"weights.cell_bits": 7},
            {"weights.encoding": "twos_complement"},
            {"weights.scale": "per_channel"},
            {"device.on_off_ratio": 20.0},
            {"device.programming": {"kind": "none"}},
        ],
    )
    def test_arrays_of_another_chip_are_dropped(self, change: dict[str, object]) -> None:
        sim = imcsim.convert(trained(), BINARY)
        imcsim.program(sim, seed=3)
        other = BINARY.replace(change)
        want = imcsim.convert(trained(), other)
        imcsim.program(want, seed=3)
        got = imcsim.convert(trained(), other)
        got.load_state_dict(sim.state_dict(), strict=True)
        assert torch.equal(got(X), want(X))

    @pytest.mark.parametrize(
        "change",
        [
            {"adc.bits": 5},
            {"array.rows_active": 16},
            {"array.column_clamp": 50.0},
            {"device.temperature_K": 350.0},
            {"inputs.bits": 6},
        ],
    )
    def test_arrays_do_not_depend_on_how_they_are_read(
        self, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sim = imcsim.convert(trained(), BINARY)
        imcsim.program(sim, seed=3)
        fresh = imcsim.convert(trained(), BINARY.replace(change))
        fresh.load_state_dict(sim.state_dict(), strict=True)
        no_programming(monkeypatch)
        fresh(X)

    def test_no_stale_arrays_after_a_float_checkpoint(self) -> None:
        """A defect of other simulators: after load_state_dict the arrays still hold the old weights."""
        sim = imcsim.convert(trained(), BINARY)
        sim(X)
        other = trained()
        with torch.no_grad():
            other.conv1.weight.neg_()
        sim.load_state_dict(other.state_dict(), strict=True)
        assert torch.equal(sim(X), imcsim.convert(other, BINARY)(X))

    def test_float_and_double_have_one_fingerprint(self) -> None:
        sim = imcsim.convert(trained(), BINARY)
        wide = imcsim.convert(trained().double(), BINARY)
        imcsim.program(sim, seed=3)
        wide.load_state_dict(sim.state_dict(), strict=True)
        sim64 = copy.deepcopy(sim).double()
        assert torch.equal(wide(X.double()), sim64(X.double()))

    def test_torch_save_needs_no_class_of_ours(self, tmp_path: Path) -> None:
        """A defect of other simulators: checkpoints that need pickled classes."""
        sim = chip()
        torch.save(sim.state_dict(), tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        fresh = imcsim.convert(trained(), CHIPS)
        fresh.load_state_dict(state, strict=True)
        imcsim.seed_reads(fresh, 0)
        imcsim.seed_reads(sim, 0)
        assert torch.equal(fresh(X), sim(X))

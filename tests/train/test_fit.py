"""The loop: what it takes, that it learns, and that a killed one goes on to the same end."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import imcsim
from imcsim import train, zoo
from imcsim.convert import arrays
from imcsim.errors import CalibrationError, DataError, FileMissingError, InputError
from imcsim.results import accuracy_interval
from tests.train.small import CHIP, convolutional, digits, perceptron


def converted(model: nn.Module | None = None) -> nn.Module:
    return imcsim.convert(model or convolutional(), CHIP)


def state(sim: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in [*sim.named_parameters(), *sim.named_buffers()]}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("fidelity", ["statistical", "exact"])
def test_the_contract_s_call_learns(fidelity):
    """Just the arguments of the contract, on a model that was not even calibrated."""
    sim = converted(perceptron())
    done = imcsim.train.fit(sim, digits(256), epochs=3, fidelity=fidelity)
    assert len(done.epochs) == 3
    assert done.best == 2
    assert done.epochs[2].loss < 0.8 * done.epochs[0].loss
    assert done.epochs[0].score is None
    assert str(done).startswith("epoch 1: loss ")
    assert not any(layer.injection for layer, _ in arrays(sim))
    assert imcsim.evaluate(sim, digits(100, train=False)).top1 > 0.5


def test_any_iterable_of_batches_will_do():
    x, y = zoo.mnist_subset(64, train=True)
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    whole = list(loader)
    kinds = [whole, loader, lambda: iter(whole), lambda epoch: iter(whole[:: 1 if epoch < 9 else -1])]
    found = []
    for batches in kinds:
        sim = converted(perceptron())
        imcsim.calibrate(sim, [x])
        train.fit(sim, batches, 2)
        found.append(state(sim))
    assert same(found[0], found[1])
    assert same(found[2], found[3])  # of unknown length: the learning rate changes from epoch to epoch
    sim = converted(perceptron())
    assert len(train.fit(sim, iter(whole), 1).epochs) == 1


def test_anything_else_goes_through_forward():
    whole = [{"image": x, "label": y} for x, y in digits(64)]
    sim = converted(perceptron())

    def forward(net, batch):
        return nn.functional.cross_entropy(net(batch["image"]), batch["label"])

    done = train.fit(sim, whole, 2, forward=forward, optimizer=lambda groups: torch.optim.Adam(groups))
    assert done.epochs[1].loss < done.epochs[0].loss


def test_torch_s_generator_is_left_alone_and_shuffling_is_the_seed_s():
    x, y = zoo.mnist_subset(96, train=True)
    found = []
    for outside, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        sim = converted()
        torch.set_rng_state(before)
        loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
        train.fit(sim, loader, 1, seed=seed, calibration=[x])
        assert torch.equal(torch.get_rng_state(), before)
        found.append(state(sim))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_the_best_epoch_on_its_chips_is_kept():
    sim, held = converted(perceptron()), digits(200, 100, train=False)

    def learning_rate(done: float) -> float:  # the second epoch spoils it
        return 10.0 if done < 0.5 else 1000.0

    done = train.fit(
        sim, digits(256), 2, validation=held, lr_schedule=learning_rate, selection_seeds=(7, 8), lr=0.005
    )
    assert done.best == 0
    assert done.epochs[0].score > done.epochs[1].score
    seen = [e.top1 for e in train.evaluate_on_chips(sim, held, (7, 8))]
    assert tuple(seen) == done.epochs[0].scores
    assert "top-1 on chips" in str(done)


# ---- stopped and gone on -----------------------------------------------------------------------------


class Killed(Exception):
    pass


class KilledAfter(list):
    """Batches that break off after so many over all epochs."""

    left = 6

    def __iter__(self):
        for batch in super().__iter__():
            self.left -= 1
            if self.left == 0:
                raise Killed
            yield batch


OPTIONS = {
    "sgd": {},
    "adam, exact, chips": {
        "fidelity": "exact",
        "optimizer": lambda groups: torch.optim.Adam(groups),
        "chips": 2,
    },
    "learned ranges": {"learn": ("inputs",), "clip_sigmas": 2.0, "strength": train.ramp(0, 1)},
    "recalibrated": {"recalibrate": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("every", [None, 1])
def test_a_killed_fit_goes_on_to_the_identical_result(tmp_path, options, every):
    batches, x = digits(96), [zoo.mnist_subset(64)[0]]
    held = digits(64, train=False)
    fixed = {"calibration": x, "validation": held, "selection_seeds": (5,), **options}
    whole = converted()
    want = train.fit(whole, batches, 3, **fixed)
    part, file = converted(), tmp_path / "fit.safetensors"
    how = {**fixed, "checkpoint": file, "checkpoint_batches": every}
    with pytest.raises(Killed):
        train.fit(part, KilledAfter(batches), 3, **how)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.safetensors"]
    again = converted()  # as another process would start
    got = train.fit(again, batches, 3, **how)
    assert got == want
    assert same(state(again), state(whole))
    for (_, one), (_, two) in zip(arrays(again), arrays(whole), strict=True):
        assert (one.input_range, one.adc_high) == (two.input_range, two.adc_high)
        assert one.conversion_errors == two.conversion_errors
    # a finished one only gives its result back
    idle = converted()
    assert train.fit(idle, batches, 3, **how) == want
    assert same(state(idle), state(whole))


def test_checkpoints_of_something_else(tmp_path):
    file, batches = tmp_path / "fit.safetensors", digits(32)
    train.fit(converted(), batches, 1, checkpoint=file)
    with pytest.raises(DataError, match=r"was made with lr = 0\.01, but now it is 0\.1; .*resume=False"):
        train.fit(converted(), batches, 1, checkpoint=file, lr=0.1)
    with pytest.raises(DataError, match="belongs to another network"):
        train.fit(converted(perceptron()), batches, 1, checkpoint=file)
    train.fit(converted(perceptron()), batches, 1, checkpoint=file, resume=False)
    imcsim.save(converted(), file)
    with pytest.raises(DataError, match=r"is not a checkpoint of imcsim\.train\.fit"):
        train.fit(converted(), batches, 1, checkpoint=file)
    file.write_bytes(b"nothing")
    with pytest.raises(DataError, match="is damaged"):
        train.fit(converted(), batches, 1, checkpoint=file)
    with pytest.raises(FileMissingError, match="does not exist; create it first"):
        train.fit(converted(), batches, 1, checkpoint=tmp_path / "no" / "fit.safetensors")


# ---- on the chip afterwards --------------------------------------------------------------------------


def test_trained_saved_loaded_and_programmed_anew(tmp_path):
    """Other program seeds give the stated accuracy within its stated interval.

    The interval is of the mean over all chips; a mean of as many other chips lies within sqrt(2) of it.
    """
    sim, held = converted(perceptron()), digits(500, 250, train=False)
    train.fit(sim, digits(1000), 3, clip_sigmas=2.5, lr=0.02)
    stated = accuracy_interval([e.top1 for e in train.evaluate_on_chips(sim, held, range(5))], 500)
    imcsim.save(sim, tmp_path / "chip.safetensors")
    loaded = imcsim.load(tmp_path / "chip.safetensors", perceptron())
    other = []
    for seed in range(100, 105):
        imcsim.program(loaded, seed)
        other.append(imcsim.evaluate(loaded, held).top1)
    assert stated.mean > 0.8
    half = 2**0.5 * (stated.high - stated.low) / 2
    assert abs(sum(other) / len(other) - stated.mean) <= half
    assert [e.top1 for e in train.evaluate_on_chips(loaded, held, range(5))] == [
        e.top1 for e in train.evaluate_on_chips(sim, held, range(5))
    ]


def test_noise_in_training_makes_chips_better():
    """Ten percent of range: training against chips beats the same training without."""
    harsh = CHIP.replace({"device.programming": {"kind": "range", "sigma": 0.1}})
    held, found = digits(500, 250, train=False), []
    for strength in (0.0, 1.0):
        sim = imcsim.convert(perceptron(), harsh)
        train.fit(sim, digits(1000), 6, strength=strength, lr=0.02, recalibrate=True)
        scores = [e.top1 for e in train.evaluate_on_chips(sim, held, range(4))]
        found.append(sum(scores) / len(scores))
    assert found[1] > found[0] + 0.02


# ---- bad input ---------------------------------------------------------------------------------------

BAD = [
    (
        iter([]),
        {"epochs": 2},
        r"list_iterator, which is used up after one epoch, but epochs = 2; give a list",
    ),
    (torch.zeros(2, 2), {}, r"but got one tensor of shape \(2, 2\)"),
    (7, {}, "takes .input, target. batches, a list or a DataLoader for example, but got 7"),
    ([], {}, "fit got no training batches"),
    (
        [torch.zeros(4, 1, 28, 28)],
        {},
        "takes .input, target. pairs of tensors, but got a Tensor; pass forward=",
    ),
    (None, {"epochs": 0}, r"fit: epochs = 0 is not a whole number from 1"),
    (None, {"lr": -1.0}, r"fit: lr = -1\.0 is not a learning rate"),
    (None, {"lr": 1e30}, r"fit: the loss is (nan|inf) at step \d; use a smaller lr"),
    (None, {"fidelity": "exakt"}, r"fidelity = 'exakt' is not one of .*Did you mean 'exact'"),
    (None, {"checkpoint_batches": 0}, "checkpoint_batches = 0 is not a whole number"),
    (None, {"recalibrate": True, "learn": ("inputs",)}, "both set ranges; leave one of them out"),
]


@pytest.mark.parametrize(("batches", "options", "text"), BAD)
def test_bad_input(batches, options, text):
    sim = converted(perceptron())
    before = state(sim)
    with pytest.raises(InputError, match=text):
        train.fit(sim, digits(96) if batches is None else batches, **{"epochs": 1, **options})
    assert not any(layer.injection for layer, _ in arrays(sim))
    assert options.get("lr") == 1e30 or same(before, state(sim))


def test_layers_that_the_data_do_not_reach():
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.other = nn.Linear(784, 10), nn.Linear(784, 10)

        def forward(self, x):
            return self.used(x.flatten(1))

    with pytest.raises(CalibrationError, match="never reached layer 'other'"):
        train.fit(imcsim.convert(Unused(), CHIP), digits(32), 1)

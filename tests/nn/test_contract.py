"""What every converted layer promises: one class, all kinds of layer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim.errors import ConversionError, ImcsimError, InputError
from imcsim.nn import CROSSBAR_OF
from tests.layers import PLAIN, LayerCase, named
from tests.tolerances import BATCH_CUT, BFLOAT16, SCALED_FLOAT32, SCALED_FLOAT64

QUIET = imcsim.Hardware(
    array={"rows": 8},
    inputs={"range": "dynamic"},
    adc={"bits": 5},
    weights={"bits": 6, "scale": "per_channel"},
)
"""Ideal cells, lossy converters, nothing to calibrate."""

NOISY = QUIET.replace({"device.programming": {"kind": "range", "sigma": 0.05}})
"""Programmed cells: real-valued levels."""


class Net(nn.Module):
    """The layer of a case between two others, with its own name."""

    def __init__(self, case: LayerCase, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer = case.build(dtype)
        self.after = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.layer(x))


def converted(
    case: LayerCase, hardware: imcsim.Hardware = QUIET, **options: Any
) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    net = Net(case).eval()
    return net, imcsim.convert(net, hardware, **options), case.inputs(torch.float32)


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool((a.double() - b.double()).abs().max() <= tolerance * b.double().abs().max())


def step(net: nn.Module) -> None:
    with torch.no_grad():
        net.layer.weight.mul_(-0.5).add_(
            0.01 * torch.sin(torch.arange(net.layer.weight.numel()).view_as(net.layer.weight))
        )


@pytest.mark.parametrize(**named(PLAIN))
class TestLayer:
    def test_became_the_crossbar_form_and_left_the_original_alone(self, case: LayerCase) -> None:
        torch.manual_seed(0)
        net = Net(case)
        before = {k: v.clone() for k, v in net.state_dict().items()}
        kinds = [type(m) for m in net.modules()]
        sim = imcsim.convert(net, QUIET)
        assert type(sim.layer) is CROSSBAR_OF[case.kind]
        assert isinstance(sim.layer, case.kind)
        assert [type(m) for m in net.modules()] == kinds
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
        assert sim.layer.weight.data_ptr() != net.layer.weight.data_ptr()
        assert sim.training == net.training

    @pytest.mark.parametrize("hardware", [QUIET, NOISY], ids=["quiet", "noisy"])
    def test_keys_of_the_float_model_do_not_change(self, case: LayerCase, hardware: imcsim.Hardware) -> None:
        net, sim, x = converted(case, hardware)
        assert set(net.state_dict()) <= set(sim.state_dict())
        other = Net(case)
        step(other)
        want = imcsim.convert(other, hardware)(x)
        missing = sim.load_state_dict(other.state_dict(), strict=True)
        assert not missing.missing_keys
        assert not missing.unexpected_keys
        assert torch.equal(sim(x), want)

    def test_deepcopy_is_independent(self, case: LayerCase) -> None:
        _, sim, x = converted(case, NOISY)
        y = sim(x)
        twin = copy.deepcopy(sim)
        assert torch.equal(twin(x), y)
        step(twin)
        imcsim.program(twin, seed=9)
        assert not torch.equal(twin(x), y)
        assert torch.equal(sim(x), y)

    @pytest.mark.parametrize("hardware", [QUIET, NOISY], ids=["quiet", "noisy"])
    def test_float64_and_back(self, case: LayerCase, hardware: imcsim.Hardware) -> None:
        _, sim, x = converted(case, hardware)
        y = sim(x)
        wide = sim.to(torch.float64)(x.double())
        assert wide.dtype == torch.float64
        close_enough = (wide - y.double()).abs() <= 0.05 * y.abs().max()  # a code on a tie may differ
        assert close_enough.all()
        back = sim.to(torch.float32)(x)
        assert torch.equal(back, y)

    def test_to_bfloat16_never_narrows_conductances(self, case: LayerCase) -> None:
        _, sim, x = converted(case, NOISY)
        before = {k: v.clone() for k, v in sim.layer.array.cells.items()}
        sim.to(torch.bfloat16)
        assert sim.layer.weight.dtype == torch.bfloat16
        after = sim.layer.array.cells
        assert before.keys() == after.keys()
        for key, value in after.items():
            assert value.dtype.itemsize >= 4 or not value.is_floating_point()
            assert torch.equal(value, before[key])
        assert sim(x.to(torch.bfloat16)).dtype == torch.bfloat16

    def test_train_and_eval_give_the_same_numbers(self, case: LayerCase) -> None:
        _, sim, x = converted(case, NOISY)
        y = sim.eval()(x)
        assert torch.equal(sim.train()(x), y)
        assert sim.layer.training
        with torch.no_grad():
            assert torch.equal(sim(x), y)
        with torch.inference_mode():
            assert torch.equal(sim(x), y)

    def test_autocast_leaves_the_chips_arithmetic_alone(self, case: LayerCase) -> None:
        _, sim, x = converted(case)
        y = sim(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = sim(x)
            out = sim.layer(x)
        assert out.dtype == torch.bfloat16
        assert torch.equal(out.float(), sim.layer(x).bfloat16().float())
        assert close(cast, y, BFLOAT16)

    def test_channels_last_and_strided_inputs(self, case: LayerCase) -> None:
        _, sim, x = converted(case)
        y = sim(x)
        strided = torch.stack([x, -x], dim=-1)[..., 0]
        assert not strided.is_contiguous()
        assert torch.equal(sim(strided), y)
        if x.dim() >= 4:
            memory = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
            assert torch.equal(sim.to(memory_format=memory)(x.to(memory_format=memory)), y)

    def test_one_sample_without_a_batch(self, case: LayerCase) -> None:
        net, sim, x = converted(case)
        assert torch.equal(sim(x[0]), sim(x)[0])
        assert sim(x[0]).shape == net(x[0]).shape

    def test_an_empty_batch(self, case: LayerCase) -> None:
        net, sim, x = converted(case)
        assert sim(x[:0]).shape == net(x[:0]).shape

    def test_wrong_shapes_and_types(self, case: LayerCase) -> None:
        _, sim, x = converted(case)
        channels = 1 if x.dim() > 2 else x.dim() - 1
        with pytest.raises(InputError, match=r"layer 'layer' takes .* but got \(.*check the layer before it"):
            sim(torch.cat([x, x], channels))
        with pytest.raises(
            InputError, match=r"layer 'layer' takes a floating-point tensor, but got torch.int64"
        ):
            sim(torch.zeros(x.shape, dtype=torch.int64))

    def test_a_shared_layer_stays_shared(self, case: LayerCase) -> None:
        layer = case.build()
        both = nn.ModuleDict({"a": layer, "b": layer})
        sim = imcsim.convert(both, QUIET)
        assert sim["a"] is sim["b"]
        assert len({id(m) for m in sim.modules() if type(m) is CROSSBAR_OF[case.kind]}) == 1
        assert set(both.state_dict()) <= set(sim.state_dict())

    def test_subclasses_follow_unless_they_override_forward(self, case: LayerCase) -> None:
        class Same(case.kind):
            """Adds nothing that computes."""

        class Other(case.kind):
            def forward(self, x: Tensor, *rest: Any) -> Tensor:
                return super().forward(2 * x, *rest)

        same, other = Same(*case.args, **case.options), Other(*case.args, **case.options)
        sim = imcsim.convert(nn.ModuleDict({"same": same, "other": other}), QUIET)
        assert isinstance(sim["same"], CROSSBAR_OF[case.kind])
        assert type(sim["other"]) is Other
        rows = {row.name: row for row in imcsim.summary(sim).rows}
        assert rows["other"].became == "digital"
        assert "overrides forward" in rows["other"].reason
        x = case.inputs(torch.float32)
        assert torch.equal(sim["other"](x), other(x))

    def test_parametrized_layers_stay_digital_with_the_reason(self, case: LayerCase) -> None:
        layer = torch.nn.utils.parametrizations.weight_norm(case.build(torch.float32))
        sim = imcsim.convert(nn.ModuleDict({"a": layer, "b": nn.Linear(2, 2)}), QUIET)
        rows = {row.name: row for row in imcsim.summary(sim).rows}
        assert rows["a"].became == "digital"
        assert "parametrized" in rows["a"].reason
        x = case.inputs(torch.float32)
        assert torch.equal(sim["a"](x), layer(x))

    @pytest.mark.parametrize(
        "how", ["optimizer", "load_state_dict", "data.copy_", "in-place", "new parameter"]
    )
    @pytest.mark.parametrize("hardware", [QUIET, NOISY], ids=["quiet", "noisy"])
    def test_a_changed_weight_is_programmed_before_its_next_use(
        self, case: LayerCase, hardware: imcsim.Hardware, how: str
    ) -> None:
        net, sim, x = converted(case, hardware)
        before = sim(x)
        weight = sim.layer.weight
        new = weight.detach() * -0.7 + 0.1
        if how == "optimizer":
            optimizer = torch.optim.SGD([weight], lr=1.0)
            weight.grad = weight.detach() - new
            optimizer.step()
        elif how == "load_state_dict":
            sim.load_state_dict({**net.state_dict(), "layer.weight": new})
        elif how == "data.copy_":
            weight.data.copy_(new)
        elif how == "in-place":
            with torch.no_grad():
                weight.mul_(-0.7).add_(0.1)
        else:
            sim.layer.weight = nn.Parameter(new)
        fresh = copy.deepcopy(net)
        fresh.layer.weight.data.copy_(sim.layer.weight.detach())
        after = sim(x)
        assert not torch.equal(after, before)
        assert torch.equal(after, imcsim.convert(fresh, hardware)(x))  # with the same seed

    def test_same_seed_same_chip_whatever_ran_before(self, case: LayerCase) -> None:
        _, first, x = converted(case, NOISY)
        torch.manual_seed(4242)
        np.random.seed(4242)  # noqa: NPY002
        torch.rand(17)
        torch.manual_seed(0)
        net = Net(case).eval()
        torch.manual_seed(77)
        second = imcsim.convert(net, NOISY)
        assert torch.equal(first(x), second(x))
        imcsim.program(second, seed=1)
        assert not torch.equal(first(x), second(x))
        imcsim.program(second, seed=0)
        assert torch.equal(first(x), second(x))

    def test_global_random_states_are_left_alone(self, case: LayerCase) -> None:
        torch.manual_seed(0)
        net = Net(case).eval()
        x = case.inputs(torch.float32)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        sim = imcsim.convert(net, NOISY.replace({"device.card": "pcm_gst", "inputs.range": "calibrated"}))
        imcsim.calibrate(sim, [x])
        imcsim.program(sim, seed=3)
        imcsim.age(sim, seconds=100.0)
        imcsim.seed_reads(sim, 1)
        sim(x)
        imcsim.summary(sim)
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002

    def test_every_engine_gives_the_reference(self, case: LayerCase) -> None:
        for hardware in (QUIET, NOISY):
            _, reference, x = converted(case, hardware, engine="reference")
            for engine in ("auto", "matmul"):
                _, sim, _ = converted(case, hardware, engine=engine)
                if hardware is QUIET:
                    assert torch.equal(sim(x), reference(x))
                else:
                    far = (sim(x) - reference(x)).abs() > BATCH_CUT * reference(x).abs().max()
                    assert far.double().mean() <= 0.02

    def test_bias_is_digital_and_exact(self, case: LayerCase) -> None:
        _, sim, x = converted(case)
        y = sim.layer(x).detach()
        with torch.no_grad():
            sim.layer.bias.add_(3)
        assert close(sim.layer(x).detach() - 3, y, 4 * SCALED_FLOAT32)

    def test_zero_weights_give_the_bias(self, case: LayerCase) -> None:
        _, sim, x = converted(case)
        with torch.no_grad():
            sim.layer.weight.zero_()
        shape = [1, -1] + [1] * (x.dim() - 2)
        y = sim.layer(x)
        assert torch.equal(y, sim.layer.bias.view(shape).expand_as(y))

    def test_zero_inputs_give_the_bias(self, case: LayerCase) -> None:
        _, sim, x = converted(case)
        y = sim.layer(torch.zeros_like(x))
        assert torch.equal(y, sim.layer.bias.view([1, -1] + [1] * (x.dim() - 2)).expand_as(y))

    def test_a_dynamic_range_scales_with_the_input(self, case: LayerCase) -> None:
        """Each image (each vector of a linear layer) has the range of its own largest magnitude."""
        _, sim, x = converted(case)
        bare = sim.layer
        with torch.no_grad():
            bare.bias.zero_()
        factors = torch.tensor([2.0 ** (3 * i) for i in range(len(x))]).view(-1, *[1] * (x.dim() - 1))
        assert close(bare(x * factors) / factors, bare(x), SCALED_FLOAT64)

    def test_summary_names_the_layer(self, case: LayerCase) -> None:
        _, sim, _ = converted(case)
        summary = imcsim.summary(sim)
        (row,) = [row for row in summary.rows if row.name == "layer"]
        assert row.kind == case.kind.__name__
        assert "differential" in row.became
        assert row.arrays >= 1
        assert 0 < row.utilisation <= 1
        assert row.engine in ("matmul", "table", "reference")
        assert row.reason
        assert "layer" in str(summary)
        assert len(summary.frame()) == len(summary.rows)


LAZY = {
    nn.LazyLinear: (4,),
    nn.LazyConv1d: (4, 3),
    nn.LazyConv2d: (4, 3),
    nn.LazyConv3d: (4, 3),
    nn.LazyConvTranspose1d: (4, 3),
    nn.LazyConvTranspose2d: (4, 3),
    nn.LazyConvTranspose3d: (4, 3),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(("kind", "args"), LAZY.items(), ids=[kind.__name__ for kind in LAZY])
def test_lazy_layers_say_what_to_do(kind: type[nn.Module], args: tuple[int, ...]) -> None:
    with pytest.raises(
        ConversionError, match=r"layer '0' is lazy .*run one batch through the model, then convert"
    ):
        imcsim.convert(nn.Sequential(kind(*args)), QUIET)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_layers_that_saw_a_batch_convert() -> None:
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(2, 3, 5, 5)
    net(x)
    assert imcsim.convert(net, QUIET)(x).shape == (2, 3)


def test_the_model_may_be_a_single_layer() -> None:
    layer = nn.Linear(5, 3)
    sim = imcsim.convert(layer, QUIET)
    assert isinstance(sim, CROSSBAR_OF[nn.Linear])
    assert set(layer.state_dict()) <= set(sim.state_dict())
    assert "digital" not in str(imcsim.summary(sim))


def test_output_size_of_transposed_convolutions() -> None:
    layer = nn.ConvTranspose2d(3, 2, 3, stride=2)
    sim = imcsim.convert(
        layer, imcsim.Hardware(inputs={"range": "dynamic", "bits": 12}, weights={"bits": 12})
    )
    x = torch.randn(2, 3, 4, 4)
    for size in ([9, 9], [10, 9], (2, 2, 10, 10)):
        want = layer(x, output_size=list(size))
        got = sim(x, output_size=list(size))
        assert got.shape == want.shape
        assert close(got, want, 0.01)
    with pytest.raises(ImcsimError, match=r"\[20, 20\].*\[9, 9\].*\[10, 10\]"):
        sim(x, output_size=[20, 20])


def test_transformer_encoder_layers_leave_torchs_fast_path() -> None:
    """The fused kernel reads the children's weights and would bypass the arrays."""
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0).eval()
    net = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False).eval()
    hardware = imcsim.Hardware(weights={"bits": 2, "cell_bits": 1}, inputs={"range": "dynamic", "bits": 2})
    sim = imcsim.convert(net, hardware)
    x = torch.randn(2, 5, 16)
    runs = []
    sim.layers[0].linear1.register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        coarse, fine = sim(x), net(x)
    assert runs
    assert (coarse - fine).abs().max() > 0.01
    with torch.no_grad():
        mask = torch.zeros(2, 5, dtype=torch.bool)
        mask[0, 3:] = True
        assert sim(x, src_key_padding_mask=mask).shape == x.shape


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_recurrent_layers_are_on_arrays_matrix_by_matrix(kind: type[nn.Module]) -> None:
    net = nn.ModuleDict({"cell": kind(4, 3), "head": nn.Linear(3, 2)})
    sim = imcsim.convert(net, QUIET)
    assert type(sim["cell"]) is CROSSBAR_OF[kind]
    rows = [row for row in imcsim.summary(sim).rows if row.name.startswith("cell.")]
    assert {row.name for row in rows} == {
        f"cell.{n}" for n, _ in net["cell"].named_parameters() if "weight" in n
    }
    assert all(row.arrays >= 1 and row.kind == kind.__name__ for row in rows)


def test_attention_is_on_arrays_projection_by_projection() -> None:
    net = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2), "head": nn.Linear(8, 2)})
    sim = imcsim.convert(net, QUIET)
    rows = [row for row in imcsim.summary(sim).rows if row.name.startswith("attention")]
    parts = ("query_proj", "key_proj", "value_proj", "out_proj")
    assert [row.name for row in rows] == [f"attention.{part}" for part in parts]
    assert all(row.arrays >= 1 and row.reason for row in rows)


def test_other_layers_with_parameters_are_listed_as_digital() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Embedding(3, 3), nn.Bilinear(2, 2, 2)
    )
    rows = {row.name: row for row in imcsim.summary(imcsim.convert(net, QUIET)).rows}
    for name in ("1", "2", "3", "4"):
        assert rows[name].became == "digital"
        assert rows[name].kind in rows[name].reason


def test_a_tied_weight_stays_tied() -> None:
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    net["b"].weight = net["a"].weight
    sim = imcsim.convert(net, QUIET)
    assert sim["a"].weight is sim["b"].weight


def test_wrong_kinds_of_input() -> None:
    sim = imcsim.convert(nn.Linear(4, 2), QUIET)
    for bad in (None, [1.0, 2.0], torch.zeros(4, dtype=torch.complex64), torch.tensor(1.0)):
        with pytest.raises(ImcsimError):
            sim(bad)


@pytest.mark.parametrize("engine", ["reference", "matmul", "collapsed"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_never_give_a_plausible_number(engine: str, bad: float) -> None:
    """An error, or what torch's layer gives; infinity may be clipped by a range that is a number."""
    hardware = imcsim.Hardware(inputs={"range": "dynamic"})
    sim = imcsim.convert(nn.Linear(4, 2), hardware, engine=engine)
    x = torch.zeros(3, 4)
    x[1, 2] = bad
    try:
        y = sim(x)
    except ImcsimError:
        return
    assert not y[1].isfinite().any()
    assert y[[0, 2]].isfinite().all()

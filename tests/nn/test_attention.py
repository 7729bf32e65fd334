"""Attention on crossbars: torch's numbers within quantization, those of integer products exactly."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim.convert import arrays
from imcsim.errors import CalibrationError, ConversionError, InputError
from imcsim.functional.quantize import quantize_input, quantize_weight
from tests.tolerances import BATCH_CUT, BFLOAT16, SCALED_FLOAT64

FINE = imcsim.Hardware(weights={"bits": 12}, inputs={"bits": 12, "range": "dynamic"})
COARSE = imcsim.Hardware(
    array={"rows": 4},
    weights={"bits": 6, "scale": "per_channel"},
    inputs={"bits": 5, "range": "dynamic"},
    adc={"bits": 4},
)
FIXED = imcsim.Hardware(weights={"bits": 5}, inputs={"bits": 6, "range": 1.5, "signed": True})
CALIBRATED = imcsim.Hardware(
    array={"rows": 8}, adc={"bits": 5, "range": "calibrated"}, device={"card": "pcm_gst"}
)
QUANTIZATION = 4e-3

WIDTH, HEADS, BATCH, QUERIES, KEYS = 8, 2, 3, 5, 7
PARTS = ("query_proj", "key_proj", "value_proj", "out_proj")
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch-first": {"batch_first": True},
    "no-bias": {"bias": False},
    "kdim-vdim": {"kdim": 6, "vdim": 4},
    "kdim-no-bias": {"kdim": 6, "bias": False, "batch_first": True},
    "bias-kv": {"add_bias_kv": True},
    "zero-attn": {"add_zero_attn": True, "batch_first": True},
    "everything": {"kdim": 3, "vdim": 4, "add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
}
OPTIONS = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def build(options: dict[str, Any], dtype: torch.dtype = torch.float64) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(WIDTH, HEADS, **options, dtype=dtype).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer


def inputs(layer: nn.MultiheadAttention, batch: int = BATCH) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = ((QUERIES, WIDTH), (KEYS, layer.kdim), (KEYS, layer.vdim))
    drawn = [torch.randn(batch, n, width, dtype=torch.float64, generator=generator) for n, width in sizes]
    dtype = layer.out_proj.weight.dtype
    return [x.to(dtype) if layer.batch_first else x.to(dtype).transpose(0, 1) for x in drawn]


def close(got: Any, want: Any, tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        if b is None:
            assert a is None
            continue
        assert a.shape == b.shape
        far = (a.detach().double() - b.detach().double()).abs().max()
        assert far <= tolerance * max(1.0, float(b.detach().abs().max()))


def masks(kind: str, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    pairs = torch.rand(QUERIES, KEYS, generator=generator) < 0.3
    pairs[:, 0] = False
    padding = torch.zeros(BATCH, KEYS, dtype=torch.bool)
    padding[0, 4:] = padding[1, 6:] = True
    numbers = torch.randn(QUERIES, KEYS, dtype=dtype, generator=generator)
    return {
        "none": {},
        "pairs": {"attn_mask": pairs},
        "numbers": {"attn_mask": numbers},
        "each head": {
            "attn_mask": numbers + torch.randn(BATCH * HEADS, 1, 1, dtype=dtype, generator=generator)
        },
        "padding": {"key_padding_mask": padding},
        "padding numbers": {"key_padding_mask": numbers[:BATCH]},
        "both": {"key_padding_mask": padding, "attn_mask": pairs},
    }[kind]


WEIGHTS = [{}, {"need_weights": False}, {"average_attn_weights": False}]


class TestAgainstTorch:
    @OPTIONS
    @pytest.mark.parametrize("wanted", WEIGHTS, ids=["averaged", "none", "by head"])
    @pytest.mark.parametrize(
        "mask", ["none", "pairs", "numbers", "each head", "padding", "padding numbers", "both"]
    )
    def test_all_options(self, options: dict[str, Any], wanted: dict[str, bool], mask: str) -> None:
        layer = build(options)
        sim = imcsim.convert(layer, FINE)
        kind = masks(mask)
        close(sim(*inputs(layer), **wanted, **kind), layer(*inputs(layer), **wanted, **kind), QUANTIZATION)

    @OPTIONS
    @pytest.mark.parametrize("wanted", WEIGHTS, ids=["averaged", "none", "by head"])
    def test_one_sample_without_a_batch(self, options: dict[str, Any], wanted: dict[str, bool]) -> None:
        layer = build(options)
        sim = imcsim.convert(layer, FINE)
        one = [x[0] if layer.batch_first else x[:, 0] for x in inputs(layer)]
        padding = torch.arange(KEYS) > 4
        close(sim(*one, **wanted), layer(*one, **wanted), QUANTIZATION)
        kind = {**wanted, "key_padding_mask": padding}
        close(sim(*one, **kind), layer(*one, **kind), QUANTIZATION)

    @pytest.mark.parametrize("need_weights", [False, True])
    @pytest.mark.parametrize("batch_first", [False, True])
    def test_self_attention_and_causal_masks(self, need_weights: bool, batch_first: bool) -> None:
        layer = build({"batch_first": batch_first})
        sim = imcsim.convert(layer, FINE)
        x = inputs(layer)[0]
        mask = nn.Transformer.generate_square_subsequent_mask(QUERIES, dtype=torch.float64)
        for how in ({}, {"attn_mask": mask, "is_causal": True}):
            with torch.no_grad():
                want = layer(x, x, x, need_weights=need_weights, **how)
                close(sim(x, x, x, need_weights=need_weights, **how), want, QUANTIZATION)

    def test_dropout_of_weights_in_training_only(self) -> None:
        layer = build({"dropout": 0.5})
        sim = imcsim.convert(layer, FINE)
        x = inputs(layer)
        assert torch.equal(sim(*x)[0], sim(*x)[0])
        sim.train()
        for wanted in (True, False):
            assert not torch.equal(sim(*x, need_weights=wanted)[0], sim(*x, need_weights=wanted)[0])


def whole_product(x: Tensor, weight: Tensor, bias: Tensor | None, hardware: imcsim.Hardware) -> Tensor:
    per_channel = hardware.weights.scale == "per_channel"
    w_int, s_w = quantize_weight(weight[None], hardware.weights.bits, per_channel=per_channel)
    x_int, s_x = quantize_input(x, hardware.inputs.range, hardware.inputs.bits, signed=True)
    product = x_int @ w_int[0].T
    assert torch.equal(product, product.round())
    out = product * (s_w.flatten() * s_x)
    return out if bias is None else out + bias


@pytest.mark.parametrize("name", ["plain", "batch-first", "no-bias", "kdim-vdim"])
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_projections_are_whole_number_products(name: str, encoding: str) -> None:
    layer = build(CASES[name])
    hardware = FIXED.replace(
        {"weights.encoding": encoding, "weights.scale": "per_channel", "adc": {"bits": 12}}
    )
    query, key, value = inputs(layer)
    if layer.in_proj_weight is None:
        weights = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    else:
        weights = layer.in_proj_weight.chunk(3)
    biases = [None] * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
    q, k, v = (
        whole_product(x if layer.batch_first else x.transpose(0, 1), w, b, hardware)
        .unflatten(-1, (HEADS, -1))
        .transpose(1, 2)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    scores = (q / math.sqrt(WIDTH / HEADS)) @ k.transpose(-2, -1)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    out = whole_product(mixed, layer.out_proj.weight, layer.out_proj.bias, hardware)
    want = out if layer.batch_first else out.transpose(0, 1), scores.softmax(-1).mean(1)
    for engine in ("auto", "reference"):
        close(imcsim.convert(layer, hardware, engine=engine)(query, key, value), want, SCALED_FLOAT64)


class TestBatches:
    @OPTIONS
    @pytest.mark.parametrize("need_weights", [False, True])
    def test_a_batch_may_be_cut_anywhere(self, options: dict[str, Any], need_weights: bool) -> None:
        layer = build(options, torch.float32)
        sim = imcsim.convert(layer, COARSE)
        x = inputs(layer, batch=9)
        side = 0 if layer.batch_first else 1
        whole = sim(*x, need_weights=need_weights)[0]
        for first, count in ((0, 1), (2, 5), (8, 1)):
            part = sim(*[t.narrow(side, first, count) for t in x], need_weights=need_weights)[0]
            assert torch.equal(part, whole.narrow(side, first, count))

    def test_read_noise_belongs_to_the_sample(self) -> None:
        layer = build({"batch_first": True}, torch.float32)
        sim = imcsim.convert(layer, COARSE.replace({"device.card": "pcm_gst"}))
        x = inputs(layer)[0]
        imcsim.seed_reads(sim, 4)
        whole = sim(x, x, x)[0]
        imcsim.seed_reads(sim, 4)
        for i in range(BATCH):
            one = x[i : i + 1]
            close(sim(one, one, one)[:1], (whole[i : i + 1],), BATCH_CUT)
        assert not torch.equal(sim(x, x, x)[0], whole)

    def test_an_empty_batch(self) -> None:
        layer = build({"batch_first": True})
        x = torch.zeros(0, 4, WIDTH, dtype=torch.float64)
        assert imcsim.convert(layer, COARSE)(x, x, x)[0].shape == x.shape


class Net(nn.Module):
    """Self-attention and a classifier."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


def network(**options: Any) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Net(**options).eval(), torch.randn(6, QUERIES, WIDTH)


class TestLifeCycle:
    def test_keys_and_checkpoints_of_the_float_model(self) -> None:
        net, x = network()
        sim = imcsim.convert(net, COARSE)
        assert set(sim.state_dict()) == set(net.state_dict())
        torch.manual_seed(9)
        other = Net().eval()
        want = imcsim.convert(other, COARSE)(x)
        assert not torch.equal(sim(x), want)
        sim.load_state_dict(other.state_dict(), strict=True)
        assert torch.equal(sim(x), want)

    def test_each_projection_has_a_scale_range_and_draws_of_its_own(self) -> None:
        net, x = network()
        with torch.no_grad():
            net.attention.in_proj_weight[WIDTH:] *= 3
        sim = imcsim.convert(net, CALIBRATED)
        with pytest.raises(CalibrationError, match=r"layer 'attention\.query_proj' has inputs\.range"):
            sim(x)
        imcsim.calibrate(sim, [x])
        of = {array.name: array for _, array in arrays(sim)}
        assert list(of) == [*(f"attention.{part}" for part in PARTS), "head"]
        top = pytest.approx(float(x.abs().max()))
        assert all(of[f"attention.{part}"].input_range == top for part in PARTS[:3])
        assert of["attention.out_proj"].input_range != top
        q, k = (of[f"attention.{part}_proj"].written.scale for part in ("query", "key"))
        assert q != k

    def test_program_age_copy_save_and_load(self, tmp_path: Any) -> None:
        net, x = network()

        def read(model: nn.Module) -> Tensor:
            imcsim.seed_reads(model, 5)
            return model(x)

        sim = imcsim.convert(net, CALIBRATED)
        imcsim.calibrate(sim, [x])
        imcsim.program(sim, seed=3)
        fresh = read(sim)
        imcsim.age(sim, 1e6)
        aged = read(sim)
        assert not torch.equal(aged, fresh)
        twin = copy.deepcopy(sim)
        assert torch.equal(read(twin), aged)
        imcsim.age(twin, 0)
        assert torch.equal(read(twin), fresh)
        imcsim.save(sim, tmp_path / "chip.safetensors")
        assert torch.equal(read(imcsim.load(tmp_path / "chip.safetensors", net)), aged)
        loaded = imcsim.convert(net, CALIBRATED)
        loaded.load_state_dict(sim.state_dict(), strict=True)
        assert torch.equal(read(loaded), aged)
        with torch.no_grad():
            twin.attention.in_proj_weight[-1] += 1
        assert not torch.equal(read(twin), fresh)
        assert torch.equal(read(sim), aged)
        evaluation = imcsim.evaluate(sim, [(x, torch.zeros(6, dtype=torch.long))], reference=net)
        assert evaluation.sqnr_db > 5

    def test_projections_may_have_chips_of_their_own(self, tmp_path: Any) -> None:
        net, x = network()
        sim = imcsim.convert(net, {"*": COARSE, "*.out_proj": None})
        rows = {row.name: row for row in imcsim.summary(sim).rows}
        assert list(rows) == [*(f"attention.{part}" for part in PARTS), "head"]
        assert rows["attention.out_proj"].became == "digital"
        assert rows["attention.key_proj"].kind == "MultiheadAttention"
        imcsim.save(sim, tmp_path / "chip.safetensors")
        back = imcsim.load(tmp_path / "chip.safetensors", net)
        assert torch.equal(back(x), sim(x))
        assert imcsim.summary(back) == imcsim.summary(sim)
        digital = imcsim.convert(net, {"*": COARSE, "attention": None})
        assert {row.name for row in imcsim.summary(digital).rows} == {"attention", "head"}
        assert torch.equal(digital.attention(x, x, x)[0], net.attention(x, x, x)[0])
        with pytest.raises(ConversionError, match="nothing would run on crossbars"):
            imcsim.convert(net, {"*": None})

    def test_dtypes(self) -> None:
        net, x = network()
        sim = imcsim.convert(net, FINE)
        y = sim(x)
        assert sim.double()(x.double()).dtype == torch.float64
        assert torch.equal(sim.float()(x), y)
        with torch.autocast("cpu", torch.bfloat16):
            out, weights = sim.attention(x, x, x)
        assert out.dtype == torch.bfloat16
        close((out, weights), net.attention(x, x, x), 4 * BFLOAT16)
        out, _ = copy.deepcopy(sim).bfloat16().attention(*[x.bfloat16()] * 3, need_weights=False)
        assert out.dtype == torch.bfloat16


@OPTIONS
@pytest.mark.parametrize("need_weights", [False, True])
def test_straight_through_gradients_are_torchs_within_quantization(
    options: dict[str, Any], need_weights: bool
) -> None:
    layer = build(options).train()
    sim = imcsim.convert(layer, FINE)
    found = []
    for model in (sim, layer):
        x = [t.detach().requires_grad_(True) for t in inputs(layer)]
        out, weights = model(*x, need_weights=need_weights)
        loss = (out * torch.sin(torch.arange(out.numel()).view_as(out))).sum()
        loss = loss if weights is None else loss + (weights**2).sum()
        found.append(torch.autograd.grad(loss, [*x, *model.parameters()]))
    largest = max(float(want.abs().max()) for want in found[1])
    for got, want in zip(*found, strict=True):
        assert (got - want).abs().max() <= 0.02 * max(float(want.abs().max()), 1e-3 * largest)


class TestTransformers:
    def reads(self, sim: nn.Module) -> dict[str, int]:
        counts = {array.name: 0 for _, array in arrays(sim)}
        for layer, array in arrays(sim):
            layer.register_forward_hook(lambda *_, name=array.name: counts.update({name: counts[name] + 1}))
        return counts

    @pytest.mark.parametrize("padded", [False, True])
    @pytest.mark.parametrize("norm_first", [False, True])
    def test_encoder_layers_in_eval_mode_use_their_arrays(self, padded: bool, norm_first: bool) -> None:
        torch.manual_seed(0)
        net = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 16, batch_first=True, norm_first=norm_first, dtype=torch.float64
        ).eval()
        x = torch.randn(BATCH, QUERIES, WIDTH, dtype=torch.float64)
        mask = torch.zeros(BATCH, QUERIES, dtype=torch.bool)
        mask[0, 3:] = padded
        sim, coarse = imcsim.convert(net, FINE), imcsim.convert(net, COARSE)
        counts = self.reads(sim)
        with torch.no_grad():
            want = net(x, src_key_padding_mask=mask)[~mask]
            got = sim(x, src_key_padding_mask=mask)[~mask]
            assert (coarse(x, src_key_padding_mask=mask)[~mask] - want).abs().max() > 0.01
        close((got,), (want,), QUANTIZATION)
        assert counts == dict.fromkeys([*(f"self_attn.{part}" for part in PARTS), "linear1", "linear2"], 1)

    def test_encoders_with_padding(self) -> None:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True, dtype=torch.float64)
        net = nn.TransformerEncoder(layer, 2).eval()
        sim = imcsim.convert(net, FINE)
        x = torch.randn(BATCH, QUERIES, WIDTH, dtype=torch.float64)
        mask = torch.zeros(BATCH, QUERIES, dtype=torch.bool)
        mask[0, 3:] = True
        net.use_nested_tensor = False
        counts = self.reads(sim)
        with torch.no_grad():
            got, want = sim(x, src_key_padding_mask=mask), net(x, src_key_padding_mask=mask)
        close((got[~mask],), (want[~mask],), 2 * QUANTIZATION)
        assert set(counts.values()) == {1}

    @pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
    @pytest.mark.parametrize("batch_first", [True, False])
    def test_whole_transformers(self, batch_first: bool, tmp_path: Any) -> None:
        torch.manual_seed(0)
        options = {"batch_first": batch_first, "dropout": 0.0, "dtype": torch.float64}
        net = nn.ModuleDict({"t": nn.Transformer(WIDTH, HEADS, 1, 2, 16, **options)}).eval()
        net["t"].encoder.use_nested_tensor = False
        source, target = (torch.randn(BATCH, n, WIDTH, dtype=torch.float64) for n in (KEYS, QUERIES))
        x = [t if batch_first else t.transpose(0, 1) for t in (source, target)]
        mask = nn.Transformer.generate_square_subsequent_mask(QUERIES, dtype=torch.float64)

        def forward(model: nn.Module, batch: Any) -> Tensor:
            return model["t"](*batch, tgt_mask=mask, tgt_is_causal=True)

        sim = imcsim.convert(net, FINE.replace({"inputs.range": "calibrated"}))
        imcsim.calibrate(sim, [x], forward)
        with torch.no_grad():
            close((forward(sim, x),), (forward(net, x),), 4 * QUANTIZATION)
        assert len(arrays(sim)) == (4 + 2) + 2 * (8 + 2)
        forward(sim.train(), x).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in sim.parameters())


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"query": torch.zeros(5, 3, 9)},
                r"layer '' takes a query of .* with 8 features, but got \(5, 3, 9\)",
            ),
            ({"key": torch.zeros(7, 8)}, r"takes a key of"),
            ({"key": torch.zeros(6, 3, 8)}, "key and value of equal length"),
            ({"query": torch.zeros(5, 2, 8)}, "one batch for all"),
            (
                {"value": torch.zeros(7, 3, 8).long()},
                "takes a floating-point tensor as value, but got torch.int64",
            ),
            ({"query": None}, "as query, but got NoneType"),
            (
                {"attn_mask": torch.zeros(5, 5)},
                r"takes attn_mask of \(5, 7\) or \(6, 5, 7\), but got \(5, 5\)",
            ),
            ({"key_padding_mask": torch.zeros(3, 5)}, r"takes key_padding_mask of \(3, 7\) or"),
            ({"key_padding_mask": torch.zeros(3, 7).long()}, "boolean or floating-point key_padding_mask"),
            ({"is_causal": True}, "is_causal = True needs attn_mask"),
        ],
    )
    def test_wrong_inputs(self, change: dict[str, Any], message: str) -> None:
        sim = imcsim.convert(nn.MultiheadAttention(WIDTH, HEADS), COARSE)
        good = {"query": torch.zeros(5, 3, 8), "key": torch.zeros(7, 3, 8), "value": torch.zeros(7, 3, 8)}
        with pytest.raises(InputError, match=message):
            sim(**{**good, **change})

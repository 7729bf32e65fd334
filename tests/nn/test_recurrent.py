"""Recurrent layers on crossbars: torch's numbers within quantization, those of integer products exactly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import imcsim
from imcsim.convert import arrays
from imcsim.errors import CalibrationError, ConversionError
from imcsim.functional.quantize import quantize_input, quantize_weight
from tests.nn.recurrent import (
    BATCH,
    CALIBRATED,
    CASES,
    CELLS,
    COARSE,
    FINE,
    FIXED,
    HIDDEN,
    INPUTS,
    KINDS,
    NOISY,
    QUANTIZATION,
    STEPS,
    Net,
    batch_of,
    build,
    close,
    each,
    equal,
    inputs,
    network,
    states,
    tensors,
)
from tests.tolerances import BATCH_CUT, BFLOAT16, SCALED_FLOAT32, SCALED_FLOAT64


class TestAgainstTorch:
    @each(CASES)
    def test_sequences(self, kind: type[nn.Module], options: dict[str, Any]) -> None:
        layer = build(kind, options)
        sim = imcsim.convert(layer, FINE)
        x, hx = inputs(layer), states(layer)
        close(sim(x), layer(x), QUANTIZATION)
        close(sim(x, hx), layer(x, hx), QUANTIZATION)
        alone = tuple(part[:, 0] for part in hx) if isinstance(hx, tuple) else hx[:, 0]
        sequence = x[0] if layer.batch_first else x[:, 0]
        close(sim(sequence), layer(sequence), QUANTIZATION)
        close(sim(sequence, alone), layer(sequence, alone), QUANTIZATION)

    @each(CASES)
    @pytest.mark.parametrize("lengths", [[5, 4, 2], [1, 5, 3]], ids=["sorted", "unsorted"])
    @pytest.mark.parametrize("given", [False, True], ids=["from zero", "from a state"])
    def test_packed_sequences(
        self, kind: type[nn.Module], options: dict[str, Any], lengths: list[int], given: bool
    ) -> None:
        layer = build(kind, options)
        sim = imcsim.convert(layer, FINE)
        packed = pack_padded_sequence(
            inputs(layer), lengths, batch_first=layer.batch_first, enforce_sorted=lengths[0] == 5
        )
        hx = states(layer) if given else None
        got, want = sim(packed, hx), layer(packed, hx)
        close(got, want, QUANTIZATION)
        assert torch.equal(got[0].batch_sizes, want[0].batch_sizes)
        for a, b in zip(got[0][2:], want[0][2:], strict=True):
            assert (a is None and b is None) or torch.equal(a, b)

    @each(CELLS)
    def test_cells(self, kind: type[nn.Module], options: dict[str, Any]) -> None:
        cell = build(kind, options)
        sim = imcsim.convert(cell, FINE)
        x = torch.randn(BATCH, INPUTS, dtype=torch.float64)
        h = torch.rand(BATCH, HIDDEN, dtype=torch.float64) - 0.5
        hx = (h, h.flip(1)) if kind is nn.LSTMCell else h
        close(sim(x), cell(x), QUANTIZATION)
        close(sim(x, hx), cell(x, hx), QUANTIZATION)
        one = tuple(part[0] for part in hx) if isinstance(hx, tuple) else hx[0]
        close(sim(x[0], one), cell(x[0], one), QUANTIZATION)
        close(sim(x[0]), cell(x[0]), QUANTIZATION)

    def test_dropout_between_layers_in_training_only(self) -> None:
        layer = nn.LSTM(INPUTS, HIDDEN, num_layers=2, dropout=0.5, dtype=torch.float64)
        sim = imcsim.convert(layer, FINE)
        x = inputs(layer)
        assert not torch.equal(sim(x)[0], sim(x)[0])
        sim.eval()
        equal(sim(x), sim(x))
        close(sim(x), layer.eval()(x), QUANTIZATION)
        with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
            single = imcsim.convert(nn.LSTM(INPUTS, HIDDEN, dropout=0.9, dtype=torch.float64), FINE)
        equal(single(x), single(x))


class Whole:
    """The recurrence in float64 around products of whole numbers."""

    def __init__(self, layer: Any, hardware: imcsim.Hardware) -> None:
        self.layer, self.hardware = layer, hardware

    def product(self, x: Tensor, key: str) -> Tensor:
        weights, chip = self.hardware.weights, self.hardware.inputs
        channels = weights.scale == "per_channel"
        w_int, s_w = quantize_weight(getattr(self.layer, key)[None], weights.bits, per_channel=channels)
        x_int, s_x = quantize_input(x, chip.range, chip.bits, signed=True)
        product = x_int @ w_int[0].T
        assert torch.equal(product, product.round())
        bias = getattr(self.layer, key.replace("weight", "bias"), None)
        out = product * (s_w.flatten() * s_x)
        return out if bias is None or "_hr" in key else out + bias

    def step(self, x: Tensor, state: tuple[Tensor, ...], tail: str) -> tuple[Tensor, ...]:
        a, b = self.product(x, f"weight_ih{tail}"), self.product(state[0], f"weight_hh{tail}")
        name = type(self.layer).__name__
        if name.startswith("LSTM"):
            i, f, g, o = (a + b).split(HIDDEN, -1)
            c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            return (self.product(h, f"weight_hr{tail}") if getattr(self.layer, "proj_size", 0) else h), c
        if name.startswith("GRU"):
            (r_x, z_x, n_x), (r_h, z_h, n_h) = a.split(HIDDEN, -1), b.split(HIDDEN, -1)
            r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
            n = (n_x + r * n_h).tanh()
            return (n + z * (state[0] - n),)
        return ((a + b).relu() if self.layer.nonlinearity == "relu" else (a + b).tanh(),)

    def run(self, x: Tensor, start: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Shapes: x (steps, batch, inputs)."""
        ends, ways = [], ("", "_reverse") if self.layer.bidirectional else ("",)
        for depth in range(self.layer.num_layers):
            outs = []
            for way in ways:
                state = tuple(part[len(ends)] for part in start)
                order = range(len(x))[::-1] if way else range(len(x))
                out = {}
                for t in order:
                    state = self.step(x[t], state, f"_l{depth}{way}")
                    out[t] = state[0]
                outs.append(torch.stack([out[t] for t in range(len(x))]))
                ends.append(state)
            x = torch.cat(outs, -1)
        return x, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))


LOSSLESS = [
    FIXED,
    FIXED.replace({"adc": {"bits": 9}, "array.rows": 16, "weights.scale": "per_channel"}),
    FIXED.replace({"weights.encoding": "offset", "adc": {"bits": 12}}),
]


class TestExactly:
    @each(CASES)
    @pytest.mark.parametrize("hardware", LOSSLESS, ids=["ideal", "lossless", "offset"])
    def test_sequences_equal_whole_number_products(
        self, kind: type[nn.Module], options: dict[str, Any], hardware: imcsim.Hardware
    ) -> None:
        layer = build(kind, options)
        x, hx = inputs(layer), states(layer)
        start = hx if isinstance(hx, tuple) else (hx,)
        out, ends = Whole(layer, hardware).run(x.transpose(0, 1) if layer.batch_first else x, start)
        want = out.transpose(0, 1) if layer.batch_first else out, ends if len(ends) > 1 else ends[0]
        for engine in ("auto", "reference"):
            close(imcsim.convert(layer, hardware, engine=engine)(x, hx), want, SCALED_FLOAT64)

    @each(CELLS)
    def test_cells_equal_whole_number_products(self, kind: type[nn.Module], options: dict[str, Any]) -> None:
        cell = build(kind, options)
        x = torch.randn(BATCH, INPUTS, dtype=torch.float64)
        h = torch.rand(BATCH, HIDDEN, dtype=torch.float64) - 0.5
        hx = (h, h.flip(1)) if kind is nn.LSTMCell else (h,)
        want = Whole(cell, FIXED).step(x, hx, "")
        close(imcsim.convert(cell, FIXED)(x, hx if len(hx) > 1 else h), want, SCALED_FLOAT64)

    def test_a_sequence_by_cells_is_the_layer(self) -> None:
        layer, cell = build(nn.GRU, {}), build(nn.GRUCell, {})
        cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
        x = inputs(layer)
        whole, one = imcsim.convert(layer, COARSE), imcsim.convert(cell, COARSE)
        h, outs = None, []
        for t in range(STEPS):
            h = one(x[t], h)
            outs.append(h)
        equal(whole(x)[0], torch.stack(outs))


class TestBatches:
    @each(CASES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_batch_may_be_cut_anywhere(
        self, kind: type[nn.Module], options: dict[str, Any], dtype: torch.dtype
    ) -> None:
        layer = build(kind, options, dtype)
        sim = imcsim.convert(layer, COARSE)
        x = inputs(layer, dtype, batch=11)
        whole = sim(x)[0]
        for rows in (slice(0, 1), slice(3, 8), slice(10, 11)):
            equal(sim(batch_of(layer, x, rows))[0], batch_of(layer, whole, rows))

    @each(CASES)
    def test_packed_sequences_are_what_each_is_alone(
        self, kind: type[nn.Module], options: dict[str, Any]
    ) -> None:
        layer = build(kind, options, torch.float32)
        sim = imcsim.convert(layer, COARSE)
        x, lengths = inputs(layer, torch.float32), [2, 5, 3]
        packed = pack_padded_sequence(x, lengths, batch_first=layer.batch_first, enforce_sorted=False)
        out, ends = sim(packed)
        padded, _ = pad_packed_sequence(out, batch_first=layer.batch_first)
        for i, length in enumerate(lengths):
            one = x[i : i + 1, :length] if layer.batch_first else x[:length, i : i + 1]
            alone, end = sim(one)
            equal(padded[i, :length] if layer.batch_first else padded[:length, i], alone.squeeze())
            equal([part[:, i : i + 1] for part in tensors(ends)], tensors(end))

    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
    def test_read_noise_belongs_to_the_sample_and_the_step(self, kind: type[nn.Module]) -> None:
        layer = build(kind, {"bidirectional": True, "num_layers": 2, "batch_first": True}, torch.float32)
        sim = imcsim.convert(layer, NOISY)
        x, lengths = inputs(layer, torch.float32), [2, 5, 3]
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        imcsim.seed_reads(sim, 3)
        padded, _ = pad_packed_sequence(sim(packed)[0], batch_first=True)
        imcsim.seed_reads(sim, 3)
        for i, length in enumerate(lengths):
            close(sim(x[i : i + 1, :length])[0][0], padded[i, :length], BATCH_CUT)
        again, _ = pad_packed_sequence(sim(packed)[0], batch_first=True)
        assert not torch.equal(again, padded)
        assert {array.samples_read for _, array in arrays(sim)} == {2 * len(lengths)}

    def test_each_step_has_noise_of_its_own(self) -> None:
        layer = build(nn.RNN, {"nonlinearity": "relu", "bias": False}, torch.float32)
        with torch.no_grad():
            layer.weight_ih_l0.fill_(0.01)
            layer.weight_hh_l0.copy_(torch.eye(HIDDEN))
        noisy = imcsim.Hardware(
            device={"card": "pcm_gst", "programming": {"kind": "none"}}, inputs={"range": "dynamic"}
        )
        sim = imcsim.convert(layer, {"weight_hh_l0": noisy})
        x = torch.zeros(STEPS, 1, INPUTS)
        out = sim(x, torch.ones(1, 1, HIDDEN))[0][:, 0]
        ratios = out[1:] / out[:-1]
        assert (ratios[0] != ratios[1]).any()

    def test_an_empty_batch(self) -> None:
        layer = build(nn.LSTM, {"batch_first": True})
        out, (h, _) = imcsim.convert(layer, COARSE)(torch.zeros(0, 3, INPUTS, dtype=torch.float64))
        assert out.shape == (0, 3, HIDDEN)
        assert h.shape == (1, 0, HIDDEN)


class TestLifeCycle:
    @KINDS
    def test_keys_and_checkpoints_of_the_float_model(self, kind: type[nn.Module]) -> None:
        net, x = network(kind)
        sim = imcsim.convert(net, COARSE)
        assert set(sim.state_dict()) == set(net.state_dict())
        assert [n for n, _ in sim.named_parameters()] == [n for n, _ in net.named_parameters()]
        torch.manual_seed(9)
        other = Net(kind).eval()
        want = imcsim.convert(other, COARSE)(x)
        assert not torch.equal(sim(x), want)
        sim.load_state_dict(other.state_dict(), strict=True)
        assert torch.equal(sim(x), want)
        net.load_state_dict(sim.state_dict(), strict=True)

    @KINDS
    def test_summary_has_a_row_a_matrix(self, kind: type[nn.Module]) -> None:
        net, _ = network(kind)
        rows = {row.name: row for row in imcsim.summary(imcsim.convert(net, COARSE)).rows}
        assert list(rows) == ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "head"]
        gates = net.lstm.weight_ih_l0.shape[0]
        assert rows["lstm.weight_hh_l0"].matrix == f"1 x {HIDDEN} x {gates}"
        assert rows["lstm.weight_hh_l0"].kind == kind.__name__
        assert all(row.arrays >= 1 and row.engine and row.reason for row in rows.values())

    def test_matrices_have_scales_ranges_and_draws_of_their_own(self) -> None:
        net, x = network()
        sim = imcsim.convert(net, CALIBRATED.replace({"adc.bits": 3}))
        with pytest.raises(CalibrationError, match=r"layer 'lstm\.weight_ih_l0' has inputs\.range"):
            sim(x)
        imcsim.calibrate(sim, [x[:4], x[4:]])
        imcsim.program(sim, seed=1)
        of = {array.name: array for _, array in arrays(sim)}
        assert of["lstm.weight_ih_l0"].input_range == pytest.approx(float(x.abs().max()))
        hidden = torch.cat([torch.zeros(7, 1, HIDDEN), net.lstm(x)[0][:, :-1]], 1)
        assert of["lstm.weight_hh_l0"].input_range == pytest.approx(float(hidden.detach().abs().max()))
        assert of["lstm.weight_hh_l0"].input_signed
        assert of["lstm.weight_ih_l0"].adc_high != of["lstm.weight_hh_l0"].adc_high
        scales = [of[f"lstm.weight_{part}_l0"].written.scale.item() for part in ("ih", "hh")]
        assert scales == [
            float(w.detach().abs().max().double()) / 127
            for w in (net.lstm.weight_ih_l0, net.lstm.weight_hh_l0)
        ]
        same = nn.LSTM(HIDDEN, HIDDEN)
        with torch.no_grad():
            same.weight_ih_l0.copy_(same.weight_hh_l0)
        (_, a), (_, b) = arrays(imcsim.convert(same, CALIBRATED))
        assert any(not torch.equal(value, b.cells[key]) for key, value in a.cells.items())

    def test_calibration_of_packed_sequences_skips_the_padding(self) -> None:
        layer = nn.RNN(INPUTS, HIDDEN, nonlinearity="relu", batch_first=True)
        seen: dict[str, int] = {}
        sim = imcsim.convert(layer, CALIBRATED)
        for _, array in arrays(sim):
            array.observer = lambda x, name=array.name: seen.update({name: x.numel() // x.shape[-1]})
        packed = pack_padded_sequence(
            inputs(layer, torch.float32), [5, 1, 2], batch_first=True, enforce_sorted=False
        )
        close(sim(packed), layer(packed), SCALED_FLOAT32)
        assert seen == {"weight_ih_l0": 8, "weight_hh_l0": 8}

    @pytest.mark.parametrize("options", [{}, {"bidirectional": True, "proj_size": 3}], ids=["plain", "more"])
    def test_program_age_copy_save_and_load(self, options: dict[str, Any], tmp_path: Any) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.LSTM(INPUTS, HIDDEN, batch_first=True, **options)).eval()
        x = torch.randn(7, STEPS, INPUTS)

        def read(model: nn.Module) -> list[Tensor]:
            imcsim.seed_reads(model, 5)
            return tensors(model(x))

        sim = imcsim.convert(net, CALIBRATED)
        imcsim.calibrate(sim, [x])
        imcsim.program(sim, seed=3)
        fresh = read(sim)
        imcsim.age(sim, 1e6)
        aged = read(sim)
        assert not torch.equal(aged[0], fresh[0])
        twin = copy.deepcopy(sim)
        equal(read(twin), aged)
        imcsim.age(twin, 0)
        equal(read(twin), fresh)
        equal(read(sim), aged)
        with torch.no_grad():
            twin[0].weight_hh_l0.zero_()
        assert not torch.equal(read(twin)[0], fresh[0])
        equal(read(sim), aged)
        imcsim.save(sim, tmp_path / "chip.safetensors")
        back = imcsim.load(tmp_path / "chip.safetensors", net)
        equal(read(back), aged)
        state = sim.state_dict()
        loaded = imcsim.convert(net, CALIBRATED)
        loaded.load_state_dict(state, strict=True)
        equal(read(loaded), aged)

    @KINDS
    @pytest.mark.parametrize("key", ["weight_ih_l0", "weight_hh_l0"])
    def test_a_changed_weight_is_programmed_before_its_next_use(
        self, kind: type[nn.Module], key: str
    ) -> None:
        net, x = network(kind)
        sim = imcsim.convert(net, NOISY)
        sim(x)
        with torch.no_grad():
            getattr(sim.lstm, key).mul_(-0.5).add_(0.01)
            getattr(net.lstm, key).mul_(-0.5).add_(0.01)
        imcsim.seed_reads(sim, 0)
        assert torch.equal(sim(x), imcsim.convert(net, NOISY)(x))

    def test_dtypes(self) -> None:
        net, x = network()
        sim = imcsim.convert(net, COARSE)
        y = sim(x)
        assert sim.double()(x.double()).dtype == torch.float64
        assert torch.equal(sim.float()(x), y)
        with torch.autocast("cpu", torch.bfloat16):
            out, (h, c) = sim.lstm(x)
        assert {out.dtype, h.dtype, c.dtype} == {torch.bfloat16}
        assert torch.equal(out, sim.lstm(x)[0].bfloat16())
        half = imcsim.convert(net, FINE).bfloat16()
        out = half.lstm(x.bfloat16())[0]
        assert out.dtype == torch.bfloat16
        close(out, net.lstm(x)[0], 4 * BFLOAT16)

    def test_layers_stay_shared_and_subclasses_follow(self) -> None:
        class Same(nn.LSTM):
            """Adds nothing that computes."""

        class Other(nn.LSTM):
            def forward(self, input: Tensor, hx: Any = None) -> Any:
                return super().forward(2 * input, hx)

        shared = Same(INPUTS, HIDDEN)
        sim = imcsim.convert(nn.ModuleDict({"a": shared, "b": shared, "c": Other(INPUTS, HIDDEN)}), COARSE)
        assert sim["a"] is sim["b"]
        assert isinstance(sim["a"], nn.LSTM)
        rows = {row.name: row for row in imcsim.summary(sim).rows}
        assert set(rows) == {"a.weight_ih_l0", "a.weight_hh_l0", "c"}
        assert (rows["c"].became, rows["c"].reason) == ("digital", "Other overrides forward")

    def test_matrices_may_have_chips_of_their_own(self, tmp_path: Any) -> None:
        net, x = network()
        fewer = COARSE.replace({"array.rows": 2})
        sim = imcsim.convert(net, {"*": COARSE, "lstm.weight_hh_*": fewer, "lstm.weight_ih_l0": None})
        assert {array.name: array.hardware.array.rows for _, array in arrays(sim)} == {
            "lstm.weight_hh_l0": 2,
            "head": 4,
        }
        rows = {row.name: row for row in imcsim.summary(sim).rows}
        assert rows["lstm.weight_ih_l0"].became == "digital"
        assert rows["lstm.weight_ih_l0"].reason == "kept digital by the caller"
        imcsim.save(sim, tmp_path / "chip.safetensors")
        back = imcsim.load(tmp_path / "chip.safetensors", net)
        assert torch.equal(back(x), sim(x))
        assert imcsim.summary(back) == imcsim.summary(sim)
        whole = imcsim.convert(net, {"*": COARSE, "lstm": None})
        assert {row.name for row in imcsim.summary(whole).rows} == {"lstm", "head"}
        assert torch.equal(whole.lstm(x)[0], net.lstm(x)[0])
        with pytest.raises(ConversionError, match=r"pattern 'lstm.weight_hh_l1' .* 'lstm.weight_hh_l0'"):
            imcsim.convert(net, {"lstm.weight_hh_l1": COARSE})

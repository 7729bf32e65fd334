"""Every method: a trained quantized network and its chip agree bit for bit on ideal parts.

The chip's codes are multiplied here in whole numbers (Python's, or NumPy's int64), scaled as the codes say
and compared with `torch.equal`; the quantizers' values are compared with the codes' in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import imcsim
from imcsim import quant
from tests.quant.toys import quantized_twin

CHIP: dict[str, Any] = {
    "array": {"rows": 16},
    "weights": {"bits": 4, "encoding": "offset"},
    "inputs": {"bits": 4},
    "adc": {"bits": 16},
}


@dataclass(frozen=True)
class Case:
    """A method, and what of the chip it needs."""

    name: str
    method: quant.Method
    changes: dict[str, Any] = field(default_factory=dict)


BINARY = {"weights.bits": 1, "weights.cell_bits": 1, "inputs.bits": 1}
PAIRS = {"weights.encoding": "differential"}

METHODS = [
    Case("BinaryConnect", quant.BinaryConnect(), {"weights.bits": 1, "weights.cell_bits": 1}),
    Case("BinaryConnect-stochastic", quant.BinaryConnect(stochastic=True), BINARY),
    Case("QNN", quant.QNN()),
    Case("QNN-binary", quant.QNN(), {**BINARY, "weights.encoding": "xnor"}),
    Case("DoReFa", quant.DoReFa()),
    Case("DoReFa-differential", quant.DoReFa(), {**PAIRS, "weights.bits": 6, "weights.cell_bits": 2}),
    Case("DoReFa-binary", quant.DoReFa(), BINARY),
    Case("DoReFa-gradients", quant.DoReFa(gradient_bits=4)),
    Case("PACT", quant.PACT()),
    Case("LSQ", quant.LSQ()),
    Case("LSQ-channels", quant.LSQ(), {**PAIRS, "weights.scale": "per_channel", "inputs.signed": True}),
    Case("LQNet", quant.LQNet(), {"weights.bits": 3, "inputs.bits": 2}),
    Case("LQNet-binary", quant.LQNet(), {**BINARY, "weights.encoding": "xnor"}),
    Case("LQNet-pairs", quant.LQNet(), {**PAIRS, "weights.bits": 2, "inputs.bits": 3}),
    Case("DSQ", quant.DSQ()),
    Case("DSQ-binary", quant.DSQ(), BINARY),
    Case("ANA", quant.ANA()),
    Case("ANA-ternary", quant.ANA(inputs=False), {"weights.bits": 2, "weights.encoding": "ternary"}),
    Case("ProxQuant", quant.ProxQuant(rate=0.05)),
    Case("ProxQuant-binary", quant.ProxQuant(), {"weights.bits": 1, "weights.cell_bits": 1}),
    Case("NBitQNN", quant.NBitQNN()),
    Case("SigmoidQN", quant.SigmoidQN()),
    Case("SigmoidQN-binary", quant.SigmoidQN(phase=1.0), {"weights.bits": 1, "weights.cell_bits": 1}),
    Case("SigmoidQN-weights", quant.SigmoidQN(phase=1.0), {**PAIRS, "weights.scale": "per_channel"}),
    Case("OptimalClipping", quant.OptimalClipping()),
    Case("OptimalClipping-channels", quant.OptimalClipping(), {**PAIRS, "weights.scale": "per_channel"}),
    Case("LNSMadam", quant.LNSMadam(gamma=4), {"weights.bits": 5}),
    Case(
        "LNSMadam-linear", quant.LNSMadam(gamma=8, linear=True, gradients=True), {**PAIRS, "weights.bits": 8}
    ),
    Case("Affine", quant.Affine(stochastic=True)),
    Case("Affine-channels", quant.Affine(), {"weights.scale": "per_channel", "weights.bits": 8}),
    Case("FixedPoint", quant.FixedPoint(fraction_bits=4, stochastic=True)),
    Case("FixedPoint-dynamic", quant.FixedPoint(fraction_bits=None, inputs=True), {"inputs.signed": True}),
    Case("BitPlanes", quant.BitPlanes(bits=3, high=2.0), {**BINARY, "weights.encoding": "xnor"}),
    Case("BitPlanes-signed", quant.BitPlanes(bits=4, signed=True, high=2.0)),
    Case("QUEST", quant.QUEST(), {"inputs.bits": 15, "weights.bits": 8, "adc.bits": 24}),
    Case("Half", quant.Floats("half"), {**PAIRS, "weights.bits": 8}),
    Case(
        "FP8",
        quant.Floats("fp8", inputs=True, gradients=True),
        {**PAIRS, "weights.bits": 8, "inputs.bits": 8},
    ),
    Case("Log4", quant.Log4(gradients=True)),
    Case("Log4-14-bit", quant.Log4(), {"weights.bits": 14, "adc.bits": 24}),
    Case("Log2", quant.Log2()),
    Case("Codebook", quant.Codebook(8, refit=2), {"weights.bits": 8}),
    Case("Codebook-frequent", quant.Codebook(8, "frequent"), {"weights.bits": 6}),
    Case("MixAndMatch", quant.MixAndMatch()),
    Case("IntraLayer", quant.IntraLayer(share=0.4), {**PAIRS, "weights.bits": 8}),
    Case("MultipleActivations", quant.MultipleActivations(), {**BINARY, "inputs.bits": 3}),
    Case("DSQ-signed", quant.DSQ(), {"inputs.signed": True}),
]
every_method = pytest.mark.parametrize("case", METHODS, ids=[case.name for case in METHODS])


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, groups=2, dtype=torch.float64),
        nn.BatchNorm2d(6, dtype=torch.float64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, 4, dtype=torch.float64),
    )
    with torch.no_grad():
        net[4].weight.mul_(6)  # so that methods without a scale do not see zeros alone
    return net


def images(seed: int = 0) -> Tensor:
    return torch.rand(8, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(case: Case, engine: str = "auto") -> nn.Module:
    hardware = imcsim.Hardware.model_validate(CHIP).replace(case.changes)
    sim = imcsim.convert(network(), hardware, engine=engine, qat=case.method).train()
    imcsim.calibrate(sim, [images()])
    optimizer = torch.optim.SGD(sim.parameters(), lr=0.02)
    target = torch.arange(8) % 4
    for step in range(3):
        loss = nn.functional.cross_entropy(sim(images(step)), target) + quant.penalty(sim)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        quant.after_step(sim)
        quant.set_progress(sim, (step + 1) / 3)
    return sim.eval()


def bias_of(layer: nn.Module, x: Tensor) -> Tensor:
    """The bias, on the scale of the sums where the method says so."""
    array = layer.array
    if not array.input_quantizer.whole_bias:
        return layer.bias
    step = array.written.codes.scale.flatten() * array.quantize(x, layer.sample_dims).scale[0]
    return torch.from_numpy(np.rint((layer.bias / step).numpy())) * step


def by_whole_numbers(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's output from its codes by products of int64, scaled, terms and passes added, plus the bias."""
    array = layer.array
    written, inputs = array.written.codes, array.quantize(x, layer.sample_dims)
    groups, outputs, _ = written.codes.shape[1:]
    total: np.ndarray | None = None
    for codes, scale in zip(inputs.codes, inputs.scale, strict=True):
        rows = layer.vectors(codes).numpy().astype(np.int64)
        counted = layer.vectors(torch.ones_like(codes)).numpy().astype(np.int64)
        per_term = []
        for t in range(written.terms):
            w = written.codes[t].numpy().astype(np.int64).transpose(0, 2, 1)
            zero = 0.0 if written.zero is None else written.zero[t].numpy().transpose(0, 2, 1)
            product = (rows @ w).astype(np.float64) + zero * rows.sum(-1, keepdims=True)
            product = product + inputs.zero * ((counted @ w) + zero * counted.sum(-1, keepdims=True))
            per_term.append(product * (written.scale[t].numpy().transpose(0, 2, 1) * float(scale)))
        stacked = np.stack(per_term)
        total = stacked if total is None else total + stacked
    assert total is not None
    product = torch.from_numpy(sum(total[1:], total[0]))
    out = product.view(groups, len(x), -1, outputs).permute(1, 0, 3, 2).flatten(1, 2)
    if isinstance(layer, nn.Linear):
        return out[..., 0] + bias_of(layer, x)
    return (out + bias_of(layer, x)[:, None]).view(len(x), layer.out_channels, 6, 6)


@pytest.mark.parametrize("engine", ["auto", "reference"])
@every_method
def test_chip_and_quantized_network_agree_bit_for_bit(case: Case, engine: str) -> None:
    sim = trained(case, engine).requires_grad_(False)
    x = images(5)
    for layer in sim:
        if hasattr(layer, "array"):
            layer.array.sync(layer.weight)
            out = layer(x)
            assert torch.equal(out, by_whole_numbers(layer, x))
            float_kind = nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d
            options = {} if isinstance(layer, nn.Linear) else {"padding": 1, "groups": 2}
            shape = (layer.in_features, 4) if isinstance(layer, nn.Linear) else (2, 6, 3)
            plain = float_kind(*shape, **options, dtype=torch.float64)
            plain.load_state_dict({"weight": layer.weight, "bias": bias_of(layer, x)})
            twin, x_q = quantized_twin(layer, plain, x)
            torch.testing.assert_close(out, twin(x_q), rtol=1e-12, atol=1e-12)
            x = out.detach()
        else:
            x = layer(x)
    assert torch.equal(sim(images(5)), x)


@every_method
def test_the_value_that_trains_is_that_of_the_codes(case: Case) -> None:
    sim = trained(case)
    for layer in (sim[0], sim[4]):
        array, x = (
            layer.array,
            torch.rand(4, *((2, 6, 6) if layer is sim[0] else (216,)), dtype=torch.float64),
        )
        value, codes = array.input_value(x, layer.sample_dims)
        assert torch.equal(value, codes.value())
        layer.sync()
        matrix = layer.weight_matrix(layer.weight)
        written = array.weight_quantizer.encode(matrix.detach())
        assert torch.equal(array.weight_value(matrix), written.value())


@every_method
def test_saved_loaded_and_programmed_anew(case: Case, tmp_path) -> None:
    sim = trained(case)
    imcsim.save(sim, tmp_path / "chip.safetensors")
    loaded = imcsim.load(tmp_path / "chip.safetensors", network().eval()).eval()
    x = images(6)
    assert torch.equal(loaded(x), sim(x))
    imcsim.program(loaded, seed=3)
    assert torch.equal(loaded(x), sim(x))
    assert loaded[0].array.method == case.method
    assert loaded[0].array.described == sim[0].array.described


@every_method
def test_a_sample_does_not_depend_on_its_batch(case: Case) -> None:
    sim = trained(case)
    x = images(7)
    assert torch.equal(torch.cat([sim(x[:3]), sim(x[3:])]), sim(x))


@every_method
def test_every_parameter_that_should_learn_has_a_gradient(case: Case) -> None:
    hardware = imcsim.Hardware.model_validate(CHIP).replace(case.changes)
    sim = imcsim.convert(network(), hardware, qat=case.method).train()
    imcsim.calibrate(sim, [images()])
    (nn.functional.cross_entropy(sim(images(1)), torch.arange(8) % 4) + quant.penalty(sim)).backward()
    for name, parameter in sim.named_parameters():
        if isinstance(case.method, quant.SigmoidQN) and "input" in name:
            continue  # their phase has not begun
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert sim[0].weight.grad.abs().sum() > 0

"""Component formulas at published points."""

import math

import pytest

from imcsim import ppa
from imcsim.errors import HardwareError
from imcsim.ppa.adc import ISAAC_SAR, NEUROSIM_SAR, isaac_sar_at_32nm
from imcsim.ppa.scaling import area_factor, energy_factor, supply


@pytest.mark.parametrize(("bits", "pJ", "um2"), [(4, 0.923, 3273), (8, 1.711, 3937), (10, 3.304, 4794)])
def test_survey_regression(bits: int, pJ: float, um2: float) -> None:
    cost = ppa.cost("adc_survey", {"bits": bits, "rate_Hz": 1e8, "node_nm": 32.0}, {})
    assert cost.energy_J * 1e12 == pytest.approx(pJ, rel=2e-3)  # the points are made with 6.02 n + 1.76
    assert cost.area_um2 == pytest.approx(um2, rel=1e-3)


@pytest.mark.parametrize("bits", list(ISAAC_SAR))
def test_isaac_scaled_sar(bits: int) -> None:
    cost = ppa.cost("adc_isaac_sar", {"bits": bits}, {})
    assert (cost.energy_J * 1e12, cost.area_um2) == pytest.approx(ISAAC_SAR[bits], rel=1e-12)
    assert isaac_sar_at_32nm(bits + 1e-9) == pytest.approx(
        ISAAC_SAR[bits], rel=3e-3
    )  # the law between points


def test_isaac_reference_point_scales_by_bits() -> None:
    reference = {"reference_bits": 8.0, "reference_pJ": 1.5625, "reference_um2": 1200.0}
    eight = ppa.cost("adc_isaac_sar", {"bits": 8, **reference}, {})
    nine = ppa.cost("adc_isaac_sar", {"bits": 9, **reference}, {})
    assert (eight.energy_J, eight.area_um2) == pytest.approx((1.5625e-12, 1200))
    assert nine.energy_J / eight.energy_J == pytest.approx(1.97 / 1.67)


@pytest.mark.parametrize(("node", "a", "b"), [(n, *v[:2]) for n, v in NEUROSIM_SAR.items()])
def test_neurosim_sar(node: int, a: float, b: float) -> None:
    cost = ppa.cost("adc_neurosim_sar", {"bits": 5, "node_nm": node}, {})
    assert cost.latency_s == pytest.approx(6e-9)
    assert cost.energy_J == pytest.approx((5 * a + b) * 1e-6 * 6e-9)
    loaded = ppa.cost("adc_neurosim_sar", {"bits": 5, "node_nm": node, "column_ohm": 1e4}, {})
    assert loaded.energy_J > cost.energy_J
    with pytest.raises(HardwareError, match="28 nm; use one of 65"):
        ppa.cost("adc_neurosim_sar", {"bits": 5, "node_nm": 28}, {})


def test_isaac_events() -> None:
    """As published per event: a pulse, a sample, a cell and cycle, a byte of eDRAM, bus and link."""
    assert ppa.cost("dac_isaac", {}, {}).energy_J == pytest.approx(0.391e-12, rel=2e-3)
    assert ppa.cost("sample_hold_isaac", {}, {}).energy_J == pytest.approx(0.977e-15, rel=1e-3)
    array = ppa.cost("rram_array_isaac", {"rows": 128, "cols": 128}, {})
    assert array.energy_J == pytest.approx(1.83e-15, rel=1e-3)
    assert ppa.cost("edram_isaac", {}, {}).energy_J == pytest.approx(2.02e-12, rel=2e-3)
    assert ppa.cost("bus_isaac", {}, {}).energy_J == pytest.approx(0.684e-12, rel=1e-3)
    assert ppa.cost("link_isaac", {}, {}).energy_J == pytest.approx(406e-12, rel=1e-3)
    assert 4.3e-12 < ppa.cost("router_isaac", {}, {}).energy_J < 5.3e-12


@pytest.mark.parametrize(("side", "mW"), [(32, 0.01875), (64, 0.075), (128, 0.3), (256, 1.2)])
def test_small_arrays(side: int, mW: float) -> None:
    cost = ppa.cost("rram_array_isaac", {"rows": side, "cols": side, "cycle_s": 1e-7}, {})
    assert cost.energy_J * side * side / 1e-7 * 1e3 == pytest.approx(mW)


@pytest.mark.parametrize(
    ("kilobytes", "width", "pJ"), [(2, 64, 3.67), (8, 128, 11.8), (64, 256, 61.8), (256, 64, 62.5)]
)
def test_sram_buffer(kilobytes: int, width: int, pJ: float) -> None:
    cost = ppa.cost("sram_buffer", {"kilobytes": kilobytes, "width": width, "node_nm": 45}, {})
    assert cost.energy_J * 1e12 * width / 8 == pytest.approx(pJ)


def test_digital_cells() -> None:
    adder = ppa.cost("adder", {"width": 32, "node_nm": 40}, {})
    assert (adder.energy_J * 1e12, adder.area_um2) == pytest.approx((0.21, 278))
    register = ppa.cost("register", {"bytes": 1, "node_nm": 40}, {})
    assert (register.energy_J * 1e12, register.area_um2) == pytest.approx((0.072, 47.84))


ADDERS_OF_128_ONES = 64 * 1 + 32 * 2 + 16 * 3 + 8 * 4 + 4 * 5 + 2 * 6 + 1 * 7
AT_32 = {"node_nm": 32.0}


@pytest.mark.parametrize(
    ("name", "given", "pJ", "um2"),
    [
        ("adc_flash", {"bits": 4, **AT_32}, 1.5 * 15 * 0.020, 1.5 * 15 * 25),
        ("adc_ramp", {"bits": 6, "clock_Hz": 250e6, **AT_32}, 5e-6 * 256e-9 * 1e12 + 64 * 1e-3, 60),
        ("sense_amp", {"bits": 3, **AT_32}, 7 * 0.005, 7 * 8),
        ("adc_walden", {"bits": 8, "fom_fJ": 10.0}, 2.56, 1000),
        # 100 spikes, each two bits of a counter (9 fJ each); 16 registers and half adders
        (
            "integrate_fire",
            {"bits": 16, "node_nm": 40.0, "spikes": 100.0, "comparator_fJ": 0.0, "comparator_um2": 0.0},
            100 * 0.018,
            16 * (5.98 + 278 / 32) + 25,
        ),
        ("shift_add", {"width": 24, "node_nm": 40.0}, 24 * (0.21 / 32 + 0.009), 24 * (278 / 32 + 5.98)),
        ("shift_add_isaac", AT_32, 0.2 / 10.24, 60),
        (
            "adder_tree",
            {"rows": 128, "node_nm": 40.0},
            0.21 / 32 * ADDERS_OF_128_ONES,
            278 / 32 * ADDERS_OF_128_ONES,
        ),
        ("multiplier", {"width": 16, "node_nm": 45.0}, 4 * 0.2 + 0.1, 4 * 282 + 137),
        ("vector_unit", AT_32, 1.90 / 4, 4000),
        ("table_unit", AT_32, 0.055, 600),
        ("activation_isaac", AT_32, 0.26 / 1.2, 300),
        ("pool_isaac", AT_32, 0.4 / 1.2, 240),
        ("dac_isaac", {"dac_bits": 2, **AT_32}, 3 * 4 / 1024 * 100, 3 * 170 / 1024),
        (
            "rram_array_ohmic",
            {"rows": 64, "cols": 32, "g_max_S": 1e-4, **AT_32},
            2e-1,
            64 * 32 * 12 * 0.032**2,
        ),
        ("word_line", {"cols": 128, "supply_V": 1.0, **AT_32}, 0.128, 128 * 6 * 0.032**2),
        ("charge_array", {"rows": 8, "cols": 8, "supply_V": 1.0, **AT_32}, 5e-4, 64 * 150 * 0.032**2),
        ("sram_array", {"rows": 8, "cols": 8, **AT_32}, 1e-3, 64 * 150 * 0.032**2),
        ("sram_write", {"node_nm": 45.0}, 17.5 / 256, 0),
        ("rram_write", {}, 2.0 * 1e-4 * 5e-8 * 10 * 1e12, 0),
        ("wire", {"length_mm": 3.0, **AT_32}, 8 * 0.1 * 3, 0),
        ("h_tree", {"side_mm": 4.0, "leaves": 16, **AT_32}, 8 * 0.1 * 3, 0),
        ("router_isaac", AT_32, 42 / 9.6, 151_000),
        ("edram_isaac", {"kilobytes": 256, **AT_32}, 2 * 20.7 / 10.24, 4 * 83_000),
        ("dram", {"kind": "lpddr"}, 64, 0),
    ],
)
def test_models_by_hand(name: str, given: dict, pJ: float, um2: float) -> None:
    """At the node their numbers are from, so that no scaling enters."""
    cost = ppa.cost(name, given, {})
    assert cost.energy_J * 1e12 == pytest.approx(pJ, rel=1e-3)
    assert cost.area_um2 == pytest.approx(um2, rel=1e-2)


@pytest.mark.parametrize(("name", "least"), [("adc_isaac_sar", 1), ("adc_survey", 4), ("adc_flash", 1)])
def test_bits_outside_a_model_are_refused(name: str, least: int) -> None:
    with pytest.raises(HardwareError, match=f"{name}: bits = {least - 1} is outside the model's range"):
        ppa.cost(name, {"bits": least - 1}, {})


def test_scaling() -> None:
    assert energy_factor(45, 45) == area_factor(45, 45) == 1
    assert area_factor(45, 22.5) == pytest.approx(0.25)
    assert energy_factor(65, 32) * energy_factor(32, 65) == pytest.approx(1)
    nodes = [180, 130, 90, 65, 45, 32, 28, 22, 16, 14, 10, 7]
    energies = [energy_factor(180, node) for node in nodes]
    assert energies == sorted(energies, reverse=True)
    assert supply(28) == pytest.approx(0.9144, abs=1e-3)
    with pytest.raises(HardwareError, match="use 7 to 180"):
        supply(5)


CONTEXT = {
    "bits": 5.0,
    "node_nm": 32.0,
    "rows": 128.0,
    "cols": 128.0,
    "g_max_S": 1e-5,
    "rate_Hz": 1e8,
    "bytes": 64.0,
    "kilobytes": 64.0,
    "length_mm": 1.0,
    "side_mm": 2.0,
    "leaves": 16.0,
}


@pytest.mark.parametrize("name", ppa.available())
def test_every_model_says_who_says_so_and_gives_numbers(name: str) -> None:
    model = ppa.model(name)
    assert model.source
    assert model.confidence in ("A", "B", "C")
    cost = ppa.cost(name, {}, CONTEXT)
    assert 0 < cost.energy_J < 1e-8
    assert 0 <= cost.area_um2 < 1e8
    assert math.isfinite(cost.latency_s)


@pytest.mark.parametrize("name", ["adc_isaac_sar", "adc_survey", "adc_flash", "adc_ramp", "adc_walden"])
def test_a_bit_more_costs_more(name: str) -> None:
    energies = [ppa.cost(name, {"bits": bits}, CONTEXT).energy_J for bits in range(4, 11)]
    assert energies == sorted(energies)


def test_models_can_be_added() -> None:
    @ppa.register("test_only", source="this test", confidence="C")
    def flat(*, node_nm: float) -> ppa.Cost:
        return ppa.Cost(node_nm * 1e-15, 1.0)

    assert ppa.cost("test_only", {}, {"node_nm": 7.0}) == ppa.Cost(7e-15, 1.0)
    with pytest.raises(HardwareError, match="registered already"):
        ppa.register("test_only", source="", confidence="C")(flat)

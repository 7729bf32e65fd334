"""Converters: what one conversion costs. Every model takes its resolution and its node."""

from __future__ import annotations

import math

from imcsim.errors import HardwareError
from imcsim.ppa.registry import Cost, register
from imcsim.ppa.scaling import area_factor, delay_factor, energy_factor

ISAAC_SAR: dict[int, tuple[float, float]] = {
    4: (0.79, 361),
    5: (0.99, 477),
    6: (1.20, 627),
    7: (1.42, 845),
    8: (1.67, 1200),
    9: (1.97, 1828),
    10: (2.38, 3002),
}
"""pJ a conversion and um2 by bits at 32 nm: ISAAC's converter scaled (B)."""

NEUROSIM_SAR: dict[int, tuple[float, float, float, float]] = {
    65: (3.7506, 25.844, 121272.0, 2.303),
    45: (2.1691, 16.693, 100225.0, 2.303),
    32: (1.1294, 8.8998, 79449.0, 2.297),
    22: (0.538, 4.3753, 72341.0, 2.303),
    14: (0.3132, 2.5681, 61085.0, 2.303),
    7: (0.1061, 0.8847, 43555.0, 2.303),
}
"""a, b, c in uW and d by node of NeuroSim's SAR, low-power transistors (B)."""


def _positive(name: str, bits: float, least: float, most: float) -> None:
    if not least <= bits <= most:
        raise HardwareError(
            f"{name}: bits = {bits:g} is outside the model's range; use {least:g} to {most:g}"
        )


def isaac_sar_at_32nm(bits: float) -> tuple[float, float]:
    """Energy (pJ) and area (um2) of the scaled SAR at 32 nm.

    Reference buffer, memory and clock grow linearly with the bits, the capacitive DAC exponentially:
    ``E = e1 n + e2 2^n``, ``A = a1 n + a2 2^n``, least squares of the relative error on `ISAAC_SAR` (within
    0.2 %); at the table's own points the table.
    """
    if bits in ISAAC_SAR:
        return ISAAC_SAR[int(bits)]
    return 0.195517 * bits + 4.13508e-4 * 2**bits, 81.72858 * bits + 2.1335 * 2**bits


@register(
    "adc_isaac_sar",
    source="ISAAC's converter scaled by bits: a table at 32 nm from a secondary source",
    confidence="B",
)
def adc_isaac_sar(
    *,
    bits: float,
    node_nm: float = 32.0,
    reference_bits: float = 8.0,
    reference_pJ: float | None = None,
    reference_um2: float | None = None,
) -> Cost:
    """A SAR converter scaled from a published one.

    Energy and area at `bits` are the reference's times the scaled SAR's ratio between `bits` and
    `reference_bits`.

    Args:
        bits: resolution, 1 to 16 (the table reaches from 4 to 10).
        node_nm: node; energy and area scale as logic from 32 nm.
        reference_bits: resolution at which the reference is given.
        reference_pJ: its energy a conversion at `node_nm`; without it the table's.
        reference_um2: its area.

    Returns:
        The cost of a conversion.
    """
    _positive("adc_isaac_sar", bits, 1, 16)
    energy, area = isaac_sar_at_32nm(bits)
    energy_at, area_at = isaac_sar_at_32nm(reference_bits)
    pJ = energy * energy_factor(32, node_nm) if reference_pJ is None else reference_pJ * energy / energy_at
    um2 = area * area_factor(32, node_nm) if reference_um2 is None else reference_um2 * area / area_at
    return Cost(pJ * 1e-12, um2)


@register(
    "adc_survey",
    source="regression over a survey of converters, lower envelope: optimistic",
    confidence="B",
)
def adc_survey(*, bits: float, rate_Hz: float = 1e8, node_nm: float = 32.0) -> Cost:
    """Regression over published converters.

    ``SNDR = 20 log10(2) n + 10 log10(1.5)``; ``FOMS = min(213.7807 - 2.87190 ln fs, 128.3068 + 3.22051 ceil
    n)``;
    ``E_pJ = exp(26.04962 + 1.880037 ln nm - 2.829126 ln n - 1.470202) / (2 10^((FOMS - SNDR) / 10))``;
    ``A_um2 = exp(1.346192 + 0.993279 ln nm + 0.180715 ln fs + 0.299124 ln E_pJ)``.

    Args:
        bits: 4 and more.
        rate_Hz: conversions a second, at most 1e10.
        node_nm: node.

    Returns:
        The cost of a conversion.
    """
    _positive("adc_survey", bits, 4, 24)
    if not 0 < rate_Hz <= 1e10:
        raise HardwareError(f"adc_survey: rate_Hz = {rate_Hz:g} is outside the regression; use up to 1e10")
    sndr = 20 * math.log10(2) * bits + 10 * math.log10(1.5)
    foms = min(213.7807 - 2.87190 * math.log(rate_Hz), 128.3068 + 3.22051 * math.ceil(bits))
    scale = math.exp(26.04962 + 1.880037 * math.log(node_nm) - 2.829126 * math.log(bits) - 1.470202)
    energy = scale / (2 * 10 ** ((foms - sndr) / 10))
    area = math.exp(
        1.346192 + 0.993279 * math.log(node_nm) + 0.180715 * math.log(rate_Hz) + 0.299124 * math.log(energy)
    )
    return Cost(energy * 1e-12, area, 1 / rate_Hz)


@register("adc_neurosim_sar", source="DNN+NeuroSim, SAR converter, low-power transistors", confidence="B")
def adc_neurosim_sar(
    *, bits: float, node_nm: float = 32.0, column_ohm: float = math.inf, area_um2: float | None = None
) -> Cost:
    """NeuroSim's SAR: ``t = (n + 1) ns``, ``P_uW = a n + b + c exp(-d log10 R)``, R the column's resistance.

    Args:
        bits: resolution.
        node_nm: one of 65, 45, 32, 22, 14 and 7.
        column_ohm: resistance of the column at 0.5 V; inf: only the converter.
        area_um2: NeuroSim draws it from transistors, which is not modelled; without it that of
        `adc_isaac_sar`.

    Returns:
        The cost of a conversion.
    """
    if node_nm not in NEUROSIM_SAR:
        raise HardwareError(
            f"adc_neurosim_sar has no coefficients at {node_nm:g} nm; use one of "
            f"{', '.join(map(str, NEUROSIM_SAR))}"
        )
    a, b, c, d = NEUROSIM_SAR[int(node_nm)]
    time = (bits + 1) * 1e-9
    column = 0.0 if math.isinf(column_ohm) else c * math.exp(-d * math.log10(column_ohm))
    area = isaac_sar_at_32nm(bits)[1] * area_factor(32, node_nm) if area_um2 is None else area_um2
    return Cost((a * bits + b + column) * 1e-6 * time, area, time)


@register("adc_flash", source="2^bits - 1 comparators; the comparator is an assumption", confidence="C")
def adc_flash(
    *, bits: float, node_nm: float = 32.0, comparator_fJ: float = 20.0, comparator_um2: float = 25.0
) -> Cost:
    """A flash converter: ``2^bits - 1`` comparators; half as much again for encoder and references.

    Args:
        bits: resolution.
        node_nm: node; the comparator is given at 32 nm.
        comparator_fJ: a comparison at 32 nm.
        comparator_um2: a comparator at 32 nm.

    Returns:
        The cost of a conversion.
    """
    _positive("adc_flash", bits, 1, 10)
    comparators = 2**bits - 1
    energy = 1.5 * comparators * comparator_fJ * 1e-15 * energy_factor(32, node_nm)
    return Cost(energy, 1.5 * comparators * comparator_um2 * area_factor(32, node_nm), 1e-9)


@register(
    "adc_ramp", source="a comparator and a counter a column, a shared ramp; assumptions", confidence="C"
)
def adc_ramp(
    *,
    bits: float,
    node_nm: float = 32.0,
    clock_Hz: float = 1e9,
    comparator_uW: float = 5.0,
    column_um2: float = 60.0,
    step_fJ: float = 1.0,
) -> Cost:
    """A single-slope converter: ``2^bits`` steps of a ramp, with comparator and counter on.

    Args:
        bits: resolution.
        node_nm: node; the rest is given at 32 nm.
        clock_Hz: steps of the ramp a second.
        comparator_uW: power of the comparator.
        column_um2: comparator and counter of a column.
        step_fJ: the column's share of ramp and counter, a step.

    Returns:
        The cost of a conversion.
    """
    _positive("adc_ramp", bits, 1, 12)
    time = 2**bits / clock_Hz
    energy = comparator_uW * 1e-6 * time + step_fJ * 1e-15 * 2**bits
    return Cost(energy * energy_factor(32, node_nm), column_um2 * area_factor(32, node_nm), time)


@register("sense_amp", source="a latch a reference; an assumption", confidence="C")
def sense_amp(*, bits: float, node_nm: float = 32.0, latch_fJ: float = 5.0, latch_um2: float = 8.0) -> Cost:
    """A multilevel sense amplifier: ``2^bits - 1`` latches against references.

    Args:
        bits: resolution; 1 is one latch.
        node_nm: node; the latch is given at 32 nm.
        latch_fJ: a decision.
        latch_um2: a latch and its share of the reference.

    Returns:
        The cost of a decision.
    """
    _positive("sense_amp", bits, 1, 6)
    latches = 2**bits - 1
    return Cost(
        latches * latch_fJ * 1e-15 * energy_factor(32, node_nm),
        latches * latch_um2 * area_factor(32, node_nm),
        1e-9 * delay_factor(32, node_nm),
    )


@register(
    "integrate_fire",
    source="adc_flash's comparator, its capacitor, a counter of 40 nm registers and half adders; assumptions",
    confidence="C",
)
def integrate_fire(
    *,
    bits: float,
    node_nm: float = 32.0,
    comparator_fJ: float = 20.0,
    comparator_um2: float = 25.0,
    capacitor_um2: float = 25.0,
    spikes: float | None = None,
) -> Cost:
    """A column's charge on a capacitor; at a threshold a comparator empties it and a counter counts.

    Args:
        bits: width of the counter.
        node_nm: node; comparator and capacitor are given at 32 nm.
        comparator_fJ: a comparison.
        comparator_um2: the comparator.
        capacitor_um2: the capacitor; it does not scale.
        spikes: counted a conversion; None: half of what the counter holds. A count turns two of its bits over
            on the mean.

    Returns:
        The cost of one conversion.
    """
    _positive("integrate_fire", bits, 1, 32)
    counted = 2**bits / 2 if spikes is None else spikes
    each = comparator_fJ * energy_factor(32, node_nm) + 2 * 9.0 * energy_factor(40, node_nm)
    area = comparator_um2 * area_factor(32, node_nm) + capacitor_um2
    area += bits * (5.98 + 278 / 32) * area_factor(40, node_nm)
    return Cost(counted * each * 1e-15, area)


@register("adc_walden", source="R. H. Walden, JSAC 1999: the figure of merit is the user's", confidence="C")
def adc_walden(*, bits: float, fom_fJ: float = 10.0, area_um2: float = 1000.0) -> Cost:
    """Walden's figure of merit: ``E = FOM 2^ENOB``.

    Args:
        bits: effective bits.
        fom_fJ: femtojoules a conversion step.
        area_um2: area.

    Returns:
        The cost of a conversion.
    """
    return Cost(fom_fJ * 1e-15 * 2**bits, area_um2)

"""Published totals, from component counts."""

import pytest

from imcsim import Hardware, ppa, presets
from imcsim.errors import HardwareError
from imcsim.nn.readout import weight_slicing
from tests.ppa.chips import changed, chip, costs


def share_of_tile(peak: ppa.Peak, name: str) -> float:
    (row,) = [row for row in peak.rows if row.component == name]
    return row.power_mW / (peak.tiles * peak.tile_mw)


def test_isaac_totals() -> None:
    peak = ppa.peak(chip("isaac"), costs("isaac"))
    assert not peak.calibrated
    assert round(peak.tile_mw) == 330
    assert round(peak.tile_mm2, 3) == 0.372
    assert round(peak.tiles * peak.tile_mw / 1e3, 1) == 55.4
    assert round(peak.tiles * peak.tile_mm2, 1) == 62.5
    assert round(peak.power_w, 1) == 65.8
    assert round(peak.area_mm2, 1) == 85.4
    assert round(peak.gops / 1e3, 2) == 41.29
    assert peak.gops_per_watt == pytest.approx(627.5, rel=0.01)
    assert peak.gops_per_mm2 == pytest.approx(478.95, rel=0.015)
    assert round(100 * share_of_tile(peak, "adc")) == 58
    (adc,) = [row for row in peak.rows if row.component == "adc"]
    assert round(100 * adc.area_mm2 / (168 * peak.tile_mm2)) == 31


def test_isaac_tile_without_imas() -> None:
    parts = costs("isaac").components
    tile = [part for part in parts.values() if part.per == "tile"]
    assert round(sum(p.count * p.power_mW for p in tile), 1) == 40.9  # the paper's 40.85, rounded up
    assert round(sum(p.count * p.area_um2 for p in tile) * 1e-6, 3) == 0.215


def test_puma_totals_under_both_conventions() -> None:
    peak = ppa.peak(chip("puma"), costs("puma"))
    assert peak.power_w == pytest.approx(62.5, rel=2e-3)
    assert round(peak.area_mm2, 1) == 90.6
    published, own = peak.readings
    assert (peak.gops, peak.gops_per_watt) == (published.gops, published.gops_per_watt)
    assert published.calibrated
    assert peak.calibrated
    assert peak.calibrated_parts == ("tile.headline_factor",)
    assert published.gops == pytest.approx(52_310, rel=1e-3)
    assert published.gops_per_watt == pytest.approx(837, rel=2e-3)
    assert published.gops_per_mm2 == pytest.approx(577, rel=2e-3)
    assert not own.calibrated
    assert own.gops == pytest.approx(31_400, rel=1e-3)


def test_puma_rows_against_the_published_subtotals() -> None:
    """The recalled rows add up to the tile's power within 0.1 %, and to 2.8 % more than its area."""
    peak = ppa.peak(chip("puma"), costs("puma"))
    assert peak.tile_rows_mw == pytest.approx(373.8, rel=1e-3)
    assert 1.02 < peak.tile_rows_mm2 / 0.479 < 1.03
    core = [part for part in costs("puma").components.values() if part.per == "unit"]
    assert sum(p.count * p.power_mW for p in core) == pytest.approx(42.37, rel=1e-3)


def test_an_mvm_of_puma() -> None:
    """128 x 128 16-bit MACs: 8 arrays, 16 cycles."""
    layer = [ppa.LayerShape("mvm", 1, 128, 128)]
    report = ppa.estimate_layers(layer, chip("puma"), costs=costs("puma"), replicate=False)
    (row,) = [row for row in report.rows if row.name == "mvm"]
    assert row.arrays == 8
    assert row.energy_aJ["mvmu"] * 1e-9 == pytest.approx(43.97, rel=1e-3)
    assert row.time_s == pytest.approx(2304e-9)


def test_pipelayer_misses_its_figure() -> None:
    """A spike a word line is 13 times better than the chip's published figure, one a cell ten times worse."""
    peak = chip("pipelayer").peak()
    line, cell = peak.readings
    macs = 128 * 16  # of an array of 128 columns, 8 of them a weight
    spikes = 128 * 16
    assert line.gops_per_watt == peak.gops_per_watt == pytest.approx(2 * macs / (spikes * 1.08e-12) * 1e-9)
    assert 12.9 < line.gops_per_watt / 142.9 < 13.0
    assert cell.gops_per_watt == pytest.approx(line.gops_per_watt / 128)
    assert 0.10 < cell.gops_per_watt / 142.9 < 0.11
    assert "1.08 pJ a cell of the word line" in cell.convention
    assert line.gops == cell.gops == pytest.approx(2 * macs / (16 * 29.31e-9) * 1e-9)
    assert not peak.calibrated


def test_pipelayers_area_is_its_counters() -> None:
    """Library models: 0.228 of the published density; arrays for its 122.7 TOPS take 4.4 times 82.63 mm2."""
    peak = chip("pipelayer").peak()
    cells, drivers = 25.0, 128 * 128 * 6 * 0.032**2
    counters = 128 * (16 * (5.98 + 278 / 32) * (32 / 40) ** 2 + 25 + 25)
    assert peak.area_mm2 * 1e6 == pytest.approx(cells + drivers + counters)
    assert peak.gops_per_mm2 / 1485 == pytest.approx(0.228, abs=0.001)
    arrays = 1485 * 82.63 / peak.gops
    assert arrays == pytest.approx(14_049, abs=1)
    assert arrays * peak.area_mm2 / 82.63 == pytest.approx(4.38, abs=0.01)


def test_other_readings_need_an_energy() -> None:
    with pytest.raises(
        HardwareError, match="alternatives are other readings of energy_pJ, which is not given"
    ):
        ppa.costs_from(
            {
                "components": {
                    "a": {"event": "adc", "power_mW": 1.0, "events_per_s": 1.0, "alternatives": {"b": 1.0}}
                }
            }
        )


def test_registers_of_isaac_se_hold_what_their_arrays_take_and_give() -> None:
    """As ISAAC-CE's do to the byte: 2 KB for 8 arrays of 128 inputs, 256 B for their 16 outputs each."""
    ce, se = costs("isaac").components, costs("isaac_se").components
    assert (8 * 128 * 2, 8 * 16 * 2) == (2048, 256)
    larger = 512 * 256 * 2 / 2048
    assert larger == 512 * 32 * 2 / 256 == 128
    for name in ("input_register", "output_register"):
        assert se[name].area_um2 == pytest.approx(larger * ce[name].area_um2)
        assert se[name].power_mW == pytest.approx(larger**0.5 * ce[name].power_mW, rel=1e-4)
        assert se[name].confidence == "C"


def test_rows_add_up_to_the_chip() -> None:
    for name in ("isaac", "puma"):
        peak = ppa.peak(chip(name), costs(name))
        assert sum(row.power_mW for row in peak.rows) == pytest.approx(peak.power_w * 1e3, rel=1e-12)
        assert sum(row.area_mm2 for row in peak.rows) == pytest.approx(peak.area_mm2, rel=1e-12)
        assert sum(row.power_share for row in peak.rows) == pytest.approx(1)
        assert list(peak.frame()["component"]) == [row.component for row in peak.rows]
        assert "1 MAC = 2 operations of 16 x 16 bits" in str(peak)


@pytest.mark.parametrize("name", ["isaac", "puma"])
def test_halving_the_arrays_speed_halves_throughput(name: str) -> None:
    fast = ppa.peak(chip(name), costs(name))
    slow = ppa.peak(chip(name), changed(costs(name), cycle_s=2 * costs(name).tile.cycle_s))
    for before, after in zip(fast.readings, slow.readings, strict=True):
        assert after.gops == pytest.approx(before.gops / 2)


@pytest.mark.parametrize("name", presets.available())
def test_a_full_array_draws_what_the_peak_counts(name: str) -> None:
    """One layer that fills its arrays: events times energies over its time are the peak's power."""
    hardware, tables = chip(name), costs(name)
    if hardware.adc is not None and hardware.adc.offset_correction == "unit_column":
        hardware = hardware.replace({"adc.offset_correction": "digital"})
    slices, weights = weight_slicing(hardware), hardware.weights
    columns = 1 if weights.placement == "separate" else len(slices.widths)
    columns *= 2 if slices.paired and weights.pair == "columns" else 1
    full = ppa.LayerShape(
        "full",
        1,
        hardware.array.cols // columns,
        hardware.array.rows // (2 if weights.encoding == "xnor" else 1),
        vectors=100,
    )
    report = ppa.estimate_layers([full], hardware, costs=tables, replicate=False, chips=1)
    row, peak = report.rows[0], ppa.peak(hardware, tables)
    arrays = peak.tiles * tables.tile.arrays
    mine = {part.component: part.power_mW * 1e-3 / arrays for part in peak.rows}
    seen = 0
    for key, part in tables.components.items():
        if part.event not in ("dac", "array_read", "cell_read", "sample_hold", "adc", "shift_add"):
            continue
        share = row.utilisation if part.event == "cell_read" else 1.0  # gi2022's 25th column has no partner
        drawn = row.energy_aJ[key] * 1e-18 / row.time_s / row.arrays
        assert drawn == pytest.approx(share * mine[key], rel=1e-6), key
        seen += 1
    assert seen
    own = next(reading for reading in peak.readings if not reading.calibrated)
    assert 2e-9 * row.macs / row.time_s / row.arrays == pytest.approx(own.gops / arrays)


def test_a_pair_that_is_subtracted_in_analog_is_converted_once() -> None:
    """Yao's eight arrays have 64 pairs of columns: 64 conversions a cycle of 100 ns, not 128."""
    (adc,) = [row for row in chip("yao2020").peak().rows if row.component == "adc"]
    each = ppa.cost("adc_isaac_sar", {"bits": 8.0, "node_nm": 130.0}, {}).energy_J
    assert adc.power_mW == pytest.approx(64 * each / 100e-9 * 1e3)


def test_pairs_of_columns_share_a_conversions_time() -> None:
    """A converter for 128 columns: 64 conversions where pairs are subtracted before it, 128 where after."""
    tables = ppa.costs_from(
        {
            "tile": {"cycle_s": 1e-9},
            "components": {
                "adc": {"per": "converter", "event": "adc", "energy_pJ": 1.0, "events_per_s": 1e9}
            },
        }
    )
    before, after = (
        Hardware.model_validate(
            {"weights": {"bits": 4, "cell_bits": 3}, "adc": {"bits": 8, "subtract": where}}
        )
        for where in ("analog", "digital")
    )
    cycles = 8  # of unsigned 8-bit inputs
    for hardware, columns in ((before, 64), (after, 128)):
        macs = 128 * 64
        (reading,) = ppa.peak(hardware, tables).readings
        arrays = tables.tile.arrays
        assert reading.gops == pytest.approx(2 * macs * arrays / (columns * 1e-9 * cycles) * 1e-9)


def test_an_adder_takes_every_column_of_xnor() -> None:
    """XNOR-SRAM converts 64 columns each 20 ns, and adds what each gives."""
    (adders,) = [row for row in chip("xnor_sram").peak().rows if row.component == "adders"]
    each = ppa.cost("shift_add", {"width": 12.0, "node_nm": 65.0}, {}).energy_J
    assert adders.power_mW == pytest.approx(64 * each / 20e-9 * 1e3)


def test_counts_follow_the_description() -> None:
    """Half the columns a converter: twice the converters; half the rows: half the drivers."""
    hardware = chip("isaac").replace({"adc.columns_per_adc": 64, "array.rows": 64})
    rows = {row.component: row.count for row in ppa.peak(hardware, costs("isaac")).rows}
    assert rows["adc"] == 2 * 16128
    assert rows["dac"] == 16128 * 64


def test_a_converter_too_slow_for_its_columns_stretches_the_cycle() -> None:
    hardware = chip("isaac").replace({"adc.columns_per_adc": 256, "array.cols": 256})
    double = ppa.peak(hardware, costs("isaac"))
    assert double.gops == pytest.approx(ppa.peak(chip("isaac"), costs("isaac")).gops)


def test_calibrated_components_are_named() -> None:
    tables = costs("isaac")
    fitted = tables.components["adc"].model_copy(update={"calibrated": True})
    peak = ppa.peak(
        chip("isaac"), ppa.Costs(tile=tables.tile, components={**tables.components, "adc": fitted})
    )
    assert peak.calibrated
    assert peak.calibrated_parts == ("adc",)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"components": {"a": {"event": "adc"}}}, r"components\.a: .*needs energy_pJ"),
        ({"components": {"a": {"event": "adcs", "energy_pJ": 1.0}}}, r"components\.a\.event = 'adcs'"),
        ({"components": {"a": {"powr_mW": 1.0}}}, r"powr_mW = 1\.0: unknown key"),
        ({"components": {}}, "components"),
    ],
)
def test_wrong_tables(tables: dict, message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        ppa.costs_from(tables)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ({"model": "adc_isac_sar", "event": "adc"}, "components.a: .*Did you mean 'adc_isaac_sar'"),
        (
            {"model": "adc_walden", "event": "adc", "params": {"fom_J": 1.0}},
            "has no parameter 'fom_J'.*Did you mean 'fom_fJ'",
        ),
        ({"model": "sram_buffer", "event": "buffer_byte"}, "needs kilobytes"),
    ],
)
def test_wrong_models(component: dict, message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        ppa.peak(chip("isaac"), ppa.costs_from({"components": {"a": component}}))

"""Networks on chips: totals, time, copies, chips, reloads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import imcsim
from imcsim import Hardware, ppa, presets
from imcsim.errors import InputError, MappingError
from imcsim.ppa.allocate import Job, pack, pipeline_latency, replicate
from tests.ppa.chips import changed, chip, costs, small_net

LAYERS = [
    ppa.LayerShape(
        "conv1", 1, 64, 147, vectors=3136, window=0.03, input_elements=3 * 112 * 112, activations=1000
    ),
    ppa.LayerShape("conv2", 1, 64, 576, vectors=784, window=0.1, pools=4000, vector_ops=64),
    ppa.LayerShape("fc", 1, 10, 1024),
]


def isaac(layers: list[ppa.LayerShape] = LAYERS, **options: object) -> ppa.Estimate:
    return ppa.estimate_layers(layers, chip("isaac"), costs=options.pop("costs", costs("isaac")), **options)


def check_sums(report: ppa.Estimate) -> None:
    by_component = sum(part.energy_aJ for part in report.components)
    by_cell = sum(energy for row in report.rows for energy in row.energy_aJ.values())
    assert report.energy_aJ == by_component == by_cell == sum(row.total_aJ for row in report.rows)
    frame = report.frame()
    assert frame["energy_J"].sum() == pytest.approx(report.energy_J, rel=1e-12)
    parts = frame[[f"{part.name}_J" for part in report.components]]
    assert parts.to_numpy().sum() == pytest.approx(report.energy_J, rel=1e-12)


shapes = st.builds(
    ppa.LayerShape,
    name=st.text("abc", min_size=1, max_size=3),
    groups=st.integers(1, 4),
    outputs=st.integers(1, 300),
    inputs=st.integers(1, 600),
    vectors=st.integers(1, 200),
    window=st.floats(0, 1),
    activations=st.integers(0, 1000),
    digital_macs=st.integers(0, 1000),
    sequential=st.booleans(),
)


@given(st.lists(shapes, min_size=1, max_size=5), st.sampled_from(["isaac", "puma", "xnor_rram"]))
def test_energy_adds_up_exactly(layers: list[ppa.LayerShape], name: str) -> None:
    tables = None if name == "xnor_rram" else costs(name)
    check_sums(ppa.estimate_layers(layers, chip(name), costs=tables))


@pytest.mark.parametrize("name", presets.available())
def test_every_presets_report_of_a_network_adds_up(name: str) -> None:
    """Energy to the attojoule; area over components, and where weights stay over layers."""
    report = ppa.estimate(small_net(), torch.zeros(1, 3, 8, 8), chip(name))
    check_sums(report)
    assert sum(part.area_mm2 for part in report.components) == pytest.approx(report.area_mm2, rel=1e-12)
    if report.mode == "pipelined":
        assert sum(row.area_mm2 for row in report.rows) == pytest.approx(report.area_mm2, rel=1e-12)
    parts = report.parts()
    assert parts["energy_J"].sum() == pytest.approx(report.energy_J, rel=1e-12)
    assert parts["edp_Js"].sum() == pytest.approx(report.edp_Js, rel=1e-12)
    frame = report.frame()
    assert list(frame["edp_Js"]) == [row.energy_J * row.time_s for row in report.rows]
    assert report.programming_J > 0
    assert report.programming_s > 0


def test_operations_by_convention() -> None:
    """16 x 16 bits: 512 one-bit operations a MAC; two layers of other bits each their own."""
    few = chip("isaac").replace({"weights.bits": 8, "inputs.bits": 4})
    layers = [ppa.LayerShape("a", 1, 10, 100), ppa.LayerShape("b", 1, 20, 100, hardware=few)]
    report = isaac(layers)
    two, one, bits = report.conventions.values()
    assert two == report.tops_per_watt == pytest.approx(2e-12 * 3000 / report.energy_J)
    assert one == two / 2
    assert bits == pytest.approx(2e-12 * (1000 * 16 * 16 + 2000 * 8 * 4) / report.energy_J)
    assert all(
        what in " ".join(str(report).split()) for what in ("1 MAC = 1 operation", "operations of 1 bit")
    )


def test_a_layer_of_fewer_bits_takes_fewer_columns() -> None:
    """20 outputs: of 16 bits 160 columns and a unit column on each of 2 arrays, of 6 bits 60 and one on 1."""
    few = chip("isaac").replace({"weights.bits": 6})
    layers = [ppa.LayerShape("a", 1, 20, 100), ppa.LayerShape("b", 1, 20, 100, hardware=few)]
    a, b, _ = isaac(layers).rows
    assert (a.arrays, a.idle_columns, a.weight_bits) == (2, 256 - 162, 16)
    assert (b.arrays, b.idle_columns, b.weight_bits) == (1, 128 - 61, 6)
    assert a.utilisation == pytest.approx(162 * 100 / (2 * 128 * 128))
    frame = isaac(layers).frame()
    assert list(frame["idle_columns"])[:2] == [94, 67]


def test_a_layers_share_of_the_area_is_that_of_its_arrays() -> None:
    report = isaac([ppa.LayerShape("a", 1, 20, 100)])
    a, rest = report.rows
    assert a.area_mm2 == pytest.approx(2 / 16128 * 168 * 0.37227, rel=1e-3)
    assert rest.area_mm2 == pytest.approx(report.area_mm2 - a.area_mm2)


def test_programming_by_hand() -> None:
    """PipeLayer: 3.91 nJ and 50.88 ns a word line of 128 cells; ISAAC, which says nothing, by the library."""
    layers = [ppa.LayerShape("a", 1, 16, 128, vectors=3)]
    pipelayer = ppa.estimate_layers(layers, chip("pipelayer"), costs=changed(costs("pipelayer"), tiles=16))
    assert (pipelayer.rows[0].arrays, pipelayer.rows[0].copies) == (8, 2)
    assert pipelayer.programming_J == pytest.approx(2 * 8 * 16 * 128 * 3.91e-9 / 128)
    assert pipelayer.programming_s == pytest.approx(128 * 50.88e-9)
    assert "by write_spike, a word line each 5.09e-08 s" in pipelayer.notes[-1]
    once = isaac(layers, replicate=False)
    cells = 128 * (128 + 2)
    assert once.programming_J == pytest.approx(cells * 10 * 2.0 * 1e-4 * 5e-8)
    assert once.programming_s == pytest.approx(128 * 10 * 5e-8)
    assert "rram_write (library)" in once.notes[-1]


def test_programming_is_write_verifys_where_it_wrote_the_cells() -> None:
    """One copy's energy times copies; the layer whose arrays take longest, cell by cell, sets the time."""
    hardware = Hardware.model_validate(
        {
            "device": {
                "card": "epiram",
                "programming": {"kind": "write_verify", "tolerance": 0.1, "max_pulses": 50},
            },
            "weights": {"bits": 4, "cell_bits": 3},
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    x = torch.zeros(1, 1, 4, 4)
    sim = imcsim.convert(net, hardware)
    imcsim.program(sim, seed=0)
    wrote = imcsim.write_report(sim)
    report = imcsim.estimate(sim, x)
    rows = {row.name: row for row in report.rows}
    assert all(wrote[name].pulses > 0 for name in ("0", "2"))
    energies = [wrote[name].energy_J * rows[name].copies for name in ("0", "2")]
    assert report.programming_J == pytest.approx(sum(energies))
    assert report.programming_s == pytest.approx(
        max(wrote[name].time_s / rows[name].arrays for name in ("0", "2"))
    )
    assert "as write-verify measured it" in report.notes[-1]


def test_levels_of_acceleration() -> None:
    """All weights stay; whole layers in passes; a layer cut over passes."""
    half = [ppa.LayerShape(f"l{i}", 1, 2000, 8192) for i in range(3)]  # 64 x 126 arrays each
    assert isaac(half).level == "network"
    assert isaac(half[:2], when_too_large="reload").level == "network"
    whole = isaac(half, when_too_large="reload")
    assert (whole.level, whole.passes) == ("layer", 2)
    cut = isaac([ppa.LayerShape("l", 1, 2016, 3 * 8192)], when_too_large="reload")
    assert cut.level == "tensor"
    assert "(tensor-level acceleration)" in " ".join(cut.notes)


def test_a_reload_takes_as_long_as_its_memory_and_its_writes() -> None:
    """XNOR-SRAM: 512 word lines of 4 ns; weights of a pass at 25.6 GB/s, which is faster."""
    layers = [ppa.LayerShape("a", 1, 64, 512)]
    report = ppa.estimate_layers(layers, chip("xnor_sram"))
    assert (report.passes, report.level) == (2, "tensor")
    assert report.period_s == pytest.approx(2 * (512 * 4e-9 + 20e-9 + 20e-9))
    slow = changed(costs("xnor_sram"), write_row_s=1e-12)
    fast = ppa.estimate_layers(layers, chip("xnor_sram"), costs=slow)
    assert fast.period_s == pytest.approx(2 * (64 * 256 / 8 / 25.6e9 + 40e-9))


def test_energy_adds_up_exactly_over_chips_and_reloads() -> None:
    big = [ppa.LayerShape(f"l{i}", 1, 4096, 4096, activations=4096) for i in range(4)]
    spread = isaac(big)
    assert spread.chips == 3  # 4 x 8288 arrays on chips of 16128
    check_sums(spread)
    again = isaac(big, when_too_large="reload")
    assert (again.chips, again.passes) == (1, 4)
    check_sums(again)
    assert "l0" in str(again)


def test_energy_is_count_times_cost() -> None:
    report = isaac()
    adc = next(part for part in report.components if part.name == "adc")
    assert adc.energy_J == pytest.approx(adc.events * 1.5625e-12)
    assert report.edp_Js == report.energy_J * report.latency_s
    assert report.throughput_per_s == 1 / report.period_s
    assert report.power_W == pytest.approx(report.energy_J * report.throughput_per_s)
    assert report.area_mm2 == pytest.approx(85.42, rel=1e-3)
    assert report.macs == sum(layer.macs for layer in LAYERS)


def test_halving_the_arrays_speed_halves_throughput() -> None:
    fast, slow = isaac(), isaac(costs=changed(costs("isaac"), cycle_s=200e-9))
    assert slow.period_s == pytest.approx(2 * fast.period_s)
    assert slow.latency_s == pytest.approx(2 * fast.latency_s)


def test_a_full_chip_draws_its_peak_power() -> None:
    """16 x 126 outputs on 128 x 128 inputs fill all arrays: events times energies are the table's power."""
    hardware = chip("isaac").replace({"adc.offset_correction": "digital"})
    full = [ppa.LayerShape("full", 1, 16 * 126, 128 * 128, vectors=1000)]
    report = ppa.estimate_layers(full, hardware, costs=costs("isaac"))
    assert (report.chips, report.arrays, report.utilisation) == (1, 16128, 1.0)
    peak = ppa.peak(hardware, costs("isaac"))
    watts = {row.component: row.power_mW * 1e-3 for row in peak.rows}
    drawn = {part.name: part.energy_J / report.period_s for part in report.components}
    for name in ("adc", "dac", "sample_hold", "array", "shift_add", "tile_output_register"):
        assert drawn[name] == pytest.approx(watts[name], rel=1e-6)
    assert report.gops == pytest.approx(peak.gops)


def test_a_full_node_of_puma_draws_its_peak_power() -> None:
    full = [ppa.LayerShape("full", 1, 16 * 138, 128 * 128, vectors=1000)]
    report = ppa.estimate_layers(full, chip("puma"), costs=costs("puma"))
    assert report.arrays == report.arrays_available
    watts = {row.component: row.power_mW * 1e-3 for row in ppa.peak(chip("puma"), costs("puma")).rows}
    drawn = {part.name: part.energy_J / report.period_s for part in report.components}
    for name in ("mvmu", "core_control", "register_file", "attribute_memory", "receive_buffer"):
        assert drawn[name] == pytest.approx(watts[name], rel=1e-6)


def test_copies_balance_the_layers() -> None:
    once, many = isaac(replicate=False), isaac()
    assert [row.copies for row in once.rows[:-1]] == [1, 1, 1]
    assert many.period_s < once.period_s / 100
    assert many.arrays <= many.arrays_available == 16128
    assert many.rows[0].copies > many.rows[1].copies > many.rows[2].copies == 1
    assert once.energy_J == pytest.approx(many.energy_J, rel=0.02)  # only hops differ


@given(
    st.lists(
        st.builds(Job, st.integers(1, 9), st.integers(1, 60), st.just(1.0), st.booleans()),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 60),
)
def test_no_shorter_period_fits(jobs: list[Job], spare: int) -> None:
    arrays = sum(job.arrays for job in jobs) + spare
    copies = replicate(jobs, arrays)
    assert sum(job.arrays * n for job, n in zip(jobs, copies, strict=True)) <= arrays
    period = max(job.time(n) for job, n in zip(jobs, copies, strict=True))
    slowest = [1 if job.sequential else -(-job.vectors // max(1, int(period) - 1)) for job in jobs]
    possible = period > 1 and all(job.time(n) < period for job, n in zip(jobs, slowest, strict=True))
    assert not possible or sum(j.arrays * n for j, n in zip(jobs, slowest, strict=True)) > arrays


def test_replicate_needs_room_for_one_copy() -> None:
    with pytest.raises(MappingError, match="need 4 arrays, but there are 3"):
        replicate([Job(4, 1, 1.0, False)], 3)
    with pytest.raises(MappingError, match="use more chips"):
        isaac([ppa.LayerShape("big", 1, 25088, 4096)], chips=1)


def test_packing_passes() -> None:
    assert pack([3, 3, 3], 10) == (((0, 3), (1, 3), (2, 3)),)
    assert pack([3, 9, 2], 10) == (((0, 3),), ((1, 9),), ((2, 2),))
    assert pack([25, 4], 10) == (((0, 10),), ((0, 10),), ((0, 5), (1, 4)))


def test_latency_of_a_chain() -> None:
    assert pipeline_latency([10.0], [1.0], [0.0]) == 11
    assert pipeline_latency([10.0, 10.0], [1.0, 1.0], [0.0, 1.0]) == 22
    assert pipeline_latency([10.0, 10.0], [1.0, 1.0], [0.0, 0.1]) == 13


def test_reloads_cost_memory_traffic_and_writes_that_a_batch_shares() -> None:
    big = [ppa.LayerShape(f"l{i}", 1, 4096, 4096) for i in range(4)]
    one = isaac(big, when_too_large="reload")
    ten = isaac(big, when_too_large="reload", batch=10)
    weights = 4 * 4096 * 4096 * 2
    waiting = 3 * 2 * 4096 * 2
    moved = {part.event: part.events for part in one.components}
    assert moved["dram_byte"] == weights + waiting
    assert moved["cell_write"] == pytest.approx(sum(r.utilisation * r.arrays * 16384 for r in one.rows))
    shared = {part.event: part.events for part in ten.components}
    assert shared["dram_byte"] == pytest.approx(weights / 10 + waiting)
    assert ten.energy_J < one.energy_J
    assert ten.period_s < one.period_s
    assert not one.uncosted
    assert "4 passes" in " ".join(one.notes)


def test_sequential_layers_are_not_copied() -> None:
    layers = [ppa.LayerShape("hh", 1, 512, 128, vectors=100, sequential=True, window=0.0)]
    report = isaac(layers)
    assert report.rows[0].copies == 1
    assert report.period_s == pytest.approx(100 * 1.6e-6)


def test_layers_with_chips_of_their_own() -> None:
    coarse = chip("isaac").replace({"adc.bits": 6})
    layers = [ppa.LayerShape("a", 1, 10, 100), ppa.LayerShape("b", 1, 10, 100, hardware=coarse)]
    report = isaac(layers)
    a, b, _ = report.rows
    assert b.energy_aJ["adc"] / a.energy_aJ["adc"] == pytest.approx(1.20 / 1.67)


def test_generic_costs_say_so() -> None:
    bare = Hardware.model_validate({"weights": {"bits": 1, "encoding": "xnor"}, "inputs": {"bits": 1}})
    report = ppa.estimate_layers(LAYERS, bare)
    assert "the chip states no costs" in report.notes[0]
    assert not report.uncosted
    digital = Hardware.model_validate(
        {"array": {"readout": "digital"}, "weights": {"bits": 4, "cell_bits": 1}}
    )
    assert not ppa.estimate_layers(LAYERS, digital).uncosted
    plain = Hardware.model_validate({"device": {"g_max_S": 1e-5}})
    assert ppa.estimate_layers(LAYERS, plain).energy_J > 0


def test_the_rest_of_a_macro_is_the_librarys() -> None:
    """Its own parts as they are, and for events they leave out a share of the generic tile's 96 arrays."""
    report = ppa.estimate_layers(LAYERS, chip("xnor_rram"))
    assert not report.uncosted
    assert "the published design leaves them out" in report.notes[0]
    names = {part.name for part in report.components}
    own = set(costs("xnor_rram").components)
    assert own < names
    assert all(name.endswith(" (library)") for name in names - own)
    buffers = next(part for part in report.components if part.name == "buffer (library)")
    alone = ppa.cost("sram_buffer", {"kilobytes": 64.0, "node_nm": 65.0}, {}).area_um2 * 1e-6
    assert buffers.area_mm2 == pytest.approx(report.tiles * alone / 96)
    macro = [row.component for row in ppa.peak(chip("xnor_rram")).rows]
    assert macro == list(costs("xnor_rram").components)


@pytest.mark.parametrize("name", ["conv_sram", "xnor_sram"])
def test_sram_macros_reload_what_they_cannot_hold(name: str) -> None:
    """Two layers of which neither fits: passes, every weight from memory once, results between them twice."""
    layers = [ppa.LayerShape("a", 1, 300, 600, vectors=4), ppa.LayerShape("b", 1, 10, 1200)]
    report = ppa.estimate_layers(layers, chip(name))
    assert (report.mode, report.chips, report.tiles) == ("reload", 1, 1)
    assert report.passes == sum(row.arrays for row in report.rows)
    moved = {part.event: part.events for part in report.components}
    weights = (300 * 600 + 10 * 1200) / 8
    waiting = 2 * 300 * 4 * chip(name).inputs.bits / 8
    assert moved["dram_byte"] == weights + waiting
    assert moved["cell_write"] == 2 * (300 * 600 + 10 * 1200)  # two cells, or two word lines, a weight
    many = ppa.estimate_layers(layers, chip(name), when_too_large="chips")
    assert (many.mode, many.passes) == ("pipelined", 1)
    check_sums(report)


def test_small_networks_stay_in_an_sram_macro() -> None:
    report = ppa.estimate_layers([ppa.LayerShape("a", 1, 16, 64, vectors=3)], chip("conv_sram"))
    assert (report.mode, report.passes) == ("pipelined", 1)
    assert {part.event: part.events for part in report.components}["dram_byte"] == 0


def test_pulses_cost_what_they_are_on_the_mean() -> None:
    """Half of xnor's word lines are driven, and what `tile.activity` says elsewhere."""
    layers = [ppa.LayerShape("a", 1, 8, 64)]
    lines = {}
    for share in (None, 1.0, 0.25):
        report = ppa.estimate_layers(
            layers, chip("xnor_rram"), costs=changed(costs("xnor_rram"), activity=share)
        )
        lines[share] = report.rows[0].energy_aJ["word_lines"]
    assert lines[None] * 2 == pytest.approx(lines[1.0], abs=2)
    assert lines[0.25] * 4 == pytest.approx(lines[1.0], abs=4)
    peak = ppa.peak(chip("xnor_rram"), changed(costs("xnor_rram"), activity=1.0))
    halves = {row.component: row.power_mW for row in ppa.peak(chip("xnor_rram")).rows}
    assert halves["array"] * 2 == pytest.approx({r.component: r.power_mW for r in peak.rows}["array"])


def test_what_no_component_accounts_for_is_listed() -> None:
    report = isaac([ppa.LayerShape("a", 1, 10, 100, vector_ops=7)])
    assert report.uncosted == {"vector_op": 7}
    assert "no component accounts for it: 7 vector_op" in str(report)


def test_text_and_table() -> None:
    report = isaac()
    text = str(report)
    assert "adc takes" in text
    assert "x adc of 1.56 pJ" in text
    assert "1 MAC = 2 operations of 16 x 16 bits" in " ".join(text.split())
    assert list(report.frame()["layer"]) == ["conv1", "conv2", "fc", "(always on)"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"when_too_large": "wait"}, "use 'chips' or 'reload'"),
        ({"batch": 0}, "at least 1"),
        ({"layers": []}, "no layer runs on arrays"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        isaac(options.pop("layers", LAYERS), **options)


def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match="layer 'a': vectors = 0"):
        ppa.LayerShape("a", 1, 1, 1, vectors=0)
    with pytest.raises(InputError, match="window = 2"):
        ppa.LayerShape("a", 1, 1, 1, window=2.0)

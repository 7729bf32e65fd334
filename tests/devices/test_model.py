"""A device in an array: what the layers call, and the defects seen in other simulators."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import imcsim.devices as devices
from imcsim.devices import DeviceCard, DeviceModel, DeviceValidityWarning, load, programming_spec
from imcsim.devices.programming import NoProgramming, PolynomialProgramming
from imcsim.errors import DeviceError

Z = 5.0
NAMES = devices.available()


def model_of(name: str, **options) -> DeviceModel:
    card = load(name)
    window = card.conductance.window()
    return DeviceModel(card, **{"g_max_S": window.g_max_S, "g_min_S": window.g_min_S, **options})


def target_of(model: DeviceModel, shape=(1, 2, 2, 40, 30)) -> torch.Tensor:
    level = torch.arange(math.prod(shape)).reshape(shape) % 2
    return (model.window.g_min_S + model.window.span_S * level).to(torch.float32)


@pytest.mark.parametrize("name", NAMES)
def test_contract_of_every_card(name: str, rng_for, other_rng_for) -> None:
    model = model_of(name)
    target = target_of(model)
    kept = target.clone()
    state = model.program(target, rng_for)
    g = state["conductance_S"]
    assert torch.equal(target, kept)
    assert g.dtype == torch.float32
    assert all(t.shape == target.shape for t in state.values())
    assert torch.equal(g, target) == model.is_deterministic
    assert bool((g >= 0).all())
    assert all(torch.equal(state[k], v) for k, v in model.program(target, rng_for).items())
    if not model.is_deterministic:
        assert not torch.equal(g, model.program(target, other_rng_for)["conductance_S"])
    # no buffer for what is off
    assert (set(state) == {"conductance_S"}) == (model.drift is None)
    # age 0 is exactly as programmed; age is absolute, a function of time alone
    assert torch.equal(model.aged(state, 0, rng_for), g)
    later = model.aged(state, 1e5, rng_for)
    assert torch.equal(later, g) != model.has_drift
    assert torch.equal(later, model.aged(state, 1e5, rng_for))
    assert later.dtype == torch.float32
    assert bool((later >= 0).all())
    sigma = model.read_sigma_S(g, 0.0)
    assert (sigma is not None) == model.has_read_noise
    if sigma is not None:
        assert sigma.shape == g.shape
        assert bool((sigma >= 0).all())
        assert bool(torch.isfinite(sigma).all())
    assert (not model.effects()) == (
        model.is_deterministic and not model.has_drift and not model.has_read_noise
    )


@pytest.mark.parametrize("name", NAMES)
def test_age_is_continuous_at_zero(name: str, rng_for) -> None:
    model = model_of(name)
    state = model.program(target_of(model), rng_for)
    moved = model.aged(state, 1e-9, rng_for) - state["conductance_S"]
    assert float(moved.abs().max()) <= 1e-4 * model.window.g_max_S


def test_ideal_and_digital_cells_change_nothing() -> None:
    for name in ("ideal", "sram_digital"):
        model = model_of(name)
        assert model.is_deterministic
        assert not model.has_drift
        assert not model.has_read_noise
        assert model.effects() == []


def test_float64_targets_become_float32_and_are_not_aliased(rng_for) -> None:
    model = model_of("ideal")
    target = torch.rand(3, 4, dtype=torch.float64)
    assert model.program(target, rng_for)["conductance_S"].dtype == torch.float32
    target32 = target.float()
    assert model.program(target32, rng_for)["conductance_S"].data_ptr() != target32.data_ptr()


def test_override_replaces_error_and_spread(rng_for) -> None:
    for name in ("pcm_gst", "hfox_binary", "sram_8t_current"):
        assert not model_of(name).is_deterministic
        assert model_of(name, programming_override=programming_spec("none")).is_deterministic
    model = model_of("hfox_yao2020", programming_override=programming_spec("range", 0.02))
    target = torch.full((200, 200), 10e-6)
    error = (model.program(target, rng_for)["conductance_S"] - target).double()
    want = 0.02 * 18e-6
    assert abs(float(error.std()) - want) <= Z * want / math.sqrt(2 * 40_000)
    assert programming_spec("card") is None
    assert isinstance(programming_spec("none"), NoProgramming)


@pytest.mark.parametrize(
    ("kind", "sigma", "words"),
    [
        ("gauss", 0.1, "card, none, range or proportional"),
        ("range", None, "needs sigma"),
        ("range", -0.1, r"given -0\.1"),
        ("proportional", math.nan, "given nan"),
        ("none", 0.1, "takes no sigma"),
    ],
)
def test_bad_overrides(kind, sigma, words) -> None:
    with pytest.raises(DeviceError, match=words):
        programming_spec(kind, sigma)


def test_faults_are_drawn_and_stay(rng_for) -> None:
    model = model_of("pcm_gst", stuck_on=0.02, stuck_off=0.03)
    assert not model.is_deterministic
    state = model.program(torch.full((400, 500), 10e-6), rng_for)
    n = 200_000
    on = state["conductance_S"] == model.window.g_max_S
    off = state["conductance_S"] == model.window.g_min_S
    for hits, p in ((int(on.sum()), 0.02), (int(off.sum()), 0.03)):
        assert abs(hits - n * p) <= Z * math.sqrt(n * p * (1 - p)) + 1
    assert torch.equal(state["frozen"], on | off)
    later = model.aged(state, 1e6, rng_for)
    assert torch.equal(later[on | off], state["conductance_S"][on | off])
    assert bool((later[~(on | off)] != state["conductance_S"][~(on | off)]).any())
    ideal = model_of("ideal", stuck_on=0.02)
    assert set(ideal.program(torch.zeros(10, 10), rng_for)) == {"conductance_S"}
    assert ideal.effects() == ["stuck_on 0.02"]


def test_faults_do_not_move_the_other_draws(rng_for) -> None:
    target = torch.full((50, 50), 10e-6)
    clean = model_of("pcm_gst").program(target, rng_for)
    faulty = model_of("pcm_gst", stuck_on=0.1).program(target, rng_for)
    healthy = ~faulty["frozen"]
    assert torch.equal(clean["conductance_S"][healthy], faulty["conductance_S"][healthy])
    assert torch.equal(clean["drift_nu"], faulty["drift_nu"])


def small_card(**blocks) -> DeviceCard:
    where = {"source": "t", "confidence": "C"}
    source = {"authors": "t", "venue": "t", "year": 2025}
    data = {
        "schema": 1,
        "name": "t",
        "title": "t",
        "technology": "rram",
        "confidence": "C",
        "sources": {"t": source},
    }
    return DeviceCard.parse({**data, **{k: {**v, **where} for k, v in blocks.items()}}, "t")


def test_dead_lines_carry_no_current_at_any_age(rng_for) -> None:
    card = small_card(
        conductance={"g_max_S": 1e-5},
        faults={"dead_rows": 0.1, "dead_cols": 0.1},
        drift={
            "equation": "relaxation_log",
            "mean_slope_S": 1e-7,
            "std_slope_S": 0,
            "std_offset_S": 0,
            "t0_s": 1e-3,
        },
    )
    model = DeviceModel(card, g_max_S=1e-5, g_min_S=0.0)
    state = model.program(torch.full((100, 100), 1e-5), rng_for)
    dead = state["conductance_S"] == 0
    assert bool(dead.any())
    assert bool((model.aged(state, 1e6, rng_for)[dead] == 0).all())
    assert model.effects()[:2] == ["dead_rows 0.1", "dead_cols 0.1"]


def test_discrete_states(rng_for) -> None:
    card = small_card(conductance={"g_max_S": 3e-6, "levels": 4, "snap": True})
    model = DeviceModel(card, g_max_S=3e-6, g_min_S=0.0)
    got = model.program(torch.tensor([[0.4e-6, 1.6e-6, 2.9e-6]]), rng_for)["conductance_S"]
    torch.testing.assert_close(got, torch.tensor([[0.0, 2e-6, 3e-6]]))
    assert not model.is_deterministic
    model.check_levels(4)
    with pytest.raises(DeviceError, match=r"has 4 states, but cells of 8 levels.*cell_bits <= 2"):
        model.check_levels(8)
    listed = small_card(conductance={"g_max_S": 3e-6, "levels_S": [0.0, 1e-6, 3e-6], "snap": True})
    got = DeviceModel(listed, g_max_S=3e-6, g_min_S=0.0).program(torch.tensor([[1.9e-6]]), rng_for)
    assert float(got["conductance_S"]) == pytest.approx(1e-6)
    model_of("hfox_yao2020").check_levels(8)
    with pytest.raises(DeviceError, match="2 states"):
        model_of("hfox_binary").check_levels(4)


def test_temperature_speeds_up_drift_by_the_arrhenius_factor(rng_for) -> None:
    drift = {"equation": "power_law", "nu_mean": 0.05, "activation_energy_eV": 0.8}
    card = small_card(conductance={"g_max_S": 1e-5}, drift=drift)
    cold, hot = (DeviceModel(card, g_max_S=1e-5, g_min_S=0.0, temperature_K=t) for t in (300.0, 360.0))
    state = cold.program(torch.full((2, 2), 1e-5), rng_for)
    assert card.drift is not None
    factor = card.drift.acceleration(360.0)
    assert factor > 100
    torch.testing.assert_close(hot.aged(state, 10.0, rng_for), cold.aged(state, 10.0 * factor, rng_for))
    assert cold.notes() == []
    assert "no activation energy" in model_of("pcm_gst", temperature_K=350.0).notes()[0]


def test_telegraph_noise_in_a_card(rng_for) -> None:
    amplitude = {"equation": "proportional", "sigma_norm": 0.1}
    noise = {"telegraph": {"amplitude": amplitude, "probability": 0.5, "switch_time_s": 1.0}}
    model = DeviceModel(small_card(read_noise=noise), g_max_S=1.0, g_min_S=0.0)
    assert model.has_drift
    assert model.is_deterministic
    state = model.program(torch.full((40, 50), 0.5), rng_for)
    values = model.aged(state, 1e9, rng_for).unique()
    torch.testing.assert_close(values, torch.tensor([0.45, 0.5, 0.55]))


def test_beyond_the_last_table_warns_and_holds(rng_for) -> None:
    model = model_of("neurram_wan2022")
    state = model.program(torch.full((20, 20), 20e-6), rng_for)
    last = model.aged(state, 172_799.0, rng_for)
    with pytest.warns(DeviceValidityWarning, match=r"neurram_wan2022.*known up to 172799 s"):
        year = model.aged(state, 3.15e7, rng_for)
    assert torch.equal(year, last)


# ---- normalised conductances ----


def test_ideal_card_works_without_siemens(rng_for) -> None:
    model = model_of("ideal", programming_override=programming_spec("range", 0.05))
    assert model.window.normalised
    error = model.program(torch.full((200, 200), 0.5), rng_for)["conductance_S"].double() - 0.5
    assert abs(float(error.std()) - 0.05) <= Z * 0.05 / math.sqrt(80_000)


@pytest.mark.parametrize(
    "block",
    [
        {"programming": {"equation": "constant", "sigma_S": 1e-7}},
        {"programming": {"equation": "polynomial", "coefficients_S": [1e-7], "g_ref_S": 1.0}},
        {
            "drift": {
                "equation": "power_law",
                "nu_mean": {"slope": 0, "offset": 0, "low": 0, "high": 1},
                "g_ref_S": 1.0,
            }
        },
        {"read_noise": {"white": {"amplitude": {"equation": "cmo", "k_S": 1e-8}}}},
    ],
)
def test_equations_in_siemens_ask_for_g_max(block) -> None:
    card = small_card(**block)
    with pytest.raises(DeviceError, match=r"siemens.*g_max_S"):
        DeviceModel(card, g_max_S=1.0, g_min_S=0.0)
    DeviceModel(card, g_max_S=1e-5, g_min_S=0.0)
    if "programming" in block:  # an override that needs none makes it usable
        DeviceModel(card, g_max_S=1.0, g_min_S=0.0, programming_override=NoProgramming())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"g_min_S": 30e-6}, "g_min_S < g_max_S"),
        ({"stuck_on": 1.2}, r"stuck_on = 1\.2"),
        ({"stuck_on": 0.6, "stuck_off": 0.6}, "above 1"),
        ({"temperature_K": 0.0}, r"temperature_K = 0\.0"),
        ({"g_max_S": 60e-6}, r"holds up to 2\.5e-05 S, but g_max_S = 6e-05"),
    ],
)
def test_bad_options(options, words) -> None:
    with pytest.raises(DeviceError, match=words):
        model_of("pcm_gst", **options)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_bad_ages(seconds: float, rng_for) -> None:
    model = model_of("pcm_gst")
    state = model.program(torch.zeros(2, 2), rng_for)
    with pytest.raises(DeviceError, match="seconds"):
        model.aged(state, seconds, rng_for)


# ---- defects seen in other simulators ----


@pytest.mark.parametrize(("name", "reference_S"), [("neurram_wan2022", 40e-6), ("pcm_gst", 25e-6)])
def test_defect_noise_scaled_by_a_wrong_g_max(name: str, reference_S: float) -> None:
    """The error of a cell is that measured at its conductance, whatever g_max the array uses."""
    card = load(name)
    programming = card.programming
    assert isinstance(programming, PolynomialProgramming)
    g = torch.tensor([5e-6, 12.5e-6], dtype=torch.float64)
    full, part = (DeviceModel(card, g_max_S=m, g_min_S=0.0) for m in (reference_S, 12.5e-6))
    a, b = (m.programming.sigma_of(g, m.window) for m in (full, part))
    assert torch.equal(a, b)
    r = g / reference_S
    want = sum(c * r**i for i, c in enumerate(programming.coefficients_S))
    torch.testing.assert_close(a, want)


@pytest.mark.parametrize("name", NAMES)
def test_defect_t_zero_raises(name: str, rng_for) -> None:
    model = model_of(name)
    state = model.program(target_of(model), rng_for)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.aged(state, 0, rng_for)
        model.aged(state, 0.0, rng_for)
        model.read_sigma_S(state["conductance_S"], 0.0)


def test_defect_default_picks_the_quieter_device(rng_for) -> None:
    """The plain name is the 2 % device; the ten times quieter one has a name of its own."""
    target = torch.full((100, 100), 50e-6)
    plain, fine = (
        float((model_of(n).program(target, rng_for)["conductance_S"] - target).std())
        for n in ("cmo_hfox", "cmo_hfox_fine")
    )
    assert plain == pytest.approx((0.0112185391 + 0.01129027418 * 50) * 1e-6, rel=0.05)
    assert 9 < plain / fine < 12


def test_defect_global_random_state_is_neither_read_nor_moved(rng_for) -> None:
    model = model_of("pcm_gst", stuck_on=0.01)
    target = target_of(model)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    state = model.program(target, rng_for)
    aged = model.aged(state, 1e4, rng_for)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = model.program(target, rng_for)
    assert torch.equal(aged, model.aged(again, 1e4, rng_for))

"""Providers with device profiles: what a scenario takes from them, running costs, budgets, and other devices in every episode."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.env.actions import DesignState
from qumos_env.env.design_env import DesignEnv
from qumos_env.env.observation import provider_figures
from qumos_env.errors import QumosError
from qumos_env.evaluation.costs import running_costs
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.hardware.profile import list_profiles, load_profile, noise_spec
from qumos_env.scenario import Scenario, load_scenario, parse_scenario
from qumos_env.scenario.providers import NoiseProfile, Provider

DESIGN = ry_cz_ry(contiguous(4, 2), ("aurora", "borealis"), 1)


def tiny(devices: tuple[str | None, ...] = ("ibm-heron", "ionq-aria"), **sections: Any) -> dict[str, Any]:
    names = ("aurora", "borealis", "cirrus")
    providers = [{"name": name} | ({"device": device} if device else {}) for name, device in zip(names, devices, strict=False)]
    data: dict[str, Any] = {
        "name": "tiny",
        "title": "tiny",
        "data": {"source": "iris", "reducer": "none"},
        "draws": {"count": 2, "train_rows": 20, "tuning_rows": 12},
        "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 4, "max_gates": 24},
        "model": {"steps": 3},
        "threat": {"steps": 3, "tiers": ["frozen-head"]},
        "providers": providers,
    }
    return data | sections


def play(scenario: Scenario, seed: int) -> DesignState:
    generator, state = np.random.default_rng(seed), DesignState(scenario)
    while not state.done:
        valid = np.flatnonzero(state.mask())
        assert len(valid)
        state.apply(int(generator.choice(valid)))
    return state


@pytest.mark.parametrize("name", list_profiles())
def test_a_provider_takes_what_its_device_is(name: str) -> None:
    profile, provider = load_profile(name), Provider(name="aurora", device=name)
    assert provider.max_qubits == profile.n_qubits and provider.mid_circuit_measurement == profile.mid_circuit_measurement
    assert provider.noise == NoiseProfile.of(noise_spec(profile))
    assert Provider.model_validate(json.loads(provider.model_dump_json())) == provider
    narrow = Provider(name="aurora", device=name, max_qubits=2, noise=NoiseProfile())
    assert narrow.max_qubits == 2 and narrow.noise == NoiseProfile()
    assert Provider.model_validate(json.loads(narrow.model_dump_json())) == narrow


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"device": "ibm-herron"}, "did you mean ibm-heron"),
        ({"device": "iqm-radiance", "max_qubits": 21}, "iqm-radiance has 20 qubits"),
        ({"device": "quera-aquila"}, "runs no gate circuits"),
        ({"device": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_device_that_does_not_fit_is_named(fields: dict[str, Any], words: str) -> None:
    data = tiny()
    data["providers"][0] |= fields
    with pytest.raises(QumosError, match=words) as caught:
        parse_scenario(data)
    assert "\n" not in str(caught.value)


def test_a_profile_of_ones_own_lies_beside_the_scenario(tmp_path: Path) -> None:
    """And the scenario's hash changes with the file."""
    source = Path(load_profile.__code__.co_filename).parent / "profiles" / "ibm-heron.toml"
    mine = tmp_path / "mine.toml"
    mine.write_text(source.read_text(encoding="utf-8").replace('"ibm-heron"', '"mine"'), encoding="utf-8")
    text = ['name = "own"', 'title = "own"', "[data]", 'source = "iris"', 'reducer = "none"', "[design]", "qubits = 4"]
    text += ["[[providers]]", 'name = "aurora"', 'device = "mine.toml"']
    (tmp_path / "own.toml").write_text("\n".join(text), encoding="utf-8")
    before = load_scenario(tmp_path / "own.toml")
    hash_before = before.hash
    assert before.providers[0].profile.name == "mine"
    mine.write_text(mine.read_text(encoding="utf-8").replace("per_second = 1.60", "per_second = 2.60"), encoding="utf-8")
    assert parse_scenario(before.model_dump(mode="json")).hash != hash_before


def test_running_costs_by_hand() -> None:
    """Two parts in parallel: the slowest provider decides, dollars add up; per second here, per task and shot there."""
    scenario = parse_scenario(tiny(budget={"rows": 7, "shots": 50}))
    found = running_costs(DESIGN, scenario, quick=False)
    assert found is not None
    heron, aria = load_profile("ibm-heron"), load_profile("ionq-aria")
    per_shot = {}
    for profile in (heron, aria):
        per_shot[profile.name] = profile.times.readout + profile.times.reset
    # RY, CZ, RY on two qubits: far shorter than readout and reset on a superconducting device.
    busy = 7 * 50 * per_shot["ibm-heron"]
    ions = 7 * (aria.price.per_task + 50 * aria.price.per_shot)
    least = busy * heron.price.per_second + ions
    assert least < found.query_dollars < least * 1.05
    assert found.query_seconds > max(heron.queue.mean, aria.queue.mean)
    assert 0 < found.error < 0.2 and found.native_two_qubit == 2 and 3 <= found.depth <= 9
    assert found.training_dollars > 10 * found.query_dollars
    assert running_costs(DESIGN, parse_scenario(tiny((None, "ideal"))), quick=True) is None


def test_an_evaluation_reports_them_and_a_reward_can_charge_them() -> None:
    reward = {"accuracy": 0.5, "theft": 0.5, "cost": 0.5, "cost_budget": 100.0, "cost_unit": "dollars"}
    scenario = parse_scenario(tiny(reward=reward))
    search, test = (Evaluator(scenario).evaluate(DESIGN, rows=rows) for rows in ("search", "test"))  # type: ignore[arg-type]
    assert search.cost == search.running["query_dollars"] and search.rewards["cost"] == pytest.approx(-0.5 * search.cost / 100)
    assert test.to_dict()["running.native_two_qubit"] == search.running["native_two_qubit"] == 2
    assert not Evaluator(parse_scenario(tiny((None, "ideal")))).evaluate(DESIGN).running
    with pytest.raises(QumosError, match="need a device for every provider, aurora has none"):
        parse_scenario(tiny((None, "ideal"), reward=reward))


@pytest.mark.parametrize("seed", range(4))
def test_play_stays_within_a_tight_budget(seed: int) -> None:
    """Whatever is valid leads to a design that can be paid, and the mask bites."""
    shots = {"shots": [100, 1000, 10_000]}
    design = tiny()["design"] | shots
    free = parse_scenario(tiny(design=design))
    tight = parse_scenario(tiny(design=design, budget={"dollars": 60.0, "shots": 1000}))
    budget = tight.cost_limits
    designs = [play(tight, [seed, number]).design() for number in range(3)]  # type: ignore[arg-type]
    for one in designs:
        assert budget.broken_by(one) is None
        assert running_costs(one, tight, quick=True).query_dollars <= 60.0  # type: ignore[union-attr]
    dear = [play(free, [seed, number]).design() for number in range(8)]  # type: ignore[arg-type]
    over = [one for one in dear if not budget.allows(one)]
    assert over
    with pytest.raises(QumosError, match=r"100 rows cost .* dollars, budget.dollars is 60"):
        tight.check_design(over[0])


def test_gates_are_masked_one_by_one_where_the_budget_is_nearly_spent() -> None:
    """On ions a gate takes longer than the readout. What the budget masks would break it, and nothing else is masked."""
    rules = {"qubits": 4, "max_parts": 1, "max_part_qubits": 4, "max_gates": 60, "vocabulary": "gates"}
    free = parse_scenario(tiny(("ionq-aria",), design=rules))
    cost = running_costs(ry_cz_ry((0,) * 4, ("aurora",), 1), free, quick=True)
    assert cost is not None
    tight = parse_scenario(tiny(("ionq-aria",), design=rules, budget={"seconds": cost.query_seconds + 1e-3}))
    budget, generator, masked = tight.cost_limits, np.random.default_rng(0), 0
    state, other = DesignState(tight), DesignState(free)
    for _ in range(14):
        mask = state.mask()
        if state.phase == "gates":
            for action in np.flatnonzero(other.mask()):
                grown = DesignState(free).replay([*other.history, int(action)]).design()
                assert mask[action] == budget.allows(grown)
            masked += int((other.mask() > mask).sum())
        entangling = [action for action in np.flatnonzero(mask) if state.table.actions[action].gate == "cx"]
        action = int(generator.choice(entangling or np.flatnonzero(mask[: state.table.finish])))
        state.apply(action)
        other.apply(action)
    assert masked > 10


def test_a_budget_that_no_design_can_meet_is_refused_when_the_scenario_loads() -> None:
    with pytest.raises(QumosError, match=r"budget: no design can meet it: at least .* dollars"):
        parse_scenario(tiny(budget={"dollars": 1e-6}))
    least, _ = parse_scenario(tiny(budget={"dollars": 1e6})).cost_limits.least()
    parse_scenario(tiny(budget={"dollars": least * 1.0001}))


def test_the_agent_sees_its_providers() -> None:
    figures = provider_figures(Provider(name="aurora", device="ibm-heron"))
    profile = load_profile("ibm-heron")
    assert figures.dtype == np.float32 and figures.shape == (10,) and figures.min() >= 0 and figures.max() <= 1
    assert figures[9] == pytest.approx(profile.queue.median / (profile.queue.median + 600))
    assert len({provider_figures(Provider(name="aurora", device=name)).tobytes() for name in list_profiles()}) == len(list_profiles())


def test_other_providers_in_an_episode() -> None:
    """Seeded, visible, gone at the next reset; the action space stays, masks and costs follow the device."""
    env = DesignEnv(tiny())
    usual, info = env.reset(seed=0)
    assert info["devices"] == ["ibm-heron", "ionq-aria"]
    found = []
    for _ in range(2):
        observation, info = env.reset(seed=5, options={"providers": "random"})
        assert env.observation_space.contains(observation)
        found.append((observation["observations"].tobytes(), tuple(info["devices"])))
    assert found[0] == found[1]
    drawn = {tuple(env.reset(options={"providers": "random"})[1]["devices"]) for _ in range(12)}
    assert len(drawn) > 4
    named, info = env.reset(options={"providers": ["ideal", "ideal"]})
    assert info["devices"] == ["ideal", "ideal"] and not np.array_equal(named["observations"], usual["observations"])
    table = env.table
    for action in [*table.opening((0, 0, 1, 1), (0, 1)), 0]:
        env.step(action)
    while env.state.phase != "done":
        finish = env.state.mask()[table.finish]
        *_, info = env.step(table.finish if finish else int(np.flatnonzero(env.state.mask())[0]))
    assert info["evaluation"]["running.query_dollars"] == 0 and info["devices"] == ["ideal", "ideal"]
    np.testing.assert_array_equal(env.reset()[0]["observations"], usual["observations"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": "random"}, "did you mean providers"),
        ({"providers": "ideal"}, "'random' or a list"),
        ({"providers": 5}, "'random' or a list"),
        ({"providers": {"aurora": "ideal", "borealis": "ideal"}}, "'random' or a list"),
        ({"providers": np.array(["ideal", "ideal"])}, "'random' or a list"),
        ({"providers": ["ideal"]}, "2 devices needed, one per provider, got 1"),
        ({"providers": ["ideal", "ibm-herron"]}, "did you mean ibm-heron"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(QumosError, match=words):
        DesignEnv(tiny()).reset(options=options)

"""Queries of a customer: the fields of the threat, the term of extraction, and the attack that sets answers against loot."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planted import HOLDS_PARITY, gates, modest, named, parity_file, planted_scenario
from sklearn.covariance import LedoitWolf
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

from qumos_env.attacks.confidentiality import queries
from qumos_env.attacks.confidentiality.queries import Point, ask, customer_models, meeting, most_real, points, thief_models
from qumos_env.attacks.confidentiality.stealing import Scene
from qumos_env.attacks.results import RELEVANT
from qumos_env.design import Design
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.queries import synthetic_rows
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.surrogates.models import Ground, stacked
from qumos_env.evaluation.thief import Thief
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.scenario import Scenario, list_scenarios, load_scenario

WEIGHTS = {"accuracy": 0.5, "theft": 0.3, "extraction": 0.2}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Scenario]:
    """Scenarios on planted parities, which a kernel machine learns from some dozen answers."""
    path = parity_file(tmp_path_factory.mktemp("data"))

    def made(**sections: dict[str, Any]) -> Scenario:
        few = {"count": 3, "thief_rows_per_class": 4}
        return planted_scenario(path, **{"draws": few, "reward": WEIGHTS, **sections})

    return made


@pytest.fixture(scope="module")
def victim(make: Callable[..., Scenario]) -> Service:
    """A service whose parity aurora holds."""
    return Service.train(Workload(make()), HOLDS_PARITY, seed=5)


@pytest.fixture(scope="module")
def scene(victim: Service) -> Scene:
    return Scene(victim)


# --- the fields ---


def test_silence_about_queries_leaves_the_hash_alone(make: Callable[..., Scenario]) -> None:
    """Nothing of them is dumped where nothing is said, in no scenario but those that are about queries."""
    spelled = make(threat={"queries": 0, "query_rows": "real", "answers": "probabilities"})
    assert spelled.hash == make().hash
    assert not {"queries", "query_rows", "answers"} & set(make().model_dump(mode="json")["threat"])
    about = {name for name in list_scenarios() if "answers" in load_scenario(name).model_dump()["threat"]}
    assert {"extraction-hyperplanes", "extraction-parity"} <= about < set(list_scenarios())
    told = make(threat={"queries": 12, "query_rows": "synthetic", "answers": "labels"})
    assert Scenario.model_validate(told.model_dump(mode="json")) == told


def test_more_queries_than_rows_are_refused_in_a_line(make: Callable[..., Scenario]) -> None:
    """Real ones are tuning rows; what the customer makes up has no such end."""
    with pytest.raises(QumosError, match=r"threat\.queries is 60, draws\.tuning_rows 60: .* at most 59 are possible, or query_rows"):
        make(threat={"queries": 60})
    assert make(threat={"queries": 60, "query_rows": "synthetic"}).queries == 60
    with pytest.raises(QumosError, match=r"draws\.tuning_rows is 3: half of them are queries, at least 2"):
        make(draws={"tuning_rows": 3})
    assert make(draws={"tuning_rows": 3}, reward={"accuracy": 0.5, "theft": 0.5, "extraction": 0.0}).queries == 1
    assert make().queries == 30 and make(draws={"tuning_rows": 300}).queries == 100


# --- rows that are asked ---


def test_synthetic_rows_are_gaussian() -> None:
    """Oracle: mean and the shrunken covariance of scikit-learn, on features of very different scale."""
    known = np.random.default_rng(0).normal(size=(9, 5)) @ np.random.default_rng(1).normal(size=(5, 5)) * 10.0 ** np.arange(-2, 3)
    known[:, 4] = 7.0
    drawn = synthetic_rows(known, 200_000, np.random.default_rng(2))
    scaler = StandardScaler().fit(known)
    scaled = scaler.transform(drawn)
    # Standard errors are some 1/sqrt(200,000) = .002.
    np.testing.assert_allclose(scaled.mean(axis=0)[:4], 0, atol=0.02)
    np.testing.assert_allclose(np.cov(scaled[:, :4].T), LedoitWolf().fit(scaler.transform(known)).covariance_[:4, :4], atol=0.02)
    assert synthetic_rows(known[:1], 3, np.random.default_rng(0)).shape == (3, 5)


def test_a_customer_never_asks_the_rows_that_choose_its_clone(make: Callable[..., Scenario]) -> None:
    """Real queries and the rest are the tuning rows; synthetic ones are no rows of the data at all."""
    real, made_up = Workload(make(threat={"queries": 20})), Workload(make(threat={"queries": 20, "query_rows": "synthetic"}))
    for workload in (real, made_up):
        asked, draws = workload.questions(0, "search"), workload.draws(0, "search")
        features = workload.protocol.dataset.features
        assert asked.raw.shape[:2] == (3, 20)
        for k, draw in enumerate(draws):
            queries_in_data = [np.flatnonzero((features == row).all(axis=1)) for row in asked.raw[k]]
            numbers = [int(found[0]) for found in queries_in_data if len(found)]
            expected = draw.rows.tuning if workload is real else []
            assert sorted([*numbers, *(asked.tuning[k] if workload is real else [])]) == sorted(expected)
            np.testing.assert_array_equal(asked.encoded[k], draw.owner.transform(asked.raw[k]))
            np.testing.assert_array_equal(asked.raw_targets[k], features[np.concatenate([asked.tuning[k], draw.rows.score])])


# --- the term of extraction ---


def test_the_term_weighs_kernel_clones(make: Callable[..., Scenario]) -> None:
    """Oracle: kernel ridge of scikit-learn on all products of features and the service's log-odds, on the same queries and rows."""
    scenario = make(threat={"queries": 40})
    evaluator = Evaluator(scenario)
    found = evaluator.evaluate(HOLDS_PARITY, seed=5)
    workload = evaluator.workload
    service, asked = Service.train(workload, HOLDS_PARITY, 5), workload.questions(5, "search")
    answers = service.model.answers(service.trained, asked.encoded, service.keys("test"))
    right = []
    for k, draw in enumerate(workload.draws(5, "search")):
        scaler = StandardScaler().fit(asked.raw[k])
        known = scaler.transform(asked.raw[k])
        kernel = _products(known, known)
        goal = np.log(answers[k, :, 1] / answers[k, :, 0])
        model = KernelRidge(alpha=0.1 * np.mean(np.diag(kernel)), kernel="precomputed").fit(kernel, goal)
        targets = scaler.transform(asked.raw_targets[k])[asked.tuning.shape[1] :]
        right.append(np.mean((model.predict(_products(targets, known)) > 0) == draw.score_labels))
    assert found.extraction > np.mean(right) - 0.05 > found.chance + 0.2
    assert found.extraction_model.startswith(("products", "interactions", "single products"))
    left = np.clip(found.accuracy - found.extraction, 0, found.accuracy - found.chance)
    assert found.rewards["extraction"] == pytest.approx(0.2 * left / (1 - found.chance))


def _products(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.asarray(np.prod(1 + rows[:, None] * known[None], axis=-1))


def test_what_is_not_told_is_not_used(make: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch) -> None:
    """Other probabilities for the same labels change what customers and thieves learn from probabilities, and nothing for labels."""
    honest = QNN.answers

    def sharpened(self: QNN, *arguments: Any) -> np.ndarray:
        given = np.asarray(honest(self, *arguments))
        # Depends on the row, so that no model that learns from log-odds can miss it.
        powers = 1 + 5 * np.random.default_rng(0).random(given.shape[:-1])[..., None]
        return given**powers / np.sum(given**powers, axis=-1, keepdims=True)

    def figures(answers: str) -> tuple[list[float], ...]:
        scenario = make(threat={"queries": 12, "answers": answers, "tiers": ["stacked", "guessed-rest"]})
        found = Evaluator(scenario).evaluate(HOLDS_PARITY, seed=5)
        return found.per_draw["extraction"], found.per_draw["query_control"], found.per_draw["theft"], list(found.thieves.values())

    before = {told: figures(told) for told in ("labels", "probabilities")}
    told_audit = {told: Scene(Service.train(Workload(make(threat={"answers": told})), HOLDS_PARITY, 5)).answers for told in before}
    assert set(np.unique(told_audit["labels"])) == {0, 1} and len(np.unique(told_audit["probabilities"])) > 2
    monkeypatch.setattr(QNN, "answers", sharpened)
    assert figures("labels") == before["labels"]
    assert figures("probabilities") != before["probabilities"]


# --- the attack ---


def test_asked_rows_begin_alike_and_are_refused_beyond_the_rows(scene: Scene) -> None:
    own = scene.labels.shape[1]
    few, many = ask(scene, 6, "real"), ask(scene, 20, "real")
    np.testing.assert_array_equal(few.raw, many.raw[:, :own])
    assert few.asked.sum() == 6 and many.asked.all() and few.raw.shape[1] == own == 8
    np.testing.assert_array_equal(few.labels, many.labels[:, :own])
    assert sorted(map(tuple, few.raw[0])) == sorted(map(tuple, scene.draws[0].raw_thief))
    made_up = ask(scene, 5, "synthetic")
    assert list(made_up.asked) == [False] * own + [True] * 5
    np.testing.assert_array_equal(made_up.raw, ask(scene, 7, "synthetic").raw[:, : own + 5])
    # Where nothing was asked, labels stand in for answers, in their size.
    goals = few.goals
    np.testing.assert_allclose(goals["answers"][:, :6], np.log(few.answers) - np.log(few.answers).mean(axis=-1, keepdims=True), atol=1e-6)
    assert (goals["answers"][:, 6:].argmax(axis=-1) == few.labels[:, 6:]).all()
    sizes = [np.sqrt(np.mean(part**2)) for part in (goals["answers"][0, :6], goals["answers"][0, 6:])]
    assert sizes[0] == pytest.approx(sizes[1])
    most = most_real(scene.victim)
    assert ask(scene, most, "real").raw.shape[1] == most
    with pytest.raises(QumosError, match=rf"{most + 1} real queries: 2 to {most} are possible in scenario planted"):
        ask(scene, most + 1, "real")
    with pytest.raises(QumosError, match="1 synthetic queries: 2 to 200"):
        ask(scene, 1, "synthetic")
    with pytest.raises(QumosError, match="unknown kind of queries 'rael'; did you mean real"):
        ask(scene, 6, "rael")  # type: ignore[arg-type]


def test_own_rows_asked_are_the_thief_of_rewards(scene: Scene) -> None:
    """With exactly its own rows asked the thief fits what the reward's does."""
    known = ask(scene, scene.labels.shape[1], "real")
    kernels = [Ground.of([raw], [draw.raw_targets]) for raw, draw in zip(known.raw, scene.draws, strict=True)]
    thief = scene.thief("aurora")
    found = thief_models(scene, known, kernels, thief, "probabilities")
    asked = np.stack([draw.queries for draw in scene.draws])
    readouts, sums = thief.readouts(scene.victim.trained, scene.rows, scene.targets, asked, scene.answers)
    usual = stacked(scene.victim.workload.ground(5, "test"), scene.goals, readouts, sums, thief.rest(scene.rows, scene.targets))
    assert set(found) == set(usual)
    for name, scores in usual.items():
        # Rows are in another order: sums of floats may turn a score that is as good as a tie.
        assert np.mean(found[name] == scores[:, known.raw.shape[1] :].argmax(axis=-1)) > 0.98, name
    assert set(customer_models(known, kernels)) & set(found) == set()


def test_answers_replace_the_loot(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aurora holds the parity: with few answers that is worth a lot, and with many nothing."""
    modest(monkeypatch)
    found = points(scene, "real", (6, 60, 150))
    for told, line in found.items():
        assert [one.count for one in line] == [6, 60, 150]
        assert line[0].gain > 0.1, told
        assert abs(line[-1].gain) < 0.02 and line[-1].customer.mean() > 0.9, told
    owner = np.mean(scene.victim.answer(scene.victim.test, "test").argmax(axis=-1) == scene.victim.labels[scene.victim.test])
    assert found["probabilities"][-1].customer.mean() == pytest.approx(owner, abs=0.05)


def test_coalitions_infer_cut_angles_from_what_they_are_told(make: Callable[..., Scenario], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cut the loot depends on the answers, so a thief that is told labels infers the angle from these."""
    scenario = make(threat={"coalition": 2}, design={"max_gate_cuts": 1})
    design = Design((0, 0, 1, 1), ("aurora", "borealis"), gates("ry 0, ry 1, cz 0 1, ry 2, ry 3, cz 2 3, rzz 1 2, rx 1, rx 2"))
    seen: list[set[float]] = []
    honest = Thief.readouts

    def watched(self: Thief, *arguments: Any) -> Any:
        seen.append(set(np.unique(arguments[-1])))
        return honest(self, *arguments)

    monkeypatch.setattr(Thief, "readouts", watched)
    found = points(Scene(Service.train(Workload(scenario), design, seed=5)), "real", (6,))
    assert [values == {0, 1} for values in seen] == [False, True]
    assert all(np.isfinite(line[0].thief).all() for line in found.values())


def test_where_they_meet() -> None:
    """From there on, not merely there."""

    def line(*gains: float) -> list[Point]:
        return [Point(10 * number, np.array([0.5 + gain, 0.5 + gain]), np.array([0.5, 0.5])) for number, gain in enumerate(gains, 1)]

    assert meeting(line(0.1, 0.01, 0.03, 0.0, -0.01)) == 40
    assert meeting(line(0.01, 0.0)) == 10
    assert meeting(line(0.0, 0.1)) is None
    assert meeting(line(0.1, 0.04), relevant=0.05) == 20


def test_the_attack_says_what_a_quota_must_be(victim: Service, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line has its figures and C* beside it; random answers are worth no loot and are never a customer's gain."""
    modest(monkeypatch)
    result = queries.run(victim, (6, 100))
    found = named(result.measurements)
    customer = found["customer, 100 real rows, probabilities: accuracy"]
    np.testing.assert_array_equal(customer.controls, scene.control.values)
    assert customer.headline and customer.criterion is not None and customer.criterion.relevant == RELEVANT
    assert [one.criterion for one in result.measurements if one is not customer] == [None] * (len(found) - 1)
    assert found["loot and answers meet, real rows, probabilities: queries, at least"].interval.mean == 100
    assert len({curve.plot for curve in result.curves}) == 2 and len(result.curves) == 10
    by_name = {(curve.plot.title, curve.name): curve for curve in result.curves}
    line = by_name["queries: accuracy over queries that probabilities answer", "no loot, real rows"]
    assert line.y[-1] == pytest.approx(customer.interval.mean) and list(line.x) == [6, 100]
    short = named(queries.run(victim, (6,)).measurements)["loot and answers meet, real rows, probabilities: queries, at least"]
    assert short.interval.mean == 6 and short.note.startswith("never within 6 queries: of these the loot still adds 0.")
    honest = QNN.answers

    def at_random(self: QNN, *arguments: Any) -> np.ndarray:
        given = honest(self, *arguments)
        return np.random.default_rng(0).permuted(given, axis=1)

    monkeypatch.setattr(QNN, "answers", at_random)
    deaf = named(queries.run(victim, (6, 100)).measurements)
    assert deaf["customer, 100 real rows, probabilities: accuracy"].interval.mean < customer.interval.mean - 0.1


def test_the_scenarios_of_extraction_weigh_it_by_few_labels() -> None:
    for name in ("extraction-hyperplanes", "extraction-parity"):
        scenario = load_scenario(name)
        assert scenario.reward.extraction >= 0.5 and scenario.threat.answers == "labels" and scenario.design.qubits == 6
        assert scenario.queries == scenario.threat.queries

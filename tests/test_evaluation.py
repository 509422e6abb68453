"""Evaluation: determinism, which rows count, seeds, caching, standard errors, and how the strongest thief is chosen."""

import copy
import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qumos_env.data import Dataset
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import encode_only, interleaved, ry_cz_ry
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.costs import design_cost
from qumos_env.evaluation.evaluator import Evaluation, Evaluator
from qumos_env.evaluation.thief import Thief
from qumos_env.model.qnn import QNN
from qumos_env.scenario import Scenario, parse_scenario

ROOT = Path(__file__).resolve().parent.parent
TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "tiny",
    "data": {"source": "iris", "reducer": "none"},
    "draws": {"count": 3, "train_rows": 20, "thief_rows_per_class": 3, "tuning_rows": 12},
    "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 3, "max_gates": 20, "max_gate_cuts": 2},
    "model": {"steps": 6},
    "threat": {"steps": 6},
    "reward": {"accuracy": 0.5, "theft": 0.5, "cost": 0.1, "cost_budget": 40.0},
    "providers": [{"name": "aurora"}, {"name": "borealis", "price": 2.0}],
}
DESIGN = ry_cz_ry(interleaved(4, 2), ("aurora", "borealis"), 1)


def tiny(**sections: Any) -> Scenario:
    """``TINY`` with ``sections`` merged in."""
    data = copy.deepcopy(TINY)
    for name, values in sections.items():
        data[name] = data.get(name, {}) | values if isinstance(values, dict) else values
    return parse_scenario(data)


def diverging() -> Scenario:
    """A learning rate beyond all bounds, which no file can have."""
    return tiny().model_copy(update={"model": tiny().model.model_copy(update={"learning_rate": 1e308})})


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return Evaluator(tiny()).evaluate(DESIGN)


EVALUATE = """
import sys
from qumos_env.design import Design
from qumos_env import Evaluator
from qumos_env.scenario import load_scenario, parse_scenario
design = Design.from_json(sys.argv[1])
for name in sys.argv[2:]:
    data = load_scenario(name).model_dump(mode="json")
    data["model"]["steps"] = data["threat"]["steps"] = 3
    data["draws"]["count"] = 2
    data["threat"]["tiers"] = ["fine-tune", "guessed-rest"]
    print(Evaluator(parse_scenario(data)).evaluate(design, seed=5).to_json())
"""


def test_fresh_processes_give_the_same_bits_whatever_their_threads() -> None:
    """Same scenario, design and seed; one process is told to use one thread, the other two."""
    design = ry_cz_ry(interleaved(8, 2), ("aurora", "borealis"), 1).to_json()
    outputs = []
    for threads, hash_seed in (("1", "1"), ("2", "2")):
        settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, "-c", EVALUATE, design, "digits-theft", "two-curves-rational"]
        environment = os.environ | settings | {"PYTHONHASHSEED": hash_seed}
        outputs.append(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 2


def test_an_evaluation_does_not_depend_on_those_before_it(evaluation: Evaluation) -> None:
    """Nothing is carried from design to design."""
    evaluator = Evaluator(tiny())
    evaluator.evaluate(encode_only(interleaved(4, 2), ("aurora", "borealis")))
    evaluator.evaluate(DESIGN, seed=9, rows="test")
    assert evaluator.evaluate(DESIGN).to_json() == evaluation.to_json()


def test_json_round_trip(evaluation: Evaluation) -> None:
    """Everything comes back, bit for bit."""
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
    flat = evaluation.to_dict()
    assert all(isinstance(value, (str, float, int, bool)) for value in flat.values())
    assert flat["rewards.accuracy"] == evaluation.rewards["accuracy"]
    assert flat["thieves.aurora/stacked"] == evaluation.thieves["aurora/stacked"]
    assert flat["theft_gain"] == evaluation.theft_gain
    assert evaluation.theft_gain in (evaluation.theft - evaluation.control, evaluation.theft - evaluation.query_control)


@pytest.mark.parametrize(
    "change",
    [
        {"reward": "0.5"},
        {"reward": None},
        {"reward": float("nan")},
        {"measured": []},
        {"measured": {"theft": [1]}},
        {"per_draw": {"a": ["x"]}},
    ],
)
def test_what_is_no_evaluation_is_measured_again(change: dict[str, object], evaluation: Evaluation, tmp_path: Path) -> None:
    """A cache lies in a file, into which anybody may have written."""
    changed = json.dumps(json.loads(evaluation.to_json()) | change)
    for text in (changed, "[" * 100_000, "null", "{}"):
        with pytest.raises(ValueError):
            Evaluation.from_json(text)
    evaluator = Evaluator(tiny(), tmp_path / "cache.sqlite")
    evaluator._cache.put(f"{evaluator._identity}/{DESIGN.hash}/search/{evaluator.scenario.seed}", changed)
    assert evaluator.evaluate(DESIGN) == evaluation


def test_what_is_reported_hangs_together(evaluation: Evaluation) -> None:
    """Means of the draws, names of all thieves, and the reward as the sum of its parts."""
    assert evaluation.design_hash == DESIGN.hash
    assert (evaluation.scenario, evaluation.rows, evaluation.seed, evaluation.draws) == ("tiny", "search", 0, 3)
    for name in ("accuracy", "theft", "control", "membership_auc"):
        values = evaluation.per_draw[name]
        assert len(values) == 3
        assert getattr(evaluation, name) == pytest.approx(np.mean(values))
    for name in ("accuracy", "theft", "membership_auc"):
        assert getattr(evaluation, f"{name}_se") == pytest.approx(np.std(evaluation.per_draw[name], ddof=1) / np.sqrt(3))
    assert set(evaluation.thieves) == {"aurora/stacked", "borealis/stacked"}
    assert evaluation.theft == evaluation.thieves[f"{evaluation.theft_provider}/{evaluation.theft_tier}"]
    assert evaluation.reward == pytest.approx(sum(evaluation.rewards.values()))
    advantage = np.subtract(evaluation.per_draw["accuracy"], evaluation.per_draw["control"])
    assert evaluation.nothing_worth_stealing == (advantage.mean() < 2 * advantage.std(ddof=1) / np.sqrt(3))


def test_chance_is_the_majority_frequency(tmp_path: Path) -> None:
    """Of the scored rows: four fifths of one class."""
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "skewed.npz", features=generator.normal(size=(200, 4)), labels=np.arange(200) % 5 == 0)
    scenario = tiny(data={"source": str(tmp_path / "skewed.npz")})
    evaluation = Evaluator(scenario).evaluate(DESIGN)
    draws = Evaluator(scenario).workload.draws(0, "search")
    frequencies = [max(np.mean(draw.score_labels), 1 - np.mean(draw.score_labels)) for draw in draws]
    assert evaluation.chance == pytest.approx(np.mean(frequencies)) == pytest.approx(0.8, abs=0.02)


def by_hand(evaluation: Evaluation, keep: list[int], thief: str) -> float:
    """The reward of the draws ``keep``, from the formula of the documentation."""

    def mean(name: str) -> float:
        return float(np.mean(np.array(evaluation.per_draw[name])[keep]))

    accuracy, stolen = mean("accuracy"), mean("theft")
    if thief == "rational":
        stolen = max(stolen, mean("control"))
    room = 1 - evaluation.chance
    learned = max(0.0, accuracy - evaluation.chance) / room
    safe = min(max(accuracy - stolen, 0.0), max(0.0, accuracy - evaluation.chance)) / room
    return 0.5 * learned + 0.5 * safe - 0.1 * evaluation.cost / 40


@pytest.mark.parametrize("thief", ["loot", "rational"])
@pytest.mark.parametrize("draws", [1, 2, 5])
def test_the_standard_error_is_the_jackknife(thief: str, draws: int) -> None:
    """Leaving out each draw in turn, by brute force; a single draw has none, and says so without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = Evaluator(tiny(threat={"thief": thief}, draws={"count": draws})).evaluate(DESIGN)
    assert evaluation.reward == pytest.approx(by_hand(evaluation, list(range(draws)), thief))
    if draws == 1:
        assert evaluation.reward_se == evaluation.accuracy_se == 0
        return
    left = np.array([by_hand(evaluation, [k for k in range(draws) if k != out], thief) for out in range(draws)])
    assert evaluation.reward_se == pytest.approx(np.sqrt((draws - 1) / draws * np.sum((left - left.mean()) ** 2)))


def test_a_draw_does_not_see_the_others() -> None:
    """K draws share a training run, not what is learned: more draws change the first ones by rounding at most."""
    few, many = (Evaluator(tiny(draws={"count": count})).evaluate(DESIGN) for count in (3, 5))
    for name in ("accuracy", "membership_auc"):
        np.testing.assert_allclose(many.per_draw[name][:3], few.per_draw[name], atol=0.03)


def test_the_rational_thief_is_at_least_the_control() -> None:
    """Making the loot useless gains nothing beyond what needs no theft; the loot thief rewards it."""
    loot, rational = (Evaluator(tiny(threat={"thief": thief}, model={"steps": 60})).evaluate(DESIGN) for thief in ("loot", "rational"))
    for name in ("accuracy", "theft", "control", "thieves"):
        assert getattr(loot, name) == getattr(rational, name)
    gap = max(0.0, rational.accuracy - max(rational.theft, rational.control, rational.query_control)) / (1 - rational.chance)
    assert rational.rewards["theft"] == pytest.approx(0.5 * gap)
    assert rational.reward <= loot.reward


TRAINED = {"tiers": ["frozen-head", "fine-tune", "guessed-rest"]}


def planted(scenario: Scenario, accuracies: Callable[[str, str], tuple[float, float]]) -> tuple[Evaluator, Callable[..., np.ndarray]]:
    """An evaluator, and an attack in which each thief is right on given shares of the tuning and of the scored rows."""
    evaluator = Evaluator(scenario)
    draws = evaluator.workload.draws(0, "search")

    def attack(
        self: Thief, tier: str, loot: object, rows: object, labels: np.ndarray, answers: np.ndarray, targets: object, keys: object
    ) -> np.ndarray:
        classes = answers.shape[-1]
        predicted = []
        for draw in draws:
            for share, truth in zip(accuracies(self.provider, tier), (draw.tuning_labels, draw.score_labels), strict=True):
                right = np.arange(len(truth)) < round(share * len(truth))
                predicted.append(np.where(right, truth, (truth + 1) % classes))
        return np.eye(classes)[np.concatenate(predicted).reshape(len(draws), -1)]

    return evaluator, attack


def test_the_strongest_thief_is_chosen_on_the_tuning_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best on the scored rows by luck is not it; otherwise the maximum over thieves would be inflated."""
    figures = {("borealis", "fine-tune"): (0.9, 0.25), ("aurora", "frozen-head"): (0.5, 1.0)}
    evaluator, attack = planted(tiny(threat=TRAINED), lambda provider, tier: figures.get((provider, tier), (0.4, 0.75)))
    monkeypatch.setattr(Thief, "attack", attack)
    evaluation = evaluator.evaluate(DESIGN)
    assert (evaluation.theft_provider, evaluation.theft_tier) == ("borealis", "fine-tune")
    assert evaluation.theft == pytest.approx(0.25, abs=0.02)
    assert evaluation.thieves["aurora/frozen-head"] == 1.0
    assert evaluation.thieves["aurora/guessed-rest"] == pytest.approx(0.75, abs=0.02)


def test_tuning_is_pooled_over_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thief for all draws, not the luckiest of each."""
    evaluator, attack = planted(tiny(threat=TRAINED), lambda provider, tier: (0.75, 0.5) if provider == "aurora" else (0.5, 0.75))
    monkeypatch.setattr(Thief, "attack", attack)
    evaluation = evaluator.evaluate(DESIGN)
    assert evaluation.theft_provider == "aurora"
    assert max(evaluation.per_draw["theft"]) == pytest.approx(0.5, abs=0.02)


def test_only_the_scenarios_tiers_and_the_designs_providers_attack() -> None:
    """One thief for a provider, however many parts it runs."""
    scenario = tiny(threat={"tiers": ["fine-tune"]})
    design = ry_cz_ry(interleaved(4, 2), ("borealis", "borealis"), 1)
    assert list(Evaluator(scenario).evaluate(design).thieves) == ["borealis/fine-tune"]


def poisoned(evaluator: Evaluator, rows: np.ndarray, *, labels: bool) -> None:
    """Replaces what ``evaluator`` knows of these rows: features by noise and, if asked, labels by others of the same counts."""
    protocol = evaluator.workload.protocol
    generator = np.random.default_rng(0)
    features, targets = protocol.dataset.features.copy(), protocol.dataset.labels.copy()
    features[rows] = 50 * generator.normal(size=features[rows].shape)
    if labels:
        targets[rows] = generator.permutation(targets[rows])
    evaluator.workload.protocol = dataclasses.replace(protocol, dataset=Dataset(features, targets, protocol.dataset.class_names))


def test_the_search_never_sees_the_test_rows(evaluation: Evaluation) -> None:
    """Poisoned test rows change no figure of a search, and every figure of a report."""
    evaluator = Evaluator(tiny())
    report = evaluator.evaluate(DESIGN, rows="test")
    clean = Evaluator(tiny())
    poisoned(clean, clean.workload.protocol.test, labels=True)
    assert clean.evaluate(DESIGN).to_json() == evaluation.to_json()
    again = clean.evaluate(DESIGN, rows="test")
    assert again.rows == "test"
    assert again.per_draw["accuracy"] != report.per_draw["accuracy"]
    assert again.per_draw["theft"] != report.per_draw["theft"]
    # The model is the same one, so what it remembers of its train rows is unchanged.
    assert again.per_draw["membership_auc"] == report.per_draw["membership_auc"]


def test_a_report_does_not_see_the_scored_rows_of_the_search() -> None:
    """Rows that only score the search may be anything."""
    scenario = tiny(draws={"count": 2, "train_rows": 12})
    clean, other = Evaluator(scenario), Evaluator(scenario)
    draws = other.workload.protocol.draws(0)
    used = np.unique(np.concatenate([np.concatenate([d.train, d.thief, d.tuning, d.nonmembers, d.test]) for d in draws]))
    unused = np.setdiff1d(np.concatenate([d.score for d in draws]), used)
    assert len(unused) > 20
    poisoned(other, unused, labels=False)
    assert other.evaluate(DESIGN, rows="test").to_json() == clean.evaluate(DESIGN, rows="test").to_json()
    assert other.evaluate(DESIGN).accuracy != clean.evaluate(DESIGN).accuracy


def test_all_designs_share_the_same_draws() -> None:
    """Differences between designs are not differences between rows."""
    evaluator = Evaluator(tiny())
    evaluator.evaluate(DESIGN)
    first = evaluator.workload.draws(0, "search")
    evaluator.evaluate(encode_only(interleaved(4, 2), ("aurora", "borealis")))
    assert evaluator.workload.draws(0, "search") is first
    other = Evaluator(tiny()).workload.draws(0, "search")
    for mine, theirs in zip(first, other, strict=True):
        for field in ("train", "score", "train_labels", "raw_thief", "queries"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))


def test_seeds_matter_and_default_to_the_scenarios(evaluation: Evaluation) -> None:
    """Another seed is another draw; the scenario's seed is the default."""
    other = Evaluator(tiny()).evaluate(DESIGN, seed=4)
    assert other.seed == 4
    assert other.per_draw["accuracy"] != evaluation.per_draw["accuracy"]
    moved = Evaluator(tiny(seed=4)).evaluate(DESIGN)
    assert moved.to_json() == other.to_json()


def keys(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        return {row[0] for row in connection.execute("SELECT key FROM evaluations")}


CACHED = """
import json
import sys
from qumos_env.design import Design
from qumos_env import Evaluator
from qumos_env.scenario import parse_scenario
evaluator = Evaluator(parse_scenario(json.loads(sys.argv[1])), sys.argv[2])
print(evaluator.evaluate(Design.from_json(sys.argv[3])).to_json())
"""


def test_the_cache_is_shared_between_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluation: Evaluation) -> None:
    """What another process measured is not measured again."""
    path = tmp_path / "cache.sqlite"
    scenario = tiny()
    command = [sys.executable, "-c", CACHED, scenario.model_dump_json(), str(path), DESIGN.to_json()]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip() == evaluation.to_json()

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(QNN, "train_many", fail)
    assert Evaluator(scenario, path).evaluate(DESIGN) == evaluation
    with pytest.raises(AssertionError, match="trained again"):
        Evaluator(scenario).evaluate(DESIGN)
    with pytest.raises(AssertionError, match="trained again"):
        Evaluator(scenario, path).evaluate(encode_only(interleaved(4, 2), ("aurora", "borealis")))


def test_the_cache_key_holds_all_that_matters(tmp_path: Path) -> None:
    """Scenario, design, seed, rows, and the content of the data, not its name."""
    path, source = tmp_path / "cache.sqlite", tmp_path / "rows.npz"
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(120, 4)), np.arange(120) % 2
    np.savez(source, features=features, labels=labels)
    data = {"source": str(source)}
    # Title and the like are prose: the same key.
    for scenario in (tiny(data=data), tiny(data=data, title="other"), tiny(data=data, model={"steps": 7})):
        Evaluator(scenario, path).evaluate(DESIGN)
    assert len(keys(path)) == 2
    evaluator = Evaluator(tiny(data=data), path)
    first = evaluator.evaluate(DESIGN)
    evaluator.evaluate(DESIGN, seed=1)
    evaluator.evaluate(DESIGN, rows="test")
    evaluator.evaluate(Design(DESIGN.partition, ("borealis", "aurora"), DESIGN.gates))
    assert len(keys(path)) == 5
    np.savez(source, features=features + generator.normal(size=features.shape), labels=labels)
    os.utime(source, ns=(1, 1))
    second = Evaluator(tiny(data=data), path).evaluate(DESIGN)
    assert len(keys(path)) == 6
    assert second.per_draw["accuracy"] != first.per_draw["accuracy"]


def test_failures_are_not_cached(tmp_path: Path) -> None:
    """And the error is the same the second time."""
    path = tmp_path / "cache.sqlite"
    evaluator = Evaluator(diverging(), path)
    for _ in range(2):
        with np.errstate(all="ignore"), pytest.raises((EvaluationFailure, QumosError)):
            evaluator.evaluate(DESIGN)
    assert keys(path) == set()


def test_diverging_training_is_an_evaluation_failure() -> None:
    """The design is valid, so this is no input error: it names the step."""
    with np.errstate(all="ignore"), pytest.raises(EvaluationFailure, match="training diverged in step"):
        Evaluator(diverging()).evaluate(DESIGN)


def test_wrong_requests_are_refused() -> None:
    """Before anything is trained."""
    evaluator = Evaluator(tiny())
    with pytest.raises(QumosError, match="rows is 'validation', choose search or test"):
        evaluator.evaluate(DESIGN, rows="validation")  # type: ignore[arg-type]
    central = ry_cz_ry((0, 0, 0, 0), ("aurora",), 1)
    with pytest.raises(QumosError, match="part 0 has 4 qubits"):
        evaluator.evaluate(central)
    assert evaluator.evaluate(central, limits=False).thieves.keys() == {"aurora/stacked"}
    with pytest.raises(QumosError, match="part 0 has 4 qubits"):
        evaluator.evaluate(central)


def test_cost_by_hand() -> None:
    """Qubits acted on times the provider's price; across parts on both, and nine-fold per cut."""
    scenario = tiny()
    local = (Gate("ry", (0,)), Gate("cz", (0, 2)), Gate("cz", (1, 3)), Gate("h", (3,)))
    partition, providers = (0, 1, 0, 1), ("aurora", "borealis")
    assert design_cost(Design(partition, providers, local), scenario) == 1 + 2 + 2 * 2 + 2
    assert design_cost(Design(partition, ("aurora", "aurora"), local), scenario) == 6
    assert design_cost(Design(partition, providers, (*local, Gate("rzz", (0, 1)))), scenario) == (9 + 1 + 2) * 9
    assert design_cost(Design(partition, providers, (*local, *[Gate("rzz", (0, 1))] * 2)), scenario) == (9 + 3 + 3) * 81


def test_cost_lowers_the_reward(evaluation: Evaluation) -> None:
    """By weight times cost over budget."""
    assert evaluation.cost == design_cost(DESIGN, tiny())
    assert evaluation.rewards["cost"] == pytest.approx(-0.1 * evaluation.cost / 40)


def test_the_model_of_the_figures_is_the_model_that_is_exported(evaluation: Evaluation) -> None:
    """The accuracy is that of a QNN trained on the draw's rows with the draw's key."""
    scenario = tiny()
    workload = Evaluator(scenario).workload
    model = QNN(DESIGN, workload.n_classes, scenario.model, scenario.data.axis)
    for draw, accuracy in zip(workload.draws(0, "search"), evaluation.per_draw["accuracy"], strict=True):
        trained = model.train(draw.train, draw.train_labels, draw.key)
        # Alone it may be trained by another engine than together with others: a row on the border may move.
        alone = np.mean(model.probabilities(trained, draw.score).argmax(axis=1) == draw.score_labels)
        assert alone == pytest.approx(accuracy, abs=1.5 / len(draw.score_labels))

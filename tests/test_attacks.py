"""Attacks against planted truths: what must be stolen is, what cannot be is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import HOLDS_PARITY, gates, modest, parity_file, planted_scenario
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.preprocessing import StandardScaler

from qumos_env.design import Design
from qumos_env.evaluation.controls import RAW_CONTROLS, reference_qnn
from qumos_env.evaluation.evaluator import Evaluation, Evaluator
from qumos_env.evaluation.interception import ThiefRows, fit_encoding
from qumos_env.evaluation.membership import loss_scores
from qumos_env.evaluation.roc import auc
from qumos_env.evaluation.thief import TIERS, Thief
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters
from qumos_env.scenario import Scenario, list_scenarios, load_scenario, parse_scenario
from qumos_env.scenario.sections import ModelSection, ThreatSection


def attack(
    thief: Thief, tier: str, loot: Parameters, rows: ThiefRows, labels: np.ndarray, answers: np.ndarray, targets: ThiefRows
) -> np.ndarray:
    """The thief's answers ``[targets, classes]`` on a single draw; the package attacks many at once."""
    rows, targets = ThiefRows.stack([rows]), ThiefRows.stack([targets])
    return thief.attack(tier, Parameters.stack([loot]), rows, labels[None], answers[None], targets, [(0, 0, 0)])[0]


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Two draws of parity data."""
    path = parity_file(tmp_path_factory.mktemp("data"))
    return planted_scenario(path, draws={"count": 2, "thief_rows_per_class": 8}, threat={"steps": 60, "tiers": ["stacked", *TIERS]})


@pytest.fixture(scope="module")
def random_labels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels that have nothing to do with the features: all that can be learned is who was there."""
    generator = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("data") / "random.npz"
    np.savez(path, features=generator.uniform(-1, 1, (400, 4)), labels=generator.integers(0, 2, 400))
    return path


@pytest.fixture(scope="module")
def parity_evaluation(parity: Scenario) -> Evaluation:
    return Evaluator(parity).evaluate(HOLDS_PARITY)


def test_what_one_provider_holds_alone_is_stolen(parity_evaluation: Evaluation, parity: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part of aurora is the model: its thief is as good as the owner, above what its rows and the answers give without loot."""
    assert parity_evaluation.accuracy > 0.95
    assert parity_evaluation.thieves["aurora/frozen-head"] >= parity_evaluation.accuracy - 0.07
    assert parity_evaluation.theft >= parity_evaluation.accuracy - 0.05
    modest(monkeypatch)
    assert Evaluator(parity).evaluate(HOLDS_PARITY).theft_gain > 0.05


def test_a_part_without_information_gives_its_thief_nothing(parity_evaluation: Evaluation) -> None:
    """Borealis holds one noise feature and no gate: what its thief makes of the part itself is chance, below the control.

    (Guessing the rest learns from the service's answers as well, which need no part.)
    """
    for tier in ("frozen-head", "fine-tune"):
        assert parity_evaluation.thieves[f"borealis/{tier}"] == pytest.approx(0.5, abs=0.1)
        assert parity_evaluation.thieves[f"borealis/{tier}"] < parity_evaluation.control


def test_two_parts_at_one_provider_are_both_stolen(parity: Scenario) -> None:
    """The cut alone protects nothing: a single thief, who holds both parts."""
    design = Design(HOLDS_PARITY.partition, ("borealis", "borealis"), HOLDS_PARITY.gates)
    evaluation = Evaluator(parity).evaluate(design)
    assert {name.split("/")[0] for name in evaluation.thieves} == {"borealis"}
    assert evaluation.theft >= evaluation.accuracy - 0.05 > 0.85


def test_the_loot_is_the_trained_angles(parity: Scenario) -> None:
    """With another model's angles the same circuit gives the thief less: theft is not architecture alone."""
    workload = Workload(parity)
    # Three rotations in front of the chain turn the encoding away unless they are trained.
    design = Design((0, 0, 0, 1), ("aurora", "borealis"), gates("rx 0, ry 0, rx 1, ry 1, rx 2, ry 2, cx 0 1, cx 1 2"))
    model = QNN(design, 2, parity.model, parity.data.axis)
    thief = Thief(design, "aurora", 2, parity.model, parity.threat, parity.data.axis)
    draw = workload.draws(0, "search")[0]
    trained = model.train(draw.train, draw.train_labels, draw.key)
    correct = np.concatenate([draw.tuning_labels, draw.score_labels])

    def stolen(loot: Parameters) -> float:
        answers = model.probabilities(loot, draw.queries)
        predicted = attack(thief, "frozen-head", loot, draw.thief, draw.thief_labels, answers, draw.targets)
        return float(np.mean(predicted.argmax(axis=1) == correct))

    assert np.mean(model.probabilities(trained, draw.score).argmax(axis=1) == draw.score_labels) > 0.9
    others = [stolen(Parameters(np.random.default_rng(seed).uniform(-np.pi, np.pi, 6), trained.head)) for seed in range(5)]
    assert stolen(trained) > 0.85
    assert np.mean(others) < stolen(trained) - 0.15


SPLIT = Design((0, 1, 0, 1), ("aurora", "borealis"), gates("ry 0, rx 2, cz 0 2, ry 1, rx 3, cz 1 3, ry 3"))
MINE, THEIRS = [0, 2], [1, 3]


def victim() -> tuple[Parameters, ThiefRows, np.ndarray, np.ndarray, ThiefRows]:
    """Loot, thief rows, labels, answers and targets, all random."""
    generator = np.random.default_rng(4)

    def rows(count: int) -> ThiefRows:
        return ThiefRows(generator.uniform(0, np.pi, (count, 4)), generator.uniform(0, np.pi, (count, 4)))

    loot = Parameters(generator.uniform(-np.pi, np.pi, SPLIT.n_trainable), generator.normal(size=10))
    answers = generator.dirichlet([1, 1], 10)
    return loot, rows(10), np.arange(10) % 2, answers, rows(20)


def steal(tier: str, loot: Parameters, rows: ThiefRows, labels: np.ndarray, answers: np.ndarray, targets: ThiefRows) -> np.ndarray:
    thief = Thief(SPLIT, "aurora", 2, ModelSection(), ThreatSection(steps=10), "ry")
    return attack(thief, tier, loot, rows, labels, answers, targets)


@pytest.mark.parametrize("tier", sorted(TIERS))
def test_a_thief_uses_nothing_it_does_not_hold(tier: str) -> None:
    """Neither the other part's angles, nor the owner's head, nor the owner's encoding of other qubits."""
    loot, rows, labels, answers, targets = victim()
    base = steal(tier, loot, rows, labels, answers, targets)
    assert base.shape == (20, 2)
    np.testing.assert_allclose(base.sum(axis=1), 1, atol=1e-6)

    part_of = [SPLIT.partition[gate.qubits[0]] for gate in SPLIT.gates if gate.trainable]
    theirs = np.where(np.array(part_of) == 1, loot.angles + 1.3, loot.angles)
    np.testing.assert_array_equal(steal(tier, Parameters(theirs, loot.head), rows, labels, answers, targets), base)
    np.testing.assert_array_equal(steal(tier, Parameters(loot.angles, loot.head * np.nan), rows, labels, answers, targets), base)

    def hidden(item: ThiefRows) -> ThiefRows:
        qubits = np.arange(4)
        return ThiefRows(np.where(np.isin(qubits, THEIRS), 99.0, item.intercepted), np.where(np.isin(qubits, MINE), 99.0, item.own))

    np.testing.assert_array_equal(steal(tier, loot, hidden(rows), labels, answers, hidden(targets)), base)


@pytest.mark.parametrize("tier", sorted(TIERS))
def test_a_thief_uses_what_it_holds(tier: str) -> None:
    """Its part's angles, its rows and the encoding it intercepted all matter."""
    loot, rows, labels, answers, targets = victim()
    base = steal(tier, loot, rows, labels, answers, targets)
    part_of = [SPLIT.partition[gate.qubits[0]] for gate in SPLIT.gates if gate.trainable]
    mine = np.where(np.array(part_of) == 0, loot.angles + 1.3, loot.angles)
    assert not np.allclose(steal(tier, Parameters(mine, loot.head), rows, labels, answers, targets), base)
    shifted = ThiefRows(targets.intercepted + 0.5, targets.own)
    assert not np.allclose(steal(tier, loot, rows, labels, answers, shifted), base)
    by_labels = steal(tier, loot, rows, 1 - labels, answers, targets)
    by_answers = steal(tier, loot, rows, labels, answers[:, ::-1], targets)
    assert np.array_equal(by_labels, base) == (tier == "guessed-rest")
    assert np.array_equal(by_answers, base) == (tier != "guessed-rest")


def test_fine_tuning_trains_the_stolen_angles() -> None:
    """Planted: the circuit fits once two angles are turned back to 0, which no head on the frozen circuit can make good."""
    design = Design((0, 0, 1), ("aurora", "borealis"), gates("ry 0, ry 1, cx 0 1"))
    generator = np.random.default_rng(0)
    signs = generator.choice([-1, 1], (80, 3))
    inputs = np.pi / 2 - signs * generator.uniform(0.3, 1.2, (80, 3))  # the sign of each cosine
    rows, labels = ThiefRows(inputs, inputs), (signs[:, 0] * signs[:, 1] > 0).astype(int)
    loot = Parameters(np.array([1.0, -0.9]), np.zeros(3))
    thief = Thief(design, "aurora", 2, ModelSection(), ThreatSection(steps=150), "ry")
    accuracies = {}
    for tier in ("frozen-head", "fine-tune"):
        predicted = attack(thief, tier, loot, rows, labels, np.zeros((80, 2)), rows).argmax(axis=1)
        accuracies[tier] = np.mean(predicted == labels)
    assert accuracies["fine-tune"] > 0.95 > 0.85 > accuracies["frozen-head"]


@pytest.mark.parametrize("tier", sorted(TIERS))
def test_draws_are_attacked_apart(tier: str) -> None:
    """Three draws at once give each what it gives alone, up to rounding: none learns from another's rows or loot."""
    draws = []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        loot = Parameters(generator.uniform(-np.pi, np.pi, SPLIT.n_trainable), np.zeros(3))
        rows, targets = (ThiefRows(*generator.uniform(0, np.pi, (2, count, 4))) for count in (8, 15))
        draws.append((loot, rows, generator.integers(0, 2, 8), generator.dirichlet([1, 1], 8), targets, (seed, 0, 1)))
    thief = Thief(SPLIT, "aurora", 2, ModelSection(), ThreatSection(steps=10), "ry")

    def together(chosen: list[Any]) -> np.ndarray:
        loots, rows, labels, answers, targets, keys = zip(*chosen, strict=True)
        stacked = ThiefRows.stack(rows), np.stack(labels), np.stack(answers), ThiefRows.stack(targets)
        return thief.attack(tier, Parameters.stack(loots), *stacked, keys)

    alone = np.concatenate([together([draw]) for draw in draws])
    np.testing.assert_allclose(together(draws), alone, atol=1e-3)
    assert np.abs(alone[0] - alone[1]).max() > 0.01


def test_the_service_is_distilled_by_guessing_the_rest() -> None:
    """With the whole design at one provider there is no rest to guess, only the owner's kind of head to fit to its answers."""
    design = Design((0, 0, 0, 0), ("aurora",), gates("ry 0, cz 0 1, ry 1, cz 2 3, ry 2"))
    model = QNN(design, 2, ModelSection(), "ry")
    generator = np.random.default_rng(0)
    owner = Parameters(generator.uniform(-np.pi, np.pi, 3), np.array([4.0, 0.3, -0.3]))
    inputs = generator.uniform(0, np.pi, (30, 4))
    answers = model.probabilities(owner, inputs)
    rows = ThiefRows(inputs, inputs)
    thief = Thief(design, "aurora", 2, ModelSection(), ThreatSection(steps=300), "ry")
    copied = attack(thief, "guessed-rest", owner, rows, np.zeros(30, int), answers, rows)
    np.testing.assert_allclose(copied, answers, atol=0.02)


@pytest.mark.parametrize(("rows", "width"), [(5, 3), (8, 6), (6, 20)])
def test_fit_encoding_is_the_regression_that_predicts_a_left_out_row_best(rows: int, width: int) -> None:
    """Oracle: scikit-learn's ridge, and least squares on one column, refitted without each row in every scale."""
    generator = np.random.default_rng(rows)
    scale = 10.0 ** generator.uniform(-2, 2, width)
    features, targets = generator.normal(2, 1, (rows, width)) * scale, generator.normal(2, 1, (40, width)) * scale
    angles = features @ generator.normal(size=(width, 2)) / scale.max() + generator.normal(0, 0.1, (rows, 2))
    together = np.concatenate([features, targets])
    scales = [together - together.mean(axis=0), StandardScaler().fit_transform(together)]
    for components in (2, 4):
        if components <= width:
            scales.append(StandardScaler().fit_transform(PCA(components).fit_transform(together)))
    best: list[tuple[float, np.ndarray]] = [(np.inf, angles)] * 2
    for scaled in scales:
        scaled = scaled / np.sqrt(np.mean(np.sum(scaled**2, axis=1)))
        models = [(Ridge(alpha), scaled, 1) for alpha in rows * 10.0 ** np.arange(-6, 3.1, 0.5)]
        models += [(LinearRegression(), scaled[:, [column]], 10) for column in range(scaled.shape[1])]
        for model, columns, luck in models:
            left_out = cross_val_predict(model, columns[:rows], angles, cv=LeaveOneOut())
            predicted = model.fit(columns[:rows], angles).predict(columns[rows:])
            for qubit, error in enumerate(luck * np.mean((left_out - angles) ** 2, axis=0)):
                if error < best[qubit][0] * (1 - 1e-9):
                    best[qubit] = error, predicted[:, qubit]
    expected = np.stack([predicted for _, predicted in best], axis=1)
    np.testing.assert_allclose(fit_encoding(features, angles, targets), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list_scenarios())
def test_the_thiefs_encoding_is_near_the_best_that_its_rows_allow(name: str) -> None:
    """Chosen by what is left out it errs hardly more than the linear fit that would be chosen by the true angles."""
    workload = Workload(load_scenario(name))
    features = workload.protocol.dataset.features
    fitted, possible = [], []
    for draw in workload.draws(0, "test")[:4]:
        rows = np.concatenate([draw.rows.tuning, draw.rows.test])
        truth = draw.owner.transform(features[rows])
        together = features[np.concatenate([draw.rows.thief, rows])]
        known = len(draw.rows.thief)
        scales = [together - together.mean(axis=0), StandardScaler().fit_transform(together)]
        scales.append(StandardScaler().fit_transform(PCA(min(truth.shape[1], *together.shape)).fit_transform(together)))
        errors = []
        for scaled in scales:
            scaled = scaled / np.sqrt(np.mean(np.sum(scaled**2, axis=1)))
            for alpha in known * 10.0 ** np.arange(-6, 3.1):
                errors.append(np.abs(Ridge(alpha).fit(scaled[:known], draw.queries).predict(scaled[known:]) - truth).mean())
        fitted.append(np.abs(fit_encoding(features[draw.rows.thief], draw.queries, features[rows]) - truth).mean())
        possible.append(min(errors))
    assert np.mean(fitted) < 1.25 * np.mean(possible) + 0.01


def test_fit_encoding_finds_a_linear_map() -> None:
    """Enough queries give the owner's preprocessing away, up to the small ridge."""
    generator = np.random.default_rng(0)
    features, targets = generator.uniform(-1, 1, (40, 4)), generator.uniform(-1, 1, (20, 4))
    matrix, offset = generator.normal(size=(4, 4)), generator.normal(size=4)
    np.testing.assert_allclose(fit_encoding(features, features @ matrix + offset, targets), targets @ matrix + offset, atol=0.02)


def test_fit_encoding_sees_that_every_qubit_has_one_feature() -> None:
    """Six rows of eight independent features: no regression on all of them could tell."""
    generator = np.random.default_rng(0)
    features, targets = generator.uniform(size=(6, 8)), generator.uniform(size=(50, 8))
    np.testing.assert_allclose(fit_encoding(features, 3 * features - 1, targets), 3 * targets - 1, atol=1e-9)


def test_fit_encoding_of_equal_rows_is_their_mean() -> None:
    """A thief whose rows do not differ learns nothing, and nothing breaks."""
    fitted = fit_encoding(np.ones((3, 5)), np.array([[1.0], [2.0], [3.0]]), np.arange(10.0).reshape(2, 5))
    np.testing.assert_allclose(fitted, [[2.0], [2.0]])


SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=20)


@given(SCORES, SCORES)
def test_auc_agrees_with_scikit_learn(members: list[int], others: list[int]) -> None:
    """With many ties."""
    expected = roc_auc_score([1] * len(members) + [0] * len(others), members + others)
    assert auc(np.array(members, float), np.array(others, float)) == pytest.approx(expected, abs=1e-12)
    assert auc(np.array(others, float), np.array(members, float)) == pytest.approx(1 - expected, abs=1e-12)


def test_auc_at_its_ends() -> None:
    """Separated, reversed, all equal."""
    low, high = np.arange(5.0), np.arange(10.0, 13.0)
    assert (auc(high, low), auc(low, high), auc(np.zeros(4), np.zeros(7))) == (1.0, 0.0, 0.5)


def test_loss_scores_by_hand() -> None:
    """log p_y − log Σ_{k≠y} p_k, finite at both ends."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    scores = loss_scores(probabilities, np.array([0, 2, 0, 1]))
    np.testing.assert_allclose(scores[:2], [np.log(0.7 / 0.3), np.log(0.25 / 0.75)])
    assert np.isfinite(scores).all() and scores[2] > 100 and scores[3] < -100


DEEP = Design(
    (0, 0, 1, 1),
    ("aurora", "borealis"),
    gates(
        ", ".join(
            f"{axis} {a}, {axis} {b}, cz {a} {b}, reupload {a}, reupload {b}, ry {a}, ry {b}"
            for axis in ("ry", "rx", "rz")
            for a, b in ((0, 1), (2, 3))
        )
    ),
)
MEMBERSHIP: dict[str, dict[str, Any]] = {
    "draws": {"count": 6, "train_rows": 20, "half_split": True, "thief_rows_per_class": 3},
    "reward": {"accuracy": 0.5, "theft": 0.0, "membership": 0.5},
    "threat": {"steps": 1, "tiers": ["frozen-head"]},
}


def test_a_model_that_memorised_leaks_its_members(random_labels_file: Path) -> None:
    """Few rows with random labels and many steps: members are told from non-members well above chance, and it costs."""
    sections = MEMBERSHIP | {"draws": MEMBERSHIP["draws"] | {"train_rows": 10}}
    evaluation = Evaluator(planted_scenario(random_labels_file, **sections, model={"steps": 100})).evaluate(DEEP)
    assert evaluation.membership_auc > 0.75
    assert min(evaluation.per_draw["membership_auc"]) > 0.6
    learned = max(0.0, evaluation.accuracy - evaluation.chance) / (1 - evaluation.chance)
    kept = 1 - 2 * (evaluation.membership_auc - 0.5)
    assert evaluation.rewards["membership"] == pytest.approx(0.5 * learned * kept)


def test_a_model_that_was_never_shown_its_rows_leaks_nothing(random_labels_file: Path) -> None:
    """An untrained model's AUC is ½ within its own sampling error, averaged over the draws."""
    scenario = planted_scenario(random_labels_file, **MEMBERSHIP, model={"steps": 1, "learning_rate": 1e-9})
    evaluation = Evaluator(scenario).evaluate(DEEP)
    n = 20
    deviation = np.sqrt((2 * n + 1) / (12 * n * n))
    assert abs(evaluation.membership_auc - 0.5) < 3 * deviation / np.sqrt(6)
    assert np.std(evaluation.per_draw["membership_auc"]) < 3 * deviation


def test_rows_that_neither_side_saw_give_one_half() -> None:
    """A trained model's loss does not tell two fresh samples apart."""
    generator = np.random.default_rng(2)
    inputs, labels = generator.uniform(0, np.pi, (320, 4)), generator.integers(0, 2, 320)
    model = QNN(DEEP, 2, ModelSection(head="linear", steps=150))
    trained = model.train(inputs[:20], labels[:20], [0])
    scores = loss_scores(model.probabilities(trained, inputs), labels)
    never = auc(scores[20:170], scores[170:])
    assert abs(never - 0.5) < 3 * np.sqrt((150 + 150 + 1) / (12 * 150 * 150))
    assert auc(scores[:20], scores[20:]) > 0.7


@pytest.fixture(scope="module")
def toy() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Six features of very different scales; only the first two matter."""
    generator = np.random.default_rng(3)
    yield generator.normal(size=(600, 6)) * [1, 1, 1e-3, 1e-3, 10, 10], np.arange(600)


def test_each_control_learns_what_it_can(toy: tuple[np.ndarray, np.ndarray]) -> None:
    """A straight border for both; a ring only for the kernel."""
    features, _ = toy
    straight = (features[:, 0] + features[:, 1] > 0).astype(int)
    ring = (features[:, 0] ** 2 + features[:, 1] ** 2 > 1.4).astype(int)

    def accuracy(name: str, labels: np.ndarray) -> float:
        return float(np.mean(RAW_CONTROLS[name](features[:300], labels[:300], features[300:]) == labels[300:]))

    assert accuracy("linear", straight) > 0.9 and accuracy("kernel", straight) > 0.85
    assert accuracy("linear", ring) < 0.65 and accuracy("kernel", ring) > 0.75


def test_controls_do_not_depend_on_the_design(parity: Scenario, parity_evaluation: Evaluation) -> None:
    """An agent cannot weaken its own yardstick, and the strongest control is chosen on the tuning rows."""
    evaluator = Evaluator(parity)
    idle = evaluator.evaluate(Design((0, 1, 0, 1), ("borealis", "aurora"), gates("rz 0")))
    assert idle.per_draw["control"] == parity_evaluation.per_draw["control"]
    assert (idle.control, idle.control_name) == (parity_evaluation.control, parity_evaluation.control_name)
    other = evaluator.evaluate(HOLDS_PARITY, seed=2)
    assert other.per_draw["control"] != idle.per_draw["control"]


def test_the_control_is_the_best_on_tuning_rows(parity: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: one control is right on the tuning rows and wrong elsewhere, another the other way round."""
    modest(monkeypatch)
    workload = Workload(parity)
    draws = workload.draws(0, "search")
    by_targets = {draw.raw_targets.tobytes(): draw for draw in draws}

    def planted(right_on_tuning: bool) -> Any:
        def predict(features: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> np.ndarray:
            draw = by_targets[targets.tobytes()]
            tuning = draw.tuning_labels if right_on_tuning else 1 - draw.tuning_labels
            return np.concatenate([tuning, 1 - draw.score_labels if right_on_tuning else draw.score_labels])

        return predict

    monkeypatch.setitem(RAW_CONTROLS, "lucky", planted(False))
    monkeypatch.setitem(RAW_CONTROLS, "tuned", planted(True))
    control = workload.control(0, "search")
    assert control.name == "tuned"
    np.testing.assert_array_equal(control.accuracies, [0.0, 0.0])


def test_the_reference_model_fits_every_register() -> None:
    """Also where the scenario allows more parts than qubits."""
    for qubits, parts in ((1, 3), (2, 1), (5, 2)):
        scenario = parse_scenario(
            {
                "name": "tiny",
                "title": "tiny",
                "data": {"source": "iris", "reducer": "pca"},
                "design": {"qubits": qubits, "max_parts": parts, "max_gates": 20},
                "providers": [{"name": "aurora"}],
            }
        )
        model = reference_qnn(scenario, 3)
        assert model.design.n_qubits == qubits and model.design.n_trainable == 2 * qubits

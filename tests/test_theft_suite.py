"""The theft suite and label recovery against planted truths."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planted import HOLDS_PARITY, gates, modest, named, parity_file, planted_scenario
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from qumos_env.attacks.confidentiality import label_recovery, theft
from qumos_env.attacks.confidentiality.label_recovery import CONFIDENT, count_votes, repaired, training_traffic, unmask
from qumos_env.attacks.confidentiality.stealing import Effort, Outcome, Scene
from qumos_env.attacks.confidentiality.theft import coalitions, without_loot
from qumos_env.attacks.results import Measurement
from qumos_env.design import Design
from qumos_env.design.gate_cuts import cut_angles
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.thief import AUDIT_TIERS, TIERS, Thief, ThiefRows, nearest_mean_logits
from qumos_env.evaluation.workload import Workload
from qumos_env.model.cutting.estimator import CutEngine
from qumos_env.model.heads import make_head, softmax
from qumos_env.model.training import Parameters, one_hot
from qumos_env.scenario.sections import ModelSection, ThreatSection

QUICK = Effort(restarts=2, step_factor=1)


SPLIT = Design((0, 1, 0, 1), ("aurora", "borealis"), gates("ry 0, rx 2, cz 0 2, ry 1, rx 3, cz 1 3, ry 3"))


@pytest.fixture(scope="module")
def make_victim(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Service]:
    """Trains a design on parity data."""
    path = parity_file(tmp_path_factory.mktemp("data"))

    def make(design: Design, providers: int = 2, **sections: dict[str, Any]) -> Service:
        sections["providers"] = [{"name": name} for name in ("aurora", "borealis", "cygnus")[:providers]]  # type: ignore[assignment]
        return Service.train(Workload(planted_scenario(path, **{"design": {"max_parts": 4}, **sections})), design, seed=5)

    return make


@pytest.fixture(scope="module")
def parity(make_victim: Callable[..., Service]) -> Service:
    return make_victim(HOLDS_PARITY)


@pytest.fixture(scope="module")
def measurements(parity: Service) -> dict[str, Measurement]:
    return named(theft.run(parity, effort=QUICK).measurements)


def accuracy(victim: Service) -> float:
    return float(np.mean(victim.answer(victim.test, "1").argmax(axis=-1) == victim.labels[victim.test]))


def test_every_tier_and_source_has_a_figure_with_its_control(measurements: dict[str, Measurement], parity: Service) -> None:
    expected = {f"{name}, as-is: accuracy" for name in ("aurora", "borealis")}
    tiers = (*TIERS, "stacked", "self-trained", "denoised", "pooled")
    expected |= {f"{name}, {tier}{end}: accuracy" for name in ("aurora", "borealis") for tier in tiers for end in ("", " from queries")}
    assert set(measurements) == expected | {"no loot, from queries: accuracy", "best thief: accuracy"}
    scene = Scene(parity)
    nobody = {source: without_loot(scene, source, QUICK) for source in ("labels", "queries")}
    strongest = max(nobody.values(), key=lambda outcome: outcome.tuning.mean())
    np.testing.assert_array_equal(measurements["no loot, from queries: accuracy"].values, nobody["queries"].test)
    for name, measurement in measurements.items():
        assert measurement.values.shape == (4,) and np.isfinite(measurement.values).all()
        beside = nobody["queries" if name.endswith("from queries: accuracy") and not name.startswith("no loot") else "labels"]
        np.testing.assert_array_equal(measurement.controls, (strongest if name.startswith("best thief") else beside).test)


def test_no_model_without_loot_is_better_than_the_control_on_tuning_rows(parity: Service) -> None:
    """A quantum one, a closed-form one, and scikit-learn's on the thief's raw rows."""
    scene = Scene(parity)
    nobody = scene.thief("nobody")
    tuned = [scene.steal(nobody, "guessed-rest", "labels", QUICK).tuning.mean(), scene.closed_form(nobody, "labels").tuning.mean()]
    for classifier in (LogisticRegression(max_iter=1000), SVC(C=10.0)):
        guesses = [
            make_pipeline(StandardScaler(), clone(classifier)).fit(draw.raw_thief, draw.thief_labels).predict(draw.raw_targets)
            for draw in scene.draws
        ]
        right = np.stack([one[: len(draw.tuning_labels)] == draw.tuning_labels for one, draw in zip(guesses, scene.draws, strict=True)])
        tuned.append(right.mean())
    assert without_loot(scene, "labels", QUICK).tuning.mean() >= max(tuned) - 1e-12


def test_an_audit_shows_no_less_than_a_reward(parity: Service, make_victim: Callable[..., Service]) -> None:
    """The same rows and seed: on the test split, for designs that leak and designs that do not."""
    for design in (HOLDS_PARITY, SPLIT, Design((0, 0, 1, 1), ("aurora", "borealis"), gates("ry 0"))):
        victim = make_victim(design)
        rewarded = Evaluator(victim.scenario).evaluate(design, seed=victim.seed, rows="test")
        audited = named(theft.run(victim, effort=Effort(1, 1)).measurements)["best thief: accuracy"]
        assert audited.interval.mean >= rewarded.theft - 1e-12


def test_who_holds_everything_has_the_model(measurements: dict[str, Measurement], parity: Service) -> None:
    """Aurora's part is the model."""
    assert accuracy(parity) > 0.9
    for name in ("aurora, frozen-head", "best thief"):
        assert measurements[f"{name}: accuracy"].interval.mean > accuracy(parity) - 0.07
    assert "aurora" in measurements["best thief: accuracy"].note


def test_loot_is_worth_what_few_rows_cannot_tell(
    make_victim: Callable[..., Service], measurements: dict[str, Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three labelled rows of a class do not tell the parity; fifteen do, to a thief that guesses a circuit and holds nothing."""
    modest(monkeypatch)
    victim = make_victim(HOLDS_PARITY, draws={"thief_rows_per_class": 3, "count": 12})
    found = theft.run(victim, [["aurora"]], ["as-is", "frozen-head"], ["labels"], QUICK)
    poor = named(found.measurements)
    assert poor["aurora, as-is: accuracy"].gain.low > 0
    rich = measurements["aurora, frozen-head: accuracy"]
    assert rich.control_interval.mean > poor["aurora, frozen-head: accuracy"].control_interval.mean + 0.1
    assert rich.gain.mean < 0.1


def test_a_part_without_information_gives_no_gain(measurements: dict[str, Measurement]) -> None:
    """Borealis holds one noise feature and no gate: what the part gives is chance."""
    for tier in ("as-is", "frozen-head", "fine-tune"):
        interval = measurements[f"borealis, {tier}: accuracy"].interval
        assert interval.low - 0.02 < 0.5 < interval.high + 0.02
        assert measurements[f"borealis, {tier}: accuracy"].gain.low <= 0


def test_a_coalition_of_all_providers_recovers_the_model(make_victim: Callable[..., Service]) -> None:
    """Cygnus holds the product, aurora the noise: alone aurora has nothing, together they hold the owner's circuits."""
    design = Design((0, 0, 0, 1), ("cygnus", "aurora"), HOLDS_PARITY.gates)
    victim = make_victim(design, providers=3)
    everyone = theft.run(victim, [("aurora", "borealis", "cygnus")], ["frozen-head"], ["labels"], QUICK).measurements[0]
    alone = theft.run(victim, [("aurora",)], ["frozen-head"], ["labels"], QUICK).measurements[0]
    assert everyone.name == "aurora+borealis+cygnus, frozen-head: accuracy"
    assert everyone.interval.mean > accuracy(victim) - 0.07 > alone.interval.mean + 0.2


def test_as_is_with_everything_and_a_parameter_free_head_is_the_model(make_victim: Callable[..., Service]) -> None:
    """Stolen circuits under the known head give the owner's own answers, row by row, once the encoding is the same."""
    design = SPLIT
    victim = make_victim(design, model={"head": "fixed", "steps": 5})
    scenario = victim.scenario
    thief = Thief(design, ("borealis", "aurora"), 2, scenario.model, scenario.threat, scenario.data.axis)
    inputs = victim.encode(victim.test)
    rows = ThiefRows(inputs, inputs * 0)
    blank = np.zeros((4, inputs.shape[1]), int)
    answers = thief.attack("as-is", victim.trained, rows, blank, one_hot(blank, 2), rows, victim.keys("0"))
    np.testing.assert_allclose(answers, victim.answer(victim.test, "1"), atol=1e-6)


CUT = Design(SPLIT.partition, SPLIT.assignment, (*SPLIT.gates, *gates("rzz 0 1, ry 0, ry 1")))


def test_no_thief_has_the_angle_of_a_cut(make_victim: Callable[..., Service]) -> None:
    """Not even one that holds both sides: whatever the trained angle is, it gets the same, and its circuit is not the owner's."""
    victim = make_victim(CUT, model={"head": "fixed", "steps": 5})
    scenario = victim.scenario
    (secret,) = cut_angles(CUT)
    other = Parameters(victim.trained.angles + 1.3 * (np.arange(CUT.n_trainable) == secret), victim.trained.head)
    inputs = victim.encode(victim.test)
    rows, labels = ThiefRows(inputs, inputs), victim.labels[victim.test]
    answers = victim.answer(victim.test, "1")
    for providers in (("aurora", "borealis"), ("aurora",)):
        thief = Thief(CUT, providers, 2, scenario.model, scenario.threat, scenario.data.axis)
        for tier in thief.tiers(("as-is", "frozen-head", "fine-tune")):
            found, again = (
                thief.attack(tier, loot, rows, labels, answers, rows, victim.keys("0"), steps=3) for loot in (victim.trained, other)
            )
            np.testing.assert_array_equal(found, again)
    everything = Thief(CUT, ("aurora", "borealis"), 2, scenario.model, scenario.threat, scenario.data.axis)
    found = everything.attack("as-is", victim.trained, rows, labels, answers, rows, victim.keys("0"))
    assert np.abs(found - answers).max() > 0.01


def test_who_holds_both_sides_of_a_cut_has_the_service(make_victim: Callable[..., Service]) -> None:
    """The angle of the cut is inferred from answers to the thief's own rows; its sums are then the owner's logits but for the scale."""
    victim = make_victim(CUT, model={"head": "fixed"}, draws={"count": 2, "thief_rows_per_class": 8})
    draws = victim.workload.draws(victim.seed, "test")
    queries, inputs = np.stack([draw.queries for draw in draws]), victim.encode(victim.test)
    answers = victim.model.probabilities(victim.trained, queries)
    scenario = victim.scenario
    thief = Thief(CUT, ("aurora", "borealis"), 2, scenario.model, scenario.threat, scenario.data.axis)
    (secret,) = cut_angles(CUT)
    hidden = Parameters(np.where(np.arange(CUT.n_trainable) == secret, np.nan, victim.trained.angles), victim.trained.head)
    _, sums = thief.readouts(hidden, ThiefRows(queries, queries), ThiefRows(inputs, inputs), queries, answers)
    assert sums is not None
    expected = victim.model.probabilities(victim.trained, inputs)
    agree = sums[:, queries.shape[1] :].argmax(axis=-1) == expected.argmax(axis=-1)
    assert agree.mean() > 0.95


def test_variants_of_a_cut_tell_more_than_the_plain_circuit(make_victim: Callable[..., Service]) -> None:
    """Labels that the plain circuit of a side cannot show but its variants can: the phase that only S reads."""
    victim = make_victim(CUT, model={"head": "fixed", "steps": 5})
    scenario = victim.scenario
    thief = Thief(CUT, "aurora", 2, scenario.model, scenario.threat, scenario.data.axis)
    assert thief.tiers(("frozen-head",)) == ["frozen-head", "cut-variants"]
    assert Thief(SPLIT, "aurora", 2, scenario.model, scenario.threat, scenario.data.axis).tiers(("frozen-head",)) == ["frozen-head"]
    inputs = victim.encode(victim.test)
    rows = ThiefRows(inputs, inputs)
    engine = CutEngine(CUT, scenario.data.axis)
    plain = thief.stolen.readout(victim.trained.angles, inputs)
    features = engine.variant_readout([0], victim.trained.angles, inputs)
    # A label that is a linear function of one variant's reading, as far as the plain readings do not explain it.
    design = np.concatenate([plain, np.ones((*plain.shape[:2], 1))], axis=-1)
    left = np.stack([one - d @ np.linalg.lstsq(d, one, rcond=None)[0] for one, d in zip(features, design, strict=True)])
    labels = (left[..., left.std(axis=1).mean(axis=0).argmax()] > 0).astype(int)
    answers = one_hot(labels, 2)
    right = {}
    for tier in ("frozen-head", "cut-variants"):
        found = thief.attack(tier, victim.trained, rows, labels, answers, rows, victim.keys("0"), steps=200)
        right[tier] = np.mean(found.argmax(axis=-1) == labels)
    assert right["cut-variants"] > 0.85 > right["frozen-head"] + 0.1


def test_as_is_reads_what_is_missing_as_nothing(make_victim: Callable[..., Service]) -> None:
    """One provider alone: the same head on ⟨Z⟩ with the other's qubits at 0."""
    victim = make_victim(SPLIT, model={"head": "scaled", "steps": 5})
    thief = Scene(victim).thief("borealis")
    inputs = victim.encode(victim.test)
    rows = ThiefRows(inputs, inputs)
    blank = np.zeros((4, inputs.shape[1]), int)
    answers = thief.attack("as-is", victim.trained, rows, blank, one_hot(blank, 2), rows, victim.keys("0"))
    values = victim.model.stack.readout(victim.trained.angles, inputs) * [0, 1, 0, 1]
    logits = 3 * np.stack([values[..., 0] + values[..., 2], values[..., 1] + values[..., 3]], axis=-1)
    np.testing.assert_allclose(answers, softmax(logits), atol=1e-6)


def test_nearest_mean_is_nearest_centroid() -> None:
    generator = np.random.default_rng(0)
    features, labels, targets = generator.normal(size=(30, 5)), generator.integers(0, 3, 30), generator.normal(size=(50, 5))
    logits = nearest_mean_logits(features[None], one_hot(labels, 3)[None], targets[None])[0]
    np.testing.assert_array_equal(logits.argmax(axis=1), NearestCentroid().fit(features, labels).predict(targets))


@pytest.mark.parametrize("tier", sorted(AUDIT_TIERS))
@pytest.mark.parametrize("source", ["labels", "queries"])
def test_the_thief_of_one_part_is_given_nothing_of_the_other(parity: Service, tier: str, source: Any) -> None:
    """Other angles in borealis' part and another head change nothing for aurora, except through the service's answers."""
    victim = replace(parity, model=type(parity.model)(SPLIT, 2, parity.scenario.model, "ry"))
    angles = np.random.default_rng(1).uniform(-3, 3, (4, SPLIT.n_trainable))
    theirs = np.array([SPLIT.partition[gate.qubits[0]] == 1 for gate in SPLIT.gates if gate.trainable])
    head = victim.model.initial([0]).head

    def stolen(changed: np.ndarray, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scene = Scene(replace(victim, trained=Parameters(changed, heads)))
        outcome = scene.steal(scene.thief("aurora"), tier, source, Effort(1, 1))
        return outcome.tuning, outcome.test

    base = stolen(angles, np.tile(head, (4, 1)))
    other = stolen(np.where(theirs, angles + 1.1, angles), np.tile(-head, (4, 1)))
    mine = stolen(np.where(theirs, angles, angles + 1.1), np.tile(head, (4, 1)))
    same = np.array_equal(base, other)
    assert same == (source == "labels")
    assert not np.array_equal(base, mine)


def test_restarts_are_chosen_on_tuning_rows(parity: Service) -> None:
    """Planted: the first restart is right on tuning rows only, the second on test rows only; the first is taken."""
    scene = Scene(parity)
    draws = scene.draws
    tuning, test = (np.stack([getattr(draw, name) for draw in draws]) for name in ("tuning_labels", "score_labels"))
    lucky = np.concatenate([1 - tuning, test], axis=1)
    tuned = np.concatenate([tuning, 1 - test], axis=1)
    outcome = scene.outcome(one_hot(np.stack([lucky, tuned]), 2))
    np.testing.assert_array_equal(outcome.tuning, 1)
    np.testing.assert_array_equal(outcome.test, 0)


def test_more_effort_is_more_training(make_victim: Callable[..., Service]) -> None:
    """Restarts are independent trainings, of which the first is the single one; more steps fit the thief's rows better."""
    victim = make_victim(SPLIT)
    scene = Scene(victim)
    thief = scene.thief("aurora")
    one, three = (scene.steal(thief, "guessed-rest", "labels", Effort(restarts, 1)) for restarts in (1, 3))
    assert (three.tuning >= one.tuning - 0.02).all() and three.tuning.mean() > one.tuning.mean()
    rows = scene.rows

    def loss(steps: int) -> float:
        found = thief.attack("fine-tune", victim.trained, rows, scene.labels, scene.answers, rows, victim.keys("0"), steps=steps)
        return -float(np.mean(np.log(np.take_along_axis(found, scene.labels[..., None], axis=-1))))

    assert loss(100) < loss(5) - 0.02


def test_the_strongest_thief_is_named_by_its_tuning_rows(parity: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(scene: Scene, thief: Thief, tier: str, *_: Any, **__: Any) -> Any:
        better = thief.provider == "borealis" and tier == "frozen-head"
        return Outcome(np.full(4, 0.9 if better else 0.5), np.full(4, 0.1 if better else 0.8), np.zeros((4, 1, 2)))

    monkeypatch.setattr(Scene, "steal", planted)
    best = theft.run(parity, tiers=tuple(TIERS), sources=["labels"]).measurements[-1]
    np.testing.assert_array_equal(best.values, 0.1)
    assert "borealis, frozen-head" in best.note


def test_coalitions(make_victim: Callable[..., Service], parity: Service) -> None:
    victim = make_victim(Design((0, 0, 0, 1), ("cygnus", "aurora"), HOLDS_PARITY.gates), providers=3)
    assert coalitions(victim, 1) == [("aurora",), ("cygnus",)]
    assert coalitions(victim, 2) == [("aurora", "borealis"), ("aurora", "cygnus"), ("borealis", "cygnus")]
    for size in (0, 3):
        with pytest.raises(QumosError, match=f"coalition is {size}.* choose 1 to 2"):
            coalitions(parity, size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": [("aurra",)]}, "did you mean aurora"),
        ({"groups": [("aurora", "aurora")]}, "each once"),
        ({"tiers": ["frozen"]}, "did you mean frozen-head"),
        ({"sources": ["label"]}, "did you mean labels"),
    ],
)
def test_what_does_not_exist_is_refused(parity: Service, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(QumosError, match=message):
        theft.run(parity, effort=Effort(1, 1), **arguments)


def test_the_size_of_coalitions_is_the_scenarios(parity: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    class Together(ThreatSection):
        coalition: int = 2

    monkeypatch.setattr(parity.scenario.__class__, "threat", Together(steps=5), raising=False)
    monkeypatch.setitem(parity.scenario.__dict__, "threat", Together(steps=5))
    found = theft.run(parity, tiers=["as-is"], sources=["labels"], effort=Effort(1, 1)).measurements
    assert found[0].name == "aurora+borealis, as-is: accuracy"


def test_the_recorded_training_is_the_victims(parity: Service) -> None:
    """The traffic ends in the victim's own parameters, and its readouts are those of its angles."""
    rows = parity.together("train")
    traffic = training_traffic(parity, parity.labels[rows])
    np.testing.assert_array_equal(traffic.trained.angles, parity.trained.angles)
    assert traffic.readouts.shape == (60, 4, 80, 4) and traffic.angles.shape == (60, 4, HOLDS_PARITY.n_trainable)
    again = parity.model.stack.readout(traffic.angles[30], traffic.inputs)
    np.testing.assert_allclose(traffic.readouts[30], again, atol=1e-6)


# ⟨Z_2⟩ is the parity; the fixed head adds it to class 0, and training turns the other qubits out of its way.
PARITY_FIXED = Design((0, 0, 0, 1), ("aurora", "borealis"), gates("cx 0 1, cx 1 2, rx 0, rx 1, rx 2, rx 3"))


@pytest.fixture(scope="module")
def recovered(make_victim: Callable[..., Service]) -> dict[str, Measurement]:
    victim = make_victim(PARITY_FIXED, model={"head": "fixed"})
    assert accuracy(victim) > 0.8
    return named(label_recovery.run(victim).measurements)


def test_labels_are_read_off_the_part_that_tells_them(recovered: dict[str, Measurement]) -> None:
    """Aurora's outcomes are the model's answers to its own training rows; borealis returns noise."""
    told, noise = recovered["aurora: labels recovered"], recovered["borealis: labels recovered"]
    assert told.gain.low > 0.1
    assert noise.interval.low - 0.03 < 0.5 < noise.interval.high + 0.03 and noise.gain.low <= 0.03
    assert (told.controls >= 0.5).all()


def test_pruned_labels_are_held_against_the_rows_kept(make_victim: Callable[..., Service], recovered: dict[str, Measurement]) -> None:
    """The largest class of the confident rows may be larger than that of all."""
    victim = make_victim(PARITY_FIXED, model={"head": "fixed"})
    truth = victim.labels[victim.together("train")]
    readouts = training_traffic(victim, truth).readouts.copy()
    readouts[..., 3] = 0  # borealis' qubit
    votes = count_votes(make_head("fixed", 4, 2).logits(np.zeros(0), readouts).argmax(axis=-1), 2)
    for k, (labels, shares) in enumerate(zip(truth, votes.shares, strict=True)):
        kept = labels[shares >= CONFIDENT]
        assert recovered["aurora, pruned: labels recovered"].controls[k] == pytest.approx(np.bincount(kept).max() / len(kept))


def test_masking_hides_labels_but_not_from_who_has_some(recovered: dict[str, Measurement]) -> None:
    """A secret renaming costs the reader its names, and its own labelled rows give them back."""
    assert recovered["aurora, masked: labels recovered"].interval.mean < recovered["aurora: labels recovered"].interval.mean - 0.1
    back = recovered["aurora, masked, unmasked with own rows: labels recovered"].interval.mean
    assert back == pytest.approx(recovered["aurora: labels recovered"].interval.mean, abs=0.12)


def test_labels_behind_a_linear_head_are_read_by_example(parity: Service) -> None:
    found = named(label_recovery.run(parity).measurements)
    assert len(found) == 6 and not any("masked" in name for name in found)
    assert found["aurora: labels recovered"].interval.mean > 0.8
    assert found["aurora: labels recovered"].gain.low > 0.1
    assert abs(found["borealis: labels recovered"].interval.mean - 0.5) < 0.12


def test_votes_by_hand() -> None:
    """The later half counts; a tie goes to the lower class."""
    readings = np.array([[[2, 2, 2]], [[2, 2, 2]], [[0, 1, 1]], [[0, 1, 0]]])
    votes = count_votes(readings, 3)
    np.testing.assert_array_equal(votes.winners, [[0, 1, 0]])
    np.testing.assert_array_equal(votes.shares, [[1, 1, 0.5]])


def test_doubtful_votes_are_repaired_from_sure_ones() -> None:
    """Two clusters; the rows in doubt get the label of their cluster, the others keep theirs."""
    inputs = np.array([[[0.0], [0.1], [1.0], [1.1], [0.05], [1.05]]])
    readings = np.tile([0, 0, 1, 1, 1, 0], (10, 1, 1))
    readings[-2:, :, 4:] = [0, 1]
    votes = count_votes(readings, 2)
    assert (votes.shares[0, :4] >= CONFIDENT).all() and (votes.shares[0, 4:] < CONFIDENT).all()
    np.testing.assert_array_equal(votes.winners[0], [0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(repaired(inputs, votes)[0], [0, 0, 1, 1, 0, 1])


def test_unmasking_finds_the_permutation() -> None:
    secret = np.array([2, 0, 1])
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    names = unmask(secret[labels], labels, 3)
    np.testing.assert_array_equal(names[secret], [0, 1, 2])


def test_a_stolen_tier_needs_a_name_that_exists() -> None:
    thief = Thief(SPLIT, "aurora", 2, ModelSection(), ThreatSection(steps=1), "ry")
    nothing = np.zeros((1, 2, 4))
    with pytest.raises(QumosError, match="unknown theft tier 'as-it-is'"):
        thief.attack(
            "as-it-is",
            Parameters(np.zeros((1, SPLIT.n_trainable)), np.zeros((1, 3))),
            ThiefRows(nothing, nothing),
            np.zeros((1, 2), int),
            np.zeros((1, 2, 2)),
            ThiefRows(nothing, nothing),
            [(0,)],
        )


def test_smoothing_takes_off_noise(parity: Service, make_victim: Callable[..., Service]) -> None:
    """Planted: scores that are right but for much noise, of classes that squares of features tell, with one class favoured."""
    scene = Scene(parity)
    generator = np.random.default_rng(0)
    truth = scene.truth
    clean = one_hot(truth, 2) - 0.5
    draws = []
    for draw, labels in zip(scene.draws, truth, strict=True):
        ring = generator.normal(size=(len(labels), 2))
        ring *= np.where(labels, 0.3, 2.0)[:, None] / np.linalg.norm(ring, axis=1, keepdims=True)
        draws.append(replace(draw, raw_targets=ring))
    noisy = clean + generator.normal(0, 1.0, clean.shape) + np.array([2.0, 0.0])
    planted = Scene(parity)
    planted.__dict__["draws"] = tuple(draws)
    before = planted.outcome(noisy).test.mean()
    after = planted.denoised(planted.outcome(noisy)).test.mean()
    assert before < 0.65 and after > 0.9

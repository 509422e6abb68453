"""Label noise: wrong labels in the owner's records, which a model learns by heart, at the same rate in members and non-members."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from qumos_env.attacks.confidentiality import membership, membership_shadows
from qumos_env.audit import audit
from qumos_env.data import make_protocol
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.controls import linear
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.membership import loss_scores
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.scenario import Scenario, parse_scenario
from qumos_env.scenario.sections import DataSection, DrawSection
from qumos_env.unlearning.withdrawal import withdraw_random

DESIGN = ry_cz_ry(contiguous(4, 2), ["aurora", "borealis"], 3)


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that any model tells apart, with features enough to learn single rows by heart."""
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1], 200)
    features = generator.normal(size=(400, 4)) + 3.0 * np.where(labels == 1, 1, -1)[:, None] * np.array([1, 1, 0, 0])
    path = tmp_path_factory.mktemp("data") / "clouds.npz"
    np.savez(path, features=features, labels=labels)
    return path


def scenario(path: Path, noise: float, **threat: str) -> Scenario:
    return parse_scenario(
        {
            "name": "clouds",
            "title": "clouds",
            "data": {"source": str(path), "reducer": "none", "label_noise": noise},
            "draws": {"count": 16, "train_rows": 16, "thief_rows_per_class": 3, "tuning_rows": 10, "half_split": True},
            "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 2},
            "model": {"head": "scaled", "steps": 60},
            "threat": {"steps": 2} | threat,
            "reward": {"accuracy": 0.4, "theft": 0.0, "membership": 0.6},
            "providers": [{"name": "aurora"}, {"name": "borealis"}],
        }
    )


@pytest.fixture(scope="module")
def noisy(clouds: Path) -> Service:
    """Sixteen models, three labels in ten of whose train rows are wrong."""
    return Service.train(Workload(scenario(clouds, 0.3)), DESIGN, seed=1)


# Which labels are wrong


@pytest.mark.parametrize("noise", [0.1, 0.25, 0.5])
def test_the_share_is_exact_in_every_class_and_the_test_split_is_spared(noise: float) -> None:
    protocol = make_protocol(DataSection(source="wine", label_noise=noise), DrawSection(count=2, train_rows=36, tuning_rows=15), 6)
    truth, observed = protocol.dataset.labels, protocol.observed_labels
    wrong = observed != truth
    assert not wrong[protocol.test].any() and wrong.sum() == round(noise * len(protocol.rest))
    for name in range(3):
        assert abs(wrong[truth == name].sum() - noise * np.sum(truth[protocol.rest] == name)) < 1
        others = np.bincount(observed[wrong & (truth == name)], minlength=3)
        assert others[name] == 0 and np.count_nonzero(others) == 2


def test_it_belongs_to_data_and_split_seed_alone() -> None:
    def observed(draws: DrawSection, **fields: float) -> list[int]:
        return make_protocol(DataSection(source="wine", **({"label_noise": 0.2} | fields)), draws, 6).observed_labels.tolist()

    few, many = DrawSection(count=2, train_rows=12), DrawSection(count=16, train_rows=36, tuning_rows=15, half_split=True)
    assert observed(few) == observed(many) != observed(few, split_seed=1)
    clean = make_protocol(DataSection(source="wine"), few, 6)
    np.testing.assert_array_equal(clean.observed_labels, clean.dataset.labels)
    with pytest.raises(ValueError, match="read-only"):
        clean.observed_labels[0] = 1


def test_noise_trains_and_is_asked_about_and_truth_is_scored(noisy: Service) -> None:
    truth, observed = noisy.labels, noisy.observed_labels
    for draw in noisy.workload.draws(1, "search"):
        np.testing.assert_array_equal(draw.train_labels, observed[draw.rows.train])
        np.testing.assert_array_equal(draw.nonmember_labels, observed[draw.rows.nonmembers])
        np.testing.assert_array_equal(draw.score_labels, truth[draw.rows.score])
        np.testing.assert_array_equal(draw.thief_labels, truth[draw.rows.thief])
        np.testing.assert_array_equal(draw.tuning_labels, truth[draw.rows.tuning])
    wrong = {name: np.mean((observed != truth)[noisy.together(name)]) for name in ("train", "nonmembers")}
    assert wrong["train"] == wrong["nonmembers"] > 0.1
    task = withdraw_random(noisy, 3)
    np.testing.assert_array_equal(task.labels, observed[task.train])


def test_without_noise_nothing_is_said_of_it(clouds: Path) -> None:
    """So that scenarios hash, and cached evaluations are found, as before there was any."""
    data = {"source": "wine"}
    assert DataSection.model_validate(data | {"label_noise": 0.0}).model_dump() == DataSection.model_validate(data).model_dump()
    assert "label_noise" not in DataSection.model_validate(data).model_dump()
    plain = scenario(clouds, 0.0)
    assert "label_noise" not in plain.model_dump_json() and scenario(clouds, 0.2).hash != plain.hash
    assert parse_scenario(scenario(clouds, 0.2).model_dump(mode="json")).data.label_noise == 0.2


@pytest.mark.parametrize("noise", [-0.1, 0.6, float("nan"), "some"])
def test_other_shares_are_refused(clouds: Path, noise: float) -> None:
    with pytest.raises(QumosError, match=r"data\.label_noise") as caught:
        scenario(clouds, noise)
    assert "\n" not in str(caught.value)


# What it does


def test_wrong_labels_give_members_away(clouds: Path) -> None:
    """Planted: where classes are plain to see, only wrong labels have to be learned by heart."""
    clean, noisy = (Evaluator(scenario(clouds, noise, membership="lira")).evaluate(DESIGN, seed=1) for noise in (0.0, 0.3))
    # Measured: .52 and .76; with one pool of 32 rows, .04 is a standard error.
    assert clean.membership_auc < 0.62 and noisy.membership_auc > 0.66
    assert clean.accuracy > noisy.accuracy + 0.1 and noisy.accuracy > 0.55


def test_the_adversary_knows_the_observed_label(noisy: Service, clouds: Path) -> None:
    """Evaluation and audit give the AUC that scikit-learn finds in the losses of observed labels, and not that of true ones."""
    members, others = noisy.together("train"), noisy.together("nonmembers")
    answers = [noisy.model.probabilities(noisy.trained, noisy.encode(rows)) for rows in (members, others)]

    def by_scikit_learn(labels: np.ndarray) -> list[float]:
        # The loss of the label itself: in each model it ranks rows as the log odds do.
        asked = zip(answers, (members, others), strict=True)
        inside, outside = (np.take_along_axis(one, labels[rows][..., None], -1)[..., 0] for one, rows in asked)
        sides = np.repeat([True, False], [members.shape[1], others.shape[1]])
        return [roc_auc_score(sides, np.concatenate(pair)) for pair in zip(inside, outside, strict=True)]

    expected = by_scikit_learn(noisy.observed_labels)
    found = Evaluator(scenario(clouds, 0.3)).evaluate(DESIGN, seed=1).per_draw["membership_auc"]
    np.testing.assert_allclose(found, expected, atol=1e-6)  # ties of float32 answers aside
    pairs = next(one for one in membership.run(noisy).measurements if one.name == "loss: AUC")
    assert pairs.interval.mean == pytest.approx(np.mean(expected), abs=1e-6)
    assert np.mean(expected) > np.mean(by_scikit_learn(noisy.labels)) + 0.05


def test_what_was_not_memorised_gives_one_half_only_where_non_members_are_noisy_too(noisy: Service, clouds: Path) -> None:
    """Rows that no model saw, half of them declared members: the reason why noise belongs to a row, and not to its membership."""
    # Models that know the classes, so that a wrong label stands out, whoever has it.
    able = replace(noisy, trained=Service.train(Workload(scenario(clouds, 0.0)), DESIGN, seed=1).trained)
    pool = np.union1d(able.rows[0].train, able.rows[0].nonmembers)
    rows = np.setdiff1d(able.workload.protocol.rest, pool)
    generator = np.random.default_rng(2)
    strangers = np.stack([generator.permutation(rows) for _ in able.rows])
    declared, others = np.split(strangers[:, : 2 * (len(rows) // 2)], 2, axis=1)
    found = next(one for one in membership.run(able, declared, others).measurements if one.name == "loss: AUC").interval
    assert found.low <= 0.5 <= found.high and found.high - found.low < 0.1

    def scores(numbers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return loss_scores(able.model.probabilities(able.trained, able.encode(numbers)), labels[numbers])

    sides = np.repeat([True, False], declared.shape[1])
    one_sided = zip(scores(declared, able.observed_labels), scores(others, able.labels), strict=True)
    # A share of .3 of the members loses to all: ½ − .3/2.
    assert np.mean([roc_auc_score(sides, np.concatenate(pair)) for pair in one_sided]) == pytest.approx(0.35, abs=0.03)


def test_models_that_learn_nothing_give_one_half(clouds: Path) -> None:
    """The same noise, and angles that stay where they started."""
    noisy = scenario(clouds, 0.3)
    still = noisy.model_copy(update={"model": noisy.model.model_copy(update={"steps": 1, "learning_rate": 1e-9})})
    victim = Service.train(Workload(still), DESIGN, seed=1)
    for attack, name in ((membership, "loss: AUC"), (membership_shadows, "LiRA online: AUC")):
        found = next(one for one in attack.run(victim).measurements if one.name == name)
        assert found.interval.low <= 0.5 <= found.interval.high and abs(found.interval.mean - 0.5) < 0.1


# Few rows


def test_one_class_left_is_a_classifier_too() -> None:
    features = np.random.default_rng(0).normal(size=(5, 2))
    assert linear(features, np.ones(5, int), features[:3]).tolist() == [1, 1, 1]


def test_an_audit_scores_the_linear_model_by_the_truth(clouds: Path) -> None:
    """Right on .80 of the rows: more than have right labels where it learned, and fewer than the .99 from right labels."""
    found = audit(DESIGN, scenario(clouds, 0.3), attacks=["membership"])
    assert 0.7 < np.mean(found.linear) < 0.9

"""The estimator and the transformer in scikit-learn's own hands."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from qumos_env import DistributedQNN
from qumos_env.data import AngleEncoder
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.model.qnn import QNN
from qumos_env.scenario.sections import ModelSection
from qumos_env.simulation.channels import NoiseSpec

DESIGN = ry_cz_ry(interleaved(4, 2), ("aurora", "borealis"), 1)


def expected_failures(estimator: Any) -> dict[str, str]:
    """Checks that cannot pass, each with its reason."""
    if isinstance(estimator, AngleEncoder):
        return {}
    single = "states are of single precision: other batches of the same rows differ by some 1e-7, which is all that the checks allow"
    return {"check_methods_subset_invariance": single, "check_methods_sample_order_invariance": single}


@parametrize_with_checks([DistributedQNN(head="linear", steps=40), AngleEncoder()], expected_failed_checks=expected_failures)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_row_is_answered_alike_in_any_batch() -> None:
    """Alone, among others and in another order, to single precision."""
    generator = np.random.default_rng(3)
    inputs = generator.uniform(0, 3, (30, 4))
    model = DistributedQNN(DESIGN, head="linear", steps=40).fit(inputs, generator.integers(3, size=30))
    answers = model.predict_proba(inputs)
    order = generator.permutation(30)
    np.testing.assert_allclose(model.predict_proba(inputs[order]), answers[order], atol=1e-5)
    alone = np.concatenate([model.predict_proba(inputs[row : row + 1]) for row in range(30)])
    np.testing.assert_allclose(alone, answers, atol=1e-5)


def test_a_pipeline_is_cross_validated_and_tuned() -> None:
    features, labels = load_iris(return_X_y=True)
    pipeline = make_pipeline(AngleEncoder(), DistributedQNN(DESIGN, head="linear", steps=60))
    assert cross_val_score(pipeline, features, labels, cv=3).mean() > 0.85
    search = GridSearchCV(pipeline, {"distributedqnn__steps": [1, 40]}, cv=2).fit(features, labels)
    assert search.best_params_ == {"distributedqnn__steps": 40}


def test_classes_of_any_kind_come_back() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.uniform(0, 3, (40, 4))
    names = np.where(inputs[:, 0] > 1.5, "high", "low")
    model = DistributedQNN(DESIGN, steps=40).fit(inputs, names)
    assert model.classes_.tolist() == ["high", "low"]
    assert np.mean(model.predict(inputs) == names) > 0.9
    np.testing.assert_array_equal(model.predict(inputs), model.classes_[model.predict_proba(inputs).argmax(axis=1)])


def test_it_is_the_model_that_evaluations_train() -> None:
    generator = np.random.default_rng(1)
    inputs, labels = generator.uniform(0, 3, (30, 4)), generator.integers(3, size=30)
    model = DistributedQNN(DESIGN, 3, steps=8, learning_rate=0.2, head="linear", axis="rx", seed=5).fit(inputs, labels)
    plain = QNN(DESIGN, 3, ModelSection(head="linear", steps=8, learning_rate=0.2), "rx")
    trained = plain.train(inputs, labels, [5])
    np.testing.assert_array_equal(model.predict_proba(inputs), plain.probabilities(trained, inputs))


def test_predictions_are_the_services() -> None:
    """With noise and from shots, the same for the same seed."""
    generator = np.random.default_rng(2)
    inputs = generator.uniform(0, 3, (20, 4))
    labels = (inputs[:, 0] > 1.5).astype(int)
    sampled = Design(DESIGN.partition, DESIGN.assignment, DESIGN.gates, shots=30)
    exact, noisy, shots = (
        DistributedQNN(design, steps=10, noise=noise).fit(inputs, labels)
        for design, noise in ((DESIGN, None), (DESIGN, {"aurora": NoiseSpec(0.2, 0.2)}), (sampled, None))
    )
    np.testing.assert_array_equal(exact.parameters_.angles, noisy.parameters_.angles)
    assert not np.allclose(exact.predict_proba(inputs), noisy.predict_proba(inputs), atol=0.01)
    assert not np.allclose(exact.predict_proba(inputs), shots.predict_proba(inputs), atol=0.01)
    np.testing.assert_array_equal(shots.predict_proba(inputs), shots.predict_proba(inputs))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shots)).predict_proba(inputs), shots.predict_proba(inputs))


def test_parameters_are_taken_anew_by_every_fit() -> None:
    generator = np.random.default_rng(3)
    inputs, labels = generator.uniform(0, 3, (20, 4)), generator.integers(2, size=20)
    model = DistributedQNN(DESIGN, steps=3).fit(inputs, labels)
    again = clone(model).set_params(steps=6).fit(inputs, labels)
    model.set_params(steps=6).fit(inputs, labels)
    np.testing.assert_array_equal(model.predict_proba(inputs), again.predict_proba(inputs))
    assert model.set_params(design=Design((0, 0), ("aurora",), (Gate("ry", (0,)),))).fit(inputs[:, :2], labels).n_features_in_ == 2


@pytest.mark.parametrize(
    ("arguments", "rows", "message"),
    [
        ({"design": DESIGN}, 3, "X has 3 features, the design encodes one on each of its 4 qubits"),
        ({"n_classes": 2}, 4, "labels are 0 to 1 where n_classes is 2, got"),
        ({"head": "scaledd"}, 4, "head"),
        ({"axis": "ryy"}, 4, "did you mean ry"),
        ({"steps": 0}, 4, "steps"),
        ({"seed": -1}, 4, "seed is -1"),
    ],
)
def test_what_does_not_fit_is_said_at_fit(arguments: dict[str, Any], rows: int, message: str) -> None:
    inputs = np.random.default_rng(0).uniform(0, 3, (12, rows))
    with pytest.raises(ValueError, match=message):
        DistributedQNN(**arguments).fit(inputs, np.arange(12) % 3)


def test_one_class_is_no_problem_to_learn() -> None:
    with pytest.raises(QumosError, match="only one class"):
        DistributedQNN().fit(np.ones((5, 4)), np.zeros(5))


def test_lda_needs_labels() -> None:
    features, labels = load_iris(return_X_y=True)
    assert AngleEncoder(2, reducer="lda").fit(features, labels).transform(features).shape == (150, 2)
    with pytest.raises(QumosError, match="lda"):
        AngleEncoder(2, reducer="lda").fit(features)

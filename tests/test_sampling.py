"""Shots: seeded, unbiased, with the spread of a multinomial, and seen by the evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from qumos_env.design import Design
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.evaluation.costs import design_cost
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.model.qnn import QNN
from qumos_env.scenario import Scenario, load_scenario, parse_scenario
from qumos_env.simulation.sampling import sampled_z


def with_shots(ladder: tuple[int, ...] = (1, 100000)) -> Scenario:
    data = load_scenario("iris-smoke").model_dump(mode="json")
    data["design"]["shots"] = ladder
    return parse_scenario(data)


def test_the_same_seed_gives_the_same_shots_and_another_seed_others() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(8), size=5)
    first, again, other = (sampled_z(probabilities, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_outcomes_follow_their_probabilities() -> None:
    """One shot per row shows each outcome by the signs of its qubits."""
    exact = np.array([0.5, 0.25, 0.125, 0.125])
    signs = sampled_z(np.tile(exact, (20000, 1)), 1, np.random.default_rng(3))
    outcome = ((1 - signs) / 2 @ [2, 1]).astype(int)
    assert chisquare(np.bincount(outcome, minlength=4), exact * 20000).pvalue > 1e-3


def test_the_spread_is_that_of_so_many_shots() -> None:
    probabilities = np.tile([0.7, 0.0, 0.0, 0.3], (4000, 1))
    values = sampled_z(probabilities, 64, np.random.default_rng(4))
    np.testing.assert_allclose(values.mean(axis=0), 0.4, atol=0.01)
    np.testing.assert_allclose(values.std(axis=0), np.sqrt((1 - 0.4**2) / 64), rtol=0.05)
    # One set of shots serves all qubits: these two always agree.
    np.testing.assert_array_equal(values[:, 0], values[:, 1])


@pytest.mark.parametrize("models", [1, 4])
def test_answers_approach_the_exact_probabilities(models: int) -> None:
    design = ry_cz_ry(contiguous(4, 2), ("a", "b"), 1)
    shot = Design(design.partition, design.assignment, design.gates, shots=200000)
    generator = np.random.default_rng(0)
    model = QNN(shot, 2)
    inputs, labels = generator.uniform(0, 3, (models, 6, 4)), generator.integers(2, size=(models, 6))
    trained = model.train_many(inputs, labels, [(k,) for k in range(models)])
    answers = model.answers(trained, inputs, [(k,) for k in range(models)])
    exact = model.probabilities(trained, inputs)
    np.testing.assert_allclose(answers, exact, atol=0.03)
    assert not np.array_equal(answers, exact)


def test_the_evaluation_sees_the_shots() -> None:
    scenario = with_shots()
    design = ry_cz_ry(contiguous(4, 2), scenario.provider_names[:2], 1)
    few, many = (Design(design.partition, design.assignment, design.gates, shots) for shots in scenario.design.shots)
    evaluator = Evaluator(scenario)
    exact = evaluator.evaluate(design).accuracy
    assert evaluator.evaluate(few).accuracy < exact - 0.05
    assert abs(evaluator.evaluate(many).accuracy - exact) < 0.03
    assert design_cost(few, scenario) == pytest.approx(design_cost(many, scenario) / 100000)
    assert Evaluator(scenario).evaluate(few) == evaluator.evaluate(few)

"""Descriptors of data sets: what they say of problems with a known answer, and what they must not depend on."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from qumos_env.data import make_protocol
from qumos_env.env.descriptors import FIGURES, MOST_ROWS, QUBIT_FIGURES, Descriptors, describe, scenario_descriptors
from qumos_env.scenario import Scenario, list_scenarios, load_scenario, parse_scenario


def described(values: np.ndarray, labels: np.ndarray, thief_rows: int = 3) -> dict[str, Any]:
    """All figures by name, and the arrays."""
    found = describe(values, labels, int(labels.max()) + 1, raw_features=values.shape[1], thief_rows=thief_rows)
    named = dict(zip(FIGURES, found.figures.tolist(), strict=True))
    return named | dict(zip(QUBIT_FIGURES, found.qubits.T, strict=True)) | {"pairs": found.pairs, "triples": found.triples}


def equal(one: Descriptors, other: Descriptors) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Descriptors))


# What they say


def test_one_feature_that_decides() -> None:
    values = np.random.default_rng(0).uniform(size=(200, 4))
    found = described(values, (values[:, 2] > 0.5).astype(np.int64))
    assert found["linear"] > 0.9 and found["relevance"].argmax() == 2 and found["relevance"][2] > 0.6
    assert found["unique"].argmax() == 2 and np.delete(found["relevance"], 2).max() < 0.1
    assert found["chance"] == pytest.approx(0.5, abs=0.1) and found["balance"] > 0.95
    assert found["classes"] == pytest.approx(2 / 6) and found["rows"] == pytest.approx(200 / 1200)
    # The standard deviation of a uniform variable is 1/√12 of its range.
    assert found["spread"] == pytest.approx(1, abs=0.1)


def test_a_parity_of_two_shows_in_pairs_alone() -> None:
    values = np.random.default_rng(1).uniform(size=(300, 5))
    signs = values > 0.5
    found = described(values, (signs[:, 1] ^ signs[:, 4]).astype(np.int64))
    assert found["linear"] < 0.6 and found["relevance"].max() < 0.1
    assert found["pairs"][1, 4] == found["pairs"][4, 1] == found["pairs"].max() > 0.4
    assert set(np.flatnonzero(found["joint_relevance"] > 0.2)) == {1, 4}
    assert set(np.argsort(found["unique"])[-2:]) == {1, 4}


def test_a_parity_of_three_shows_in_triples_alone() -> None:
    values = np.random.default_rng(2).uniform(size=(300, 6))
    signs = values > 0.5
    found = described(values, (signs[:, 0] ^ signs[:, 3] ^ signs[:, 5]).astype(np.int64))
    assert found["pairs"].max() < 0.1
    strong = {(int(a), int(b)) for a, b in zip(*np.nonzero(found["triples"] > 0.25), strict=True)}
    assert strong == {(a, b) for a in (0, 3, 5) for b in (0, 3, 5) if a != b}


def test_dimensions_of_a_line_and_of_a_cube() -> None:
    generator = np.random.default_rng(3)
    labels = np.arange(300) % 2
    line = generator.uniform(size=(300, 1)) * np.array([[1.0, 2.0, -1.0, 0.5]])
    assert described(line, labels)["two_nn_dimension"] * 4 == pytest.approx(1, abs=0.25)
    assert described(line, labels)["participation"] * 4 == pytest.approx(1, abs=0.01)
    cube = generator.uniform(size=(300, 4))
    assert described(cube, labels)["two_nn_dimension"] * 4 == pytest.approx(4, abs=1)
    assert described(cube, labels)["participation"] > 0.9


def test_accuracies_are_those_of_scikit_learn() -> None:
    """Leave-one-out in closed form against leaving one out."""
    generator = np.random.default_rng(4)
    values = generator.normal(size=(60, 3))
    labels = ((values[:, 0] + values[:, 1] ** 2 + 0.3 * generator.normal(size=60)) > 1).astype(np.int64)
    found = described(values, labels)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    squares = ((standard[:, None] - standard) ** 2).sum(axis=2)
    targets = np.eye(2)[labels] - np.eye(2)[labels].mean(axis=0)
    for name, kernel in (("linear", standard @ standard.T + 1), ("kernel", np.exp(-squares / np.median(squares)))):
        machine = KernelRidge(alpha=0.01 * 60, kernel="precomputed")
        answers = cross_val_predict(machine, kernel, targets, cv=LeaveOneOut()) + np.eye(2)[labels].mean(axis=0)
        assert found[name] == pytest.approx(np.mean(answers.argmax(axis=1) == labels), abs=1e-6)
    nearest = cross_val_predict(KNeighborsClassifier(1), standard, labels, cv=LeaveOneOut())
    assert found["neighbour"] == pytest.approx(np.mean(nearest == labels), abs=1e-6)


def test_few_thief_rows_make_a_poor_thief() -> None:
    values = np.random.default_rng(5).uniform(size=(200, 4))
    labels = (values.sum(axis=1) > 2).astype(np.int64)
    few, many = described(values, labels, thief_rows=1), described(values, labels, thief_rows=40)
    assert few["thief_linear"] < many["thief_linear"] <= 1 and few["linear"] == many["linear"]


# What they must not depend on


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(12, 500), width=st.integers(1, 6), classes=st.integers(2, 4), seed=st.integers(0, 2**20))
def test_the_order_of_rows_changes_no_bit(rows: int, width: int, classes: int, seed: int) -> None:
    """Also of more rows than are looked at, and of rows that coincide."""
    generator = np.random.default_rng(seed)
    values = np.round(generator.uniform(size=(rows, width)), 2 if seed % 2 else 12)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, rows - classes)])
    order = generator.permutation(rows)
    one = describe(values, labels, classes, raw_features=9, thief_rows=2)
    other = describe(values[order], labels[order], classes, raw_features=9, thief_rows=2)
    assert equal(one, other)
    for field in fields(Descriptors):
        found = getattr(one, field.name)
        assert found.dtype == np.float32 and (found >= 0).all() and (found <= 1).all() and not found.flags.writeable


@pytest.mark.parametrize("name", list_scenarios())
def test_every_scenario_has_descriptors(name: str) -> None:
    scenario = load_scenario(name)
    found = scenario_descriptors(scenario)
    width = scenario.design.qubits
    shapes = [found.figures.shape, found.qubits.shape, found.pairs.shape, found.triples.shape, found.correlations.shape]
    assert shapes == [(len(FIGURES),), (width, len(QUBIT_FIGURES)), *[(width, width)] * 3]
    np.testing.assert_array_equal(found.pairs, found.pairs.T)
    assert equal(found, scenario_descriptors(scenario))


def from_file(path: Path, **section: Any) -> Scenario:
    data = {
        "name": "mine",
        "title": "mine",
        "data": {"source": str(path), "reducer": "pca"} | section,
        "draws": {"count": 2, "train_rows": 40, "thief_rows_per_class": 3, "tuning_rows": 20},
        "design": {"qubits": 4},
        "providers": [{"name": "aurora"}, {"name": "borealis"}],
    }
    return parse_scenario(data)


@pytest.mark.parametrize("reducer", ["pca", "lda"])
def test_rows_of_the_test_split_are_never_read(reducer: str, tmp_path: Path) -> None:
    """Other features in its rows leave every bit as it was; in one other row they do not."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 7))
    labels = (features[:, 0] + features[:, 1] > 0).astype(np.int64)
    scenarios = {}
    for name in ("before", "test", "rest"):
        changed = features.copy()
        np.savez(tmp_path / f"{name}.npz", features=changed, labels=labels)
        scenarios[name] = from_file(tmp_path / f"{name}.npz", reducer=reducer)
        protocol = make_protocol(scenarios[name].data, scenarios[name].draws, 4)
        rows = {"before": [], "test": protocol.test, "rest": protocol.rest[:1]}[name]
        changed[rows] += 100 * generator.normal(size=(len(rows), 7))
        np.savez(tmp_path / f"{name}.npz", features=changed, labels=labels)
        make_protocol.__globals__["_make_protocol"].cache_clear()
        again = make_protocol(scenarios[name].data, scenarios[name].draws, 4)
        np.testing.assert_array_equal(again.test, protocol.test)
    before, test, rest = (scenario_descriptors(scenarios[name]) for name in ("before", "test", "rest"))
    assert equal(before, test)
    assert not equal(before, rest)


def test_labels_are_those_in_the_owners_records() -> None:
    """Label noise is what the owner sees; true labels it does not have."""
    data = load_scenario("hyperplanes-few").model_dump(mode="json")
    clean = scenario_descriptors(parse_scenario(data))
    data["data"]["label_noise"] = 0.3
    noisy = scenario_descriptors(parse_scenario(data))
    place = FIGURES.index("neighbour")
    assert noisy.figures[place] < clean.figures[place] - 0.1


def test_many_rows_are_thinned_evenly() -> None:
    """Figures of a sample, the number of rows of all."""
    generator = np.random.default_rng(6)
    values = generator.uniform(size=(3000, 3))
    labels = (values[:, 0] > 0.25).astype(np.int64)
    found = described(values, labels)
    assert MOST_ROWS < 3000 and found["rows"] == pytest.approx(0.75)
    assert found["chance"] == pytest.approx((labels == 1).mean(), abs=1e-6)
    assert found["linear"] > 0.9

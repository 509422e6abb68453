"""Basis encoding of a scenario: features as bits, from preprocessing through training and attack to the bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA

from qumos_env.data import Preprocessor
from qumos_env.deployment.bundle import read_bundle
from qumos_env.deployment.export import export_bundle
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.design.encodings import ENCODINGS
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.scenario import Scenario, parse_scenario
from qumos_env.scenario.sections import DataSection

DESIGN = ry_cz_ry(interleaved(4, 2), ("aurora", "borealis"), 1)


def tiny(**data: Any) -> Scenario:
    return parse_scenario(
        {
            "name": "tiny",
            "title": "tiny",
            "data": {"source": "wine", "encoding": "basis"} | data,
            "draws": {"count": 3, "train_rows": 40, "tuning_rows": 15},
            "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 2, "max_gates": 30},
            "model": {"steps": 40, "head": "linear"},
            "threat": {"steps": 10},
            "providers": [{"name": "aurora"}, {"name": "borealis"}],
        }
    )


@pytest.mark.parametrize("scaler", ["min-max", "max-abs"])
def test_features_become_bits_at_the_middle_of_their_range(scaler: str) -> None:
    features, _ = load_wine(return_X_y=True)
    section = DataSection(source="wine", encoding="basis", scaler=scaler)
    bits = Preprocessor.fit(features, section, 3).transform(features)
    reduced = PCA(3).fit_transform(features)
    middle = (reduced.min(axis=0) + reduced.max(axis=0)) / 2 if scaler == "min-max" else 0.0
    above = reduced > middle
    assert set(np.unique(bits)) == {0.0, math.pi}
    # A component's sign is a matter of convention.
    for column in range(3):
        assert np.array_equal(bits[:, column] > 0, above[:, column]) or np.array_equal(bits[:, column] > 0, ~above[:, column])


def test_angles_settle_on_the_nearer_end() -> None:
    angles = np.array([-0.5, 0.0, math.pi / 2, 1.6, 4.0])
    np.testing.assert_array_equal(ENCODINGS["basis"].settle(angles, (0.0, math.pi)), [0, 0, 0, math.pi, math.pi])
    np.testing.assert_array_equal(ENCODINGS["angle"].settle(angles, (0.0, math.pi)), [0, 0, math.pi / 2, 1.6, math.pi])


def test_the_preprocessing_of_a_bundle_remembers_its_encoding() -> None:
    features, _ = load_wine(return_X_y=True)
    fitted = Preprocessor.fit(features, DataSection(source="wine", encoding="basis"), 3)
    written = json.loads(json.dumps(fitted.to_dict()))
    np.testing.assert_array_equal(Preprocessor.from_dict(written).transform(features), fitted.transform(features))
    del written["encoding"]
    assert Preprocessor.from_dict(written).encoding == "angle"
    with pytest.raises(QumosError, match="unknown encoding in preprocessing 'bases'; did you mean basis"):
        Preprocessor.from_dict(written | {"encoding": "bases"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"axis": "rz"}, "data: encoding basis needs axis rx or ry"),
        ({"angle_range": [0.0, 1.0]}, "data: encoding basis has an angle range of its own"),
        ({"encoding": "amplitude"}, r"data\.encoding: unknown encoding 'amplitude'; .*angle, basis"),
    ],
)
def test_contradictions_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(QumosError, match=message):
        tiny(**data)


@pytest.mark.parametrize("axis", ["rx", "ry"])
def test_the_provider_sees_basis_states(axis: str) -> None:
    """⟨Z⟩ is ±1, whichever axis turns the qubits."""
    scenario = tiny(axis=axis)
    model = QNN(DESIGN, 3, scenario.model, axis)
    inputs = Workload(scenario).draws(0, "search")[0].train
    # With all angles 0 only the CZ are left, which do not move basis states.
    values = model.stack.readout(np.zeros((1, DESIGN.n_trainable)), inputs[None])[0]
    np.testing.assert_allclose(values, np.cos(inputs), atol=1e-5)
    assert set(np.unique(np.round(values))) == {-1.0, 1.0}


def test_a_scenario_of_bits_is_evaluated() -> None:
    """The model learns from its bits, the thief's rows are bits by its own preprocessing too, and the hash tells it apart."""
    scenario = tiny()
    evaluation = Evaluator(scenario).evaluate(DESIGN)
    draw = Workload(scenario).draws(0, "search")[0]
    thief = (draw.thief.own, draw.targets.own, draw.thief.intercepted, draw.targets.intercepted)
    for rows in (draw.train, draw.score, draw.queries, *thief):
        assert set(np.unique(rows)) <= {0.0, math.pi}
    assert evaluation.accuracy > 0.6
    assert scenario.hash != tiny(encoding="angle").hash


def test_a_bundle_of_bits_answers_like_the_model(tmp_path: Path) -> None:
    scenario = tiny()
    workload = Workload(scenario)
    export_bundle(DESIGN, scenario, tmp_path / "bundle", workload=workload)
    draw = workload.draws(scenario.seed, "test")[0]
    model = QNN(DESIGN, workload.n_classes, scenario.model, scenario.data.axis)
    trained = model.train(draw.train, draw.train_labels, draw.key)
    rows = workload.protocol.dataset.features[workload.protocol.draws(scenario.seed)[0].test][:6]
    found = read_bundle(tmp_path / "bundle").predict_proba(rows)
    np.testing.assert_allclose(found, model.probabilities(trained, draw.score[:6]), atol=1e-5)

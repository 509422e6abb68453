"""Designs with gate cuts in service: answers from shots, and their bundles in the commands and in unlearning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cut_variance import predicted_variance

from qumos_env.cli import app, run
from qumos_env.deployment.bundle import read_bundle
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.design.circuits import joint_fragments
from qumos_env.design.gate_cuts import cut_angles, variant_counts
from qumos_env.errors import QumosError
from qumos_env.evaluation.workload import Workload
from qumos_env.model.cutting.estimator import CutEngine
from qumos_env.model.heads import make_head
from qumos_env.model.measured import MeasuredCircuits
from qumos_env.model.qnn import QNN
from qumos_env.model.stack import CircuitStack
from qumos_env.model.training import Parameters
from qumos_env.scenario import load_scenario
from qumos_env.scenario.sections import ModelSection
from qumos_env.simulation.channels import NoiseSpec
from qumos_env.unlearning.bundle import unlearn_bundle

LAYER = ry_cz_ry((0, 0, 1, 1), ("aurora", "borealis"), 1)


def cut_design(cuts: list[tuple[int, int]], shots: int | None = None) -> Design:
    """Two layers on each half with ``cuts`` between them, turned to another axis so that they show."""
    turn = tuple(Gate("rx", (qubit,)) for qubit in range(4))
    gates = (*LAYER.gates, *turn, *(Gate("rzz", pair) for pair in cuts), *turn, *LAYER.gates)
    return Design(LAYER.partition, LAYER.assignment, gates, shots)


def readout_of(model: QNN, angles: np.ndarray, inputs: np.ndarray, keys: list[list[int]]) -> np.ndarray:
    """⟨Z⟩ ``[rows, 4]`` behind the answers: four copies of the model, each with a linear head whose log-odds are Z of one qubit."""
    heads = np.zeros((4, 10))
    heads[np.arange(4), 2 * np.arange(4)] = 1
    np.testing.assert_array_equal(make_head("linear", 4, 2).logits(heads[1], np.array([[1.0, 2, 3, 4]])), [[2, 0]])
    many = Parameters(np.repeat(angles[None], 4, axis=0), heads)
    answers = np.log(model.answers(many, np.repeat(inputs[None], 4, axis=0), keys))
    return (answers[..., 0] - answers[..., 1]).T


@pytest.mark.parametrize("cuts", [[(1, 2)], [(1, 2), (0, 3)]], ids=["one", "two"])
def test_answers_from_shots_have_the_mean_and_variance_of_the_cut_service(cuts: list[tuple[int, int]]) -> None:
    """Unbiased, and spread as predicted for the product of means: more than the uncut circuit with the same runs in all, though less
    than with the same shots, since every variant gets these."""
    shots, repeats = 100, 4000
    design = cut_design(cuts, shots)
    generator = np.random.default_rng(3)
    angles, row = generator.uniform(-np.pi, np.pi, design.n_trainable), generator.uniform(0, np.pi, (1, 4))
    angles[list(cut_angles(design))] = 1.2
    model = QNN(design, 2, ModelSection(head="linear"))
    engine = CutEngine(design, model.axis)
    predicted = predicted_variance(engine, angles[None], engine.run(angles[None], row[None]), shots)[0, 0]
    exact = CircuitStack(joint_fragments(design, model.axis), 4).readout(angles[None], row[None])[0, 0]
    found = readout_of(model, angles, np.repeat(row, repeats, axis=0), [[5, qubit] for qubit in range(4)])
    assert np.abs((found.mean(axis=0) - exact) / np.sqrt(predicted / repeats)).max() < 4
    np.testing.assert_allclose(found.var(axis=0), predicted, rtol=0.12)
    uncut = (1 - exact**2) / shots
    assert np.all(predicted < 0.85 * uncut) and np.all(predicted > 2 * uncut / sum(variant_counts(engine.design)))


def test_noisy_answers_are_those_of_the_uncut_circuit() -> None:
    """With noise and shots, as long as noisy variants are not simulated."""
    design = cut_design([(1, 2)], shots=200)
    generator = np.random.default_rng(0)
    angles, inputs = generator.uniform(-np.pi, np.pi, design.n_trainable), generator.uniform(0, np.pi, (3, 4))
    noise = {"aurora": NoiseSpec(one_qubit=0.02, two_qubit=0.05)}
    model = QNN(design, 2, ModelSection(head="linear"), noise=noise)
    keys = [[qubit] for qubit in range(4)]
    expected = MeasuredCircuits(design, model.axis, noise).noisy.sampled_readout(
        np.repeat(angles[None], 4, axis=0), np.repeat(inputs[None], 4, axis=0), 200, keys
    )
    np.testing.assert_allclose(readout_of(model, angles, inputs, keys), expected[range(4), :, range(4)].T, atol=1e-9)


def test_more_cuts_than_can_be_recombined_give_exact_answers_only() -> None:
    design = cut_design([(1, 2), (0, 3), (0, 2), (1, 3)])
    model = QNN(design, 2)
    start = Parameters.stack([model.initial([0])])
    assert np.isfinite(model.answers(start, np.ones((1, 2, 4)), [[0]])).all()
    with pytest.raises(QumosError, match="4 gate cuts, at most 3"):
        QNN(replace(design, shots=10), 2).answers(start, np.ones((1, 2, 4)), [[0]])


# Bundles


@pytest.fixture
def exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """A bundle of the command, and what it printed."""
    (tmp_path / "design.json").write_text(cut_design([(1, 2)]).to_json(), encoding="utf-8")
    code = run(app, ["export", str(tmp_path / "design.json"), "-s", "parity-cut", "-o", str(tmp_path / "bundle"), "--seed", "3"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return tmp_path / "bundle", captured.out


def test_the_command_counts_the_variants(exported: tuple[Path, str]) -> None:
    folder, text = exported
    lines = text.splitlines()
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert lines[0].startswith(f"wrote {folder}: test accuracy ")
    assert sum(int(line.split(": ")[1].removesuffix(" files")) for line in lines[1:]) == len(files) == 4 + 2 * (2 * 5 + 1)


def test_a_cut_model_forgets_rows(exported: tuple[Path, str], tmp_path: Path) -> None:
    """Bundle in, bundle out: all angles are read, and the new variants and cut angle answer as a model again."""
    folder, _ = exported
    out = tmp_path / "forgotten"
    workload = Workload(load_scenario("parity-cut"))
    withdrawn = workload.protocol.draws(3)[0].train[:6]
    unlearn_bundle(folder, ",".join(map(str, withdrawn)), "retrain", out, workload=workload)
    before, after = read_bundle(folder), read_bundle(out)
    assert before.cut_angles != after.cut_angles
    found = after.parameters("ry")
    rows = np.random.default_rng(0).uniform(-1, 1, (4, 4))
    expected = workload.model(after.design).probabilities(found, after.preprocessor.transform(rows))
    np.testing.assert_allclose(after.predict_proba(rows), expected, atol=1e-5)

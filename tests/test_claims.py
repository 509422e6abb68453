"""What is claimed of a design, and whether it holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from planted import named

from qumos_env.attacks.confidentiality import theft
from qumos_env.audit import admission
from qumos_env.audit.admission import EFFORT
from qumos_env.audit.claims import (
    CLAIM_SEED,
    VALIDATION_SEED,
    Claim,
    Figure,
    Provenance,
    Validation,
    Worth,
    make_claim,
    measure,
    read_claim,
    validate,
    write_claim,
)
from qumos_env.audit.leaderboard import leaderboard
from qumos_env.cli import app, run
from qumos_env.design import Design
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.service import Service
from qumos_env.scenario import Scenario, load_scenario

BY = Provenance(agent="a person", command="by hand")


@pytest.fixture(scope="module")
def smoke() -> Scenario:
    return load_scenario("iris-smoke")


def ansatz(scenario: Scenario, layers: int = 1) -> Design:
    return ry_cz_ry(interleaved(scenario.design.qubits, 2), scenario.provider_names[:2], layers)


@pytest.fixture(scope="module")
def claim(smoke: Scenario) -> Claim:
    return make_claim(ansatz(smoke), smoke, BY, seeds=2)


def figure(mean: float, half: float = 0.01) -> Figure:
    return Figure(mean=mean, low=mean - half, high=mean + half)


def worth(reward: float, audited: float | None = None) -> Worth:
    beside = reward if audited is None else audited
    return Worth(reward=figure(reward), audited=figure(beside), accuracy=0.9, theft=0.5, audited_theft=0.6, cost=0.0)


def validation(claim: Claim, measured: Worth, **rivals: Worth) -> Validation:
    return Validation(claim, measured, rivals, figure(0.0))


def test_a_claim_survives_its_file(claim: Claim, smoke: Scenario, tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    write_claim(claim, path)
    assert read_claim(path) == (claim, smoke, ansatz(smoke))
    assert len(path.read_text().splitlines()) == len(Claim.model_fields) + 2


def test_the_audited_reward_takes_the_audits_thief(smoke: Scenario) -> None:
    """Oracle: the theft of the audit itself, and the formula of the reward."""
    scenario, design = smoke, ansatz(smoke)
    (found,) = measure(scenario, [design], 7, 2)
    evaluator = Evaluator(scenario)
    for seed, reward, audited, strongest in zip((7, 8), found.reward, found.audited, found.audited_theft, strict=True):
        evaluation = evaluator.evaluate(design, seed=seed, rows="test", limits=False)
        measurements = theft.run(Service.train(evaluator.workload, design, seed, "test"), effort=EFFORT).measurements
        best = named(measurements)["best thief: accuracy"]
        assert reward == evaluation.reward
        assert strongest == pytest.approx(best.interval.mean) and strongest >= evaluation.theft - 1e-12
        rival = max(evaluation.theft, evaluation.control, evaluation.query_control, best.interval.mean, best.control_interval.mean)
        lead = np.clip(evaluation.accuracy - rival, 0, max(evaluation.accuracy - evaluation.chance, 0)) / (1 - evaluation.chance)
        assert audited == pytest.approx(evaluation.rewards["accuracy"] + scenario.reward.theft * lead)
        assert audited <= reward


def test_claims_and_validations_use_other_seeds(claim: Claim, smoke: Scenario) -> None:
    """A claim is not validated on the rows it was made with."""
    assert VALIDATION_SEED >= CLAIM_SEED + 10_000
    again = validate(claim, smoke, ansatz(smoke), {"deep": ansatz(smoke, 2)}, seeds=2)
    assert set(again.rivals) == {"deep"} and again.best_rival == "deep" and again.lead is not None
    expected = [Evaluator(smoke).evaluate(ansatz(smoke), seed=VALIDATION_SEED + seed, rows="test").reward for seed in range(2)]
    assert again.worth.reward.mean == pytest.approx(np.mean(expected), abs=1e-5)
    assert again.worth.reward.mean != claim.worth.reward.mean


def test_a_claim_holds_if_the_intervals_meet(claim: Claim) -> None:
    claim = claim.model_copy(update={"worth": worth(0.5, 0.4)})
    assert validation(claim, worth(0.5, 0.4)).holds and validation(claim, worth(0.9)).holds
    assert validation(claim, worth(0.485, 0.385)).holds
    assert not validation(claim, worth(0.47, 0.4)).holds
    assert not validation(claim, worth(0.5, 0.37)).holds


def test_ahead_means_intervals_apart(claim: Claim) -> None:
    """By the audited reward, of every rival."""
    assert validation(claim, worth(0.9, 0.5), near=worth(0.95, 0.475), far=worth(0.1)).ahead
    assert not validation(claim, worth(0.9, 0.5), near=worth(0.1, 0.485)).ahead
    assert validation(claim, worth(0.5)).ahead and validation(claim, worth(0.5)).best_rival is None


def test_the_leaderboard_has_sound_claims_alone(claim: Claim) -> None:
    sound, unsound = validation(claim, claim.worth, naive=worth(0.1)), validation(claim, worth(0.0))
    page = leaderboard([sound], 2)
    assert "| iris-smoke | a person |" in page and "| naive |" in page and "`by hand`" in page
    assert "ahead of every hand-made" in page and "not ahead" not in page
    assert "iris-smoke |" not in leaderboard([unsound], 2)
    behind = validation(claim, worth(0.5), naive=worth(0.5))
    assert "not ahead of every hand-made" in leaderboard([behind], 2) or not behind.holds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenario": "iris-smok"}, "did you mean iris-smoke"),
        ({"scenario_hash": "0" * 64}, "another version of scenario iris-smoke"),
        ({"design_hash": "0" * 64}, "not the one of its hash"),
        ({"design": {}}, "design"),
        ({"seeds": 1}, "seeds"),
        ({"schema_version": 2}, "schema_version"),
        ({"worth": None}, "worth"),
        ({"wrth": 1}, "did you mean worth"),
        ({"kind": "qumos-bundle"}, "kind"),
    ],
)
def test_files_that_are_no_claims(change: dict[str, object], message: str, claim: Claim, tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    path.write_text(json.dumps(json.loads(claim.to_json()) | change))
    with pytest.raises(QumosError, match=message):
        read_claim(path)


def test_what_cannot_be_claimed(smoke: Scenario) -> None:
    with pytest.raises(QumosError, match="at least 2"):
        make_claim(ansatz(smoke), smoke, BY, seeds=1)
    with pytest.raises(QumosError, match="not in the library"):
        make_claim(ansatz(smoke), smoke.model_copy(update={"name": "mine"}), BY)
    centralised = ry_cz_ry((0,) * smoke.design.qubits, smoke.provider_names[:1], 1)
    if smoke.design.max_part_qubits < smoke.design.qubits:
        with pytest.raises(QumosError):
            make_claim(centralised, smoke, BY)


def test_the_commands(
    claim: Claim, smoke: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writes a claim, the other holds it to account; one that boasts ends with one line and exit code 2."""
    monkeypatch.setattr(admission, "handmade", lambda _: {"plain": ansatz(smoke)})
    design, path, board = tmp_path / "design.json", tmp_path / "claim.json", tmp_path / "board.md"
    design.write_text(json.dumps(ansatz(smoke).to_dict()))
    assert run(app, ["claim", str(design), "-s", "iris-smoke", "--seeds", "2", "--agent", "me", "--out", str(path)]) == 0
    made, _, _ = read_claim(path)
    assert made.worth == claim.worth and made.provenance.agent == "me" and "numpy" in made.provenance.versions
    assert run(app, ["validate", str(path), "--seeds", "2", "--leaderboard", str(board), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out.partition("\n[\n")[2].join(["[", ""]))
    assert row["holds"] and row["scenario"] == "iris-smoke" and set(row["hand_made"]) == {"plain"}
    assert "iris-smoke" in board.read_text()
    boast = made.model_copy(update={"worth": worth(5.0)})
    write_claim(boast, path)
    assert run(app, ["validate", str(path), "--seeds", "2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "does not hold: claimed 5.000" in error

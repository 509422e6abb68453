"""Admission of scenarios: the figures, the thresholds, and that a check ends."""

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qumos_env.audit import admission
from qumos_env.audit.admission import check, handmade, intraclass_correlation
from qumos_env.design import Design, Gate
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.evaluator import Evaluation, Evaluator
from qumos_env.scenario import Scenario, list_scenarios, load_scenario, parse_scenario

TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "tiny",
    "data": {"source": "iris", "reducer": "none"},
    "draws": {"count": 2, "train_rows": 20, "thief_rows_per_class": 3, "tuning_rows": 12},
    "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 3, "max_gates": 30},
    "model": {"steps": 2},
    "threat": {"steps": 2},
    "providers": [{"name": "aurora"}, {"name": "borealis"}],
}


def tiny(**sections: Any) -> Scenario:
    """``TINY`` with ``sections`` merged in."""
    data = copy.deepcopy(TINY)
    for name, values in sections.items():
        data[name] = data.get(name, {}) | values
    return parse_scenario(data)


def test_intraclass_correlation_of_a_textbook_table() -> None:
    """Six targets, four judges: ICC(1, 1) is .17 in table 4 of Shrout and Fleiss (1979)."""
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
    assert intraclass_correlation(ratings) == pytest.approx(0.1657, abs=1e-3)


def test_intraclass_correlation_at_its_ends() -> None:
    """Perfect agreement, none, no variance at all; and the share of variance that was planted."""
    designs = np.arange(10.0)[:, None]
    assert intraclass_correlation(np.repeat(designs, 3, axis=1)) == pytest.approx(1)
    assert intraclass_correlation(np.tile([1.0, 2.0, 3.0], (10, 1))) == 0
    assert intraclass_correlation(np.zeros((10, 3))) == 0
    generator = np.random.default_rng(0)
    planted = generator.normal(size=(4000, 1)) + 0.5 * generator.normal(size=(4000, 3))
    assert intraclass_correlation(planted) == pytest.approx(1 / 1.25, abs=0.03)


# What a table holds is kept small by limits that no hand-made design meets.
@pytest.mark.parametrize("name", [name for name in list_scenarios() if "table" not in load_scenario(name).tags])
def test_handmade_designs_fit_their_scenario(name: str) -> None:
    """Contiguous and interleaved, one to three layers, as far as the limits allow."""
    scenario = load_scenario(name)
    designs = handmade(scenario)
    assert {"contiguous-1", "interleaved-1"} <= set(designs)
    assert len({design.hash for design in designs.values()}) == len(designs)
    for design in designs.values():
        scenario.check_design(design)


Figures = Callable[[Design, int, str], dict[str, Any]]


@pytest.fixture(scope="module")
def template() -> Evaluation:
    """A real evaluation whose figures are then replaced."""
    return Evaluator(tiny()).evaluate(next(iter(handmade(tiny()).values())))


def plant(monkeypatch: pytest.MonkeyPatch, template: Evaluation, figures: Figures) -> list[tuple[str, int, str]]:
    """Replaces evaluations by planted figures; returns the list of what was asked for."""
    asked: list[tuple[str, int, str]] = []

    def evaluate(self: Evaluator, design: Design, *, seed: int | None = None, rows: str = "search", limits: bool = True) -> Evaluation:
        self.scenario.check_design(design, limits=limits)
        assert seed is not None
        asked.append((design.hash, seed, rows))
        planted = figures(design, seed, rows)
        fields = {name: planted.pop(name) for name in ("reward", "per_draw") if name in planted}
        return replace(template, design_hash=design.hash, seed=seed, rows=rows, measured=template.measured | planted, **fields)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    return asked


def quality(design: Design) -> float:
    """A planted, noise-free merit; the encoder with one idle gate has next to none."""
    return 0.01 if len(design.gates) == 1 else 0.2 + int(design.hash[:4], 16) / 65536


def noise(design: Design, seed: int, rows: str) -> float:
    return float(np.random.default_rng([int(design.hash[:8], 16), seed, len(rows)]).normal())


SURE = {"per_draw": {"accuracy": [0.90, 0.91], "control": [0.5, 0.5], "theft": [0.5, 0.5], "membership_auc": [0.5, 0.5]}}


def test_a_clean_scenario_is_admitted(monkeypatch: pytest.MonkeyPatch, template: Evaluation) -> None:
    """A noise-free merit: perfectly reliable, and every job is asked for once and counted."""
    asked = plant(monkeypatch, template, lambda design, seed, rows: {"reward": quality(design)} | SURE)
    seen: list[tuple[int, int]] = []
    result = check(tiny(), designs=12, on_progress=lambda done, total: seen.append((done, total)))
    assert result.passed and result.reason == ""
    assert result.reliability == pytest.approx(1) and result.test_correlation == pytest.approx(1)
    assert result.trivial_reward == pytest.approx(0.01)
    # Seeds of the search and of the test never meet.
    assert {seed for _, seed, rows in asked if rows == "search"} & {seed for _, seed, rows in asked if rows == "test"} == set()
    # What is audited is evaluated under the audit's seed beside it, that of the centralised design for the second time.
    scored = [one for one in asked if one[1] != admission.AUDIT_SEED]
    assert len(scored) == len(set(scored))
    assert seen == [(done, seen[0][1]) for done in range(1, seen[0][1] + 1)]
    best = max(quality(design) for design in handmade(tiny()).values())
    assert result.best_reward >= best - 1e-9


@pytest.mark.parametrize(
    ("figures", "sections", "reason"),
    [
        (lambda d, s, r: {"reward": noise(d, s, r)} | SURE, {}, "reliability below 0.7"),
        (lambda d, s, r: {"reward": quality(d) if r == "search" else noise(d, s, r)} | SURE, {}, "correlation with the test split"),
        (lambda d, s, r: {"reward": 3 if len(d.gates) == 1 else quality(d)} | SURE, {}, "one idle gate"),
        (
            lambda d, s, r: {"reward": quality(d)} | {"per_draw": SURE["per_draw"] | {"control": [0.9, 0.92]}},
            {"threat": {"thief": "rational"}},
            "nothing worth stealing",
        ),
        (
            lambda d, s, r: {"reward": quality(d), "membership_auc": 0.5 + 0.01 * noise(d, s, r)} | SURE,
            {"draws": {"half_split": True}, "reward": {"accuracy": 0.5, "theft": 0.3, "membership": 0.2}},
            "membership term carries no signal",
        ),
    ],
    ids=["noise", "overfit", "trivial", "worthless", "membership"],
)
def test_each_reason_to_refuse(
    figures: Figures, sections: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch, template: Evaluation
) -> None:
    """A scenario with exactly one planted fault is refused for it."""
    plant(monkeypatch, template, figures)
    result = check(tiny(**sections), designs=12)
    assert not result.passed and reason in result.reason


def test_a_loot_scenario_may_have_nothing_worth_stealing(monkeypatch: pytest.MonkeyPatch, template: Evaluation) -> None:
    """Only the rational thief's claim depends on it; the figure is reported all the same."""
    figures = {"per_draw": SURE["per_draw"] | {"control": [0.9, 0.92]}}
    plant(monkeypatch, template, lambda design, seed, rows: {"reward": quality(design)} | figures)
    result = check(tiny(), designs=12)
    assert result.passed and result.advantage < 2


def test_a_real_check_is_the_same_for_any_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is trained; two processes change nothing."""
    monkeypatch.setattr(admission, "BEST_SEEDS", (201,))
    scenario = tiny(threat={"tiers": ["fine-tune"]})
    one, two = (check(scenario, designs=2, workers=workers) for workers in (1, 2))
    assert one == two
    assert one.designs == 2
    figures = one.to_dict()
    assert all(isinstance(value, (str, int, float, bool)) for value in figures.values())
    assert figures["reliability"] == round(one.reliability, 4)


def test_a_scenario_without_rz_can_be_checked(monkeypatch: pytest.MonkeyPatch, template: Evaluation) -> None:
    """The idle reference is held against no limit."""
    plant(monkeypatch, template, lambda design, seed, rows: {"reward": quality(design)} | SURE)
    assert check(tiny(design={"gates": ["ry", "cz"]}), designs=6).designs == 6
    assert check(tiny(design={"gates": ["rx", "h"]}), designs=6).designs == 6


def test_a_design_space_that_is_too_small_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer designs exist than are asked for: that is said, not searched for for ever."""
    calls = []

    def only_one(*_: Any) -> Design:
        calls.append(1)
        if len(calls) > 100_000:
            pytest.fail("still drawing designs")
        return Design((0, 1, 0, 1), ("aurora", "borealis"), (Gate("ry", (0,)),))

    monkeypatch.setattr(admission, "random_design", only_one)
    monkeypatch.setattr(admission, "textbook_design", only_one)
    with pytest.raises(QumosError, match="design"):
        check(tiny(), designs=3)


def test_a_failed_evaluation_names_the_design(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario in which random designs diverge is not fit for comparison."""

    def fail(*_: Any, **__: Any) -> Evaluation:
        raise EvaluationFailure("training diverged in step 3")

    monkeypatch.setattr(Evaluator, "evaluate", fail)
    with pytest.raises(QumosError, match=r"design [0-9a-f]{12}: training diverged in step 3"):
        check(tiny(), designs=2)


def test_what_is_not_weighed_is_not_measured_and_not_kept(monkeypatch: pytest.MonkeyPatch, template: Evaluation) -> None:
    """NaN is no JSON, and no figure."""
    plant(monkeypatch, template, lambda design, seed, rows: {"reward": quality(design)} | SURE)
    result = check(tiny(reward={"accuracy": 1.0, "theft": 0.0}), designs=6)
    assert np.isnan(result.loot_worth) and "loot_worth" not in result.to_dict() and "reliability" in result.to_dict()


def _asleep(evaluator: Evaluator, job: int) -> int:
    Path(os.environ["QUMOS_TEST_PIDS"], str(os.getpid())).touch()
    time.sleep(600)
    return job


SLEEPERS = "from tests.test_admission import _asleep, tiny\nfrom qumos_env.audit.processes import in_processes\n"


@pytest.mark.slow
def test_workers_do_not_outlive_a_process_that_was_killed(tmp_path: Path) -> None:
    """They neither compute on nor wait for ever."""
    code = SLEEPERS + "if __name__ == '__main__':\n    in_processes(tiny(), _asleep, range(8), 2)\n"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=os.environ | {"QUMOS_TEST_PIDS": str(tmp_path)}, cwd=Path(__file__).parents[1]) as parent:
        deadline = time.monotonic() + 60
        while len(pids := [int(one.name) for one in tmp_path.iterdir()]) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        parent.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

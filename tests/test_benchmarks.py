"""The benchmarks: that sides which compute something else are refused, and what the report says. Nothing here is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import layer, report
from benchmarks.__main__ import main
from benchmarks.cases import CASES
from benchmarks.registry import Outcome, Row, Target
from benchmarks.workers import Disagreement


def test_the_layer_is_held_against_the_engine() -> None:
    rows = {row.quantity: row for row in CASES["layer-4"].run(1).rows}
    ratios = [row for name, row in rows.items() if name.startswith("QuantumLayer / ")]
    assert len(ratios) == 2 and all(row.target == Target(below=1.5) and row.unit == "x" and row.reached is not None for row in ratios)
    assert all(len(row.values) == 1 and row.values[0] > 0 for row in rows.values())


def test_sides_that_compute_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the layer's inputs are not those of the engine."""

    class Shifted(layer.QuantumLayer):
        def forward(self, inputs):  # type: ignore[no-untyped-def]
            return super().forward(inputs + 0.1)

    monkeypatch.setattr(layer, "QuantumLayer", Shifted)
    with pytest.raises(Disagreement, match="layer-4: layer differs from the engine"):
        CASES["layer-4"].run(1)


def test_every_case_compares_the_layer_with_the_peers() -> None:
    assert {f"gradient-{n}" for n in (4, 8, 12, 16)} | {"fresh", "naive", "layer-4", "layer-8", "layer-12"} <= set(CASES)
    assert all(case.title and name == case.name for name, case in CASES.items())


def test_the_report_says_what_was_missed(tmp_path: Path) -> None:
    outcomes = {"layer-4": Outcome([Row("slow", "x", [3.0, 4.0, 5.0], Target(below=1.5)), Row("gone", "ms", [], missing="no peer")])}
    facts = report.environment(outcomes)
    text = report.markdown(outcomes, facts)
    assert "| layer-4 | slow | 4 x | 3.5 to 4.5 | < 1.5 x | **no** |" in text and "| layer-4 | gone | no peer |" in text
    report.write_json(tmp_path / "found.json", outcomes, facts)
    slow, gone = json.loads((tmp_path / "found.json").read_text())["cases"]["layer-4"]["rows"]
    assert (slow["reached"], slow["values"], gone["missing"]) == (False, [3.0, 4.0, 5.0], "no peer")


def test_arguments_that_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laier"]) == 2
    assert main(["layer", "--repeats", "0"]) == 2
    assert "unknown case 'laier'" in capsys.readouterr().err

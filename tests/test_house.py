"""The house: imports run downwards only, and new things come in through the registries, without a change to the package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import cirq
import numpy as np
import pytest

from qumos_env.design import Design, Gate
from qumos_env.design.circuits import part_fragments
from qumos_env.design.encodings import AXES, ENCODINGS, Axis, Encoding
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.terms import TERMS, Evidence, Observed, TermResult, term
from qumos_env.scenario import Scenario, parse_scenario

ROOT = Path(__file__).resolve().parents[1]
# From the top. A room imports from the floors below its own, and from itself.
FLOORS = (
    ("training",),
    ("agents",),
    ("qumos_env.cli",),
    ("qumos_env.audit", "qumos_env.unlearning"),
    ("qumos_env.attacks", "qumos_env.deployment", "qumos_env.env"),
    ("qumos_env.evaluation",),
    ("qumos_env.data", "qumos_env.model"),
    ("qumos_env.scenario",),
    ("qumos_env.hardware",),
    ("qumos_env.design", "qumos_env.simulation"),
    ("qumos_env.files", "qumos_env.html", "qumos_env.records", "qumos_env.registration", "qumos_env.seeds"),
    ("qumos_env.errors",),
)
DOOR = "qumos_env"  # hands out what the rooms hold, to those outside the package


def modules() -> dict[str, Path]:
    """All modules of the package, the agents and the training, by name; packages by their ``__init__``."""
    found = {}
    for top in ("qumos_env", "agents", "training"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The modules of the project that ``name`` imports anywhere: at the top, in functions, and for type checkers alone."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            # From a package, a submodule; from a module, a name.
            targets = [f"{target}.{alias.name}" if f"{target}.{alias.name}" in MODULES else target for alias in node.names]
        yield from (target for target in targets if target in MODULES)


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return number
    raise AssertionError(f"{module} is in no room: give it one")


def room(module: str) -> str:
    return next(one for one in FLOORS[floor(module)] if module == one or module.startswith(f"{one}."))


@pytest.mark.parametrize("name", [name for name in MODULES if name != DOOR])
def test_no_import_runs_upwards(name: str) -> None:
    for target in imports(name):
        if target == DOOR:
            assert not name.startswith("qumos_env."), f"{name} goes out by the door to come in again"
        elif room(target) != room(name):
            assert floor(target) > floor(name), f"{name} (floor {floor(name)}) imports {target} (floor {floor(target)})"


def test_no_imports_run_in_a_circle() -> None:
    # A package's ``__init__`` is imported with any of its modules; it may hand out what they hold.
    arrows = {name: {target for target in imports(name) if target != name} for name in MODULES if MODULES[name].name != "__init__.py"}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name in done or name not in arrows:
            return
        for target in sorted(arrows[name]):
            visit(target, (*way, name))
        done.add(name)

    for name in arrows:
        visit(name, ())


def test_few_modules_lie_flat() -> None:
    """The folder list is the architecture."""
    assert len(FLOORS) <= 12
    for package, most in (("qumos_env", 6), ("qumos_env/attacks", 4)):
        flat = [path.stem for path in (ROOT / package).glob("*.py") if path.stem != "__init__"]
        assert len(flat) <= most, flat


# What a stranger adds


def tiny(**sections: object) -> Scenario:
    data: dict[str, object] = {
        "name": "tiny",
        "title": "tiny",
        "data": {"source": "iris", "reducer": "none"},
        "draws": {"count": 2, "train_rows": 20, "tuning_rows": 12},
        "design": {"qubits": 4},
        "model": {"steps": 5},
        "threat": {"steps": 5, "tiers": ["frozen-head"]},
        "providers": [{"name": "aurora"}, {"name": "borealis"}],
    }
    return parse_scenario(data | sections)


DESIGN = Design((0, 0, 1, 1), ("aurora", "borealis"), (Gate("ry", (0,)), Gate("ry", (2,))))


def test_a_reward_term_comes_in_through_its_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weight is one of ``reward.others``, its settings are its own table, and it reports and rewards what it says."""
    weights = {"accuracy": 0.5, "theft": 0.3, "others": {"brevity": 0.2}}
    scenario = tiny(reward=weights, extensions={"brevity": {"gates": 10}})
    with pytest.raises(QumosError, match="unknown reward term 'brevity'"):
        Evaluator(scenario)
    for name, one in list(TERMS.items()):
        monkeypatch.setitem(TERMS, name, one)  # put back afterwards, with what is added below

    @term("brevity")
    def brevity(evidence: Evidence, _: Observed) -> TermResult:
        spared = 1 - len(evidence.design.gates) / float(evidence.scenario.extensions["brevity"]["gates"])
        return TermResult({"spared": np.full(len(evidence.draws), spared)}, lambda _, mean: mean["spared"], {"gates": 2})

    try:
        found = Evaluator(scenario).evaluate(DESIGN)
        plain = Evaluator(tiny(reward={"accuracy": 0.6, "theft": 0.4})).evaluate(DESIGN)
    finally:
        del TERMS["brevity"]
    assert found.rewards["brevity"] == pytest.approx(0.2 * 0.8)
    assert found.reward == pytest.approx(sum(found.rewards.values()))
    assert found.spared == pytest.approx(0.8) and found.gates == 2 and found.to_dict()["spared_se"] == 0
    assert "brevity" not in plain.rewards and "spared" not in plain.measured


def test_an_encoding_comes_in_through_its_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenarios may name it, models encode by it, and everything else asks its entry."""
    with pytest.raises(QumosError, match="unknown encoding 'thirds'"):
        tiny(data={"source": "iris", "reducer": "none", "encoding": "thirds"})
    monkeypatch.setitem(ENCODINGS, "thirds", Encoding("thirds", lambda angles, angle_range: np.round(np.clip(angles, *angle_range))))
    swung = Axis("swung", lambda angle, qubit: cirq.rx(angle).on(qubit), prepared=True, seen="X")
    monkeypatch.setitem(AXES, "swung", swung)
    scenario = tiny(data={"source": "iris", "reducer": "none", "encoding": "thirds", "axis": "swung"})
    evaluator = Evaluator(scenario)
    assert np.isfinite(evaluator.evaluate(DESIGN).reward)
    (draw, *_) = evaluator.workload.draws(0, "search")
    np.testing.assert_array_equal(draw.train, np.round(draw.train))
    operations = list(part_fragments(DESIGN, "swung")[0].circuit.all_operations())
    assert operations[0].gate == cirq.H and isinstance(operations[2].gate, cirq.Rx)

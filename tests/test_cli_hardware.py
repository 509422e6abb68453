"""`qumos devices` and `qumos costs`: profiles with their sources, and what a design costs on them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qumos_env.cli import app, run
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.evaluation.costs import running_costs
from qumos_env.hardware.profile import NO_GATE_CIRCUITS, list_profiles, load_profile
from qumos_env.scenario import load_scenario

PAIR = ("aurora", "borealis")
DESIGN = ry_cz_ry(contiguous(8, 2), PAIR, 2)
HALF = ry_cz_ry(contiguous(4, 2), PAIR, 1)
CUT = Design(HALF.partition, HALF.assignment, (*HALF.gates, Gate("rzz", (1, 2))))
SCENARIO = """
name = "tiny"
title = "tiny"
[data]
source = "iris"
reducer = "none"
[draws]
train_rows = 20
[design]
qubits = 4
max_gate_cuts = 1
shots = [50]
[budget]
rows = 7
shots = 200
[[providers]]
name = "aurora"
device = "ibm-heron"
[[providers]]
name = "borealis"
device = "ibm-heron"
"""


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command beside three designs; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    for name, design in (("design", DESIGN), ("half", HALF), ("cut", CUT)):
        (tmp_path / f"{name}.json").write_text(design.to_json(), encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(SCENARIO, encoding="utf-8")

    def called(*arguments: object) -> tuple[int, str, str]:
        code = run(app, [str(argument) for argument in arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return called


def output(found: tuple[int, str, str]) -> str:
    assert found[0] == 0, found[2]
    return found[1]


def test_list_devices(call: Any) -> None:
    """All profiles in 80 columns, what has none and why, and the same as JSON with what is assumed."""
    text = output(call("devices", "list"))
    for name in list_profiles():
        profile = load_profile(name)
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        assert str(profile.n_qubits) in line.split() and f"{len(profile.assumed)}/{len(profile.figures)}" in line.split()
        assert len(line.rstrip()) <= 80
    assert all(name in text for name in NO_GATE_CIRCUITS)
    data = json.loads(output(call("devices", "list", "--json")))
    assert [one["name"] for one in data] == list(list_profiles())
    assert [tuple(one["assumed"]) for one in data] == [load_profile(name).assumed for name in list_profiles()]


def test_show_a_device(call: Any) -> None:
    """Every figure, its value with a unit, and its source; by name and by path."""
    text = output(call("devices", "show", "ibm-heron"))
    profile = load_profile("ibm-heron")
    for figure in profile.figures:
        assert figure in text
    for value in ("68 ns", "150 µs", "$1.6", "0.006", "arXiv:2408.09562"):
        assert value in text
    assert f"{len(profile.assumed)} of {len(profile.figures)} figures are assumed" in text
    data = json.loads(output(call("devices", "show", "ideal", "--json")))
    assert data["times"]["t1"] is None and data["qubits"] == 20 and data["sources"]["errors"].startswith("assumed")
    path = Path(load_profile.__code__.co_filename).parent / "profiles" / "ibm-heron.toml"
    assert json.loads(output(call("devices", "show", path, "--json")))["errors"] == profile.errors.model_dump()


def test_costs(call: Any) -> None:
    """As the running costs of the scenario, exact and quick, and the gates of each part."""
    scenario = load_scenario("digits-devices")
    found = json.loads(output(call("costs", "design.json", "-s", "digits-devices", "--json")))
    for way in ("exact", "quick"):
        costs = running_costs(DESIGN, scenario, quick=way == "quick")
        assert costs is not None and found[way] == costs.to_dict()
        assert sum(part[way]["n_two_qubit"] for part in found["parts"]) == costs.native_two_qubit
    assert [part["device"] for part in found["parts"]] == ["ibm-heron", "iqm-radiance"]
    assert found["within_budget"] and (found["rows"], found["shots"]) == (100, 1000)
    text = output(call("costs", "design.json", "-s", "digits-devices"))
    assert "native gates, exact (quick)" in text and "query dollars" in text and "over the scenario" not in text


def test_costs_on_other_devices(call: Any) -> None:
    """Of a scenario without devices too; a design over the budget is priced all the same."""
    found = json.loads(output(call("costs", "design.json", "-s", "digits-theft", "-d", "ideal", "-d", "ideal", "--json")))
    assert found["exact"]["query_dollars"] == 0 and found["exact"]["error"] == 0
    ions = ("-d", "ideal", "-d", "ionq-aria", "-d", "ideal")
    found = json.loads(output(call("costs", "design.json", "-s", "digits-devices", *ions, "--json")))
    assert not found["within_budget"] and found["exact"]["query_dollars"] == pytest.approx(100 * (0.30 + 1000 * 0.03))
    assert "over the scenario's budget" in output(call("costs", "design.json", "-s", "digits-devices", *ions))


def test_costs_of_a_gate_cut(call: Any) -> None:
    """Five circuits a row on both sides, for five times the price; the cut gate itself is run nowhere."""
    whole, cut = (json.loads(output(call("costs", name, "-s", "tiny.toml", "--json"))) for name in ("half.json", "cut.json"))
    assert [part["variants"] for part in whole["parts"]] == [1, 1] and [part["variants"] for part in cut["parts"]] == [5, 5]
    assert cut["exact"]["query_dollars"] == pytest.approx(5 * whole["exact"]["query_dollars"])
    assert cut["exact"]["native_two_qubit"] == whole["exact"]["native_two_qubit"] == 2
    assert (cut["rows"], cut["shots"]) == (7, 200)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["devices", "show", "ibm-herron"], "did you mean ibm-heron"),
        (["devices", "show", "quera-aquila"], "runs no gate circuits"),
        (["devices", "show", "none.toml"], "none.toml"),
        (["costs", "design.json", "-s", "digits-theft"], "provider aurora names no device"),
        (["costs", "design.json", "-s", "digits-theft", "-d", "ideal"], "2 devices needed"),
        (["costs", "half.json", "-s", "digits-devices"], "the register has 8"),
    ],
)
def test_wrong_input_is_one_line(call: Any, arguments: list[str], words: str) -> None:
    code, out, err = call(*arguments)
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and words in err


def test_listing_devices_does_not_load_the_simulator() -> None:
    watch = "import sys; from qumos_env.cli import app, run; code = run(app, ['devices', 'list', '--json'])\n"
    watch += "sys.exit(code or any(name in sys.modules for name in ('torch', 'qsimcirq', 'sklearn')))"
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

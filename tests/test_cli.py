"""The `qumos` command: every command, and one line with exit code 2 for everything that a user gets wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qumos_env.cli import app, run
from qumos_env.deployment.bundle import read_bundle
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.errors import EvaluationFailure
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import list_scenarios, load_scenario, parse_scenario

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = """# A comment.
name = "tiny"
title = "tiny"
[data]
source = "iris"
reducer = "none"
[draws]
count = 2
train_rows = 20
thief_rows_per_class = 3
tuning_rows = 12
[design]
qubits = 4
max_parts = 2
max_part_qubits = 3
max_gates = 12
max_gate_cuts = 1
[model]
steps = 2
[threat]
steps = 2
[[providers]]
name = "aurora"
[[providers]]
name = "borealis"
"""
DESIGN = ry_cz_ry((0, 1, 0, 1), ("aurora", "borealis"), 1)


class Workplace:
    """A folder with a scenario and a design, and a way to call `qumos` in it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        (folder / "tiny.toml").write_text(SCENARIO, encoding="utf-8")
        (folder / "design.json").write_text(DESIGN.to_json(), encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def call(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self.capsys.readouterr()
        code = run(app, [str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def output(self, *arguments: object) -> str:
        """stdout of a call that must succeed."""
        code, out, err = self.call(*arguments)
        assert code == 0, err
        return out

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # a terminal wide enough for every heading
    return Workplace(tmp_path, capsys)


def test_help_names_every_command(here: Workplace) -> None:
    """Of the program and of its group, with exit code 0."""
    text = here.output("--help")
    for command in ("scenarios", "evaluate", "render", "export"):
        assert command in text
    text = here.output("scenarios", "--help")
    for command in ("list", "show", "check"):
        assert command in text
    assert "--reference" in here.output("evaluate", "--help")


@pytest.mark.parametrize("arguments", [[], ["scenarios"]])
def test_no_command_prints_the_help(arguments: list[str], here: Workplace) -> None:
    """With exit code 2 and no error message to read."""
    code, out, err = here.call(*arguments)
    assert code == 2
    assert "Usage" in out + err and "Traceback" not in out + err


def test_list_scenarios(here: Workplace) -> None:
    """As a table and as JSON."""
    text = here.output("scenarios", "list")
    assert "reliable" in text
    rows = json.loads(here.output("scenarios", "list", "--json"))
    assert [row["name"] for row in rows] == list(list_scenarios())
    for row in rows:
        scenario = load_scenario(row["name"])
        assert row["title"] == scenario.title and row["thief"] == scenario.threat.thief and row["calibration"] == scenario.calibration


def test_show_a_scenario(here: Workplace) -> None:
    """The whole of it as JSON that reads back, by name and by file; or its action table."""
    assert parse_scenario(json.loads(here.output("scenarios", "show", "iris-smoke"))) == load_scenario("iris-smoke")
    assert parse_scenario(json.loads(here.output("scenarios", "show", "tiny.toml"))) == load_scenario("tiny.toml")
    lines = here.output("scenarios", "show", "tiny.toml", "--actions").splitlines()
    assert lines[0].split() == ["0", "part(0)"] and lines[-1].endswith("finish")


def test_evaluate(here: Workplace) -> None:
    """A table for people, and the flat figures of the evaluator as JSON."""
    text = here.output("evaluate", "design.json", "--scenario", "tiny.toml")
    assert "accuracy" in text and "control C*" in text and DESIGN.hash[:12] in text
    evaluator = Evaluator(load_scenario("tiny.toml"))
    assert json.loads(here.output("evaluate", "design.json", "-s", "tiny.toml", "--json")) == evaluator.evaluate(DESIGN).to_dict()
    found = json.loads(here.output("evaluate", "design.json", "-s", "tiny.toml", "--json", "--seed", 3, "--rows", "test"))
    assert found == evaluator.evaluate(DESIGN, seed=3, rows="test").to_dict()


def test_evaluate_a_reference(here: Workplace) -> None:
    """The centralised model breaks the limits, on purpose."""
    here.write("central.json", ry_cz_ry((0, 0, 0, 0), ("aurora",), 1).to_json())
    assert here.call("evaluate", "central.json", "-s", "tiny.toml")[0] == 2
    assert json.loads(here.output("evaluate", "central.json", "-s", "tiny.toml", "--reference", "--json"))["accuracy"] > 0


def test_evaluate_keeps_results_in_a_cache(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call trains nothing."""
    command = ("evaluate", "design.json", "-s", "tiny.toml", "--json", "--cache", "deep/cache.sqlite")
    first = here.output(*command)

    def fail(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Evaluator, "_observed", fail)
    assert here.output(*command) == first


def test_render(here: Workplace) -> None:
    """As text, and as a picture of the kind that the ending names."""
    assert "part 1 on borealis: qubits 1, 3" in here.output("render", "design.json")
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert f"wrote out.{ending}" in here.output("render", "design.json", "--out", f"out.{ending}")
        assert (here.folder / f"out.{ending}").read_bytes().startswith(start)


def test_export(here: Workplace) -> None:
    """A bundle that reads back; a second one only with --force."""
    text = here.output("export", "design.json", "-s", "tiny.toml", "--out", "bundle")
    bundle = read_bundle(here.folder / "bundle")
    assert "wrote bundle" in text and "  owner: 4 files" in text and "  providers/aurora: 3 files" in text
    assert bundle.manifest["design_hash"] == DESIGN.hash
    assert here.call("export", "design.json", "-s", "tiny.toml", "--out", "bundle")[0] == 2
    here.output("export", "design.json", "-s", "tiny.toml", "--out", "bundle", "--seed", 5, "--force")
    assert read_bundle(here.folder / "bundle").manifest["seed"] == 5


def test_check_scenarios(here: Workplace) -> None:
    """Figures as a table or as JSON, kept in the file only when asked."""
    before = here.files()
    figures = json.loads(here.output("scenarios", "check", "tiny.toml", "--designs", 2, "--json"))["tiny"]
    assert here.files() == before
    assert figures["designs"] == 2 and isinstance(figures["passed"], bool)
    assert "reliability" in here.output("scenarios", "check", "tiny.toml", "--designs", 2, "--write")
    assert load_scenario("tiny.toml").calibration == figures
    assert (here.folder / "tiny.toml").read_text(encoding="utf-8").startswith(SCENARIO)


def broken(**changes: Any) -> str:
    return json.dumps(DESIGN.to_dict() | changes)


BAD: dict[str, tuple[list[str], str]] = {
    "unknown command": (["evaluat", "design.json"], "evaluat"),
    "unknown group command": (["scenarios", "lst"], "lst"),
    "unknown option": (["scenarios", "list", "--jsn"], "--jsn"),
    "missing argument": (["evaluate", "-s", "tiny.toml"], "Missing argument"),
    "missing option": (["evaluate", "design.json"], "--scenario"),
    "option without value": (["evaluate", "design.json", "-s"], "-s"),
    "superfluous argument": (["render", "design.json", "more"], "more"),
    "seed that is no number": (["evaluate", "design.json", "-s", "tiny.toml", "--seed", "x"], "--seed"),
    "negative seed": (["evaluate", "design.json", "-s", "tiny.toml", "--seed", "-1"], "--seed"),
    "too few designs": (["scenarios", "check", "tiny.toml", "--designs", "1"], "--designs"),
    "no workers": (["scenarios", "check", "tiny.toml", "--workers", "0"], "--workers"),
    "unknown scenario": (["scenarios", "show", "iris-smok"], "did you mean iris-smoke"),
    "unknown scenario to check": (["scenarios", "check", "iris-smok"], "did you mean iris-smoke"),
    "missing scenario file": (["evaluate", "design.json", "-s", "none.toml"], "none.toml"),
    "malformed scenario": (["evaluate", "design.json", "-s", "malformed.toml"], "malformed TOML"),
    "contradictory scenario": (["evaluate", "design.json", "-s", "contradictory.toml"], "data.colour"),
    "scenario with unknown data": (["evaluate", "design.json", "-s", "nodata.toml"], "iris"),
    "missing design": (["evaluate", "none.json", "-s", "tiny.toml"], "none.json"),
    "design that is a folder": (["evaluate", ".", "-s", "tiny.toml"], "cannot be read"),
    "design that is no JSON": (["evaluate", "nojson.json", "-s", "tiny.toml"], "not JSON"),
    "design of another version": (["evaluate", "version.json", "-s", "tiny.toml"], "schema_version is 9"),
    "design with an unknown gate": (["render", "gate.json"], "unknown gate 'ryy'"),
    "design beyond the limits": (["evaluate", "long.json", "-s", "tiny.toml"], "13 gates, at most 12"),
    "design of another width": (["evaluate", "design.json", "-s", "digits-theft"], "the register has 8"),
    "design at an unknown provider": (["evaluate", "provider.json", "-s", "tiny.toml"], "did you mean aurora"),
    "unknown rows": (["evaluate", "design.json", "-s", "tiny.toml", "--rows", "validation"], "validation"),
    "cache that is no cache": (["evaluate", "design.json", "-s", "tiny.toml", "--cache", "design.json"], "design.json"),
    "cache in a file": (["evaluate", "design.json", "-s", "tiny.toml", "--cache", "design.json/cache"], "design.json"),
    "picture of an unknown kind": (["render", "design.json", "--out", "out.bmp"], ".png"),
    "picture in place of a folder": (["render", "design.json", "--out", "folder.png"], "folder.png"),
    "picture of a missing design": (["render", "none.json", "--out", "out.png"], "none.json"),
    "bundle of a missing design": (["export", "none.json", "-s", "tiny.toml", "--out", "bundle"], "none.json"),
    "bundle in place of a file": (["export", "design.json", "-s", "tiny.toml", "--out", "tiny.toml"], "not a folder"),
    "bundle over other content": (["export", "design.json", "-s", "tiny.toml", "--out", "photos", "--force"], "other content"),
    "bundle without a folder": (["export", "design.json", "-s", "tiny.toml"], "--out"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_wrong_input_is_one_line_and_exit_code_2(case: str, here: Workplace) -> None:
    """Nothing on stdout, no traceback, and nothing half-written."""
    here.write("malformed.toml", "name = \n[data")
    here.write("contradictory.toml", SCENARIO.replace("[data]", '[data]\ncolour = "red"'))
    here.write("nodata.toml", SCENARIO.replace('"iris"', '"irs"'))
    here.write("nojson.json", "{")
    here.write("version.json", broken(schema_version=9))
    here.write("gate.json", broken(gates=[["ryy", 0]]))
    here.write("long.json", broken(gates=[["ry", 0]] * 13))
    here.write("provider.json", broken(assignment=["aurora", "auror"]))
    here.write("cut.json", Design(DESIGN.partition, DESIGN.assignment, (*DESIGN.gates, Gate("rzz", (0, 1)))).to_json())
    (here.folder / "folder.png").mkdir()
    (here.folder / "photos").mkdir()
    here.write("photos/wedding.jpg", "")
    before = here.files()
    arguments, words = BAD[case]
    code, out, err = here.call(*arguments)
    assert code == 2, (out, err)
    assert out == ""
    assert len(err.splitlines()) == 1 and err.startswith("error: "), err
    assert words in err
    assert here.files() == before
    assert not [path for path in here.folder.rglob("*") if path.name.startswith(".")]


def test_training_that_diverges_is_one_line_and_exit_code_2(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid design, so it is no error of the input; a script still sees that there is no result."""

    def fail(*_: Any, **__: Any) -> None:
        raise EvaluationFailure("training diverged in step 1:\nthe loss is nan")

    monkeypatch.setattr(Evaluator, "evaluate", fail)
    assert here.call("evaluate", "design.json", "-s", "tiny.toml") == (2, "", "error: training diverged in step 1: the loss is nan\n")


def test_interruption_is_quiet(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C: at most one word and the shell's exit code."""

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "evaluate", interrupt)
    code, out, err = here.call("evaluate", "design.json", "-s", "tiny.toml")
    assert (code, out) == (130, "") and err.strip() in ("", "interrupted")


def console(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The installed script's own call, in a process of its own."""
    command = [sys.executable, "-c", "from qumos_env.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_the_script_itself(here: Workplace) -> None:
    """Exit codes reach the shell, and JSON is all there is on stdout."""
    done = console("scenarios", "show", "tiny.toml", cwd=here.folder)
    assert done.returncode == 0 and json.loads(done.stdout)["name"] == "tiny" and done.stderr == ""
    done = console("evaluate", cwd=here.folder)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_listing_does_not_load_the_simulator(here: Workplace) -> None:
    """The commands that need no training start without torch and qsim."""
    watch = "import sys; from qumos_env.cli import app, run; code = run(app, ['scenarios', 'list', '--json'])\n"
    watch += "sys.exit(code or any(name in sys.modules for name in ('torch', 'qsimcirq', 'sklearn')))"
    done = subprocess.run([sys.executable, "-c", watch], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_terminal_that_knows_ascii_only_is_served(here: Any) -> None:
    """What it cannot show is spelt or escaped, and nothing fails."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", "from qumos_env.cli import main; main()", "evaluate", str(here.folder / "design.json")]
    command += ["--scenario", str(here.folder / "tiny.toml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment, check=False)
    assert done.returncode == 0 and b"+- s.e." in done.stdout and not done.stderr


def test_what_ascii_has_no_letters_for_is_spelt() -> None:
    """Signs of intervals as they are typed; others by number."""
    assert "a\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}b θ".encode("ascii", "qumos.plain") == b"a +- b \\u03b8"

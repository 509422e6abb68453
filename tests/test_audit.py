"""The audit and its commands: every attack over several seeds, measurements joined by name, reports on paper and in JSON."""

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qumos_env import attacks as attacks_package
from qumos_env.attacks import registry, suite
from qumos_env.attacks.confidentiality import queries
from qumos_env.attacks.integrity import canary_detector
from qumos_env.attacks.registry import ATTACKS, GOALS, Attack
from qumos_env.attacks.results import AttackResult, BarChart, Control, Criterion, Curve, Measurement, Plot
from qumos_env.attacks.suite import all_attacks
from qumos_env.audit import Audit, audit, report, scorecard
from qumos_env.audit.report import by_goal, html_page, table_rows
from qumos_env.audit.run import FIRST_SEED, NOT_RUN
from qumos_env.audit.scorecard import EXPOSED, NOT_MEASURED
from qumos_env.cli import app, audits, run
from qumos_env.deployment.bundle import read_bundle
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.statistics import mean_interval
from qumos_env.evaluation.workload import Workload
from qumos_env.scenario import Scenario, load_scenario
from qumos_env.unlearning.bundle import rows_digest

SCENARIO = """name = "tiny"
title = "tiny <b>"
[data]
source = "iris"
reducer = "none"
[draws]
count = 3
train_rows = 30
thief_rows_per_class = 3
tuning_rows = 12
[design]
qubits = 4
max_parts = 2
max_part_qubits = 3
max_gate_cuts = 1
max_gates = 16
shots = [50]
[model]
steps = 15
[threat]
steps = 10
[[providers]]
name = "aurora"
[[providers]]
name = "borealis"
"""
THREATS = Path(__file__).parent.parent / "docs" / "threats.md"
PROVIDERS = ("aurora", "borealis")
DESIGN = ry_cz_ry(interleaved(4, 2), PROVIDERS, 1)
K = 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "tiny.toml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "design.json").write_text(DESIGN.to_json(), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("scenario") / "tiny.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return load_scenario(path)


def measurement(case: str, values: np.ndarray, control: Control | None = None, note: str = "", **fields: Any) -> Measurement:
    return Measurement(case, "", values, control, note, **fields)


LINES = Plot("plot", "x", "y")


def planted(victim: Service) -> AttackResult:
    """Values that tell the seed and the draw; one measurement cannot be made with an even seed, nor can its control."""
    values = victim.seed + np.arange(float(K))
    nothing = np.full(K, np.nan)
    if victim.seed % 2 == 0:
        sometimes = measurement("sometimes", nothing, note="n/a: even")
    else:
        sometimes = measurement("sometimes", values, Control("one less", values - 1))
    return AttackResult(
        [
            measurement("always", values, Control("half", values / 2), f"seed {victim.seed}"),
            sometimes,
            measurement("never", nothing, note="n/a: never"),
        ],
        [Curve(LINES, "line", np.array([0.0, 1.0]), np.array([victim.seed, np.nan]))],
    )


@pytest.fixture
def only_planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Service], AttackResult]], None]:
    """Leaves one attack in the registry."""

    def leave(attack: Callable[[Service], AttackResult]) -> None:
        for name in list(ATTACKS):
            monkeypatch.delitem(ATTACKS, name)
        monkeypatch.setitem(ATTACKS, "planted", Attack("planted", "integrity", "A <plant>", "plants <values>", attack))

    return leave


@pytest.fixture(scope="module")
def whole(scenario: Scenario) -> Iterator[Audit]:
    """All attacks, two seeds; few sessions of inspection and few queries, which take longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canary_detector, "HONEST_SESSIONS", 60)
        patch.setattr(canary_detector, "FAULTY_SESSIONS", 6)
        patch.setattr(queries, "BUDGETS", (6, 12))
        yield audit(DESIGN, scenario, seeds=2)


def measurements(found: Audit) -> list[Measurement]:
    """Of all attacks."""
    return [one for result in found.results.values() for one in result.measurements]


def test_every_attack_runs_on_every_seed(whole: Audit) -> None:
    """One value per model of both seeds, or per pair or jackknife unit; no measurement without a control or a reason."""
    assert list(whole.results) == [one for one in all_attacks() if one.applies(DESIGN)]
    assert {one.name for one in whole.results} == set(ATTACKS) - {"cut-angle"}
    assert whole.seeds == (FIRST_SEED, FIRST_SEED + 1) and whole.accuracy.shape == (2 * K,)
    for attack, result in whole.results.items():
        assert len({one.name for one in result.measurements}) == len(result.measurements) > 0
        for one in result.measurements:
            assert one.name != NOT_RUN and one.quantity
            assert len(one.values) == (2 * 8 if attack.name == "membership-shadows" else 2 * K)
            assert np.isfinite(one.values).all() or one.note, one.name
            if one.interval.known:
                assert one.control is not None and one.control.name and one.control_interval.known, one.name
        for curve in result.curves:
            assert curve.x.shape == curve.y.shape and np.isfinite(curve.y).any()
            assert curve.plot.title and curve.plot.x and curve.plot.y


def test_the_service_is_measured_as_it_is(whole: Audit, scenario: Scenario) -> None:
    """The accuracy of the very models, and the share of the largest class of the test split."""
    workload = Workload(scenario)
    right = []
    for seed in whole.seeds:
        victim = Service.train(workload, DESIGN, seed)
        right.append(np.mean(victim.answer(victim.test, "0").argmax(axis=-1) == victim.labels[victim.test], axis=1))
    np.testing.assert_array_equal(whole.accuracy, np.concatenate(right))
    labels = workload.protocol.dataset.labels[workload.protocol.test]
    assert whole.chance == max(np.mean(labels == label) for label in set(labels))


def test_a_curve_of_every_seed_is_kept(whole: Audit) -> None:
    """Curves share their points over the seeds, so that none is drawn twice or lost."""
    curves = [curve for result in whole.results.values() for curve in result.curves]
    assert len({(curve.plot, curve.name) for curve in curves}) == len(curves)
    assert {"canary ROC, aurora", "canary ROC, borealis"} <= {curve.plot.title for curve in curves}


def test_attacks_are_told_alike() -> None:
    """The adversary without a subject: a verb in the third person, no full stop. Titles begin with a capital and differ."""
    for attack in ATTACKS.values():
        word = attack.adversary.split()[0]
        assert word.islower() and word.endswith("s"), attack.adversary
        assert not attack.adversary.endswith(".") and not attack.title.endswith(".")
        assert attack.title[0].isupper() and attack.title != attack.name
    assert len({attack.title for attack in ATTACKS.values()}) == len(ATTACKS)


def test_an_attack_is_found_under_its_name() -> None:
    """In the folder of its goal, in a module named as it is; by goal, then by name; docs/threats.md names each in the part of its goal."""
    folder = Path(attacks_package.__file__).parent
    assert len(list(folder.glob("*.py"))) <= 4
    threats = THREATS.read_text(encoding="utf-8")
    parts = {goal: threats.split(f"### {goal.capitalize()}")[1].split("\n#")[0] for goal in GOALS}
    for attack in all_attacks():
        assert attack.run.__module__ == f"{attacks_package.__name__}.{attack.goal}.{attack.name.replace('-', '_')}"
        assert f"`{attack.name}`:" in parts[attack.goal], attack.name
        assert f"| {attack.title}" in parts[attack.goal], attack.title
    order = [(GOALS.index(one.goal), one.name) for one in all_attacks()]
    assert order == sorted(order)


def test_a_new_attack_needs_a_module_and_nothing_else(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered here, outside the package: it runs, and its fields alone decide what scorecard, page and JSON show."""
    monkeypatch.setattr(registry, "ATTACKS", ATTACKS.copy())
    monkeypatch.setattr(suite, "ATTACKS", registry.ATTACKS)
    chart, roc = BarChart("toys side by side", "toys"), Plot("toy ROC", "lost", "found", guessing=True)

    @registry.attack("toy", goal="integrity", title="A toy <attack>", adversary="plays with <one> provider")
    def run(victim: Service) -> AttackResult:
        values = np.ones(len(victim.rows))
        return AttackResult(
            [
                Measurement("bear", "fun", values, Control("no bear", 0.25), headline=True, chart=chart, criterion=Criterion("higher")),
                Measurement("theft", "accuracy", values, Control("no theft", values / 2)),
            ],
            [Curve(roc, "bear", np.array([0.0, 1.0]), np.array([0.5, 1.0]))],
        )

    found = audit(DESIGN, scenario, seeds=1, attacks=["toy", "slowdown"])
    toy = registry.ATTACKS["toy"]
    assert toy.run is run and [one.name for one in found.results] == ["toy", "slowdown"]
    goals = by_goal(found)
    assert list(goals) == ["integrity", "availability"]
    (line,) = goals["integrity"]
    assert line.attack is toy and line.verdict is EXPOSED and line.measurement is not None and line.measurement.name == "bear: fun"
    data = found.to_dict()
    assert data["scorecard"][0]["title"] == toy.title and data["scorecard"][0]["verdict"] == "exposed"
    assert data["attacks"][0] == {"name": "toy", "goal": "integrity", "title": toy.title, "adversary": toy.adversary}
    first = data["figures"][0]
    assert (first["attack"], first["goal"], first["name"], first["headline"]) == ("toy", "integrity", "bear: fun", True)
    assert (first["case"], first["quantity"], first["control_name"], first["gain"]["mean"]) == ("bear", "fun", "no bear", 0.75)
    assert (data["curves"][0]["attack"], data["curves"][0]["plot"]) == ("toy", "toy ROC")
    page = Links(html_page(found))
    for words in (toy.title, toy.adversary, "bear: fun", "theft: accuracy"):
        assert words in page.text
    pictures = [words.split(",")[0] for words in page.pictures]
    assert pictures == ["the audited design", chart.title, roc.title, "response time under flooding"]


def test_the_attack_of_the_docs_runs(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, and what it measures is what it says."""
    monkeypatch.setattr(registry, "ATTACKS", ATTACKS.copy())
    monkeypatch.setattr(suite, "ATTACKS", registry.ATTACKS)
    section = THREATS.read_text(encoding="utf-8").split("## A new attack")[1].split("\n## ")[0]
    exec("\n".join(line[4:] for line in section.splitlines() if line.startswith("    ") or not line), {"__name__": "docs"})
    found = audit(DESIGN, scenario, seeds=1, attacks=["bias"])
    (one,) = measurements(found)
    victim = Service.train(Workload(scenario), DESIGN, found.seeds[0])
    answers = victim.answer(victim.test, "bias").argmax(axis=-1)
    np.testing.assert_allclose(one.values, [max(np.mean(mine == label) for label in range(3)) for mine in answers])
    assert one.headline and (one.controls == found.chance).all()


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one module: importing that again does no harm. And goals are three."""
    monkeypatch.setattr(registry, "ATTACKS", ATTACKS.copy())
    with pytest.raises(QumosError, match=r"'theft' of test_audit: qumos_env\.attacks\.confidentiality\.theft has registered"):
        registry.attack("theft", goal="integrity", title="Another", adversary="steals")(planted)
    with pytest.raises(QumosError, match="did you mean integrity"):
        registry.attack("other", goal="integritty", title="Other", adversary="does")  # type: ignore[arg-type]
    for _ in range(2):
        registry.attack("other", goal="integrity", title="Other", adversary="does")(planted)


def test_reports_know_no_attack() -> None:
    """Neither by name nor by title, nor by patterns of them: all they show they read from fields."""
    words = {word for one in ATTACKS.values() for word in (one.name, one.title)}
    for module in (report, scorecard, audits):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        assert not {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & words
        assert not hasattr(module, "re")


def test_every_attack_says_what_is_bad(whole: Audit) -> None:
    """One line each, judged; and the directions of those whose values are not accuracies of thieves or of the service."""
    lines = {line.attack.name: line for line in scorecard.scorecard(whole.results)}
    assert list(lines) == [one.name for one in all_attacks() if one.applies(DESIGN)]
    assert all(line.judged or line.verdict is NOT_MEASURED for line in lines.values())
    bad = {name: line.criterion.bad for name, line in lines.items()}
    expected = {"gradient-inversion": "lower", "model-inversion": "lower", "canary-detector": "no higher", "slowdown": "higher"}
    assert {name: bad[name] for name in expected} == expected
    assert bad["outage"] == bad["tampering"] == bad["poisoning"] == "lower" and bad["theft"] == bad["extraction"] == "higher"
    # Gradients without noise give the inputs away, and a flooded provider delays everyone.
    assert lines["gradient-inversion"].verdict is lines["slowdown"].verdict is EXPOSED


def test_the_headlines_are_few(whole: Audit) -> None:
    for attack, result in whole.results.items():
        assert 0 < sum(one.headline for one in result.measurements) <= 6, attack.name


def no_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def test_json_is_strict_and_says_why_there_is_no_value(whole: Audit) -> None:
    found = json.loads(whole.to_json(), parse_constant=no_constant)
    assert found["design_hash"] == DESIGN.hash and found["scenario"] == "tiny" and len(found["figures"]) == len(measurements(whole))
    missing = [one for one in found["figures"] if one["value"]["mean"] is None]
    assert missing and all("n/a" in one["note"] or "repeats tell nothing" in one["note"] or "labels only" in one["note"] for one in missing)
    for stored, one in zip(found["figures"], measurements(whole), strict=True):
        assert stored["units"] == np.isfinite(one.values).sum() and stored["name"] == one.name
        if one.interval.known:
            assert stored["value"]["mean"] == one.interval.mean and stored["gain"]["mean"] == one.gain.mean


class Links(HTMLParser):
    """Collects what a page loads or leads to, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.targets += [value for value in found if not value.startswith("#")]
        self.pictures += [value or "" for name, value in attrs if name == "alt"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else(whole: Audit) -> None:
    """Pictures inside, no script, no link; the scenario's title is text. Every measurement, title and adversary is on it."""
    drawn = {"theft", "membership", "membership-gray-box", "slowdown"}
    few = {one: result if one.name in drawn else AttackResult(result.measurements) for one, result in whole.results.items()}
    page = html_page(replace(whole, results=few))
    links = Links(page)
    # The design, theft as bars, the ROC that two attacks share, and the response times.
    assert len(links.targets) == 4 and all(target.startswith("data:image/png;base64,") for target in links.targets)
    assert [words for words in links.pictures if "ROC" in words] == ["membership ROC"]
    assert not links.tags & {"script", "link", "iframe"} and "url(" not in page and "@import" not in page
    assert "tiny <b>" in links.text
    for attack, result in whole.results.items():
        assert attack.adversary in links.text and attack.title in links.text and attack.name in links.text
        assert all(one.name in links.text for one in result.measurements)


def test_measurements_of_seeds_are_joined_by_name(scenario: Scenario, only_planted: Any) -> None:
    """Values and controls of all models, in order; a seed without a control does not cost the other its own."""
    only_planted(planted)
    found = audit(DESIGN, scenario, seeds=2)
    always, sometimes, never = measurements(found)
    values = np.concatenate([seed + np.arange(K) for seed in found.seeds])
    np.testing.assert_array_equal(always.values, values)
    np.testing.assert_array_equal(always.controls, values / 2)
    assert always.control is not None and always.control.name == "half" and always.note == f"seed {FIRST_SEED} (first seed)"
    assert always.gain.mean == pytest.approx(np.mean(values / 2))
    np.testing.assert_array_equal(sometimes.values, np.where(values < FIRST_SEED + 1, np.nan, sometimes.values))
    assert np.isnan(sometimes.values[:K]).all() and sometimes.control is not None and sometimes.control.name == "one less"
    assert sometimes.gain.mean == 1 and sometimes.control_interval.mean == pytest.approx(values[K:].mean() - 1)
    assert not never.interval.known and never.note == "n/a: never"
    (curve,) = (curve for result in found.results.values() for curve in result.curves)
    assert curve.y[0] == np.mean(found.seeds) and np.isnan(curve.y[1])
    assert json.loads(found.to_json(), parse_constant=no_constant)["curves"][0]["y"][1] is None


def test_the_control_covers_the_units_that_were_measured() -> None:
    """Paired: a unit without a value takes no part in the control either."""
    one = measurement("some", np.array([1.0, np.nan, 3.0]), Control("control", np.array([0.0, 100.0, 1.0])))
    assert one.interval.mean == 2 and one.control_interval.mean == 0.5 and one.gain.mean == 1.5
    assert mean_interval(np.array([2.0])).to_dict() == {"mean": 2.0, "low": None, "high": None}


@pytest.mark.parametrize("error", [QumosError("too few\nrows"), EvaluationFailure("diverged")])
def test_an_attack_that_cannot_run_does_not_end_the_audit(scenario: Scenario, only_planted: Any, error: Exception) -> None:
    def fails(victim: Service) -> AttackResult:
        raise error

    only_planted(fails)
    found = audit(DESIGN, scenario, seeds=2)
    (one,) = measurements(found)
    assert one.name == NOT_RUN and one.values.shape == (2 * K,) and not one.interval.known
    assert one.note == f"n/a: {' '.join(str(error).split())}"
    (line,) = by_goal(found)["integrity"]
    assert line.verdict is NOT_MEASURED and line.note == one.note
    assert table_rows([one])[0][1] == "n/a" and one.note in html_page(found)


def test_shadows_that_the_data_cannot_feed_are_not_run(scenario: Scenario) -> None:
    """Halves of a pool need twice the train rows."""
    data = scenario.model_dump()
    data["draws"] |= {"train_rows": 75}
    found = audit(DESIGN, Scenario.model_validate(data), seeds=1, attacks=["membership-shadows"])
    (one,) = measurements(found)
    assert one.name == NOT_RUN and "halves of 75 rows" in one.note


CENTRAL = ry_cz_ry((0, 0, 0, 0), ("aurora",), 1)
VARIANTS = {
    "gate cut": (Design(DESIGN.partition, DESIGN.assignment, (*DESIGN.gates, Gate("rzz", (0, 1)))), True),
    "shots": (Design(DESIGN.partition, DESIGN.assignment, DESIGN.gates, shots=50), True),
    "one provider": (CENTRAL, False),
}
QUICK = ("membership", "membership-shots", "outage", "slowdown", "poisoning", "crosstalk-faults", "transpiled-theft", "label-recovery")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_every_kind_of_design_can_be_audited(variant: str, scenario: Scenario) -> None:
    design, limits = VARIANTS[variant]
    found = audit(design, scenario, seeds=1, attacks=QUICK, limits=limits)
    assert {one.name for one in found.results} == set(QUICK) and NOT_RUN not in {one.name for one in measurements(found)}
    assert all(one.interval.known or one.note for one in measurements(found))
    assert html_page(found)


def test_same_seeds_same_bits(scenario: Scenario) -> None:
    chosen = ["membership", "outage"]
    one, other = (audit(DESIGN, scenario, seeds=1, attacks=chosen).to_json() for _ in range(2))
    assert one == other


# The commands


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    capsys.readouterr()
    code = run(app, [str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def output(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_audit_writes_a_page_and_json(folder: Path, capsys: pytest.CaptureFixture[str], only_planted: Any) -> None:
    """The same values in both, in the terminal and with --json; nothing else is left behind."""
    only_planted(planted)
    before = contents(folder)
    text = output(capsys, "audit", "design.json", "-s", "tiny.toml", "--seeds", 2, "--out", "x.html", "--full")
    assert "always" in text and "wrote x.html and x.json" in text and DESIGN.hash[:12] in text
    assert set(contents(folder)) - set(before) == {"x.html", "x.json"}
    stored = json.loads((folder / "x.json").read_text(), parse_constant=no_constant)
    printed = json.loads(output(capsys, "audit", "design.json", "-s", "tiny.toml", "--seeds", 2, "--json"), parse_constant=no_constant)
    assert stored == printed and [one["name"] for one in stored["figures"]] == ["always", "sometimes", "never"]
    page = (folder / "x.html").read_text()
    assert all(words in page for words in ("planted", "A &lt;plant&gt;", "plants &lt;values&gt;"))


def test_a_failed_write_leaves_the_old_report(
    folder: Path, capsys: pytest.CaptureFixture[str], only_planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_planted(planted)
    (folder / "x.html").write_text("old")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "x.html")

    monkeypatch.setattr("os.replace", full)
    code, _, err = call(capsys, "audit", "design.json", "-s", "tiny.toml", "--seeds", 1, "--out", "x.html")
    assert code == 2 and len(err.strip().splitlines()) == 1 and "No space left" in err
    assert set(contents(folder)) == {"design.json", "tiny.toml", "x.html"} and (folder / "x.html").read_text() == "old"


def test_one_attack_is_chosen_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "audit", "design.json", "-s", "tiny.toml", "--seeds", 1, "-a", "slowdown", "--json")
    assert [one["name"] for one in json.loads(text)["attacks"]] == ["slowdown"]


def test_attacks_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By goal, each with its title and adversary; the names are those that ``--attack`` takes."""
    monkeypatch.setenv("COLUMNS", "400")
    assert json.loads(output(capsys, "attacks", "--json")) == [one.to_dict() for one in all_attacks()]
    text = output(capsys, "attacks")
    for one in all_attacks():
        (line,) = (line for line in text.splitlines() if one.adversary in line)
        assert one.name in line and one.title in line
    assert [text.index(goal.capitalize()) for goal in GOALS] == sorted(text.index(goal.capitalize()) for goal in GOALS)


def test_membership_by_shots_beside_the_published_protocol(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and a table; recall stands beside the false-positive rate of the same attack."""
    command = ("membership", "design.json", "-s", "tiny.toml", "--shots", "20,exact", "--repeats", "1,2", "--protocol", "qmu")
    found = json.loads(output(capsys, *command, "--json"), parse_constant=no_constant)
    assert [(row["shots"], row["repeats"]) for row in found["shots"]] == [(20, 1), (20, 2), (None, 1)]
    assert all(0 <= row["auc"]["mean"] <= 1 for row in found["shots"]) and len(found["qmu"]) == 4
    text = output(capsys, *command)
    assert "false-positive rate" in text and "published protocol: recall on members of class setosa" in text


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle with its scenario and design."""
    place = tmp_path_factory.mktemp("exported")
    (place / "tiny.toml").write_text(SCENARIO, encoding="utf-8")
    (place / "design.json").write_text(DESIGN.to_json(), encoding="utf-8")
    assert run(app, ["export", str(place / "design.json"), "-s", str(place / "tiny.toml"), "--out", str(place / "bundle")]) == 0
    yield place


def test_unlearn_writes_a_bundle_and_a_report(exported: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By row numbers and by class; what was withdrawn stays secret, but can be proved."""
    rows = sorted(Workload(load_scenario("tiny.toml")).protocol.draws(0)[0].train[:6].tolist())
    command = ("unlearn", exported / "bundle", "-s", "tiny.toml", "--method", "ga")
    text = output(capsys, *command, "--forget", ",".join(map(str, rows)), "--out", "less")
    assert "6 of 30 rows forgotten" in text and "wrote less" in text and "membership AUC" in text
    assert all(heading in text for heading in ("before", "mask", "after", "retrained", "loss gap", "relearning speed", "trace AUC"))
    assert "1000 shots" not in text and "--full" in text
    assert "1000 shots" in output(capsys, *command, "--forget", ",".join(map(str, rows)), "--out", "less", "--force", "--full")
    manifest = read_bundle(folder / "less").manifest
    facts: Any = manifest["unlearning"]
    assert facts["forgotten_rows"] == 6 and facts["rows_digest"] == rows_digest(exported / "bundle", rows)
    found = json.loads(output(capsys, *command, "--forget", "class:virginica", "--out", "two", "--json"), parse_constant=no_constant)
    assert found["forgotten"] == 10 and found["method"] == "ga"
    figures = {one["name"]: one for one in found["figures"]}
    assert set(figures) >= {"forget accuracy", "forget total variation", "UQI", "loss gap", "relearning speed", "LiRA AUC", "trace AUC"}
    assert all(figures["relearned accuracy"][name]["mean"] is not None for name in ("before", "mask", "after", "retrained"))
    assert isinstance(found["beats_mask"], bool) and set(found["over_mask"]) >= {"loss gap", "trace AUC"}


AUDIT = ("audit", "design.json", "-s", "tiny.toml")
MEMBERSHIP = ("membership", "design.json", "-s", "tiny.toml")


def unlearn(
    *, bundle: str = "bundle", scenario: str = "tiny.toml", forget: str = "class:setosa", method: str = "ga", out: str = "less"
) -> tuple[str, ...]:
    return ("unlearn", bundle, *(("-s", scenario) if scenario else ()), "--forget", forget, "--method", method, "-o", out)


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown attack": ((*AUDIT, "-a", "thefts", "-o", "x.html"), "did you mean theft"),
    "wrong ending": ((*AUDIT, "-o", "x.pdf"), "the ending must be .html"),
    "missing folder": ((*AUDIT, "-o", "none/x.html"), "none does not exist"),
    "page that is a folder": ((*AUDIT, "-o", "page.html"), "page.html: is a folder"),
    "data that are the design": ((*AUDIT, "-o", "design.html"), "design.json: would be replaced"),
    "data that are a folder": ((*AUDIT, "-o", "data.html"), "data.json: is a folder"),
    "no seeds": ((*AUDIT, "--seeds", "0", "-o", "x.html"), "--seeds"),
    "design beyond the limits": (("audit", "central.json", "-s", "tiny.toml", "-o", "x.html"), "part 0 has 4 qubits"),
    "design of another width": (("audit", "design.json", "-s", "digits-theft", "-o", "x.html"), "the register has 8"),
    "missing design": (("audit", "none.json", "-s", "tiny.toml", "-o", "x.html"), "none.json"),
    "unknown protocol": ((*MEMBERSHIP, "--protocol", "qum"), "did you mean qmu"),
    "shots that are no number": ((*MEMBERSHIP, "--shots", "10,ten"), "'ten' is not a number of shots"),
    "no shots": ((*MEMBERSHIP, "--shots", "0"), "--shots"),
    "more shots than can be drawn": ((*MEMBERSHIP, "--shots", "9" * 30), "from 1 to 999,999,999"),
    "exact repeats": ((*MEMBERSHIP, "--repeats", "exact"), "--repeats"),
    "membership beyond the limits": (("membership", "central.json", "-s", "tiny.toml"), "part 0 has 4 qubits"),
    "forget nothing": (unlearn(forget=""), "no rows are named"),
    "forget everything": (unlearn(forget="all.txt"), "some must stay"),
    "forget an unknown row": (unlearn(forget="9999"), "row 9999"),
    "forget an unknown class": (unlearn(forget="class:setos"), "did you mean setosa"),
    "unknown mechanism": (unlearn(method="gaa"), "did you mean"),
    "damaged bundle": (unlearn(bundle="damaged"), "damaged"),
    "no bundle": (unlearn(bundle="nothing"), "nothing"),
    "bundle over its like": (unlearn(out="bundle"), "--force"),
    "bundle of another scenario": (unlearn(scenario="iris-smoke"), "was made from scenario 'tiny'"),
    "scenario that is not built in": (unlearn(scenario=""), "not built in"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_nothing_is_written(
    case: str, folder: Path, exported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, nothing on stdout, no half-written file; and no attack has run."""
    for name in ("bundle", "damaged"):
        for path, data in contents(exported / "bundle").items():
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_bytes(data)
    victim = folder / "damaged" / "owner" / "head.json"
    victim.write_bytes(victim.read_bytes()[:-3] + b"7]}")
    train = Workload(load_scenario("tiny.toml")).protocol.draws(0)[0].train
    (folder / "all.txt").write_text("\n".join(map(str, train)))
    (folder / "central.json").write_text(CENTRAL.to_json(), encoding="utf-8")
    (folder / "page.html").mkdir()
    (folder / "data.json").mkdir()

    def untouched(victim: Service) -> AttackResult:
        raise AssertionError("ran")

    for name, attack in list(ATTACKS.items()):
        monkeypatch.setitem(ATTACKS, name, replace(attack, run=untouched))
    before = contents(folder)
    arguments, words = WRONG[case]
    code, out, err = call(capsys, *arguments)
    assert code == 2, (out, err)
    message = err.strip()  # a progress bar that ends leaves an empty line
    assert out == "" and len(message.splitlines()) == 1 and message.startswith("error: "), err
    assert words in err
    assert contents(folder) == before
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]

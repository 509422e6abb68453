"""The scorecard: verdicts by one rule from a gain and its control, the linear model first, the same lines on page, terminal and JSON."""

import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.linear_model import LogisticRegression

from qumos_env.attacks.registry import ATTACKS, GOALS, Attack, Goal
from qumos_env.attacks.results import AttackResult, Control, Criterion, Measurement
from qumos_env.audit import Audit, audit
from qumos_env.audit.report import html_page
from qumos_env.audit.scorecard import (
    EXPOSED,
    HOLDS,
    NOT_MEASURED,
    UNCLEAR,
    VERDICTS,
    WEAK,
    Line,
    Verdict,
    Yardstick,
    scorecard,
    verdict,
)
from qumos_env.cli import app, run
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.statistics import Interval, mean_interval
from qumos_env.evaluation.workload import Workload
from qumos_env.scenario import Scenario, parse_scenario

K = 4
DESIGN = ry_cz_ry(interleaved(4, 2), ("aurora", "borealis"), 1)


def tiny() -> Scenario:
    return parse_scenario(
        {
            "name": "tiny",
            "title": "tiny <b>",
            "data": {"source": "iris", "reducer": "none"},
            "draws": {"count": K, "train_rows": 30, "thief_rows_per_class": 3, "tuning_rows": 12},
            "design": {"qubits": 4, "max_part_qubits": 3},
            "model": {"steps": 5},
            "threat": {"steps": 5},
            "providers": [{"name": "aurora"}, {"name": "borealis"}],
        }
    )


def one_line(*measurements: Measurement, goal: Goal = "confidentiality") -> Line:
    """The line of an attack that measured so."""
    attack = Attack("planted", goal, "Planted", "plants", lambda victim: AttackResult())
    (line,) = scorecard({attack: AttackResult(list(measurements))})
    return line


def gained(mean: float, *, spread: float = 0.001, units: int = 8, name: str = "one", **fields: Any) -> Measurement:
    """A measurement whose paired gain has this mean, while values and controls alone vary far more."""
    control = np.linspace(0.2, 0.7, units)
    noise = spread * np.resize([1.0, -1.0], units)
    return Measurement(name, "accuracy", control + mean + noise, Control("control", control), **fields)


# The rule

HIGHER, LOWER, CHECK = Criterion("higher", 0.1), Criterion("lower", 0.1), Criterion("no higher", 0.1)
RULE: list[tuple[tuple[float, float], Criterion, Verdict]] = [
    ((0.02, 0.20), HIGHER, EXPOSED),
    ((0.02, 0.12), HIGHER, WEAK),
    ((-0.02, 0.12), HIGHER, UNCLEAR),
    ((-0.02, 0.08), HIGHER, HOLDS),
    ((-0.30, -0.20), HIGHER, HOLDS),
    ((-0.20, -0.02), LOWER, EXPOSED),
    ((-0.12, -0.02), LOWER, WEAK),
    ((-0.12, 0.02), LOWER, UNCLEAR),
    ((-0.08, 0.02), LOWER, HOLDS),
    ((0.20, 0.30), LOWER, HOLDS),
    ((0.11, 0.30), CHECK, HOLDS),
    ((0.09, 0.30), CHECK, WEAK),
    ((0.01, 0.05), CHECK, WEAK),
    ((-0.01, 0.12), CHECK, UNCLEAR),
    ((-0.01, 0.08), CHECK, EXPOSED),
    ((-0.20, -0.10), CHECK, EXPOSED),
]


@pytest.mark.parametrize(("bounds", "criterion", "expected"), RULE)
def test_a_verdict_follows_from_the_interval(bounds: tuple[float, float], criterion: Criterion, expected: Verdict) -> None:
    low, high = bounds
    assert verdict(Interval((low + high) / 2, low, high), criterion) is expected


def test_without_an_interval_nothing_is_claimed() -> None:
    nan = float("nan")
    for criterion in (HIGHER, LOWER, CHECK):
        assert verdict(Interval(0.5, nan, nan), criterion) is UNCLEAR
        assert verdict(Interval(nan, nan, nan), criterion) is NOT_MEASURED


@pytest.mark.parametrize(
    ("bad", "relevant", "words"), [("hihger", 0.1, "did you mean higher"), ("higher", 0, "above 0"), ("lower", np.nan, "above 0")]
)
def test_a_criterion_that_says_nothing_is_refused(bad: Any, relevant: float, words: str) -> None:
    with pytest.raises(QumosError, match=words):
        Criterion(bad, relevant)


@pytest.mark.parametrize("judged", [1, 4])
def test_gains_are_told_from_noise_as_students_test_tells_them(judged: int) -> None:
    """A gain is seen exactly where SciPy's paired test, corrected for the number of measurements, sees it."""
    generator = np.random.default_rng(judged)
    seen = 0
    for _ in range(60):
        gains = generator.normal(generator.uniform(-0.02, 0.06), 0.05, (judged, 12))
        controls = generator.uniform(0.3, 0.7, (judged, 12))
        line = one_line(
            *(
                Measurement(str(i), "", one + beside, Control("", beside), criterion=Criterion("higher"))
                for i, (one, beside) in enumerate(zip(gains, controls, strict=True))
            )
        )
        significant = [ttest_1samp(one, 0, alternative="greater").pvalue < 0.025 / judged for one in gains]
        assert (line.verdict in (EXPOSED, WEAK)) == any(significant)
        assert (line.verdict is EXPOSED) == any(told and one.mean() >= 0.02 for told, one in zip(significant, gains, strict=True))
        seen += any(significant)
    assert 5 < seen < 55


def test_the_worst_of_many_is_not_worse_by_chance() -> None:
    """Six measurements of nothing: an uncorrected rule would see a gain in one audit out of seven."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        nothing = generator.normal(0, 0.05, (6, 12))
        alarms += one_line(*(Measurement(str(i), "", one, Control("", 0.0)) for i, one in enumerate(nothing))).verdict in (EXPOSED, WEAK)
    assert alarms <= 18


# What is judged


def test_values_are_paired_with_their_controls() -> None:
    """A gain of .03 in every model counts, however much models differ."""
    one = gained(0.03)
    assert mean_interval(one.values).half > 0.1
    line = one_line(one)
    assert line.verdict is EXPOSED and line.gain.mean == pytest.approx(0.03) and line.gain.half < 0.01


def test_the_direction_is_declared_or_that_of_the_goal() -> None:
    """The same gain is a thief's, or the owner's; nothing is read from names."""
    verdicts = {goal: one_line(gained(0.1), goal=goal).verdict for goal in GOALS}
    assert verdicts == {"confidentiality": EXPOSED, "integrity": HOLDS, "availability": HOLDS}
    assert one_line(gained(-0.1), goal="integrity").verdict is EXPOSED
    assert one_line(gained(-0.1, criterion=Criterion("lower"))).verdict is EXPOSED
    assert one_line(gained(0.1, criterion=Criterion("lower"))).verdict is HOLDS
    assert one_line(gained(0.1, criterion=Criterion("higher", 0.2))).verdict is WEAK
    check = one_line(gained(0.1, criterion=Criterion("no higher", 0.05)))
    assert check.verdict is HOLDS and "check finds" in check.meaning


def test_criteria_go_before_headlines_and_headlines_before_the_rest() -> None:
    """What is judged is declared; of what is judged the worst decides."""
    plain, headline = gained(0.3, name="plain"), gained(0.2, name="headline", headline=True)
    declared = gained(0.0, name="declared", criterion=HIGHER)
    line = one_line(plain, headline, declared)
    assert line.verdict is HOLDS and line.judged == 1
    for line, name in ((one_line(plain, headline), "headline"), (one_line(plain), "plain")):
        assert line.verdict is EXPOSED and line.measurement is not None and line.measurement.name.startswith(name)
    both = one_line(declared, gained(0.15, name="worse", criterion=HIGHER), gained(0.12, name="bad", criterion=HIGHER))
    assert both.verdict is EXPOSED and both.measurement is not None and both.measurement.case == "worse" and both.note == "worst of 3"
    assert both.confidence == pytest.approx(1 - 0.05 / 3) and both.gain.half > both.measurement.gain.half


def test_what_was_not_measured_does_not_hold() -> None:
    """Neither the whole nor a part of it; and a value without a control says nothing."""
    nothing = Measurement("n/a", "", np.full(8, np.nan), Control("c", 0.5), note="n/a: too wide", headline=True)
    line = one_line(nothing)
    assert line.verdict is NOT_MEASURED and line.note == "n/a: too wide" and line.to_dict()["gain"]["mean"] is None
    assert one_line(gained(0.0, headline=True)).verdict is HOLDS
    part = one_line(gained(0.0, headline=True), nothing)
    assert part.verdict is UNCLEAR and part.missing == 1 and "1 more not measured" in part.note
    assert one_line(gained(0.1, headline=True), nothing).verdict is EXPOSED
    alone = one_line(Measurement("alone", "accuracy", np.ones(8)))
    assert alone.verdict is NOT_MEASURED and alone.note == "no control"
    assert one_line().verdict is NOT_MEASURED


def test_nothing_claims_protection() -> None:
    """What holds is worded by what was tried."""
    assert HOLDS.meaning == "no gain over the control found by the attacks tried"
    assert not any(word in one.meaning for one in VERDICTS for word in ("safe", "secure", "protect"))


def test_verdicts_differ_without_their_colours() -> None:
    for field in ("word", "mark", "shape", "colour"):
        assert len({getattr(one, field) for one in VERDICTS}) == len(VERDICTS)
    assert all(one.mark.isascii() for one in VERDICTS)


# The linear model


@pytest.mark.parametrize(
    ("difference", "spread", "standing"), [(0.1, 0.01, "better"), (-0.07, 0.01, "worse"), (0.0, 0.005, "equal"), (0.0, 0.2, "unclear")]
)
def test_the_model_is_held_against_the_linear_one_in_a_sentence(difference: float, spread: float, standing: str) -> None:
    linear = np.linspace(0.5, 0.9, 8)
    yardstick = Yardstick.of(linear + difference + spread * np.resize([1.0, -1.0], 8), linear)
    assert yardstick.standing == standing
    figures = (f"{linear.mean() + difference:.3f}", f"{linear.mean():.3f}", f"{difference:+.3f}")
    assert all(figure in yardstick.sentence for figure in figures)
    assert ("needs no provider" in yardstick.sentence) == (standing in ("worse", "equal"))


# An audit of planted attacks

SAFE, SEEN = "Nothing <gained>", "Everything & more"


def _planted(victim: Any) -> AttackResult:
    return AttackResult([gained(0.0, units=K, headline=True)])


def _leak(victim: Any) -> AttackResult:
    return AttackResult([gained(0.4, units=K, name="<case>", criterion=Criterion("higher")), gained(0.9, units=K, name="other")])


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Leaves the planted attacks in the registry."""

    def leave(*attacks: Attack) -> None:
        for name in list(ATTACKS):
            monkeypatch.delitem(ATTACKS, name)
        for one in attacks:
            monkeypatch.setitem(ATTACKS, one.name, one)

    yield leave


@pytest.fixture
def found(only: Callable[..., None]) -> Audit:
    only(
        Attack("safe", "integrity", SAFE, "tries <it>", _planted),
        Attack("seen", "confidentiality", SEEN, "sees", _leak),
        Attack("silent", "availability", "Silent", "is", lambda victim: AttackResult()),
    )
    return audit(DESIGN, tiny(), seeds=2)


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what stands in which order."""

    VOID = ("meta", "img", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and "head" not in self.open:
            self.words.append(("/".join(self.open[2:]), data))


def test_the_page_begins_with_one_screen(found: Audit) -> None:
    """The sentence, then a line per threat; everything else is folded, and a link leads to it."""
    page = Page(html_page(found))
    places = [place for place, _ in page.words]
    said = [word for _, word in page.words]
    assert places[0] == "h1" and said[1] == found.yardstick.sentence
    first_fold = next(i for i, place in enumerate(places) if place.startswith("details"))
    table = [i for i, place in enumerate(places) if place.startswith("table")]
    assert table and max(table) < first_fold
    for title in (SAFE, SEEN, "Silent"):
        assert said.index(title) < first_fold and title in said[first_fold:]
    assert sum(name == "details" and "open" in attrs for name, attrs in page.tags) == 0
    assert not any(place.startswith("table") for place in places[first_fold:])
    assert said.index("Confidentiality", first_fold) < said.index(SEEN, first_fold) < said.index("Integrity", first_fold)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    links = [(attrs["href"] or "")[1:] for name, attrs in page.tags if name == "a"]
    assert len(set(ids)) == len(ids) and links and set(links) <= set(ids)
    assert {name for name, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    assert ("meta", "viewport") in [(name, attrs.get("name")) for name, attrs in page.tags]  # or a phone draws it at a desk's width


def test_a_line_of_the_page_says_what_was_measured(found: Audit) -> None:
    """Shape, word, value, control and gain with its interval; a user's names are text."""
    page = Page(html_page(found))
    assert [name for name, _ in page.tags].count("table") == 1 + len(found.results)
    said = [word for place, word in page.words if place.startswith("table")]
    at = said.index(SEEN)
    (line,) = (one for one in scorecard(found.results) if one.attack.name == "seen")
    assert said[at - 2 : at] == [EXPOSED.shape, "exposed"]
    assert said[at + 1 : at + 5] == ["<case>: accuracy", "0.850", "0.450", line.gain.text(signed=True)]
    assert said[said.index(SAFE) - 1] == "holds" and said[said.index("Silent") - 1] == "not measured"


def test_json_carries_the_scorecard(found: Audit) -> None:
    data = json.loads(found.to_json())
    lines = {one["attack"]: one for one in data["scorecard"]}
    assert list(lines) == ["seen", "safe", "silent"]
    assert [lines[name]["verdict"] for name in lines] == ["exposed", "holds", "not measured"]
    seen = lines["seen"]
    assert (seen["bad"], seen["relevant"], seen["judged"], seen["missing"]) == ("higher", 0.02, 1, 0)
    assert seen["value"]["mean"] - seen["control"]["mean"] == pytest.approx(seen["gain"]["mean"]) == pytest.approx(0.4)
    assert seen["gain"]["low"] < 0.4 < seen["gain"]["high"] and lines["silent"]["value"]["mean"] is None
    assert data["yardstick"]["standing"] == found.yardstick.standing and data["yardstick"]["gain"]["mean"] is not None


def test_the_linear_model_has_the_owners_rows(found: Audit) -> None:
    """Standardised by hand, fitted by scikit-learn on the train rows of every draw, scored on the test split: paired with the service."""
    protocol = Workload(tiny()).protocol
    features, labels = protocol.dataset.features, protocol.dataset.labels
    expected = []
    for seed in found.seeds:
        for draw in protocol.draws(seed):
            centre, spread = features[draw.train].mean(axis=0), features[draw.train].std(axis=0)
            model = LogisticRegression(max_iter=1000).fit((features[draw.train] - centre) / spread, labels[draw.train])
            expected.append(model.score((features[draw.test] - centre) / spread, labels[draw.test]))
    assert found.linear.shape == found.accuracy.shape == (2 * K,)
    # A row at the boundary may fall to either side on another processor.
    np.testing.assert_allclose(found.linear, expected, atol=1.5 / len(protocol.test))
    assert found.yardstick.gain.mean == pytest.approx(np.mean(found.accuracy - found.linear))


def _printed(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    (folder / "design.json").write_text(DESIGN.to_json(), encoding="utf-8")
    assert run(app, ["audit", str(folder / "design.json"), "-s", "iris-smoke", "--reference", "--seeds", "1", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 200])
def test_the_terminal_begins_with_the_same_lines(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence first, then a line per threat that holds in the width, with mark, word and figures; and ASCII marks."""
    monkeypatch.setenv("COLUMNS", str(columns))
    only(Attack("safe", "integrity", SAFE, "tries", _planted), Attack("seen", "confidentiality", SEEN, "sees", _leak))
    text = _printed(capsys, tmp_path)
    data = json.loads(_printed(capsys, tmp_path, "--json"))
    assert " ".join(text.split()).startswith(" ".join(data["yardstick"]["sentence"].split()))
    lines = {one["attack"]: next(line for line in text.splitlines() if f" {one['attack']} " in line) for one in data["scorecard"]}
    assert all(len(line.rstrip()) <= columns for line in lines.values())
    assert lines["seen"].split()[:4] == ["[X]", "exposed", "seen", "0.850"] and "0.450" in lines["seen"] and "+0.400" in lines["seen"]
    assert lines["safe"].startswith("[o] holds ") and ("<case>: accuracy" in lines["seen"]) == (columns == 200)
    assert HOLDS.meaning in " ".join(text.split()) and "no proof of safety" in " ".join(text.split())

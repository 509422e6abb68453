"""Scenarios: loading, every contradiction, the hash, calibration and the limits of a design."""

import copy
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qumos_env.design import Design, Gate
from qumos_env.design.gate_cuts import cut_parts
from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario, list_scenarios, load_scenario, parse_scenario, scenario_folder, write_calibration

BASE: dict[str, Any] = {
    "schema_version": 1,
    "name": "tiny",
    "title": "tiny",
    "description": "prose",
    "seed": 0,
    "compare": True,
    "data": {"source": "iris", "reducer": "none"},
    "draws": {"count": 2, "train_rows": 30, "half_split": True},
    "design": {
        "qubits": 4,
        "max_parts": 2,
        "max_part_qubits": 3,
        "max_gates": 6,
        "max_gate_cuts": 1,
        "gates": ["rx", "ry", "cz", "rzz"],
        "vocabulary": "gates",
        "shots": [100, 1000],
    },
    "model": {"head": "scaled", "steps": 10, "learning_rate": 0.1},
    "threat": {"thief": "loot", "tiers": ["frozen-head"], "steps": 10},
    "reward": {"accuracy": 0.5, "theft": 0.3, "membership": 0.2},
    "providers": [
        {"name": "aurora", "max_qubits": 3, "max_parts": 1},
        {"name": "borealis", "max_qubits": 2, "max_parts": 2, "gates": ["ry", "cz"]},
    ],
}


def changed(path: str, value: object) -> dict[str, Any]:
    """``BASE`` with the field at the dotted ``path`` set (or added)."""
    data = copy.deepcopy(BASE)
    *above, field = path.split(".")
    target: Any = data
    for step in above:
        target = target[int(step)] if step.isdigit() else target.setdefault(step, {})
    target[field] = value
    return data


def toml(data: dict[str, Any]) -> str:
    """``data`` as TOML; plain values and lists of them in sections, and providers."""

    def value(item: object) -> str:
        if isinstance(item, bool):
            return str(item).lower()
        if isinstance(item, list):
            return "[" + ", ".join(map(value, item)) + "]"
        return f'"{item}"' if isinstance(item, str) else repr(item)

    lines = [f"{name} = {value(item)}" for name, item in data.items() if not isinstance(item, dict) and name != "providers"]
    for name, section in data.items():
        if isinstance(section, dict):
            lines += [f"[{name}]", *(f"{key} = {value(item)}" for key, item in section.items())]
    for provider in data["providers"]:
        lines += ["[[providers]]", *(f"{key} = {value(item)}" for key, item in provider.items())]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", list_scenarios())
def test_built_in_scenarios_load_under_their_file_name(name: str) -> None:
    """The library holds what it says it holds."""
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.title and scenario.description
    assert load_scenario(scenario_folder() / f"{name}.toml") == scenario
    assert parse_scenario(scenario.model_dump(mode="json")).hash == scenario.hash


def test_the_library_has_the_shipped_names_and_a_rational_half() -> None:
    """At least half of the scenarios offered for comparison use the thief that knows when not to steal."""
    names = list_scenarios()
    assert names == tuple(sorted(path.stem for path in scenario_folder().glob("*.toml")))
    assert {"digits-theft", "iris-smoke"} <= set(names)
    offered = [load_scenario(name) for name in names if load_scenario(name).compare]
    assert 2 * sum(scenario.threat.thief == "rational" for scenario in offered) >= len(offered)
    assert len({load_scenario(name).hash for name in names}) == len(names)


def test_toml_and_dictionary_give_the_same_scenario(tmp_path: Path) -> None:
    """The reader adds nothing."""
    path = tmp_path / "tiny.toml"
    path.write_text(toml(BASE), encoding="utf-8")
    assert load_scenario(path) == load_scenario(str(path)) == parse_scenario(BASE)


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    """Reading is cached by the file's time stamp."""
    path = tmp_path / "tiny.toml"
    path.write_text(toml(BASE), encoding="utf-8")
    assert load_scenario(path).seed == 0
    path.write_text(toml(changed("seed", 7)), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert load_scenario(path).seed == 7


def test_unknown_scenarios_offer_the_nearest_names() -> None:
    """A typing mistake costs one line."""
    with pytest.raises(QumosError, match=r"unknown scenario 'digit-theft'; did you mean .*digits-theft"):
        load_scenario("digit-theft")
    with pytest.raises(QumosError, match=r"unknown scenario 'zzz'; choose from .*iris-smoke"):
        load_scenario("zzz")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """Missing, a folder, not text, not TOML."""
    for path, content, words in [
        (tmp_path / "missing.toml", None, "cannot be read"),
        (tmp_path / "latin.toml", b"name = '\xff'", "cannot be read"),
        (tmp_path / "broken.toml", b"name = \n[data", "malformed TOML"),
        (tmp_path / "twice.toml", b"name = 'a'\nname = 'b'", "malformed TOML"),
    ]:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(QumosError, match=words) as caught:
            load_scenario(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(QumosError, match="cannot be read"):
        load_scenario(folder)


def test_errors_of_a_file_name_file_and_field(tmp_path: Path) -> None:
    """The line says where to look."""
    path = tmp_path / "tiny.toml"
    path.write_text(toml(changed("draws.count", 0)), encoding="utf-8")
    with pytest.raises(QumosError) as caught:
        load_scenario(path)
    assert str(path) in str(caught.value) and "draws.count" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("schema_version", 2, ["schema_version"]),
        ("name", "Not A Name", ["name"]),
        ("title", 3, ["title"]),
        ("seed", -1, ["seed"]),
        ("colour", "red", ["unknown field 'colour'", "choose from"]),
        ("desing", {}, ["unknown field 'desing'", "did you mean", "design"]),
        ("data.sourse", "iris", ["data.sourse", "unknown field 'sourse'", "did you mean", "source"]),
        ("design.max_gate", 3, ["unknown field 'max_gate'", "max_gates"]),
        ("providers.0.max_qubit", 3, ["providers.0.max_qubit", "unknown field 'max_qubit'", "max_qubits"]),
        ("data.test_fraction", 1.0, ["data.test_fraction"]),
        ("data.axis", "rw", ["data.axis", "unknown encoding axis 'rw'", "rx"]),
        ("data.angle_range", [1.0, 1.0], ["data.angle_range", "below"]),
        ("draws.count", 3, ["half_split", "even", "3"]),
        ("draws.half_split", False, ["reward.membership", "half_split"]),
        ("design.qubits", 21, ["design.qubits"]),
        ("design.qubits", 0, ["design.qubits"]),
        ("design.gates", ["ry", "czz"], ["unknown gate 'czz'", "did you mean", "cz"]),
        ("design.gates", ["h", "cz", "rzz"], ["design.gates", "rx, ry, rz"]),
        ("design.gates", [], ["design.gates", "rx, ry, rz"]),
        ("design.max_part_qubits", 1, ["2 part(s) of at most 1", "4 qubits"]),
        ("design.shots", [100, 0], ["design.shots"]),
        ("design.vocabulary", "words", ["design.vocabulary", "'gates'"]),
        ("model.head", "heavy", ["model.head"]),
        ("model.steps", 0, ["model.steps"]),
        ("model.learning_rate", 0, ["model.learning_rate"]),
        ("threat.tiers", [], ["threat.tiers"]),
        ("threat.tiers", ["guess"], ["threat.tiers"]),
        ("threat.thief", "lazy", ["threat.thief"]),
        ("threat.queries", 1, ["threat.queries", "1 is too few"]),
        ("threat.queries", -1, ["threat.queries"]),
        ("threat.queries", 40, ["threat.queries is 40, draws.tuning_rows 40", "at most 39"]),
        ("threat.query_rows", "invented", ["threat.query_rows", "'real' or 'synthetic'"]),
        ("threat.answers", "logits", ["threat.answers", "'probabilities' or 'labels'"]),
        ("reward.accuracy", 0.6, ["accuracy + theft + membership + extraction + resilience must be 1", "1.1"]),
        ("reward.accuracy", 1.5, ["reward.accuracy"]),
        ("reward.cost_budget", 0, ["reward.cost_budget"]),
        ("providers", [], ["providers"]),
        ("providers.1.name", "aurora", ["providers", "same name"]),
        ("providers.0.name", "Au rora", ["providers.0.name"]),
        ("providers.0.gates", ["ry", "swop"], ["unknown gate 'swop'"]),
        ("providers.1.gates", ["cz", "rz"], ["provider borealis", "rx, ry"]),
        ("providers.0.max_qubits", 0, ["providers.0.max_qubits"]),
        ("providers.0.price", -1, ["providers.0.price"]),
    ],
)
def test_contradictions_are_refused(path: str, value: object, words: list[str]) -> None:
    """One line that names the field."""
    data = changed(path, value)
    with pytest.raises(QumosError) as caught:
        parse_scenario(data, where="here.toml")
    message = str(caught.value)
    assert message.startswith("here.toml: ") and "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("missing", ["name", "title", "data", "providers", "data.source", "providers.0.name"])
def test_required_fields(missing: str) -> None:
    """What has no default has to be given."""
    data = copy.deepcopy(BASE)
    *above, field = missing.split(".")
    target: Any = data
    for step in above:
        target = target[int(step)] if step.isdigit() else target[step]
    del target[field]
    with pytest.raises(QumosError, match=missing):
        parse_scenario(data)


@pytest.mark.parametrize("data", [None, [], "iris-smoke", 3])
def test_anything_but_a_table_is_refused(data: object) -> None:
    """JSON may hold anything."""
    with pytest.raises(QumosError, match="scenario: "):
        parse_scenario(data)


def test_providers_must_hold_the_register_together() -> None:
    """Two parts of at most one and two qubits cannot make four."""
    data = changed("providers.0.max_qubits", 1)
    parse_scenario(data)  # borealis takes two parts of two qubits
    data["providers"][1]["max_parts"] = 1
    with pytest.raises(QumosError, match=r"providers: together they cannot hold 4 qubits in 2 part\(s\)"):
        parse_scenario(data)


def test_blocks_need_room_for_a_layer() -> None:
    """Otherwise no episode could place a trainable gate."""
    data = changed("design.vocabulary", "blocks")
    data["design"]["max_gates"] = 2
    with pytest.raises(QumosError, match="max_gates is 2: too few"):
        parse_scenario(data)
    data["design"]["max_gates"] = 3
    parse_scenario(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("title", "other"),
        ("description", "other"),
        ("compare", False),
        ("version", 3),
        ("tags", ["hard"]),
        ("calibration", {"reliability": 0.9}),
    ],
)
def test_the_hash_ignores_prose_and_calibration(path: str, value: object) -> None:
    """Writing the figures of a check back must not change what they are figures of."""
    assert parse_scenario(changed(path, value)).hash == parse_scenario(BASE).hash


OTHER_VALUES: dict[str, object] = {
    "name": "other",
    "seed": 1,
    "data.source": "wine",
    "data.classes": ["setosa", "virginica"],
    "data.parameters": {"rows": 100},
    "data.reducer": "pca",
    "data.scaler": "max-abs",
    "data.angle_range": [0.0, 1.0],
    "data.encoding": "basis",
    "data.axis": "rx",
    "data.mixing": "rotation",
    "data.test_fraction": 0.3,
    "data.split_seed": 1,
    "data.label_noise": 0.1,
    "draws.count": 4,
    "draws.train_rows": 31,
    "draws.thief_rows_per_class": 4,
    "draws.tuning_rows": 41,
    "design.qubits": 3,
    "design.max_parts": 3,
    "design.max_part_qubits": 4,
    "design.max_gates": 7,
    "design.max_gate_cuts": 2,
    "design.gates": ["rx", "ry", "cz"],
    "design.vocabulary": "both",
    "design.shots": [100],
    "design.max_steps": 50,
    "model.head": "linear",
    "model.steps": 11,
    "model.learning_rate": 0.2,
    "threat.thief": "rational",
    "threat.tiers": ["fine-tune"],
    "threat.steps": 11,
    "threat.coalition": 2,
    "threat.queries": 20,
    "threat.query_rows": "synthetic",
    "threat.answers": "labels",
    "budget.rows": 10,
    "budget.shots": 10,
    "reward.blend": "product",
    "reward.cost": 0.1,
    "reward.cost_budget": 50.0,
    "providers.0.name": "cirrus",
    "providers.0.max_qubits": 4,
    "providers.0.max_parts": 2,
    "providers.0.gates": ["ry"],
    "providers.0.mid_circuit_measurement": False,
    "providers.0.price": 2.0,
    "providers.0.noise": {"two_qubit": 0.01},
    "providers.0.device": "ideal",
}


@pytest.mark.parametrize(("path", "value"), OTHER_VALUES.items())
def test_the_hash_changes_with_everything_else(path: str, value: object) -> None:
    """Cached evaluations belong to exactly one problem."""
    assert parse_scenario(changed(path, value)).hash != parse_scenario(BASE).hash


def test_the_hash_sees_fields_that_only_change_together() -> None:
    """Weights sum to 1, membership needs the half split, LiRA many draws and noise a noisy provider, so these cannot be changed alone."""
    even = parse_scenario(BASE | {"reward": {"accuracy": 0.5, "theft": 0.5, "membership": 0.0}})
    accurate = parse_scenario(BASE | {"reward": {"accuracy": 0.6, "theft": 0.4, "membership": 0.0}})
    whole = parse_scenario(changed("draws.half_split", False) | {"reward": {"accuracy": 0.5, "theft": 0.5, "membership": 0.0}})
    weights = {"accuracy": 0.5, "theft": 0.3, "membership": 0.0}
    terms = [parse_scenario(BASE | {"reward": weights | {name: 0.2}}) for name in ("extraction", "resilience")]
    many = [parse_scenario(changed("draws.count", 16) | {"threat": BASE["threat"] | {"membership": kind}}) for kind in ("loss", "lira")]
    hardware = changed("providers.0.noise", {"two_qubit": 0.01})
    noisy = [parse_scenario(hardware | {"service": {"noise": noise}}) for noise in (False, True)]
    mixed = [changed("data.mixing", kind) for kind in ("permutation", "rotation")]
    mixings = [parse_scenario(data | {"data": data["data"] | {"mixing_seed": seed}}) for data in mixed for seed in (0, 1)]
    extended = [parse_scenario(BASE | {"reward": weights | {"others": {name: 0.2}}}) for name in ("toy", "other")]
    extended += [parse_scenario(BASE | {"extensions": {"toy": {"size": size}}}) for size in (1, 2)]
    assert len({one.hash for one in (parse_scenario(BASE), even, accurate, whole, *terms, *many, *noisy, *mixings, *extended)}) == 18


def test_contradictions_of_the_adversary_are_named() -> None:
    with pytest.raises(QumosError, match=r"threat\.coalition is 3, there are 2 providers"):
        parse_scenario(changed("threat.coalition", 3))
    with pytest.raises(QumosError, match=r"'lira' needs draws\.half_split = true and draws\.count of 16 or more"):
        parse_scenario(changed("threat.membership", "lira"))


def test_every_field_is_covered_by_the_tests_of_the_hash() -> None:
    """A new field must be put on one of the two lists."""
    together = {"draws.half_split", "threat.membership", "service.noise", "data.mixing_seed"}
    # These need a device for every provider, see test_devices.
    together |= {"budget.dollars", "budget.seconds", "reward.cost_unit"}
    together |= {f"reward.{name}" for name in ("accuracy", "theft", "membership", "extraction", "resilience", "others")} | {"extensions"}
    ignored = {"title", "description", "version", "tags", "compare", "calibration", "table"}
    only_one_value = {"schema_version"}
    fields: set[str] = set()
    for name in Scenario.model_fields:
        part = getattr(parse_scenario(BASE), name)
        if name == "providers":
            fields |= {f"providers.0.{field}" for field in type(part[0]).model_fields}
        elif hasattr(type(part), "model_fields"):
            fields |= {f"{name}.{field}" for field in type(part).model_fields}
        else:
            fields.add(name)
    assert fields == set(OTHER_VALUES) | together | ignored | only_one_value


def test_providers_are_found_by_name() -> None:
    """Or the nearest name is offered."""
    scenario = parse_scenario(BASE)
    assert scenario.provider_names == ("aurora", "borealis")
    assert scenario.provider("borealis").max_qubits == 2
    with pytest.raises(QumosError, match=r"provider in scenario tiny 'auroa'; did you mean aurora"):
        scenario.provider("auroa")


def test_a_scenario_cannot_be_changed() -> None:
    """It is shared by every environment of a process."""
    with pytest.raises(ValueError, match="frozen"):
        parse_scenario(BASE).seed = 3  # type: ignore[misc]


FIGURES: dict[str, float | int | str | bool] = {"reliability": 0.9321, "designs": 50, "passed": True, "reason": 'says "no" \\ ü'}


def test_calibration_is_written_and_read_back(tmp_path: Path) -> None:
    """Comments and order of the rest stay; a second writing replaces the first."""
    path = tmp_path / "tiny.toml"
    text = "# A comment.\n" + toml(BASE)
    path.write_text(text, encoding="utf-8")
    before = load_scenario(path)
    write_calibration(path, {"reliability": 0.1, "old": 1})
    write_calibration(path, FIGURES)
    after = load_scenario(path)
    assert after.calibration == FIGURES
    assert after.hash == before.hash
    assert path.read_text(encoding="utf-8").startswith(text)
    assert path.read_text(encoding="utf-8").count("[calibration]") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["tiny.toml"]


def test_calibration_in_the_middle_of_a_file_does_not_eat_the_rest(tmp_path: Path) -> None:
    """People write tables in any order."""
    path = tmp_path / "tiny.toml"
    first, *providers = toml(BASE).split("[[providers]]\n")
    rest = "".join("[[providers]]\n" + text for text in providers)
    path.write_text(first + "\n[calibration]\nreliability = 0.1\n" + rest, encoding="utf-8")
    before = load_scenario(path)
    write_calibration(path, FIGURES)
    after = parse_scenario(tomllib.loads(path.read_text(encoding="utf-8")))
    assert after.calibration == FIGURES
    assert after.hash == before.hash


def test_writing_calibration_keeps_the_file_readable_for_others(tmp_path: Path) -> None:
    """A temporary file's private mode must not be left behind."""
    path = tmp_path / "tiny.toml"
    path.write_text(toml(BASE), encoding="utf-8")
    path.chmod(0o644)
    write_calibration(path, FIGURES)
    assert path.stat().st_mode & 0o777 == 0o644


TABLE = 'reliability = 0.9321\ndesigns = 50\npassed = true\nreason = "says \\"no\\" \\\\ ü"\n'
"""``FIGURES`` as TOML."""
INLINE = TABLE.strip().replace("\n", ", ")
REST = """# A comment.
name = "tiny"
title = "tiny" # another
[data]
source = "iris"

# about the providers
[[providers]]
name = "aurora"
"""
MAX = "max_qubits = 8\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (REST + MAX, REST + MAX + "\n[calibration]\n" + TABLE),
        (REST + MAX[:-1], REST + MAX + "\n[calibration]\n" + TABLE),
        (REST + MAX + "[ calibration ] # kept\nold = 1 # gone\n", REST + MAX + "[ calibration ] # kept\n" + TABLE),
        (REST + MAX + '["calibration"]\nold = 2 # gone\n', REST + MAX + '["calibration"]\n' + TABLE),
        ("calibration = { old = 1 } # kept\n" + REST + MAX, f"calibration = {{{INLINE}}} # kept\n" + REST + MAX),
        ("calibration.old = 1\ncalibration.designs = 2\n" + REST + MAX, REST + MAX + "\n[calibration]\n" + TABLE),
        (
            REST.replace("# about", "[calibration]\nold = 1\n\n# about") + MAX,
            REST.replace("# about", "[calibration]\n" + TABLE + "\n# about") + MAX,
        ),
        (
            'description = """\n[calibration]\nx = 1\n"""\n' + REST + MAX,
            'description = """\n[calibration]\nx = 1\n"""\n' + REST + MAX + "\n[calibration]\n" + TABLE,
        ),
    ],
    ids=["none", "no line end", "spaces", "quoted", "inline", "dotted", "middle", "in a text"],
)
def test_calibration_is_edited_however_it_is_written(tmp_path: Path, before: str, after: str) -> None:
    """Nothing else in the file changes, comments least of all."""
    path = tmp_path / "tiny.toml"
    path.write_text(before, encoding="utf-8")
    scenario = load_scenario(path)
    write_calibration(path, FIGURES)
    assert path.read_text(encoding="utf-8") == after
    again = parse_scenario(tomllib.loads(after))
    assert again.calibration == FIGURES and again.hash == scenario.hash
    write_calibration(path, FIGURES)
    assert path.read_text(encoding="utf-8") == after


@pytest.mark.parametrize("name", list_scenarios())
def test_writing_the_calibration_of_a_built_in_scenario_again_changes_no_byte(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_bytes((scenario_folder() / f"{name}.toml").read_bytes())
    write_calibration(path, dict(load_scenario(name).calibration))
    assert path.read_bytes() == (scenario_folder() / f"{name}.toml").read_bytes()


def test_writing_calibration_keeps_line_ends(tmp_path: Path) -> None:
    """Those of Windows, and a mixture."""
    path = tmp_path / "tiny.toml"
    path.write_bytes((REST + MAX).replace("\n", "\r\n").encode())
    write_calibration(path, FIGURES)
    assert path.read_bytes() == (REST + MAX + "\n[calibration]\n" + TABLE).replace("\n", "\r\n").encode()
    mixed = REST.replace("[data]\n", "[data]\r\n") + MAX
    path.write_bytes(mixed.encode())
    write_calibration(path, FIGURES)
    assert path.read_bytes() == (mixed + "\n[calibration]\n" + TABLE).encode()


def test_writing_calibration_keeps_mode_and_link(tmp_path: Path) -> None:
    """A private file stays private, and the file behind a link is the one that is written."""
    path, link = tmp_path / "tiny.toml", tmp_path / "link.toml"
    path.write_text(REST + MAX, encoding="utf-8")
    path.chmod(0o600)
    link.symlink_to("tiny.toml")
    write_calibration(link, FIGURES)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o600
    assert load_scenario(path).calibration == FIGURES
    assert {item.name for item in tmp_path.iterdir()} == {"tiny.toml", "link.toml"}


def test_writing_calibration_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it fails the old content is still there, and nothing else."""
    path = tmp_path / "tiny.toml"
    path.write_text(REST + MAX, encoding="utf-8")

    def fail(source: object, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_calibration(path, FIGURES)
    monkeypatch.undo()
    assert path.read_text(encoding="utf-8") == REST + MAX and len(list(tmp_path.iterdir())) == 1
    path.write_text("name = \n", encoding="utf-8")
    with pytest.raises(QumosError, match="malformed TOML"):
        write_calibration(path, FIGURES)


def test_a_figure_that_is_not_a_number_is_written_too(tmp_path: Path) -> None:
    """A correlation without variance is one."""
    path = tmp_path / "tiny.toml"
    path.write_text(REST + MAX, encoding="utf-8")
    write_calibration(path, {"test_correlation": float("nan")})
    assert load_scenario(path).calibration["test_correlation"] != load_scenario(path).calibration["test_correlation"]


RY0, RY1 = Gate("ry", (0,)), Gate("ry", (1,))


def test_a_design_within_all_limits_passes() -> None:
    """Three qubits and an ancilla at aurora, one and an ancilla at borealis, every budget used up."""
    gates = (Gate("rx", (0,)), Gate("cz", (0, 1)), Gate("rzz", (2, 3)), Gate("ry", (3,)), RY0, RY1)
    parse_scenario(changed("providers.0.max_qubits", 4)).check_design(Design((0, 0, 0, 1), ("aurora", "borealis"), gates, 1000))


@pytest.mark.parametrize(
    ("design", "words"),
    [
        (Design((0, 0, 1), ("aurora", "borealis"), (RY0,)), "3 qubits, the register has 4"),
        (Design((0, 0, 1, 1), ("aurora", "borealis")), "no trainable gate"),
        (Design((0, 0, 1, 1), ("aurora", "borealis"), (Gate("cz", (0, 1)),)), "no trainable gate"),
        (Design((0, 0, 1, 1), ("aurora", "boreal"), (RY0,)), "'boreal'; did you mean borealis"),
        (Design((0, 0, 1, 2), ("aurora", "borealis", "borealis"), (RY0,)), "3 parts, at most 2"),
        (Design((0, 0, 1, 1), ("aurora", "borealis"), (RY0,) * 7), "7 gates, at most 6"),
        (Design((0, 0, 1, 1), ("aurora", "borealis"), (RY0, Gate("rzz", (0, 2)), Gate("rzz", (0, 2)))), "2 gate cuts, at most 1"),
        (Design((0, 0, 1, 1), ("aurora", "borealis"), (RY0, Gate("h", (0,)))), "gate h is not among rx, ry, cz, rzz"),
        (Design((0, 0, 1, 1), ("aurora", "borealis"), (RY0,), 200), "200 shots is not a level of [100, 1000]"),
        (Design((0, 0, 0, 0), ("aurora",), (RY0,)), "part 0 has 4 qubits, at most 3 fit on aurora"),
        (Design((0, 1, 1, 1), ("aurora", "borealis"), (RY0,)), "part 1 has 3 qubits, at most 2 fit on borealis"),
        (Design((0, 0, 1, 1), ("aurora", "borealis"), (Gate("rx", (2,)),)), "provider borealis does not run rx"),
        (Design((0, 0, 1, 1), ("aurora", "aurora"), (RY0,)), "provider aurora takes at most 1 part(s)"),
    ],
)
def test_each_limit_of_a_design(design: Design, words: str) -> None:
    """The first broken limit is named, with the number that it is."""
    scenario = parse_scenario(BASE)
    with pytest.raises(QumosError, match=r"design breaks scenario tiny|provider in scenario tiny") as caught:
        scenario.check_design(design)
    assert words in str(caught.value)


def test_a_cut_takes_a_qubit_more_on_both_sides() -> None:
    """Where the measured variant puts its outcome: what a provider is asked to run is never wider than it is."""
    design = Design((0, 0, 1, 1), ("aurora", "borealis"), (RY0, Gate("rzz", (0, 2))))
    widest = max(len(variant.qubits) for part in cut_parts(design, "ry") for variant in part.variants)

    def scenario(*widths: int) -> Scenario:
        providers = [provider | {"max_qubits": width} for provider, width in zip(BASE["providers"], widths, strict=True)]
        return parse_scenario(BASE | {"providers": providers})

    scenario(widest, widest).check_design(design)
    for widths, part, name in (((widest - 1, widest), 0, "aurora"), ((widest, widest - 1), 1, "borealis")):
        with pytest.raises(QumosError, match=f"1 gate cuts touch part {part}, {name} has 0 qubit"):
            scenario(*widths).check_design(design)


def test_references_are_checked_without_limits() -> None:
    """The centralised model breaks every limit on purpose, but it must still fit the register and be trainable."""
    scenario = parse_scenario(BASE)
    central = Design((0, 0, 0, 0), ("aurora",), (RY0,) * 9)
    scenario.check_design(central, limits=False)
    with pytest.raises(QumosError, match="no trainable gate"):
        scenario.check_design(Design((0, 0, 0, 0), ("aurora",)), limits=False)
    with pytest.raises(QumosError, match="3 qubits"):
        scenario.check_design(Design((0, 0, 0), ("aurora",), (RY0,)), limits=False)
    with pytest.raises(QumosError, match="'nobody'"):
        scenario.check_design(Design((0, 0, 0, 0), ("nobody",), (RY0,)), limits=False)

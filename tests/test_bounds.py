"""Numbers, files and messages have bounds: what is too large is one line when it is read, and no hang or full memory later."""

from __future__ import annotations

import copy
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qumos_env
from qumos_env.cli import app, run
from qumos_env.design import Design
from qumos_env.design.design import MOST_GATES
from qumos_env.env.actions import DesignState
from qumos_env.env.observation import ObservationEncoder
from qumos_env.errors import MOST_CHARACTERS, QumosError, one_line, shortened, shown, unknown
from qumos_env.files import MOST_BYTES, absolute_path, read_bytes, read_text, read_toml, write_text
from qumos_env.hardware.profile import list_profiles, load_profile, parse_profile
from qumos_env.scenario import load_scenario, parse_scenario
from qumos_env.scenario.sizes import MOST_NOISY_QUBITS
from qumos_env.simulation.channels import NoiseSpec
from qumos_env.simulation.noise import NoisyEngine

TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "tiny",
    "data": {"source": "iris", "reducer": "none"},
    "draws": {"count": 2, "train_rows": 30},
    "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 3, "max_gates": 12},
    "providers": [{"name": "aurora"}, {"name": "borealis"}],
}
DESIGN = {"schema_version": 1, "partition": [0, 1], "assignment": ["aurora", "borealis"], "gates": [["ry", 0]], "shots": None}


def changed(data: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """``data`` with fields at paths such as ``draws__count`` or ``providers__0__price``."""
    data = copy.deepcopy(data)
    for path, value in fields.items():
        *above, field = path.split("__")
        table: Any = data
        for step in above:
            table = table[int(step)] if step.isdigit() else table.setdefault(step, {})
        table[field] = value
    return data


def refusal(call: Any, *arguments: Any) -> str:
    """The message with which ``call`` refuses: always one short, printable line."""
    with pytest.raises(QumosError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert 0 < len(message) < 500 and message.isprintable(), message
    return message


# --- messages ---


def test_every_message_is_one_short_line() -> None:
    """Whoever raises it, and whatever it quotes."""
    message = str(QumosError(f"here: {'x' * 100_000}\nand\tthere\x1b[31m\u2028\u202e\x00\udc80 end"))
    assert message.startswith("here: xxx") and message.endswith("end") and "…" in message
    assert len(message) <= MOST_CHARACTERS and message.isprintable()
    assert one_line("a\x1b[31m\u202eb\n c") == "a\\x1b[31m\\u202eb c"
    assert one_line("é👍") == "é👍"
    assert one_line(one_line("\x00\n")) == one_line("\x00\n")


def test_shortening_keeps_both_ends() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abc…fg" and shortened("abcdefg", 5) == "ab…fg"


VALUES: list[Any] = [
    ("name", "'name'"),
    (0.5, "0.5"),
    (12345, "12345"),
    (True, "True"),
    (None, "None"),
    (10**400, "about 1e400"),
    (-(10**5000), "about -1e5000"),
    ([1, 2], "[1, 2]"),
    (list(range(1000)), "[0, 1, 2, … (1000 in all)]"),
    ([[1], {}, "x"], "[…, …, 'x']"),
    ({"a": 1}, "a table with 1 field(s)"),
    ("\n\x00", "'\\n\\x00'"),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=map(str, range(len(VALUES))))
def test_values_are_quoted_short(value: object, text: str) -> None:
    assert shown(value) == text


def test_long_and_deep_values_are_quoted_short() -> None:
    """Python itself would recurse, or write megabytes."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "[…]"
    assert shown("y" * 10**6).endswith("(1000000 characters)") and len(shown("y" * 10**6)) < 100


def test_a_long_name_is_compared_and_quoted_short() -> None:
    """Comparing megabytes with every choice would take minutes."""
    message = str(unknown("gate", "ry" * 10**6, ["ry", "rx"]))
    assert message.startswith("unknown gate 'ryry") and len(message) < 150
    many = str(unknown("class", "zzz", [f"class {number}" for number in range(1000)]))
    assert many.endswith("and 980 more")


# --- files ---


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    """A device has no end, a pipe blocks, a folder is no file; each costs one line."""
    pipe, endless, large = tmp_path / "pipe", tmp_path / "endless", tmp_path / "large"
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    large.write_bytes(b"")
    os.truncate(large, 2**40)
    for path in (pipe, endless, tmp_path, "/dev/zero"):
        assert refusal(read_bytes, path) == f"{path}: cannot be read (not a regular file)"
    assert "1,099,511,627,776 bytes, at most 1,048,576" in refusal(read_text, large)
    assert "No such file" in refusal(read_text, tmp_path / "none")
    assert "File name too long" in refusal(read_text, tmp_path / ("x" * 300))
    assert "null byte" in refusal(read_text, "a\x00b")
    (tmp_path / "file").write_bytes("é\r\nb\rc\n".encode())
    assert read_text(tmp_path / "file") == "é\nb\nc\n"
    assert len(read_bytes(tmp_path / "file", 8)) == 8 and "at most 7" in refusal(read_bytes, tmp_path / "file", 7)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs a file that states no size")
def test_a_file_that_states_no_size_is_bounded_too() -> None:
    assert os.stat("/proc/self/maps").st_size == 0
    assert "more than 10 bytes" in refusal(read_bytes, "/proc/self/maps", 10)


@pytest.mark.parametrize("suffix", [".toml", ".json", ".csv", ".parquet", ".npz"])
def test_every_reader_refuses_a_device_and_a_pipe(tmp_path: Path, suffix: str) -> None:
    from qumos_env.data import load_dataset
    from qumos_env.scenario.sections import DataSection

    def rows(path: Path) -> object:
        return load_dataset(DataSection(source=str(path)))

    device, pipe = tmp_path / f"device{suffix}", tmp_path / f"pipe{suffix}"
    device.symlink_to("/dev/zero")
    os.mkfifo(pipe)
    readers: dict[str, tuple[Any, ...]] = {".toml": (load_scenario, load_profile), ".json": (Design.load,)}
    for read in readers.get(suffix, (rows,)):
        for path in (device, pipe):
            assert refusal(read, path).endswith("cannot be read (not a regular file)")


TOML: list[Any] = [
    ("a = " + "[" * 100_000, "nested too deep"),
    ("a = " + "{a = " * 100_000, "nested too deep"),
    ("x = 1\n" + ".".join(["a"] * 100_000) + " = 1", "line 2 has 99,999 dots, at most 250"),
    ("a = " + "9" * 100_000, "malformed TOML"),
    ("#" * MOST_BYTES + "\n", "at most 1,048,576 are possible"),
]


@pytest.mark.parametrize(("text", "words"), TOML, ids=map(str, range(len(TOML))))
def test_toml_that_would_take_long_or_too_much(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "file.toml").write_text(text)
    assert words in refusal(read_toml, tmp_path / "file.toml")


def test_paths_of_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder is one, links on the way are followed, the name of the file stays."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "rows.csv").symlink_to(tmp_path / "blob")
    assert absolute_path("~/rows.csv", Path("/else")) == tmp_path / "home" / "rows.csv"
    assert absolute_path("link/../rows.csv", tmp_path) == tmp_path / "rows.csv"
    assert absolute_path("link/rows.csv", tmp_path) == tmp_path / "real" / "rows.csv"
    assert "Could not determine home" in refusal(absolute_path, "~nobody-there/rows.csv", tmp_path)
    assert "null byte" in refusal(absolute_path, "a\x00/b.csv", tmp_path)


def test_writing_keeps_mode_and_link(tmp_path: Path) -> None:
    """As if the file were written in place."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to("target")
    write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and target.stat().st_mode & 0o777 == 0o600


# --- scenarios ---


SCENARIO_FIELDS: list[Any] = [
    ("seed", 2**63, ["seed", "9223372036854775807"]),
    ("title", "x" * 10_000, ["title", "1000 characters"]),
    ("name", "a" * 101, ["name", "100 characters"]),
    ("data__source", "x" * 5000, ["data.source", "4096"]),
    ("data__classes", list(range(1001)), ["data.classes", "1000"]),
    ("data__classes", ["x" * 200, "y"], ["data.classes.0", "100 characters"]),
    ("data__classes", [10**400, 1], ["data.classes.0", "about 1e400"]),
    ("data__parameters", {"rows": 10**9}, ["data.parameters", "'rows' must be at most 1,000,000, got 1000000000"]),
    ("data__parameters", {"rows": 2**64}, ["'rows' must be at most 1,000,000"]),
    ("data__parameters", {"features": 10**9}, ["'features' must be at most 10,000"]),
    ("data__parameters", {"noise": 1e300}, ["'noise' must be at most 1,000,000"]),
    ("data__parameters", {"noise": float("nan")}, ["'noise' must be finite, got nan"]),
    ("data__parameters", {"rows": 10**6, "features": 1000}, ["rows × features", "20,000,000"]),
    ("data__parameters", {f"p{number}": 1 for number in range(200)}, ["data.parameters", "100"]),
    ("data__angle_range", [0, 1e300], ["data.angle_range.1", "10000", "1e+300"]),
    ("data__split_seed", 10**400, ["data.split_seed", "about 1e400"]),
    ("draws__count", 10**9, ["draws.count", "10000", "got 1000000000"]),
    ("draws__train_rows", 2**63, ["draws.train_rows", "1000000", "got 9223372036854775808"]),
    ("draws__thief_rows_per_class", 10**9, ["draws.thief_rows_per_class"]),
    ("draws__tuning_rows", 10**400, ["draws.tuning_rows", "about 1e400"]),
    ("design__qubits", 10**9, ["design.qubits", "20"]),
    ("design__max_parts", 10**9, ["design.max_parts", "100"]),
    ("design__max_part_qubits", 10**9, ["design.max_part_qubits", "10000"]),
    ("design__max_gates", 10**6, ["design.max_gates", "2000"]),
    ("design__max_steps", 10**9, ["design.max_steps", "1000000"]),
    ("design__shots", [2**63], ["design.shots.0", "1000000000"]),
    ("design__shots", [100] * 1001, ["design.shots", "1000"]),
    ("design__gates", ["ry"] * 101, ["design.gates", "100"]),
    ("model__steps", 10**9, ["model.steps", "100000"]),
    ("model__learning_rate", 1e300, ["model.learning_rate", "1000", "1e+300"]),
    ("model__learning_rate", 1e-300, ["model.learning_rate", "0.000000001", "1e-300"]),
    ("threat__steps", 10**9, ["threat.steps", "100000"]),
    ("threat__tiers", ["frozen-head"] * 21, ["threat.tiers", "20"]),
    ("threat__coalition", 10**9, ["threat.coalition", "100"]),
    ("threat__queries", 10**9, ["threat.queries", "10000"]),
    ("budget__rows", 10**400, ["budget.rows", "1000000000", "about 1e400"]),
    ("budget__shots", 10**12, ["budget.shots"]),
    ("budget__dollars", 1e300, ["budget.dollars"]),
    ("reward__cost_budget", 1e-300, ["reward.cost_budget"]),
    ("reward__blend", "x" * 1000, ["reward.blend"]),
    ("providers", [{"name": f"p{number}"} for number in range(101)], ["providers", "100"]),
    ("providers__0__max_qubits", 10**400, ["providers.0.max_qubits", "10000", "about 1e400"]),
    ("providers__0__max_parts", 10**9, ["providers.0.max_parts", "100"]),
    ("providers__0__price", 1e300, ["providers.0.price"]),
    ("providers__0__gates", ["ry"] * 101, ["providers.0.gates", "100"]),
    ("providers__0__device", "x" * 5000, ["providers.0", "unknown device profile"]),
    ("providers__0__device", "x" * 300 + ".toml", ["providers.0", "File name too long"]),
    ("calibration", {"designs": 10**400}, ["calibration.designs", "2**63"]),
    ("calibration", {"reason": "x" * 20_000}, ["calibration.reason", "10,000 characters"]),
    ("x" * 100_000, 1, ["unknown field 'xxx", "choose from"]),
    ("a\nb\x1b[31m", 1, ["unknown field"]),
]


@pytest.mark.parametrize(("field", "value", "words"), SCENARIO_FIELDS, ids=map(str, range(len(SCENARIO_FIELDS))))
def test_what_is_too_large_is_refused_when_a_scenario_loads(field: str, value: object, words: list[str]) -> None:
    """One line with the field, the value and the bound."""
    message = refusal(parse_scenario, changed(TINY, **{field: value}))
    for word in words:
        assert word in message, message


NOISY = [{"name": name, "device": "ibm-heron"} for name in ("aurora", "borealis")]


TOGETHER: list[Any] = [
    (
        {"draws__count": 1000, "draws__train_rows": 1000, "model__steps": 100_000},
        ["draws.count × draws.train_rows × model.steps is 1,000 × 1,000 × 100,000", "10,000,000,000"],
    ),
    (
        {"draws__count": 1000, "draws__thief_rows_per_class": 1000, "threat__steps": 100_000},
        ["draws.thief_rows_per_class × threat.steps"],
    ),
    (
        {"draws__count": 100, "draws__train_rows": 1000, "design__qubits": 20, "design__max_part_qubits": 10},
        ["100 × 1,000 × 2**20 amplitudes", "781 GiB", "32 GiB"],
    ),
    (
        {"threat__queries": 2000, "threat__query_rows": "synthetic", "draws__count": 16},
        ["threat.queries is 2,000: with 16 draws at most 500"],
    ),
    (
        {"providers": [{"name": f"p{number}"} for number in range(40)], "threat__coalition": 20},
        ["threat.coalition 20 of 40 providers gives 137846528820 thieves"],
    ),
    (
        {
            "providers": [{"name": f"p{number}", "device": "ideal"} for number in range(30)],
            "design__max_parts": 4,
            "budget__dollars": 1.0,
        },
        ["budget: 4 parts at 30 providers are 46376 choices to price, at most 1,000"],
    ),
    (
        {"service__noise": True, "providers": NOISY, "design__qubits": 12, "design__max_part_qubits": 12},
        ["circuits of up to 12 qubits", "lower design.max_part_qubits"],
    ),
    (
        {"service__noise": True, "providers": NOISY, "design__qubits": 12, "design__max_part_qubits": 6, "design__max_gate_cuts": 1},
        ["circuits of up to 12 qubits", "set design.max_gate_cuts to 0"],
    ),
]


@pytest.mark.parametrize(("fields", "words"), TOGETHER, ids=map(str, range(len(TOGETHER))))
def test_what_is_too_large_together_is_refused_when_a_scenario_loads(fields: dict[str, Any], words: list[str]) -> None:
    """Every number for itself is possible."""
    message = refusal(parse_scenario, changed(TINY, **fields))
    for word in words:
        assert word in message, message


def test_wide_parts_with_noise_are_possible_up_to_the_bound() -> None:
    """Where the engine of noisy circuits ends."""
    import cirq

    def engine(qubits: int) -> NoisyEngine:
        line = cirq.LineQubit.range(qubits)
        circuit = NoiseSpec(one_qubit=0.1).noisy(cirq.Circuit(cirq.H(line[0])))
        return NoisyEngine.from_circuit(circuit, line, [cirq.PauliString(cirq.Z(qubit)) for qubit in line])

    engine(MOST_NOISY_QUBITS)
    assert "noisy register of 11" in refusal(engine, MOST_NOISY_QUBITS + 1)
    wide = {"service__noise": True, "providers": NOISY, "design__qubits": 10, "design__max_part_qubits": 10}
    parse_scenario(changed(TINY, **wide))


def test_the_largest_scenario_begins_an_episode() -> None:
    """What the bounds allow is also what the environment can hold: every list and every number at its end."""
    providers = [{"name": f"p{number}", "max_qubits": 10_000, "max_parts": 100} for number in range(100)]
    design = {"qubits": 20, "max_parts": 100, "max_part_qubits": 10_000, "max_gates": MOST_GATES, "vocabulary": "both"}
    largest = changed(TINY, providers=providers, design=design | {"shots": list(range(1, 1001))}, draws={"count": 100, "train_rows": 40})
    scenario = parse_scenario(largest)
    state = DesignState(scenario)
    for _ in range(3):
        assert 0 <= ObservationEncoder(scenario).encode(state).max() <= 1
        state.apply(int(np.flatnonzero(state.mask())[0]))


def test_the_source_of_a_scenario_may_be_in_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "tiny.toml"
    text = 'name = "tiny"\ntitle = "t"\n[data]\nsource = "SOURCE"\n[[providers]]\nname = "aurora"\nmax_qubits = 8\n'
    for source, found in (("~/rows.csv", tmp_path / "home" / "rows.csv"), ("rows.csv", tmp_path / "rows.csv")):
        path.write_text(text.replace("SOURCE", source), encoding="utf-8")
        os.utime(path, ns=(len(source), len(source)))
        assert load_scenario(path).data.source == str(found)
    for source, words in (("a\\u0000.csv", "null byte"), ("~nobody-there/rows.csv", "home")):
        path.write_text(text.replace("SOURCE", source), encoding="utf-8")
        os.utime(path, ns=(len(source), len(source)))
        assert words in refusal(load_scenario, path)


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    for name in ("a\x00b.toml", str(tmp_path / ("x" * 300 + ".toml")), "x" * 100_000):
        refusal(load_scenario, name)
        refusal(load_profile, name)
    loop = tmp_path / "loop.toml"
    loop.symlink_to(loop)
    assert "symbolic links" in refusal(load_scenario, loop) and "symbolic links" in refusal(load_profile, loop)


# --- devices ---


PROFILES = Path(qumos_env.__file__).parent / "hardware" / "profiles"


def profile(**fields: Any) -> dict[str, Any]:
    return changed(tomllib.loads((PROFILES / "ibm-heron.toml").read_text(encoding="utf-8")), **fields)


LATTICES: list[Any] = [
    ({"kind": "all-to-all", "qubits": 10**6}, "topology.qubits: Input should be less than or equal to 1000, got 1000000"),
    ({"kind": "line", "qubits": 10**7}, "topology.qubits: Input should be less than or equal to 10000, got 10000000"),
    ({"kind": "ring", "qubits": 10**7}, "topology.qubits: Input should be less than or equal to 10000"),
    ({"kind": "grid", "rows": 1000, "columns": 1000}, "topology: rows × columns is 1,000,000, at most 10,000 qubits"),
    ({"kind": "heavy-hex", "rows": 1000, "columns": 1000}, "topology: rows × columns is 1,000,000, at most 10,000 qubits"),
    ({"kind": "custom", "qubits": 10**400, "edges": [[0, 1]]}, "topology.qubits: Input should be less than or equal to 10000"),
    ({"kind": "custom", "qubits": 2, "edges": [[0, 1]] * 100_001}, "topology.edges: Tuple should have at most 100000 items"),
    ({"kind": "custom", "qubits": 2, "edges": [[0, 10**5000]]}, "topology: edge [0, about 1e5000] does not join"),
]


@pytest.mark.parametrize(("topology", "words"), LATTICES, ids=map(str, range(len(LATTICES))))
def test_lattices_of_millions_of_qubits_are_refused(topology: dict[str, Any], words: str) -> None:
    assert words in refusal(parse_profile, profile(topology=topology))


FIGURES: list[Any] = [
    ("times__t1", 1e-300, "times.t1"),
    ("times__readout", 1e-300, "times.readout"),
    ("times__reset", 1e300, "times.reset"),
    ("price__per_shot", 10**400, "price.per_shot: Input should be a valid number, got about 1e400"),
    ("title", "x" * 10_000, "title"),
    ("name", "x" * 200, "name"),
    ("sources__queue", "x" * 100_000, "sources"),
    ("sources", {"queue": {"a": {"b": {"c": {"d": {"e": 1}}}}}}, "sources: nested too deep"),
    ("sources", {f"s{number}": "x" for number in range(200)}, "sources"),
]


@pytest.mark.parametrize(("field", "value", "words"), FIGURES, ids=map(str, range(len(FIGURES))))
def test_figures_of_a_device_have_bounds(field: str, value: object, words: str) -> None:
    assert words in refusal(parse_profile, profile(**{field: value}))


def test_the_profiles_of_the_package_are_within_the_bounds() -> None:
    assert len([load_profile(name) for name in list_profiles()]) == len(list_profiles())


def test_titles_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands in square brackets is no command to the terminal, nor an error."""
    text = (PROFILES / "ibm-heron.toml").read_text(encoding="utf-8")
    path = tmp_path / "own.toml"
    path.write_text(text.replace('title = "', 'title = "[/] [red]:smile: '), encoding="utf-8")
    assert run(app, ["devices", "show", str(path)]) == 0
    assert "[/] [red]:smile: IBM" in capsys.readouterr().out
    assert run(app, ["scenarios", "show", "[red]\x1b[31m\n" * 10_000]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown scenario '[red]\\x1b[31m\\n[red]") and error.count("\n") == 1 and len(error) < 500


# --- designs ---


DESIGNS: list[Any] = [
    ({"gates": [["ry", 0]] * 10**6}, "gates has 1,000,000 entries, at most 2,000"),
    ({"partition": [0] * 10**5}, "partition has 100,000 entries, at most 1,000"),
    ({"partition": [0, 10**9]}, "partition holds 1000000000, numbers up to 1,000"),
    ({"partition": [0, -(10**400)]}, "partition holds about -1e400"),
    ({"partition": [0, "x" * 10**6]}, "partition holds 'xxx"),
    ({"partition": "0" * 10**6}, "partition is a list, got '000"),
    ({"assignment": ["x" * 10**6, "b"]}, "a name has at most 100 printable characters"),
    ({"assignment": ["a\nb", "b"]}, "assignment holds 'a\\nb'"),
    ({"assignment": ["\udc80", "b"]}, "assignment holds '\\udc80'"),
    ({"gates": [["ry", 10**9]]}, "gate ry holds 1000000000"),
    ({"gates": [["ry", *range(900)]]}, "gate ry acts on 1 distinct qubit(s)"),
    ({"gates": [["r" * 10**6, 0]]}, "unknown gate 'rrr"),
    ({"shots": 2**63}, "shots is 9223372036854775808, at most"),
    ({"shots": "x" * 10**6}, "shots is 'xxx"),
    ({"schema_version": [[1]] * 10**6}, "schema_version is […, …, …, … (1000000 in all)]"),
    ({"x" * 10**6: 1}, "is unknown; the fields are"),
]


@pytest.mark.parametrize(("fields", "words"), DESIGNS, ids=map(str, range(len(DESIGNS))))
def test_what_is_too_large_for_a_design_is_refused(fields: dict[str, Any], words: str) -> None:
    assert words in refusal(Design.from_dict, DESIGN | fields)


def test_design_files_are_bounded(tmp_path: Path) -> None:
    """Digits without end, nesting without end, a file without end."""
    path = tmp_path / "design.json"
    path.write_text(json.dumps(DESIGN).replace('"shots": null', '"shots": ' + "9" * 5000))
    assert "not JSON" in refusal(Design.load, path)
    path.write_text('{"a": ' * 100_000)
    assert refusal(Design.load, path).endswith("design: not JSON (nested too deep)")
    path.write_text(json.dumps(DESIGN | {"gates": [["ry", 0]] * 200_000}))
    assert "at most 1,048,576 are possible" in refusal(Design.load, path)
    path.write_text(json.dumps(DESIGN | {"gates": [["ry", 0], ["ry", 1]] * (MOST_GATES // 2)}))
    assert len(Design.load(path).gates) == MOST_GATES

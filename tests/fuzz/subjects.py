"""What is fuzzed: for every kind of file, how a mutated one is made, and what reading it means."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import tomllib
import zipfile
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
from pyarrow import parquet

from qumos_env.data import Dataset, load_dataset, make_protocol
from qumos_env.data.sources import OPENML
from qumos_env.deployment.bundle import Bundle, read_bundle
from qumos_env.deployment.export import write_bundle
from qumos_env.deployment.schema import MANIFEST
from qumos_env.deployment.signing import owner_key, signed
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.env.actions import DesignState
from qumos_env.env.observation import ObservationEncoder
from qumos_env.evaluation.workload import Workload
from qumos_env.hardware import profile as profiles
from qumos_env.hardware.profile import list_profiles, load_profile, noise_spec, parse_profile
from qumos_env.scenario import Scenario, list_scenarios, load_scenario, parse_scenario, scenario_folder
from qumos_env.scenario.sections import DataSection

from . import runs
from .mutators import NUMBERS, TEXTS, damaged, mutated, pick, size, text_of, toml_of
from .subject import Reading, Subject, no_file, spoil, write

STEPS = 30
"""Of an episode that is begun with every scenario that loads."""

# --- scenarios ---

_EXTRAS: tuple[dict[str, Any], ...] = (
    {},
    {"data": {"source": "two-curves", "parameters": {"rows": 2000, "features": 4, "degree": 3}, "classes": [0, 1], "angle_range": [0, 1]}},
    {"data": {"source": "hyperplanes", "parameters": {"rows": 2000, "features": 4, "planes": 2, "dimensions": 3}}},
    {"data": {"source": "parity", "parameters": {"rows": 2000, "features": 4, "relevant": 1, "margin": 0.1, "seed": 1}}},
    {"data": {"source": "hidden-manifold", "parameters": {"rows": 2000, "features": 4, "manifold": 3, "noise": 0.1}}},
    {"service": {"noise": True}, "budget": {"dollars": 1e6, "rows": 10, "shots": 10}},
)
_PROVIDER = {
    "name": "aurora",
    "max_qubits": 5,
    "max_parts": 2,
    "gates": ["ry", "cz"],
    "price": 1.0,
    "mid_circuit_measurement": False,
    "noise": {"one_qubit": 0.01},
    "device": "ideal",
}


def _scenario(generator: np.random.Generator, folder: Path) -> Reading:
    if generator.random() < 0.02:
        return partial(load_scenario, no_file(folder, ".toml", generator))
    path = scenario_folder() / f"{pick(generator, list_scenarios())}.toml"
    if generator.random() < 0.15:
        file = write(folder, "case.toml", damaged(path.read_bytes(), generator))
        return lambda: begin(load_scenario(file))
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    data |= pick(generator, _EXTRAS)
    data.setdefault("service", {"noise": False})
    data["model"] |= {"steps": 80, "learning_rate": 0.1}
    data["threat"] |= {"steps": 80, "coalition": 1, "tiers": ["frozen-head"]}
    data["design"] |= {"shots": [100, 1000], "gates": ["rx", "ry", "cz", "rzz"], "max_steps": 100}
    data["design"]["vocabulary"] = pick(generator, ("gates", "blocks", "both"))
    if "budget" in data or generator.random() < 0.5:
        data["providers"] = [_PROVIDER, _PROVIDER | {"name": "borealis", "device": pick(generator, list_profiles())}]
    as_text = generator.random() < 0.7
    content = mutated(data, generator, as_text)
    if not as_text:
        return lambda: begin(parse_scenario(content))
    file = write(folder, "case.toml", toml_of(content, generator))
    return lambda: begin(load_scenario(file))


def begin(scenario: Scenario) -> None:
    """What every run does with a scenario before the first training: hash, rows, and an episode, of which some steps are taken."""
    assert len(scenario.hash) == 64
    assert parse_scenario(json.loads(scenario.model_dump_json())).hash == scenario.hash
    if scenario.data.source not in OPENML:
        make_protocol(scenario.data, scenario.draws, scenario.design.qubits)
    generator, state, encoder = np.random.default_rng(0), DesignState(scenario), ObservationEncoder(scenario)
    for _ in range(STEPS):
        observation = encoder.encode(state)
        assert observation.min() >= 0 and observation.max() <= 1
        valid = np.flatnonzero(state.mask())
        assert len(valid)
        state.apply(int(generator.choice(valid)))


# --- designs ---


def _design(generator: np.random.Generator, folder: Path) -> Reading:
    if generator.random() < 0.02:
        return partial(Design.load, no_file(folder, ".json", generator))
    parts, layers = int(generator.integers(1, 4)), int(generator.integers(1, 4))
    design = ry_cz_ry(interleaved(8, parts), ("aurora", "borealis", "cirrus")[:parts], layers)
    data = design.to_dict() | {"shots": pick(generator, (None, 100))}
    if generator.random() < 0.2:
        content: Any = damaged(json.dumps(data).encode(), generator)
    elif generator.random() < 0.7:
        content = text_of(mutated(data, generator, as_text=True), toml=False)
    else:
        changed = mutated(data, generator)
        return lambda: use(Design.from_dict(changed))
    file = write(folder, "case.json", content)
    return lambda: use(Design.load(file))


def use(design: Design) -> None:
    """Parts, hash and the way back."""
    assert len(design.parts) == design.n_parts
    assert Design.from_json(design.to_json()).hash == design.hash


# --- device profiles ---


def _profile(generator: np.random.Generator, folder: Path) -> Reading:
    if generator.random() < 0.02:
        return partial(load_profile, no_file(folder, ".toml", generator))
    path = Path(profiles.__file__).parent / "profiles" / f"{pick(generator, list_profiles())}.toml"
    if generator.random() < 0.15:
        content: Any = damaged(path.read_bytes(), generator)
    else:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        data["topology"] = pick(
            generator,
            (
                data["topology"],
                {"kind": "custom", "qubits": 4, "edges": [[0, 1], [1, 2], [2, 3]]},
                {"kind": "all-to-all", "qubits": 8},
                {"kind": "ring", "qubits": 8},
                {"kind": "heavy-hex", "rows": 3, "columns": 5},
            ),
        )
        as_text = generator.random() < 0.7
        changed = mutated(data, generator, as_text)
        if not as_text:
            return lambda: look_at(parse_profile(changed))
        content = toml_of(changed, generator)
    file = write(folder, "case.toml", content)
    return lambda: look_at(load_profile(file))


def look_at(profile: profiles.DeviceProfile) -> None:
    """Noise, couplings and prices: everything that a scenario asks of a device."""
    noise = noise_spec(profile)
    assert 0 <= noise.one_qubit <= 1 and 0 <= noise.two_qubit <= 1
    assert profile.topology.graph().number_of_nodes() == profile.n_qubits
    assert np.isfinite(profile.price.total(10**9, 10**9, 1e12)) and np.isfinite(profile.queue.mean)
    assert set(profile.assumed) <= set(profile.figures)


# --- data ---

_HEADERS = (["a", "b", "label"], ["a", "b", "kind"], ["", "a", "label"], ["Unnamed: 0", "a", "target"], ["1", "2", "3"], ["0.1", "b", "b"])


def _data(generator: np.random.Generator, folder: Path) -> Reading:
    suffix = pick(generator, (".csv", ".parquet", ".npz"))
    if generator.random() < 0.02:
        path = no_file(folder, suffix, generator)
    else:
        content = {".csv": _csv, ".parquet": _parquet, ".npz": _npz}[suffix](generator)
        path = write(folder, f"case{suffix}", damaged(content, generator) if generator.random() < 0.3 else content)
    return lambda: check(load_dataset(DataSection(source=str(path))))


def check(dataset: Dataset) -> None:
    """Features that can be squared and summed, and a class for every row."""
    assert dataset.features.dtype == np.float64 and np.isfinite((dataset.features**2).sum())
    assert dataset.labels.shape == dataset.features.shape[:1] and dataset.labels.max() < len(dataset.class_names)


def _values(generator: np.random.Generator, rows: int) -> list[Any]:
    kind = generator.integers(8)
    if kind < 4:
        return generator.normal(size=rows).tolist()
    if kind == 4:
        return [pick(generator, NUMBERS) for _ in range(rows)]
    if kind == 5:
        return [pick(generator, TEXTS[:40]) for _ in range(rows)]
    return [pick(generator, ("x", "y")) if kind == 6 else int(value) for value in generator.integers(0, 3, rows)]


def _csv(generator: np.random.Generator) -> bytes:
    header, rows = list(pick(generator, _HEADERS)), size(generator, 200)
    kind = generator.integers(10)
    if kind == 0:
        return ",".join(f"c{number}" for number in range(size(generator, 1_000_000))).encode() + b"\n1\n" * size(generator, 100_000)
    if kind == 1:
        header = [pick(generator, TEXTS) for _ in range(size(generator, 2000))]
    columns = [_values(generator, rows) for _ in header]
    columns[-1] = generator.integers(0, 3, rows).tolist()
    lines = [header, *([str(column[row]) for column in columns] for row in range(rows))]
    for _ in range(int(generator.integers(3))):
        line = pick(generator, lines)
        line[int(generator.integers(len(line)))] = str(pick(generator, (*NUMBERS, *TEXTS)))
    between = pick(generator, (",", ",", ",", ";", "\t"))
    return "\n".join(between.join(line) for line in lines).encode("utf-8", "surrogatepass")


def _parquet(generator: np.random.Generator) -> bytes:
    rows = size(generator, 200)
    table = pandas.DataFrame({"a": generator.normal(size=rows), "label": generator.integers(0, 3, rows)})
    for name in ("b", pick(generator, ("c", "x" * 10_000, "__index_level_0__", "\x00", "target"))):
        kind = generator.integers(7)
        if kind == 0:
            table[name] = pandas.Series([pick(generator, TEXTS[:30]) for _ in range(rows)], dtype="category")
        elif kind == 1:
            table[name] = pandas.Timestamp("2024-01-01")
        elif kind == 2:
            table[name] = [[1, 2]] * rows
        elif kind == 3:
            table[name] = [{"x": 1}] * rows
        elif kind == 4:
            table[name] = [pick(generator, (True, None, 1.5, 1e200)) for _ in range(rows)]
            table[name] = table[name].astype(float)
        else:
            table[name] = generator.integers(0, 5, rows)
    if generator.random() < 0.3:
        table = table.set_index(pick(generator, ("a", "b")))
    arrow = pyarrow.Table.from_pandas(table)
    kind = generator.integers(5)
    if kind == 0:
        arrow = arrow.replace_schema_metadata(None)
    elif kind == 1:
        described = arrow.schema.metadata[b"pandas"]
        arrow = arrow.replace_schema_metadata({b"pandas": damaged(described, generator)})
    elif kind == 2:
        described = json.loads(arrow.schema.metadata[b"pandas"])
        changed = text_of(mutated(described, generator, as_text=True), toml=False)
        arrow = arrow.replace_schema_metadata({b"pandas": changed.encode("utf-8", "surrogatepass")})
    target = io.BytesIO()
    parquet.write_table(arrow, target)
    return target.getvalue()


def _npz(generator: np.random.Generator) -> bytes:
    rows = size(generator, 200)
    arrays = {"features": generator.normal(size=(rows, 3)), "labels": generator.integers(0, 3, rows)}
    if generator.random() < 0.3:
        arrays = {f"{kind}_{part}": array for part in ("train", "test") for kind, array in zip("xy", arrays.values(), strict=True)}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", pick(generator, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array)
            member = content.getvalue()
            if generator.random() < 0.4:
                # The header is padded with blanks up to its line end, so another one of its length can stand there.
                start, end = member.index(b"{"), member.index(b"\n")
                shape = tuple(pick(generator, NUMBERS[:31]) for _ in range(int(generator.integers(4))))
                kinds = ("<f8", "<i8", "|O", "<U9", "<M8[s]", "<c16", "|V9", "<f2", "|b1", "<U999999999", [["a", "<f8"]], "x", 3)
                header = {"descr": pick(generator, kinds), "fortran_order": pick(generator, (False, True, 2)), "shape": shape}
                member = member[:start] + repr(header).encode()[: end - start].ljust(end - start) + member[end:]
            archive.writestr(f"{name}.npy", damaged(member, generator) if generator.random() < 0.3 else member)
    return target.getvalue()


# --- bundles ---


@cache
def _bundle(cut: bool) -> dict[str, bytes]:
    """The files of a bundle of an untrained model, with and without a gate cut, by their names in its folder."""
    data = {
        "name": "tiny",
        "title": "tiny",
        "data": {"source": "iris", "reducer": "none"},
        "draws": {"count": 2, "train_rows": 20, "tuning_rows": 12},
        "design": {"qubits": 4, "max_gate_cuts": 1},
        "providers": [{"name": "aurora"}, {"name": "borealis"}],
    }
    workload = Workload(parse_scenario(data))
    plain = ry_cz_ry(interleaved(4, 2), ("aurora", "borealis"), 1)
    design = replace(plain, gates=(*plain.gates, Gate("rzz", (0, 1)))) if cut else plain
    facts = {"seed": 0, "train_rows": 20, "test_accuracy": 0.5, "test_rows": 30}
    with tempfile.TemporaryDirectory() as folder:
        start = workload.model(design).initial([0])
        written = write_bundle(Path(folder) / "bundle", design, workload, start, workload.draws(0, "search")[0].owner, facts)
        return {str(path.relative_to(written)): path.read_bytes() for path in sorted(written.rglob("*")) if path.is_file()}


def _bundle_case(generator: np.random.Generator, folder: Path) -> Reading:
    files = dict(_bundle(bool(generator.integers(2))))
    home = folder / "bundle"
    name = pick(generator, sorted(name for name in files if name.endswith(".json")))
    if generator.random() < 0.3:
        files[name] = damaged(files[name], generator)
    else:
        changed = text_of(mutated(json.loads(files[name]), generator, as_text=True), toml=False)
        files[name] = changed.encode("utf-8", "surrogatepass")
    if name != MANIFEST and generator.random() < 0.95:
        # The checksum is put right: harm is meant.
        manifest = json.loads(files[MANIFEST])
        manifest["files"][name] = hashlib.sha256(files[name]).hexdigest()
        files[MANIFEST] = json.dumps(signed(manifest, owner_key())).encode()
    for one, content in files.items():
        (home / one).parent.mkdir(parents=True, exist_ok=True)
        (home / one).write_bytes(content)
    if generator.random() < 0.02:
        spoil(home / name, generator)
    return lambda: answer(read_bundle(home))


def answer(bundle: Bundle) -> None:
    """Probabilities for a row."""
    found = bundle.predict_proba(np.zeros((1, len(bundle.preprocessor.matrix))))
    assert np.isfinite(found).all() and np.isclose(found.sum(), 1)


SUBJECTS = (
    Subject("scenarios", _scenario),
    Subject("designs", _design),
    Subject("devices", _profile),
    Subject("data", _data),
    Subject("bundles", _bundle_case),
    Subject("runs", runs.run_case),
    Subject("traces", runs.trace_case),
    Subject("results", runs.results_case),
)

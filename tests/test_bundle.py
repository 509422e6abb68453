"""Bundles: what each side gets, that the pieces still make the model, and that nothing is left half-written."""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import cirq
import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit  # type: ignore[import-untyped]
from qiskit.circuit import Parameter  # type: ignore[import-untyped]
from qiskit.quantum_info import Statevector  # type: ignore[import-untyped]

from qumos_env.deployment import export as bundle_module
from qumos_env.deployment.bundle import read_bundle
from qumos_env.deployment.export import Release, export_bundle, write_bundle
from qumos_env.deployment.qasm import to_openqasm3
from qumos_env.deployment.signing import owner_key, signed
from qumos_env.deployment.tokens import read_tokens
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.design.circuits import part_fragments
from qumos_env.design.gate_cuts import LABELS, cut_angles, cut_parts
from qumos_env.errors import EvaluationFailure, QumosError
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters
from qumos_env.scenario import Scenario, parse_scenario

PARTITION = (0, 1, 0, 2, 1)
DESIGN = Design(
    PARTITION,
    ("aurora", "borealis", "aurora"),
    (
        *ry_cz_ry(PARTITION, ("aurora", "borealis", "aurora"), 1).gates,
        Gate("cx", (4, 1)),
        Gate("rzz", (0, 2)),
        Gate("reupload", (4,)),
        Gate("h", (3,)),
        Gate("rz", (3,)),
        Gate("rx", (1,)),
    ),
)

# Parts 0 and 1 meet in a cut, as do 1 and 2.
CUT = Design(
    DESIGN.partition,
    DESIGN.assignment,
    (*DESIGN.gates, Gate("rx", (0,)), Gate("rzz", (0, 1)), Gate("ry", (1,)), Gate("rx", (4,)), Gate("rzz", (3, 4)), Gate("ry", (3,))),
)


def tiny(**data: Any) -> Scenario:
    """Wine on five qubits in three parts."""
    return parse_scenario(
        {
            "name": "tiny",
            "title": "tiny",
            "data": {"source": "wine", "reducer": "pca"} | data,
            "draws": {"count": 2, "train_rows": 30, "tuning_rows": 15},
            "design": {"qubits": 5, "max_parts": 3, "max_part_qubits": 3, "max_gates": 40, "max_gate_cuts": 2},
            "model": {"steps": 20},
            "threat": {"steps": 5},
            "providers": [{"name": "aurora"}, {"name": "borealis"}],
        }
    )


def trained_model(scenario: Scenario, design: Design, seed: int) -> tuple[QNN, Parameters, Workload]:
    """The model as it is trained for draw 0 of ``seed``."""
    workload = Workload(scenario)
    model = QNN(design, workload.n_classes, scenario.model, scenario.data.axis)
    draw = workload.draws(seed, "test")[0]
    return model, model.train(draw.train, draw.train_labels, draw.key), workload


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(DESIGN, tiny(), tmp_path_factory.mktemp("bundles") / "bundle", seed=3)


def test_the_folders_hold_what_they_should(exported: Path) -> None:
    """One folder per provider with its own parts, one for the owner, and the manifest."""
    files = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    homes = (("aurora", 0), ("borealis", 1), ("aurora", 2))
    parts = {f"providers/{name}/part-{part}.{ending}" for name, part in homes for ending in ("json", "qasm")}
    owner = {f"owner/{name}.json" for name in ("design", "preprocessing", "head", "assembly")}
    told = {f"providers/{name}/manifest.json" for name in ("aurora", "borealis")}
    tokens = {"owner/tokens.json", "providers/aurora/token", "providers/borealis/token"}
    assert files == parts | owner | told | tokens | {"manifest.json"}
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["files"]) == files - tokens - {"manifest.json"}
    assert manifest["design_hash"] == DESIGN.hash and manifest["scenario_hash"] == tiny().hash
    assert manifest["seed"] == 3 and manifest["train_rows"] == 30
    assert Design.load(exported / "owner" / "design.json") == DESIGN


def numbers(text: str) -> np.ndarray:
    """Every number that is written anywhere in ``text``."""
    return np.array([float(item) for item in re.findall(r"(?<![\w.])-?\d+\.\d+(?:[eE][-+]?\d+)?", text)])


def test_a_provider_gets_its_own_part_and_nothing_else(exported: Path) -> None:
    """No angle, qubit or symbol of another part, and nothing of head and preprocessing."""
    _, trained, _ = trained_model(tiny(), DESIGN, 3)
    preprocessing = json.loads((exported / "owner" / "preprocessing.json").read_text(encoding="utf-8"))
    secrets = np.concatenate([trained.head, np.ravel(preprocessing["matrix"]), preprocessing["offset"]])
    fragments = part_fragments(DESIGN, "ry")
    for provider in ("aurora", "borealis"):
        held = [part for part in DESIGN.parts if part.provider == provider]
        qubits = {qubit for part in held for qubit in part.qubits}
        mine = [index for part in held for index in fragments[part.index].weights]
        theirs = np.setdiff1d(np.arange(DESIGN.n_trainable), mine)
        for part in held:
            own = set(part.qubits)
            home = exported / "providers" / provider
            circuit = cirq.read_json(home / f"part-{part.index}.json")
            assert circuit.all_qubits() == {cirq.LineQubit(qubit) for qubit in own}
            assert cirq.parameter_names(circuit) == {f"x{qubit}" for qubit in own}
            for ending in ("json", "qasm"):
                text = (home / f"part-{part.index}.{ending}").read_text(encoding="utf-8")
                assert {int(name) for name in re.findall(r"\bx(\d+)\b", text)} == own <= qubits
                assert not re.search(r"\bw\d+\b", text)
                written = numbers(text)
                in_radians = np.concatenate([written, written * np.pi])
                weights = fragments[part.index].weights
                for angle in trained.angles[list(weights)]:
                    assert np.min(np.abs(in_radians - angle)) < 1e-9
                for secret in (*trained.angles[theirs], *secrets):
                    if abs(secret) > 1e-6:  # zeros are nobody's secret
                        assert np.min(np.abs(in_radians - secret), initial=1.0) > 1e-9


def test_the_pieces_make_the_model(exported: Path) -> None:
    """Providers' circuits on Cirq's simulator, with the owner's files, answer raw rows as the trained model does."""
    model, trained, workload = trained_model(tiny(), DESIGN, 3)
    test = workload.protocol.draws(3)[0].test
    draw = workload.draws(3, "test")[0]
    bundle = read_bundle(exported)
    answers = bundle.predict_proba(workload.protocol.dataset.features[test])
    np.testing.assert_allclose(answers, model.probabilities(trained, draw.score), atol=1e-5)
    assert bundle.classes == workload.protocol.dataset.class_names
    accuracy = np.mean(answers.argmax(axis=1) == draw.score_labels)
    assert bundle.manifest["test_accuracy"] == pytest.approx(accuracy)
    assert bundle.manifest["test_rows"] == len(test)


@pytest.mark.parametrize("axis", ["rx", "rz"])
def test_other_encodings_survive_the_export(axis: str, tmp_path: Path) -> None:
    """An encoding about Z starts from a superposition."""
    scenario = tiny(axis=axis)
    model, trained, workload = trained_model(scenario, DESIGN, 0)
    export_bundle(DESIGN, scenario, tmp_path / "bundle", workload=workload)
    rows = workload.protocol.dataset.features[workload.protocol.draws(0)[0].test][:5]
    expected = model.probabilities(trained, workload.draws(0, "test")[0].score)[:5]
    np.testing.assert_allclose(read_bundle(tmp_path / "bundle").predict_proba(rows), expected, atol=1e-5)


def read_openqasm3(text: str) -> QuantumCircuit:
    """A reader for the little of OpenQASM 3 that is written: inputs, gates of the standard library, measurements."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert lines[:2] == ["OPENQASM 3.0;", 'include "stdgates.inc";']
    inputs: dict[str, Parameter] = {}
    circuit, measured, n_bits = QuantumCircuit(), {}, 0
    for line in lines[2:]:
        if found := re.fullmatch(r"input float\[64\] (\w+);", line):
            inputs[found[1]] = Parameter(found[1])
        elif found := re.fullmatch(r"bit\[(\d+)\] c;", line):
            n_bits = int(found[1])
        elif found := re.fullmatch(r"qubit\[(\d+)\] q;", line):
            assert int(found[1]) == n_bits
            circuit = QuantumCircuit(n_bits)
        elif found := re.fullmatch(r"c\[(\d+)\] = measure q\[(\d+)\];", line):
            measured[int(found[1])] = int(found[2])
        else:
            found = re.fullmatch(r"(rx|ry|rz|h|cx|cz)(?:\(([^)]+)\))? ((?:q\[\d+\](?:, )?)+);", line)
            assert found, line
            assert not measured, "a gate after a measurement"
            angle = [] if found[2] is None else [inputs[found[2]] if found[2] in inputs else float(found[2])]
            getattr(circuit, found[1])(*angle, *map(int, re.findall(r"q\[(\d+)\]", found[3])))
    assert measured == {index: index for index in range(n_bits)}
    return circuit


def assert_same_state(text: str, circuit: cirq.Circuit, line: list[cirq.LineQubit], features: dict[str, float]) -> None:
    """Qiskit's state of the program ``text`` is Cirq's of ``circuit``, up to a global phase."""
    program = read_openqasm3(text)
    bound = program.assign_parameters({parameter: features[parameter.name] for parameter in program.parameters})
    qiskit_state = Statevector(bound).reverse_qargs().data
    cirq_state = cirq.Simulator(dtype=np.complex128).simulate(circuit, features, qubit_order=line).final_state_vector
    assert abs(np.vdot(qiskit_state, cirq_state)) == pytest.approx(1, abs=1e-6)


def test_qiskit_reads_the_exported_programs(exported: Path) -> None:
    """Each part's OpenQASM program prepares the state of its Cirq circuit."""
    generator = np.random.default_rng(0)
    for part in DESIGN.parts:
        home = exported / "providers" / part.provider
        features = {f"x{qubit}": float(generator.uniform(0, np.pi)) for qubit in part.qubits}
        line = [cirq.LineQubit(qubit) for qubit in part.qubits]
        text = (home / f"part-{part.index}.qasm").read_text(encoding="utf-8")
        assert_same_state(text, cirq.read_json(home / f"part-{part.index}.json"), line, features)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["rx", "ry", "rz"]), st.permutations(range(3)), st.one_of(st.floats(-10, 10), st.just("x12"))),
        st.tuples(st.sampled_from(["h", "cx", "cz"]), st.permutations(range(3)), st.none()),
        st.tuples(st.just("rzz"), st.permutations(range(3)), st.floats(-10, 10)),
    ),
    min_size=1,
    max_size=12,
)


@given(OPERATIONS)
@settings(deadline=None, max_examples=60)
def test_every_gate_means_the_same_in_openqasm(operations: list[tuple[str, list[int], float | str | None]]) -> None:
    """Random circuits over all gates, with number and input angles, on qubits with gaps between them."""
    line = cirq.LineQubit(3), cirq.LineQubit(7), cirq.LineQubit(12)
    plain = {"h": cirq.H, "cx": cirq.CX, "cz": cirq.CZ}
    rotations = {"rx": cirq.rx, "ry": cirq.ry, "rz": cirq.rz}
    circuit = cirq.Circuit()
    for name, order, angle in operations:
        a, b = line[order[0]], line[order[1]]
        if name in rotations:
            circuit.append(rotations[name](sympy.Symbol(angle) if isinstance(angle, str) else angle).on(a))
        elif name == "rzz":
            circuit.append(cirq.ZZPowGate(exponent=float(angle or 0) / np.pi, global_shift=-0.5).on(a, b))
        else:
            circuit.append(plain[name].on(*((a,) if name == "h" else (a, b))))
    assert_same_state(to_openqasm3(circuit, list(line)), circuit, list(line), {"x12": 0.77})


def test_gates_outside_the_registry_are_refused() -> None:
    """Rather than written as something else."""
    with pytest.raises(QumosError, match="is none of those that a design can have"):
        to_openqasm3(cirq.Circuit(cirq.SWAP(*cirq.LineQubit.range(2))), cirq.LineQubit.range(2))
    with pytest.raises(QumosError, match="is none of those that a design can have"):
        to_openqasm3(cirq.Circuit(cirq.T(cirq.LineQubit(0))), [cirq.LineQubit(0)])


def copy_of(folder: Path, target: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(folder)).write_bytes(path.read_bytes())
    return target


def test_a_bundle_that_was_tampered_with_is_refused(exported: Path, tmp_path: Path) -> None:
    """Each file is covered by its checksum; a missing one is named."""
    names = list(json.loads((exported / "manifest.json").read_text(encoding="utf-8"))["files"])
    folder = copy_of(exported, tmp_path / "copy")
    for name in names:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        with pytest.raises(QumosError, match=re.escape(f"{name} fails its checksum")):
            read_bundle(folder)
        (folder / name).unlink()
        with pytest.raises(QumosError, match=re.escape(f"{name} is missing")):
            read_bundle(folder)
        (folder / name).write_bytes(content)
    read_bundle(folder)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "no readable manifest.json"),
        ("{", "manifest.json: not JSON"),
        ("[]", "manifest.json"),
        ('{"schema_version": 3, "files": {}}', "schema_version: Input should be 2, got 3"),
        ("[" * 100_000, "nested too deep"),
        ('{"schema_version": 1' + "0" * 5000 + "}", "not JSON"),
        ('{"schema_version": 1}', "schema version 1, from before bundles were signed; export it again"),
        ('{"schema_version": 2}', "manifest.json"),
        ('{"schema_version": 2, "files": []}', "manifest.json"),
        ('{"schema_version": 2, "files": {}}', "manifest.json|missing"),
    ],
)
def test_what_is_no_bundle_is_refused(manifest: str | None, words: str, tmp_path: Path) -> None:
    """One line that names the folder."""
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(QumosError, match=words) as caught:
        read_bundle(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_existing_folders_are_refused_before_any_work(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier bundle needs --force, other content is never touched, and nobody waits for a training to be told so."""
    folder = copy_of(exported, tmp_path / "bundle")
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "wedding.jpg").write_bytes(b"")

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained before the folder was checked")

    with monkeypatch.context() as patch:
        patch.setattr(QNN, "train_many", fail)
        with pytest.raises(QumosError, match="--force"):
            export_bundle(DESIGN, tiny(), folder)
        with pytest.raises(QumosError, match="other content"):
            export_bundle(DESIGN, tiny(), foreign, force=True)
    assert [path.name for path in foreign.iterdir()] == ["wedding.jpg"]
    assert read_bundle(folder).manifest["seed"] == 3
    export_bundle(DESIGN, tiny(), folder, seed=4, force=True)
    assert read_bundle(folder).manifest["seed"] == 4


def test_a_failure_half_way_leaves_nothing(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no temporary one; with --force the earlier bundle is still there."""
    calls = []

    def fail(circuit: cirq.Circuit, qubits: list[cirq.LineQubit]) -> str:
        calls.append(circuit)
        if len(calls) == 2:
            raise EvaluationFailure("half way")
        return to_openqasm3(circuit, qubits)

    monkeypatch.setattr(bundle_module, "to_openqasm3", fail)
    with pytest.raises(EvaluationFailure, match="half way"):
        export_bundle(DESIGN, tiny(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
    folder = copy_of(exported, tmp_path / "earlier")
    calls.clear()
    with pytest.raises(EvaluationFailure, match="half way"):
        export_bundle(DESIGN, tiny(), folder, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]
    assert read_bundle(folder).manifest["seed"] == 3


def test_designs_that_cannot_be_bundled_are_refused(tmp_path: Path) -> None:
    """Broken limits; nothing is written."""
    cut = Design(CUT.partition, CUT.assignment, (*CUT.gates, Gate("rzz", (2, 3))))
    central = ry_cz_ry((0, 0, 0, 0, 0), ("aurora",), 1)
    for design, words in ((cut, "3 gate cuts"), (central, "part 0 has 5 qubits")):
        with pytest.raises(QumosError, match=words):
            export_bundle(design, tiny(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


# Designs with gate cuts


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(CUT, tiny(), tmp_path_factory.mktemp("bundles") / "cut", seed=3)


def provider_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in (folder / "providers").rglob("*") if path.is_file()}


def test_providers_get_all_variants_of_their_parts(cut: Path) -> None:
    """Five for each cut that touches a part, named by what stands in the place of the cuts."""
    expected = set()
    for part, home, cuts in ((0, "aurora", 1), (1, "borealis", 2), (2, "aurora", 1)):
        for labels in product(LABELS, repeat=cuts):
            expected |= {f"providers/{home}/part-{part}-{'-'.join(labels)}.{ending}" for ending in ("json", "qasm")}
    assert {name for name in provider_files(cut) if "part-" in name} == expected
    assembly = json.loads((cut / "owner" / "assembly.json").read_text(encoding="utf-8"))
    assert [(item["qubits"], item["parts"]) for item in assembly["cuts"]] == [([0, 1], [0, 1]), ([3, 4], [2, 1])]
    assert assembly["recombination"]["labels"] == list(LABELS)


def test_the_variants_make_the_model(cut: Path) -> None:
    """Run one by one on Cirq's simulator and recombined, they answer as the uncut model does; another cut angle would not."""
    model, trained, workload = trained_model(tiny(), CUT, 3)
    rows = workload.protocol.dataset.features[workload.protocol.draws(3)[0].test][:6]
    expected = model.probabilities(trained, workload.draws(3, "test")[0].score[:6])
    bundle = read_bundle(cut)
    np.testing.assert_allclose(bundle.predict_proba(rows), expected, atol=1e-5)
    assert np.abs(replace(bundle, cut_angles=(0.0, 0.0)).predict_proba(rows) - expected).max() > 0.01


def test_parts_beside_a_cut_stay_as_they_are(tmp_path: Path) -> None:
    """A part that no cut touches is one circuit, and joins in the answers."""
    design = Design(DESIGN.partition, DESIGN.assignment, (*DESIGN.gates, Gate("rzz", (0, 1)), Gate("ry", (1,))))
    model, trained, workload = trained_model(tiny(), design, 0)
    export_bundle(design, tiny(), tmp_path / "bundle", workload=workload)
    bundle = read_bundle(tmp_path / "bundle")
    assert [len(part.variants) for part in bundle.parts] == [5, 5, 1]
    assert (tmp_path / "bundle" / "providers" / "aurora" / "part-2.json").is_file()
    rows = workload.protocol.dataset.features[workload.protocol.draws(0)[0].test][:5]
    expected = model.probabilities(trained, workload.draws(0, "test")[0].score[:5])
    np.testing.assert_allclose(bundle.predict_proba(rows), expected, atol=1e-5)


def test_no_provider_gets_a_cut_angle(cut: Path, tmp_path: Path) -> None:
    """Neither it nor a coefficient is written anywhere, and no byte changes with it; with a local angle some do."""
    _, trained, workload = trained_model(tiny(), CUT, 3)
    secret = trained.angles[list(cut_angles(CUT))]
    coefficients = np.concatenate([np.cos(secret / 2) ** 2, np.sin(secret / 2) ** 2, np.sin(secret), np.sin(secret) / 2])
    kept = provider_files(cut)
    for name, content in kept.items():
        written = numbers(content.decode())
        in_radians = np.concatenate([written, written * np.pi, -written, -written * np.pi])
        for value in (*secret, *(secret / 2), *(secret % (2 * np.pi)), *coefficients):
            assert np.min(np.abs(in_radians - value), initial=1.0) > 1e-9, name
    owner = json.loads((cut / "owner" / "assembly.json").read_text(encoding="utf-8"))
    np.testing.assert_array_equal([item["angle"] for item in owner["cuts"]], secret)

    def written_with(name: str, numbers: list[int]) -> dict[str, bytes]:
        angles = trained.angles.copy()
        angles[numbers] += 0.3
        preprocessor = workload.owner(workload.protocol.draws(3)[0].train)
        manifest = read_bundle(cut).manifest
        created = datetime.fromisoformat(manifest["created"])
        release = Release(manifest["name"], 1, created=created, tokens=read_tokens(cut / "owner" / "tokens.json"))
        written = write_bundle(tmp_path / name, CUT, workload, Parameters(angles, trained.head), preprocessor, {}, release=release)
        return provider_files(written)

    assert written_with("cut", list(cut_angles(CUT))) == kept
    assert written_with("local", [0]) != kept


def test_qiskit_reads_the_programs_of_variants(cut: Path) -> None:
    """Each prepares the state of its Cirq circuit, ancillas of M last."""
    generator = np.random.default_rng(0)
    for part in cut_parts(CUT, "ry"):
        features = {f"x{qubit}": float(generator.uniform(0, np.pi)) for qubit in part.qubits}
        for variant in part.variants:
            stem = cut / "providers" / part.provider / "-".join(("part", str(part.index), *variant.labels))
            circuit = cirq.read_json(stem.with_suffix(".json"))
            assert circuit.all_qubits() == set(variant.qubits)
            text = stem.with_suffix(".qasm").read_text(encoding="utf-8")
            assert f"qubit[{len(part.qubits) + variant.labels.count('M')}] q;" in text
            assert_same_state(text, circuit, list(variant.qubits), features)


def test_all_angles_are_read_back(cut: Path) -> None:
    """Those of parts from their variants, those of cuts from the owner's folder."""
    _, trained, _ = trained_model(tiny(), CUT, 3)
    bundle = read_bundle(cut)
    found = bundle.parameters("ry")
    np.testing.assert_allclose(found.angles, trained.angles, atol=1e-12)
    np.testing.assert_array_equal(found.head, trained.head)
    with pytest.raises(QumosError, match="part 0 of the bundle is not the circuit of its design with rx encoding"):
        bundle.parameters("rx")
    with pytest.raises(QumosError, match=r"3 part\(s\) and 1 gate cut\(s\), its design 3 and 2"):
        replace(bundle, cut_angles=bundle.cut_angles[:1]).parameters("ry")


def test_variants_that_disagree_are_refused(cut: Path) -> None:
    """An angle that is another one in one variant alone belongs to no model."""
    bundle = read_bundle(cut)
    variant = bundle.parts[0].variants[-1]
    turned = variant.circuit.map_operations(
        lambda op: cirq.rx(op.gate._rads + 0.5).on(*op.qubits) if isinstance(op.gate, cirq.Rx) and not cirq.is_parameterized(op) else op
    )
    assert turned != variant.circuit
    part = replace(bundle.parts[0], variants=(*bundle.parts[0].variants[:-1], replace(variant, circuit=turned)))
    with pytest.raises(QumosError, match="part 0 of the bundle"):
        replace(bundle, parts=(part, *bundle.parts[1:])).parameters("ry")


def test_a_cut_part_is_not_one_circuit(exported: Path, cut: Path) -> None:
    """Who expects one circuit a part is told so; without cuts it is there."""
    assert [qubits for qubits, _ in read_bundle(exported).circuits] == [part.qubits for part in DESIGN.parts]
    with pytest.raises(QumosError, match="variant by variant"):
        _ = read_bundle(cut).circuits


# Bundles from others


def resealed(folder: Path, *, listed: bool = True) -> Path:
    """The checksums of a folder whose files were changed put right, and signed anew, as somebody would who means harm and has the key."""
    for home in (*(path for path in (folder / "providers").iterdir()), folder):
        manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
        for name in manifest["files"] if listed else ():
            if (home / name).is_file():
                manifest["files"][name] = hashlib.sha256((home / name).read_bytes()).hexdigest()
        (home / "manifest.json").write_text(json.dumps(signed(manifest, owner_key())), encoding="utf-8")
    return folder


def changed(folder: Path, name: str, change: Callable[[Any], Any]) -> Path:
    data = json.loads((folder / name).read_text(encoding="utf-8"))
    found = change(data)
    data = found if isinstance(found, list) and found == [data] else data
    (folder / name).write_text(json.dumps(data), encoding="utf-8")
    return resealed(folder)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(QumosError, match=words) as caught:
        read_bundle(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_only_what_is_listed_is_read(exported: Path, tmp_path: Path) -> None:
    """A part file that is dropped from the manifest could be altered unseen."""
    folder = copy_of(exported, tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    name = f"providers/{DESIGN.parts[0].provider}/part-0.json"
    del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(signed(manifest, owner_key())), encoding="utf-8")
    refused(folder, "providers/aurora: part-0.json is missing")


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname", "owner/../../outside.json", "providers/../evil.json", "owner/"])
def test_nothing_is_read_from_outside(exported: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(exported, tmp_path / "copy")
    (tmp_path / "outside.json").write_text("{}", encoding="utf-8")
    digest = hashlib.sha256(b"{}").hexdigest()
    refused(changed(folder, "manifest.json", lambda data: data["files"].update({name: digest})), "files")


def test_links_are_refused(exported: Path, tmp_path: Path) -> None:
    """A file or a folder of the bundle that is a link to elsewhere, even to the same content."""
    for name in ("owner/head.json", "owner"):
        folder = copy_of(exported, tmp_path / name.replace("/", "-"))
        elsewhere = tmp_path / f"elsewhere-{name.replace('/', '-')}"
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(elsewhere)
        refused(folder, "reached by a link")


def test_a_provider_is_no_path(exported: Path, tmp_path: Path) -> None:
    for provider in ("../../evil", "/tmp", "a" * 200):
        folder = copy_of(exported, tmp_path / str(len(provider)))
        refused(changed(folder, "owner/assembly.json", lambda data, to=provider: data["parts"][0].update(provider=to)), "assembly.json")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("owner/head.json", lambda data: data.update(parameters=[float("nan")] * len(data["parameters"])), "parameters"),
        ("owner/head.json", lambda data: data["parameters"].pop(), "parameters, a scaled head has"),
        ("owner/head.json", lambda data: data.update(kind="wide"), "kind"),
        ("owner/head.json", lambda data: [data], "head.json"),
        ("owner/assembly.json", lambda data: data.update(n_qubits=10**9), "n_qubits"),
        ("owner/assembly.json", lambda data: data.update(n_qubits=4), "4 qubits, the design has 5"),
        ("owner/assembly.json", lambda data: data.update(n_qubits="5"), "n_qubits"),
        ("owner/assembly.json", lambda data: data.update(classes=["one"]), "classes"),
        ("owner/assembly.json", lambda data: data["parts"].reverse(), "other parts than the design"),
        ("owner/assembly.json", lambda data: data.pop("parts"), "parts"),
        ("owner/preprocessing.json", lambda data: data.update(offset=[]), "do not fit together"),
        ("owner/preprocessing.json", lambda data: data["matrix"][0].__setitem__(0, "x"), "matrix"),
        ("owner/preprocessing.json", lambda data: data.update(matrix=[], offset=[]), "preprocessing.json"),
        ("owner/design.json", lambda data: data.update(shots=7), "another design"),
        ("manifest.json", lambda data: data.update(design_hash="0" * 64), "another design"),
        ("manifest.json", lambda data: data.update(kind="photos"), "kind"),
    ],
)
def test_fields_of_the_wrong_kind_are_named(exported: Path, tmp_path: Path, name: str, change: Callable[[Any], Any], words: str) -> None:
    refused(changed(copy_of(exported, tmp_path / "copy"), name, change), words)


def gates_of(data: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = data["moments"][0]["operations"][0]
    return operation


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: gates_of(data).update(gate={"cirq_type": "MatrixGate", "matrix": []}), "gate 'MatrixGate' is none of those"),
        (lambda data: gates_of(data)["gate"].update(rads={"cirq_type": "sympy.Pow", "args": [10, 1e10]}), "sympy.Symbol is expected"),
        (lambda data: gates_of(data)["gate"].update(rads={"cirq_type": "sympy.Symbol", "name": "y"}), "symbol 'y' is no feature"),
        (lambda data: gates_of(data)["gate"].update(rads=float("inf")), "angle inf"),
        (lambda data: gates_of(data)["gate"].update(rads=1e300), "angle 1e"),
        (lambda data: gates_of(data)["gate"].update(rads="1"), "angle '1'"),
        (lambda data: gates_of(data)["qubits"][0].update(x=10**9), "acts on qubit 1000000000"),
        (lambda data: gates_of(data).update(qubits=[]), "does not fit its qubits"),
        (lambda data: gates_of(data).update(tags=["a"]), "with 'tags'"),
        (lambda data: data["moments"][0].update(operations=[gates_of(data)] * 2), "overlapping"),
        (lambda data: data.update(moments=data["moments"] * 20_000), "a list of at most"),
        (lambda data: data.update(moments=None), "where a list"),
        (lambda data: [], "where a Circuit is expected"),
    ],
)
def test_circuits_are_read_by_a_reader_that_knows_designs(exported: Path, tmp_path: Path, change: Callable[[Any], Any], words: str) -> None:
    name = f"providers/{DESIGN.parts[0].provider}/part-0.json"

    def deep(data: Any) -> Any:
        found = change(data)
        return data if found is None else found

    folder = copy_of(exported, tmp_path / "copy")
    data = deep(json.loads((folder / name).read_text(encoding="utf-8")))
    (folder / name).write_text(json.dumps(data), encoding="utf-8")
    refused(resealed(folder), words)


def test_large_and_strange_files_are_refused_at_once(exported: Path, tmp_path: Path) -> None:
    """A sparse file of 40 GiB, a pipe that nobody writes to, a folder in the place of a file."""
    for kind in ("sparse", "pipe", "folder"):
        folder = copy_of(exported, tmp_path / kind)
        path = folder / "owner" / "head.json"
        if kind == "sparse":
            os.truncate(path, 40 * 2**30)
        else:
            path.unlink()
            (os.mkfifo if kind == "pipe" else Path.mkdir)(path)
        refused(folder, "head.json: cannot be read")


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_bundles_are_read_or_refused(exported: Path, cut: Path, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Whatever is changed in one file, its checksum put right: a bundle, or one line."""
    generator = np.random.default_rng(seed)
    folder = copy_of((exported, cut)[seed % 2], tmp_path_factory.mktemp("mutated") / "copy")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json"))
    name = names[int(generator.integers(len(names)))]
    content = bytearray((folder / name).read_bytes())
    if generator.random() < 0.5:
        strange = [b"1e400", b"-1", b"null", b"[]", b"{}", b"true", b'"x"', b"NaN", b"9" * 5000, b"[" * 3000, b"1.5"]
        places = [found.span() for found in re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?|\"[^\"]*\"|\[|\]", bytes(content))]
        start, end = places[int(generator.integers(len(places)))]
        content[start:end] = strange[int(generator.integers(len(strange)))]
    else:
        for _ in range(int(generator.integers(1, 6))):
            content[int(generator.integers(len(content)))] = int(generator.integers(256))
    (folder / name).write_bytes(content)
    if not name.endswith("manifest.json"):
        resealed(folder)
    try:
        bundle = read_bundle(folder)
        assert np.isfinite(bundle.predict_proba(np.zeros((1, len(bundle.preprocessor.matrix))))).all()
    except QumosError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
    finally:
        shutil.rmtree(folder)


def test_the_owners_folder_is_the_owners_alone(exported: Path) -> None:
    """Whatever the umask leaves to others; providers' folders are to be handed on."""
    assert stat.S_IMODE((exported / "owner").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (exported / "owner").iterdir()} == {0o600}
    assert stat.S_IMODE((exported / "manifest.json").stat().st_mode) == 0o666 & ~current_umask()


def current_umask() -> int:
    """Read from the system: asking by setting it would race with other threads."""
    (line,) = [line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("Umask")]
    return int(line.split()[1], 8)


def test_force_keeps_what_others_put_there(exported: Path, tmp_path: Path) -> None:
    """And a folder whose manifest is not a bundle's is nobody's to replace."""
    folder = copy_of(exported, tmp_path / "bundle")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    export_bundle(DESIGN, tiny(), folder, seed=4, force=True)
    assert read_bundle(folder).manifest["seed"] == 4 and (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    foreign = tmp_path / "site"
    (foreign / "src").mkdir(parents=True)
    (foreign / "src" / "app.js").write_text("", encoding="utf-8")
    (foreign / "manifest.json").write_text('{"name": "site"}', encoding="utf-8")
    with pytest.raises(QumosError, match="other content"):
        export_bundle(DESIGN, tiny(), foreign, force=True)
    assert (foreign / "src" / "app.js").is_file()


def test_a_bundle_may_be_exported_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export_bundle(DESIGN, tiny(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and read_bundle(tmp_path / "real").design == DESIGN

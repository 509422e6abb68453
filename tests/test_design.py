"""Designs: canonical order, hash, JSON and every validation error."""

import dataclasses
import itertools
import json
from pathlib import Path

import cirq
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qumos_env.design import Design, Gate, canonical_order
from qumos_env.design.circuits import initial_angles
from qumos_env.design.gates import REGISTRY
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import parse_scenario

ANGLES = {"rx": 0.31, "ry": 0.57, "rz": 0.83, "rzz": 1.09, "reupload": 1.31}
CIRQ_GATES = {
    "rx": cirq.rx(ANGLES["rx"]),
    "ry": cirq.ry(ANGLES["ry"]),
    "rz": cirq.rz(ANGLES["rz"]),
    "h": cirq.H,
    "cz": cirq.CZ,
    "cx": cirq.CX,
    "rzz": cirq.ZZPowGate(exponent=ANGLES["rzz"] / np.pi, global_shift=-0.5),
    "reupload": cirq.ry(ANGLES["reupload"]),
}
PARTITION = (0, 1, 0, 1, 0)
GOOD: dict[str, object] = {
    "schema_version": 1,
    "partition": [0, 1, 0],
    "assignment": ["aurora", "borealis"],
    "gates": [["ry", 0], ["cz", 0, 2]],
    "shots": None,
}


def operation(gate: Gate) -> cirq.Operation:
    """The gate as a Cirq operation with one generic angle per kind, built without the package's registry."""
    return CIRQ_GATES[gate.name].on(*(cirq.LineQubit(qubit) for qubit in gate.qubits))


def commute(a: Gate, b: Gate) -> bool:
    """Whether the two unitaries commute, for generic angles."""
    line = [cirq.LineQubit(qubit) for qubit in sorted({*a.qubits, *b.qubits})]
    ab = cirq.Circuit(operation(a), operation(b)).unitary(qubit_order=line)
    ba = cirq.Circuit(operation(b), operation(a)).unitary(qubit_order=line)
    return bool(np.allclose(ab, ba))


def may_swap(a: Gate, b: Gate) -> bool:
    """A swap that must not matter; a re-upload is kept in place beside any other gate of its qubit, whatever the axis."""
    reuploads = [gate for gate in (a, b) if gate.name == "reupload"]
    if len(reuploads) == 1 and set(a.qubits) & set(b.qubits):
        return False
    return commute(a, b)


def all_gates(n_qubits: int, names: tuple[str, ...] = tuple(CIRQ_GATES)) -> list[Gate]:
    """Every gate of the registry on every choice of qubits."""
    return [Gate(name, qubits) for name in names for qubits in itertools.permutations(range(n_qubits), REGISTRY[name].qubits)]


def allowed(gate: Gate) -> bool:
    """Whether the gate may stand in a design over ``PARTITION``."""
    return gate.name == "rzz" or len({PARTITION[qubit] for qubit in gate.qubits}) == 1


GATES = st.lists(st.sampled_from([gate for gate in all_gates(len(PARTITION)) if allowed(gate)]), min_size=1, max_size=14)


def design_of(gates: list[Gate]) -> Design:
    return Design(PARTITION, ("aurora", "borealis"), tuple(gates))


def shuffled(gates: list[Gate], generator: np.random.Generator, swaps: int = 60) -> list[Gate]:
    """``gates`` after random swaps of neighbours that commute."""
    gates = list(gates)
    for _ in range(swaps if len(gates) > 1 else 0):
        index = int(generator.integers(len(gates) - 1))
        if may_swap(gates[index], gates[index + 1]):
            gates[index], gates[index + 1] = gates[index + 1], gates[index]
    return gates


def test_commutation_agrees_with_the_unitaries_for_every_pair_of_gates() -> None:
    """Exhaustive over three qubits: what is called commuting is exactly what commutes for generic angles."""
    for a, b in itertools.product(all_gates(3, tuple(name for name in CIRQ_GATES if name != "reupload")), repeat=2):
        assert a.commutes_with(b) == commute(a, b), (a, b)


def test_a_reupload_passes_nothing_on_its_own_qubit() -> None:
    """Its axis is the scenario's, so a design cannot know what it commutes with."""
    reupload = Gate("reupload", (1,))
    for other in all_gates(3):
        expected = other == reupload or 1 not in other.qubits
        assert reupload.commutes_with(other) == expected == other.commutes_with(reupload), other


@given(GATES, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=80)
def test_commuting_swaps_give_the_same_design(gates: list[Gate], seed: int) -> None:
    """Hash, placed gates and initial angles are those of the class of all equivalent orders."""
    first = design_of(gates)
    second = design_of(shuffled(gates, np.random.default_rng(seed)))
    assert second == first
    assert second.hash == first.hash
    assert second.placed_gates == first.placed_gates
    assert np.array_equal(initial_angles(first, [3]), initial_angles(second, [3]))


@given(GATES)
@settings(deadline=None, max_examples=80)
def test_a_swap_that_does_not_commute_gives_another_design(gates: list[Gate]) -> None:
    """No two circuits that differ are merged."""
    first = design_of(gates)
    for index, (a, b) in enumerate(zip(gates, gates[1:], strict=False)):
        if a != b and not may_swap(a, b):
            swapped = [*gates[:index], b, a, *gates[index + 2 :]]
            assert design_of(swapped).hash != first.hash, (a, b)


@given(GATES)
@settings(deadline=None, max_examples=50)
def test_the_canonical_order_keeps_the_unitary(gates: list[Gate]) -> None:
    """Reordering is only ever by gates that commute; moments ascend; the order is its own canonical order."""
    design = design_of(gates)
    line = cirq.LineQubit.range(len(PARTITION))
    given_order = cirq.Circuit(map(operation, gates)).unitary(qubit_order=line, qubits_that_should_be_present=line)
    canonical = cirq.Circuit(map(operation, design.gates)).unitary(qubit_order=line, qubits_that_should_be_present=line)
    np.testing.assert_allclose(canonical, given_order, atol=1e-9)
    moments = [placed.moment for placed in design.placed_gates]
    assert moments == sorted(moments) and moments[0] == 0
    assert canonical_order(design.gates) == design.placed_gates
    assert len(set(design.placed_gates)) == len(gates)


def test_evaluation_does_not_see_the_order_of_commuting_gates() -> None:
    """A re-ordering is not a free re-roll of the training: every figure is the same, bit for bit."""
    scenario = parse_scenario(
        {
            "name": "tiny",
            "title": "tiny",
            "data": {"source": "iris", "reducer": "none"},
            "draws": {"count": 2, "train_rows": 30, "thief_rows_per_class": 3, "tuning_rows": 15},
            "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 3, "vocabulary": "gates", "max_gates": 12},
            "model": {"steps": 3},
            "threat": {"steps": 3},
            "providers": [{"name": "aurora"}, {"name": "borealis"}],
        }
    )
    words = ("ry 0", "cz 0 2", "rz 0", "rx 1", "rzz 1 3", "cz 1 3", "ry 2")
    gates = [Gate(word.split()[0], tuple(map(int, word.split()[1:]))) for word in words]
    other = [gates[index] for index in (3, 0, 5, 2, 4, 1, 6)]
    assert other != gates
    designs = [Design((0, 1, 0, 1), ("aurora", "borealis"), tuple(order)) for order in (gates, other)]
    first, second = (Evaluator(scenario).evaluate(design).to_json() for design in designs)
    assert first == second
    moved = Design((0, 1, 0, 1), ("aurora", "borealis"), (*gates[1:], gates[0]))
    assert Evaluator(scenario).evaluate(moved).to_json() != first


@given(GATES, st.sampled_from([None, 1, 1000]))
@settings(deadline=None, max_examples=40)
def test_json_round_trip(gates: list[Gate], shots: int | None) -> None:
    """What is written is read back equal, and the text is canonical."""
    design = dataclasses.replace(design_of(gates), shots=shots)
    again = Design.from_json(design.to_json())
    assert again == design and again.hash == design.hash
    assert json.loads(design.to_json()) == design.to_dict()
    assert " " not in design.to_json()
    assert again.to_json() == design.to_json()


def test_hash_covers_every_field() -> None:
    """Each field alone changes the hash; the hash is SHA-256."""
    base = Design.from_dict(GOOD)
    others = [
        GOOD | {"partition": [0, 1, 1], "gates": [["ry", 0]]},
        GOOD | {"gates": [["ry", 0]]},
        GOOD | {"assignment": ["borealis", "aurora"]},
        GOOD | {"assignment": ["aurora", "aurora"]},
        GOOD | {"gates": [["ry", 1], ["cz", 0, 2]]},
        GOOD | {"gates": [["ry", 0], ["ry", 0], ["cz", 0, 2]]},
        GOOD | {"shots": 100},
    ]
    hashes = {base.hash, *(Design.from_dict(other).hash for other in others)}
    assert len(hashes) == len(others) + 1
    assert all(len(value) == 64 and set(value) <= set("0123456789abcdef") for value in hashes)


def test_the_hash_stays_the_same_between_releases() -> None:
    """Caches, traces and bundles refer to designs by it."""
    text = '{"assignment":["aurora","borealis"],"gates":[["ry",0],["cz",0,2]],"partition":[0,1,0],"schema_version":1,"shots":null}'
    assert Design.from_dict(GOOD).to_json() == text
    assert Design.from_dict(GOOD).hash == "918a2b3bdf452f2d1c7a6ea160f8eeabb1d59f15ba53249aa756bc224800cb11"


def test_parts_hold_their_own_gates_and_cuts_belong_to_none() -> None:
    """A thief sees the parts of its provider; gates across parts are the owner's."""
    gates = (Gate("ry", (0,)), Gate("cz", (2, 0)), Gate("rzz", (3, 0)), Gate("rx", (1,)), Gate("h", (3,)))
    design = Design((0, 1, 0, 2), ("aurora", "borealis", "aurora"), gates)
    assert [part.qubits for part in design.parts] == [(0, 2), (1,), (3,)]
    assert [[str(p.gate.name) for p in part.gates] for part in design.parts] == [["ry", "cz"], ["rx"], ["h"]]
    assert [p.gate for p in design.cut_gates] == [Gate("rzz", (0, 3))]
    assert [part.index for part in design.held_by("aurora")] == [0, 2]
    assert [part.index for part in design.held_by("borealis")] == [1]
    assert design.held_by("cirrus") == ()
    assert (design.n_qubits, design.n_parts, design.n_trainable) == (4, 3, 3)


def test_symmetric_gates_are_one_value() -> None:
    """cz(2, 0) is cz(0, 2); cx(2, 0) is not cx(0, 2)."""
    assert Gate("cz", (2, 0)) == Gate("cz", (0, 2))
    assert Gate("rzz", (2, 0)) == Gate("rzz", (0, 2))
    assert Gate("cx", (2, 0)) != Gate("cx", (0, 2))


def test_a_design_cannot_be_changed() -> None:
    """It is a value: hashable, and frozen."""
    design = Design.from_dict(GOOD)
    assert {design: 1}[Design.from_dict(GOOD)] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        design.shots = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, ["schema_version is 2", "reads 1"]),
        ({"schema_version": "1"}, ["schema_version is '1'"]),
        ({"partition": []}, ["partition names no qubit"]),
        ({"partition": [1, 0, 0]}, ["partition[0] is part 1", "at most 0"]),
        ({"partition": [0, 2, 1]}, ["partition[1] is part 2", "at most 1"]),
        ({"partition": [0, -1, 0]}, ["partition[1] is part -1"]),
        ({"partition": [0, 1.0, 0]}, ["partition holds 1.0"]),
        ({"partition": [0, True, 0]}, ["partition holds True"]),
        ({"partition": "010"}, ["partition is a list", "'010'"]),
        ({"partition": {"0": 1}}, ["partition is a list"]),
        ({"partition": 3}, ["partition is a list"]),
        ({"assignment": ["aurora"]}, ["assignment names 1 provider(s) for 2 part(s)"]),
        ({"assignment": ["aurora", "borealis", "cirrus"]}, ["assignment names 3 provider(s) for 2 part(s)"]),
        ({"assignment": ["aurora", 1]}, ["assignment holds 1"]),
        ({"assignment": "aurora"}, ["assignment is a list"]),
        ({"gates": {"ry": 0}}, ["gates is a list"]),
        ({"gates": ["ry"]}, ['["name", qubit, ...]', "'ry'"]),
        ({"gates": [[]]}, ['["name", qubit, ...]']),
        ({"gates": [[0, "ry"]]}, ['["name", qubit, ...]']),
        ({"gates": [["ryy", 0]]}, ["unknown gate 'ryy'", "did you mean", "ry"]),
        ({"gates": [["ry", "0"]]}, ["gate ry holds '0'"]),
        ({"gates": [["ry", 0.0]]}, ["gate ry holds 0.0"]),
        ({"gates": [["ry", False]]}, ["gate ry holds False"]),
        ({"gates": [["ry"]]}, ["gate ry acts on 1 distinct qubit(s)", "[]"]),
        ({"gates": [["ry", 0, 1]]}, ["gate ry acts on 1 distinct qubit(s)", "[0, 1]"]),
        ({"gates": [["cz", 2, 2]]}, ["gate cz acts on 2 distinct qubit(s)", "[2, 2]"]),
        ({"gates": [["ry", 3]]}, ["gate ry acts on qubit 3", "0 to 2"]),
        ({"gates": [["ry", -1]]}, ["gate ry acts on qubit -1", "0 to 2"]),
        ({"gates": [["cz", 0, 1]]}, ["gate cz[0, 1] spans two parts", "only rzz"]),
        ({"gates": [["cx", 1, 0]]}, ["gate cx[1, 0] spans two parts", "only rzz"]),
        ({"shots": 0}, ["shots is 0", "at least 1"]),
        ({"shots": -5}, ["shots is -5"]),
        ({"shots": 1.5}, ["shots is 1.5", "whole number"]),
        ({"shots": True}, ["shots is True", "whole number"]),
        ({"shots": "100"}, ["shots is '100'", "whole number"]),
        ({"colour": "red"}, ["'colour' is unknown", "partition"]),
    ],
)
def test_what_is_no_design_is_refused(change: dict[str, object], words: list[str]) -> None:
    """One line that says what is wrong and where."""
    with pytest.raises(QumosError) as caught:
        Design.from_dict(GOOD | change)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("field", ["schema_version", "partition", "assignment", "gates"])
def test_missing_fields_are_named(field: str) -> None:
    """Shots may be left out, nothing else."""
    with pytest.raises(QumosError, match=field):
        Design.from_dict({name: value for name, value in GOOD.items() if name != field})
    assert Design.from_dict({name: value for name, value in GOOD.items() if name != "shots"}) == Design.from_dict(GOOD)


@pytest.mark.parametrize("data", [None, [], [GOOD], "x", 3])
def test_anything_but_an_object_is_refused(data: object) -> None:
    """JSON may hold anything."""
    with pytest.raises(QumosError, match="expected a JSON object"):
        Design.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "{'partition': 1}", "[" * 100_000])
def test_text_that_is_no_json_is_refused(text: str) -> None:
    """Also when it would exhaust the parser's stack."""
    with pytest.raises(QumosError, match="not JSON"):
        Design.from_json(text)


def test_load_errors_name_the_file(tmp_path: Path) -> None:
    """Whatever is wrong with it."""
    path = tmp_path / "design.json"
    for content, word in [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b"{", "not JSON"), (b"{}", "schema_version")]:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(QumosError, match=word) as caught:
            Design.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(QumosError, match="cannot be read") as caught:
        Design.load(tmp_path)
    path.write_text(json.dumps(GOOD | {"shots": 0}), encoding="utf-8")
    with pytest.raises(QumosError, match=r"design\.json: design: shots is 0"):
        Design.load(path)
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert Design.load(path) == Design.load(str(path)) == Design.from_dict(GOOD)

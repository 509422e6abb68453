"""Pairs of qubits in native gates, held against Cirq's decompositions, and against rounding."""

from itertools import product

import cirq
import numpy as np
import pytest
from native_circuits import DESIGNS, part_circuit

from qumos_env.errors import QumosError
from qumos_env.hardware.counting import exact_counts
from qumos_env.hardware.interaction import class_of, interaction
from qumos_env.hardware.profile import NativeGates, list_profiles, load_profile
from qumos_env.hardware.rewriting import pair_runs, rewritten
from qumos_env.hardware.synthesis import native_count, phased_xz, synthesise, synthesise_gate
from qumos_env.hardware.transpile import representative, transpile

NATIVE: tuple[NativeGates, ...] = ("cz", "sqrt-iswap", "ms")
A, B, C = cirq.LineQubit.range(3)
# On corners, edges and faces of the Weyl chamber, where coefficients are zero, equal or π/4, and inside.
SPECIAL = {
    "identity": cirq.IdentityGate(2),
    "cz": cirq.CZ,
    "cx": cirq.CX,
    "rzz": cirq.ZZ**0.3,
    "whole rzz": cirq.ZZ**-0.5,
    "two whole rzz": cirq.ZZ,
    "ms": cirq.ms(-0.4),
    "iswap": cirq.ISWAP,
    "sqrt iswap": cirq.SQRT_ISWAP,
    "iswap, less": cirq.ISWAP**-0.3,
    "swap": cirq.SWAP,
    "sqrt swap": cirq.SWAP**0.5,
    "swap, back": cirq.SWAP**-0.3,
    "face": cirq.FSimGate(np.pi / 2, 0.4),
    "inside": cirq.FSimGate(0.3, 0.7),
    "b": cirq.MatrixGate(cirq.unitary(cirq.XX**-0.5) @ cirq.unitary(cirq.YY**-0.25)),
}
GENERIC = cirq.PhasedXZGate(x_exponent=0.3, z_exponent=0.6, axis_phase_exponent=0.1)
LOCAL = [cirq.I, cirq.H, cirq.S, cirq.X, cirq.Z, cirq.Y**0.5, cirq.rx(0.4), GENERIC]


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """1 − |Tr(U†V)|/d."""
    return 1 - abs(np.vdot(one, two)) / len(one)


def dressed(name: str, number: int) -> np.ndarray:
    """A special gate between rotations, most of them special too."""
    generator = np.random.default_rng([number, list(SPECIAL).index(name)])
    before, after = (np.kron(*(cirq.unitary(LOCAL[index]) for index in generator.integers(len(LOCAL), size=2))) for _ in range(2))
    return after @ cirq.unitary(SPECIAL[name]) @ before


def disturbed(unitary: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The same up to rounding and a global phase."""
    noise = generator.normal(size=(4, 4)) + 1j * generator.normal(size=(4, 4))
    close, _ = np.linalg.qr(unitary + 1e-13 * noise)
    phases = np.diag(close.conj().T @ unitary)
    return close * (phases / np.abs(phases)) * np.exp(2j * np.pi * generator.random())


@pytest.mark.parametrize("name", SPECIAL)
def test_coefficients_are_cirqs_and_the_product_is_the_unitary(name: str) -> None:
    for unitary in (dressed(name, number) for number in range(8)):
        found = interaction(unitary)
        np.testing.assert_allclose(found.coefficients, cirq.kak_decomposition(unitary).interaction_coefficients, atol=1e-7)
        assert found.coefficients == class_of(unitary)
        terms = zip((cirq.XX, cirq.YY, cirq.ZZ), found.coefficients, strict=True)
        inner = np.linalg.multi_dot([cirq.unitary(gate ** (-2 * angle / np.pi)) for gate, angle in terms])
        assert distance(np.kron(*found.after) @ inner @ np.kron(*found.before), unitary) < 1e-12


@pytest.mark.parametrize("name", SPECIAL)
def test_rounding_decides_nothing(name: str) -> None:
    """Eigenvalues coincide in nearly all of these, so that eigenvectors are what rounding makes of them."""
    generator = np.random.default_rng(0)
    for unitary in (dressed(name, number) for number in range(8)):
        first = interaction(unitary)
        for _ in range(5):
            again = interaction(disturbed(unitary, generator))
            np.testing.assert_allclose(again.coefficients, first.coefficients, atol=1e-9)
            for one, two in zip((*first.before, *first.after), (*again.before, *again.after), strict=True):
                assert distance(one, two) < 1e-9


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("name", [*SPECIAL, "any"])
def test_as_few_native_gates_as_cirq_finds(name: str, native: NativeGates) -> None:
    for number in range(8):
        unitary = cirq.testing.random_unitary(4, random_state=number) if name == "any" else dressed(name, number)
        pair = synthesise(unitary, native)
        assert distance(pair.unitary(), unitary) < 1e-12
        for gate in pair.gates:
            assert isinstance(gate, cirq.MSGate) if native == "ms" else gate == {"cz": cirq.CZ, "sqrt-iswap": cirq.SQRT_ISWAP}[native]
        theirs = {
            "cz": lambda one: cirq.two_qubit_matrix_to_cz_operations(A, B, one, allow_partial_czs=False),
            "sqrt-iswap": lambda one: cirq.two_qubit_matrix_to_sqrt_iswap_operations(A, B, one),
            "ms": lambda one: cirq.two_qubit_matrix_to_ion_operations(A, B, one),
        }[native](unitary)
        assert len(pair.gates) == native_count(class_of(unitary), native) == sum(len(operation.qubits) == 2 for operation in theirs)


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("off", [1e-5, 3e-6, 3e-7, 1.2e-7, 0.8e-7, 1e-9])
def test_nearly_special_gates(off: float, native: NativeGates) -> None:
    """On either side of where coefficients count as equal, what is written stays as exact as that."""
    generator = np.random.default_rng(0)
    for name in SPECIAL:
        moves = [cirq.XX, cirq.YY, cirq.ZZ]
        moved = np.linalg.multi_dot([cirq.unitary(move ** (off * generator.integers(-1, 2))) for move in moves])
        unitary = dressed(name, 0) @ moved
        assert distance(synthesise(unitary, native).unitary(), unitary) < 1e-12


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("name", SPECIAL)
def test_single_gates(name: str, native: NativeGates) -> None:
    gate = SPECIAL[name]
    pair = synthesise_gate(gate, native)
    assert distance(pair.unitary(), cirq.unitary(gate)) < 1e-12
    assert len(pair.gates) == native_count(class_of(cirq.unitary(gate)), native)


@pytest.mark.parametrize("angle", [-4.0, -np.pi / 2, -1.2, -np.pi / 4, -0.3, 0.3, np.pi / 4, 1.2, np.pi / 2, 4.0])
@pytest.mark.parametrize("native", NATIVE)
def test_rotations_about_zz(angle: float, native: NativeGates) -> None:
    gate = cirq.ZZPowGate(exponent=angle / np.pi, global_shift=-0.5)
    assert distance(synthesise_gate(gate, native).unitary(), cirq.unitary(gate)) < 1e-12


def test_few_rotations_around_gates_that_are_nearly_native() -> None:
    """A CX is a CZ between two H, an RZZ two CZ and three rotations of one qubit."""
    for gate, native, most in ((cirq.CZ, "cz", 0), (cirq.CX, "cz", 2), (cirq.ZZ**0.3, "cz", 3), (cirq.ZZ**0.3, "ms", 4)):
        operations = rewritten(cirq.Circuit(gate(A, B)), native)
        assert sum(len(operation.qubits) == 1 for operation in operations) == most


@pytest.mark.parametrize("name", list_profiles())
def test_rounded_angles_change_no_gate(name: str) -> None:
    """Angles off by what rounding does give the same gates on the same qubits, of nearly the same angles."""
    profile, generator = load_profile(name), np.random.default_rng(5)
    for design in DESIGNS:
        logical = representative(part_circuit(design))
        native = transpile(logical, profile)
        for _ in range(2):
            moved = cirq.FrozenCircuit(_moved(operation, generator) for operation in logical.all_operations())
            again = transpile(moved, profile)
            assert exact_counts(again, profile.times) == exact_counts(native, profile.times)
            for one, two in zip(native.circuit.all_operations(), again.circuit.all_operations(), strict=True):
                assert one.qubits == two.qubits
                assert distance(cirq.unitary(one), cirq.unitary(two)) < 1e-9


def _moved(operation: cirq.Operation, generator: np.random.Generator) -> cirq.Operation:
    """A rotation by 1e-12 more or less; H, CX and CZ stay."""
    gate = operation.gate
    if not isinstance(gate, (cirq.Rx, cirq.Ry, cirq.Rz, cirq.ZZPowGate)):
        return operation
    # Rotations of one qubit by their angle, RZZ by its exponent.
    if isinstance(gate, cirq.ZZPowGate):
        return cirq.ZZPowGate(exponent=gate.exponent + generator.uniform(-1e-12, 1e-12), global_shift=-0.5).on(*operation.qubits)
    return type(gate)(rads=gate._rads + generator.uniform(-1e-12, 1e-12)).on(*operation.qubits)


def test_turns_of_one_qubit() -> None:
    """As PhasedXZ, with the same exponents whatever the phase and the last bits, on the edges of their ranges too."""
    generator = np.random.default_rng(0)
    for exponents in [*product([0, 0.3, 1], [-0.7, 0, 0.5, 1], [-0.5, 0, 0.2, 1]), *generator.uniform([0, -1, -1], 1, (20, 3)).tolist()]:
        wanted = cirq.unitary(cirq.PhasedXZGate(x_exponent=exponents[0], z_exponent=exponents[1], axis_phase_exponent=exponents[2]))
        found = []
        for _ in range(4):
            noise = 1e-13 * (generator.normal(size=(2, 2)) + 1j * generator.normal(size=(2, 2)))
            gate = phased_xz((wanted + noise) * np.exp(2j * np.pi * generator.random()))
            found.append([0.0] * 3 if gate is None else [gate.x_exponent, gate.z_exponent, gate.axis_phase_exponent])
            assert distance(np.eye(2) if gate is None else cirq.unitary(gate), wanted) < 1e-9
        assert (gate is None) == (distance(wanted, np.eye(2)) < 1e-9)
        np.testing.assert_allclose(found, np.broadcast_to(found[0], (4, 3)), atol=1e-9)


def test_runs_of_a_pair() -> None:
    """Rotations between and behind gates of a pair belong to it; what is picked out stands alone and ends its run."""
    gates = [cirq.X(A), cirq.CZ(A, B), cirq.X(A), cirq.CX(B, A), cirq.Y(C), cirq.CZ(B, C), cirq.X(A)]
    assert list(pair_runs(cirq.Circuit(gates))) == [[gates[0]], [gates[4]], gates[1:4], [gates[6]], [gates[5]]]
    apart = list(pair_runs(cirq.Circuit(gates[:4]), lambda operation: operation == gates[2]))
    assert apart == [[one] for one in gates[:4]]


@pytest.mark.parametrize("gate", [cirq.CCX(A, B, C), cirq.measure(A, B), cirq.depolarize(0.1).on(A)])
def test_what_is_refused(gate: cirq.Operation) -> None:
    with pytest.raises(QumosError, match="is no unitary gate on one or two qubits"):
        rewritten(cirq.Circuit(gate), "cz")

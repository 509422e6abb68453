"""The simulation engine against two independent oracles: ``cirq.Simulator`` in double precision and dense NumPy matrices."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import cirq
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from qsimcirq import qsim

from qumos_env.errors import QumosError
from qumos_env.simulation import qsim_backend
from qumos_env.simulation.adjoint import CircuitEngine, Observable
from qumos_env.simulation.batched import BatchedSegment
from qumos_env.simulation.instructions import Fixed, Rotation
from qumos_env.simulation.program import compile_circuit, natural_symbols
from qumos_env.simulation.qsim_backend import Segment
from qumos_env.simulation.runners import BasisRunner, DenseRunner, StatesRunner

VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
ROUTES = ("unitary", "states")
LINE = cirq.LineQubit.range(4)
PAULI = {
    "I": np.eye(2, dtype=complex),
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]], complex),
    "Z": np.array([[1, 0], [0, -1]], complex),
}


# Oracles. A circuit is a list of steps, which has a Cirq form and a dense NumPy form that share no code.


@dataclass(frozen=True)
class Angle:
    """``scale`` · symbol + ``offset`` in radians; without a symbol the number ``offset``."""

    symbol: str | None
    scale: float = 1.0
    offset: float = 0.0

    def expression(self) -> sympy.Expr | float:
        if self.symbol is None:
            return self.offset
        return sympy.Symbol(self.symbol) * self.scale + self.offset if (self.scale, self.offset) != (1, 0) else sympy.Symbol(self.symbol)

    def value(self, numbers: dict[str, np.ndarray]) -> np.ndarray | float:
        return self.offset if self.symbol is None else self.scale * numbers[self.symbol] + self.offset


@dataclass(frozen=True)
class Step:
    """``kind``: Pauli letters of a rotation, or ``h``, ``cz``, ``cx``, ``czpow`` (phase ``angle`` on |11⟩)."""

    kind: str
    qubits: tuple[int, ...]
    angle: Angle | None = None

    def operation(self) -> cirq.Operation:
        line = cirq.LineQubit.range(20)
        qubits = [line[qubit] for qubit in self.qubits]
        if self.angle is None:
            return {"h": cirq.H, "cz": cirq.CZ, "cx": cirq.CX}[self.kind](*qubits)
        angle = self.angle.expression()
        if len(self.kind) == 1:
            return {"X": cirq.rx, "Y": cirq.ry, "Z": cirq.rz}[self.kind](angle)(*qubits)
        turns = angle / (math.pi if self.angle.symbol is None else sympy.pi)
        if self.kind == "czpow":
            return cirq.CZPowGate(exponent=turns)(*qubits)
        gate = {"XX": cirq.XXPowGate, "YY": cirq.YYPowGate, "ZZ": cirq.ZZPowGate}[self.kind]
        return gate(exponent=turns, global_shift=-0.5)(*qubits)


@lru_cache(maxsize=512)
def dense_pauli(letters: str) -> np.ndarray:
    """The Kronecker product of ``letters``, qubit 0 first."""
    return reduce(np.kron, [PAULI[letter] for letter in letters])


def on(n_qubits: int, letters: str, qubits: Sequence[int]) -> np.ndarray:
    placed = ["I"] * n_qubits
    for letter, qubit in zip(letters, qubits, strict=True):
        placed[qubit] = letter
    return dense_pauli("".join(placed))


def dense_states(steps: Sequence[Step], n_qubits: int, numbers: dict[str, np.ndarray], batch: int) -> np.ndarray:
    """Output states complex128 ``[2**n, batch]``; ``numbers`` holds a scalar or ``[batch]`` values per symbol."""
    states = np.zeros((2**n_qubits, batch), complex)
    states[0] = 1
    identity = on(n_qubits, "", ())
    for step in steps:
        qubits = step.qubits
        if step.kind == "h":
            states = (on(n_qubits, "X", qubits) + on(n_qubits, "Z", qubits)) / math.sqrt(2) @ states
        elif step.kind in ("cz", "cx"):
            letter = step.kind[1].upper()
            control, target = on(n_qubits, "Z", qubits[:1]), on(n_qubits, letter, qubits[1:])
            states = (identity + control + target - control @ target) / 2 @ states
        else:
            assert step.angle is not None
            angle = np.asarray(step.angle.value(numbers))
            if step.kind == "czpow":
                both = (identity - on(n_qubits, "Z", qubits[:1])) @ (identity - on(n_qubits, "Z", qubits[1:])) / 4
                states = states + (np.exp(1j * angle) - 1) * (both @ states)
            else:
                states = np.cos(angle / 2) * states - 1j * np.sin(angle / 2) * (on(n_qubits, step.kind, qubits) @ states)
    return states


Terms = tuple[tuple[float, tuple[tuple[int, str], ...]], ...]  # (coefficient, ((qubit, letter), ...)) per Pauli string


def cirq_observable(terms: Terms) -> cirq.PauliSum:
    line = cirq.LineQubit.range(20)
    strings = [cirq.PauliString(coefficient, {line[q]: getattr(cirq, letter) for q, letter in paulis}) for coefficient, paulis in terms]
    return cirq.PauliSum.from_pauli_strings(strings)


def dense_values(states: np.ndarray, n_qubits: int, observables: Sequence[Terms]) -> np.ndarray:
    """Expectation values float64 ``[batch, observables]``."""
    columns = []
    for terms in observables:
        turned = sum(c * (on(n_qubits, "".join(p for _, p in paulis), [q for q, _ in paulis]) @ states) for c, paulis in terms)
        columns.append(np.sum(states.conj() * turned, axis=0).real)
    return np.stack(columns, axis=1)


@dataclass
class Case:
    """A circuit with numbers for its symbols, and what the oracles say about it."""

    n_qubits: int
    steps: Sequence[Step]
    observables: Sequence[Terms]
    inputs: np.ndarray
    weights: np.ndarray
    input_symbols: Sequence[str]
    weight_symbols: Sequence[str]

    @property
    def qubits(self) -> list[cirq.LineQubit]:
        return cirq.LineQubit.range(self.n_qubits)

    @property
    def circuit(self) -> cirq.Circuit:
        return cirq.Circuit(step.operation() for step in self.steps)

    def engine(self, route: str = "auto") -> CircuitEngine:
        program = compile_circuit(self.circuit, self.qubits, self.input_symbols, self.weight_symbols)
        return CircuitEngine(program, [Observable.from_cirq(cirq_observable(terms), self.qubits) for terms in self.observables], route)

    def dense(self, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        numbers = dict(zip(self.weight_symbols, weights, strict=True)) | dict(zip(self.input_symbols, inputs.T, strict=True))
        return dense_values(dense_states(self.steps, self.n_qubits, numbers, len(inputs)), self.n_qubits, self.observables)

    def cirq_values(self, row: int) -> np.ndarray:
        """Expectation values of one sample from cirq.Simulator in double precision."""
        numbers = dict(zip(self.weight_symbols, self.weights, strict=True)) | dict(zip(self.input_symbols, self.inputs[row], strict=True))
        state = cirq.Simulator(dtype=np.complex128).simulate(self.circuit, numbers, qubit_order=self.qubits).final_state_vector
        places = {qubit: index for index, qubit in enumerate(self.qubits)}
        return np.array([cirq_observable(terms).expectation_from_state_vector(state, places).real for terms in self.observables])

    def finite_differences(self, cotangents: np.ndarray, step: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
        """Central differences in double precision of Σ cotangents·values, by weights and by every sample's inputs."""
        by_weight = np.zeros(len(self.weights))
        for index in range(len(self.weights)):
            shift = step * np.eye(len(self.weights))[index]
            change = self.dense(self.weights + shift, self.inputs) - self.dense(self.weights - shift, self.inputs)
            by_weight[index] = np.sum(cotangents * change) / (2 * step)
        by_input = np.zeros(self.inputs.shape)
        for column in range(self.inputs.shape[1]):
            shift = step * np.eye(self.inputs.shape[1])[column]
            change = self.dense(self.weights, self.inputs + shift) - self.dense(self.weights, self.inputs - shift)
            by_input[:, column] = np.sum(cotangents * change, axis=1) / (2 * step)
        return by_weight, by_input


def make_case(
    n_qubits: int,
    steps: Sequence[Step],
    observables: Sequence[Terms] | None = None,
    batch: int = 3,
    seed: int = 0,
    magnitude: float = math.pi,
) -> Case:
    """A case with random numbers for the symbols of ``steps``; ``x...`` are inputs, ``w...`` weights; default ⟨Z⟩ of every qubit."""
    names = {step.angle.symbol for step in steps if step.angle is not None and step.angle.symbol is not None}
    inputs, weights = ([name for name in sorted(names) if name[0] == kind] for kind in "xw")
    generator = np.random.default_rng(seed)
    return Case(
        n_qubits,
        steps,
        observables or [((1.0, ((qubit, "Z"),)),) for qubit in range(n_qubits)],
        generator.uniform(-magnitude, magnitude, (batch, len(inputs))),
        generator.uniform(-magnitude, magnitude, len(weights)),
        inputs,
        weights,
    )


def check(case: Case, routes: Sequence[str] = ROUTES, cirq_rows: int = 2) -> None:
    """Holds values and gradients of every route against the oracles."""
    expected = case.dense(case.weights, case.inputs)
    for row in {0, len(case.inputs) - 1} if cirq_rows == 2 else range(cirq_rows):
        np.testing.assert_allclose(case.cirq_values(row), expected[row], atol=1e-9)
    cotangents = np.random.default_rng(1).normal(size=expected.shape)
    by_weight, by_input = case.finite_differences(cotangents)
    for route in routes:
        engine = case.engine(route)
        values, tape = engine.forward(case.weights, engine.encode(case.inputs))
        np.testing.assert_allclose(values, expected, atol=VALUE_TOLERANCE, err_msg=f"values, {route}")
        slopes, input_slopes = engine.backward(tape, cotangents, inputs=True)
        np.testing.assert_allclose(slopes, by_weight, atol=GRADIENT_TOLERANCE, rtol=1e-5, err_msg=f"by weight, {route}")
        np.testing.assert_allclose(input_slopes, by_input, atol=GRADIENT_TOLERANCE, rtol=1e-5, err_msg=f"by input, {route}")
        alone, nothing = engine.backward(tape, cotangents)
        assert nothing is None
        np.testing.assert_array_equal(alone, slopes)


# Random circuits


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n_qubits = draw(st.integers(1, 8))
    batch = draw(st.sampled_from((1, 3, 16, 200) if n_qubits < 5 else (1, 3, 16)))
    any_qubit = st.integers(0, n_qubits - 1)
    inputs = st.sampled_from([f"x{i}" for i in range(min(n_qubits, 3))])
    weights = st.sampled_from([f"w{i}" for i in range(4)])
    symbols = st.one_of(weights, weights, inputs)
    linear = st.builds(Angle, symbols, st.sampled_from((1.0, 2.0, -0.7)), st.sampled_from((0.0, 0.3, -2.0)))
    angles = st.one_of(st.builds(Angle, symbols), linear, st.builds(lambda value: Angle(None, 1.0, value), st.floats(-7, 7)))
    singles = st.one_of(
        st.builds(Step, st.sampled_from("XYZ"), any_qubit.map(lambda q: (q,)), angles),
        st.builds(Step, st.just("h"), any_qubit.map(lambda q: (q,))),
    )
    kinds = [singles]
    if n_qubits > 1:
        pairs = st.lists(any_qubit, min_size=2, max_size=2, unique=True).map(tuple)
        kinds += [
            st.builds(Step, st.sampled_from(("cz", "cx")), pairs),
            st.builds(Step, st.sampled_from(("XX", "YY", "ZZ", "ZZ", "czpow")), pairs, angles),
        ]
    encoding = []
    for qubit in range(n_qubits):
        style = draw(st.sampled_from(("none", "X", "Y", "Z", "h then Z")))
        if style == "h then Z":
            encoding.append(Step("h", (qubit,)))
        if style != "none":
            encoding.append(Step(style[-1], (qubit,), Angle(draw(inputs))))
    steps = encoding + draw(st.lists(st.one_of(kinds), max_size=12))
    strings = st.dictionaries(any_qubit, st.sampled_from("XYZ"), max_size=3).map(lambda paulis: tuple(paulis.items()))
    terms = st.lists(st.tuples(st.sampled_from((1.0, -0.5, 0.25)), strings), min_size=1, max_size=2).map(tuple)
    observables = draw(st.lists(terms, min_size=1, max_size=3))
    return make_case(n_qubits, steps, observables, batch, draw(st.integers(0, 999)))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_random_circuits_agree_with_cirq_and_dense_algebra(case: Case) -> None:
    check(case)


def hardware_efficient(n_qubits: int, layers: int) -> list[Step]:
    """RY encoding, then layers of RY, RZ on every qubit and a ring of CZ."""
    steps = [Step("Y", (q,), Angle(f"x{q}")) for q in range(n_qubits)]
    for layer in range(layers):
        for q in range(n_qubits):
            steps += [Step("Y", (q,), Angle(f"w{layer}{q}a")), Step("Z", (q,), Angle(f"w{layer}{q}b"))]
        steps += [Step("cz", (q, (q + 1) % n_qubits)) for q in range(n_qubits if n_qubits > 2 else n_qubits - 1)]
    return steps


@pytest.mark.parametrize("batch", [1, 3, 16, 200])
@pytest.mark.parametrize("n_qubits", [1, 2, 3])
def test_batches_of_every_size(n_qubits: int, batch: int) -> None:
    check(make_case(n_qubits, hardware_efficient(n_qubits, 2), batch=batch))


def test_eight_qubits_and_two_hundred_samples() -> None:
    case = make_case(8, [*hardware_efficient(8, 1)[:-8], Step("ZZ", (0, 7), Angle("w90")), Step("cx", (3, 4))], batch=200)
    expected = case.dense(case.weights, case.inputs)
    for route in ROUTES:
        engine = case.engine(route)
        np.testing.assert_allclose(engine.forward(case.weights, engine.encode(case.inputs))[0], expected, atol=VALUE_TOLERANCE)


def test_auto_takes_the_route_that_fits_the_batch() -> None:
    """The unitary route up to 5 qubits always, up to 7 from two samples a basis state; up to 6 by dense algebra."""
    for n_qubits, size, runner in (
        (5, 1, DenseRunner),
        (6, 128, DenseRunner),
        (6, 127, StatesRunner),
        (7, 256, BasisRunner),
        (7, 255, StatesRunner),
        (8, 512, StatesRunner),
    ):
        case = make_case(n_qubits, hardware_efficient(n_qubits, 1), batch=1)
        assert {type(found) for found in case.engine("auto")._segments(size)} == {runner}


def test_one_engine_serves_batches_of_changing_size() -> None:
    """Segments are laid out once per batch size; the next size must not reuse the wrong one, nor the next weights old angles."""
    case = make_case(2, hardware_efficient(2, 2), batch=200)
    engine = case.engine("states")
    for size, factor in ((200, 1.0), (3, 0.5), (16, -1.0), (200, 0.3)):
        weights = case.weights * factor
        values, _ = engine.forward(weights, engine.encode(case.inputs[:size]))
        np.testing.assert_allclose(values, case.dense(weights, case.inputs[:size]), atol=VALUE_TOLERANCE)


def test_threads_change_nothing() -> None:
    case = make_case(5, hardware_efficient(5, 2), batch=3)
    two = case.engine("states")
    two.threads = 2
    one = case.engine("states")
    np.testing.assert_allclose(
        two.forward(case.weights, two.encode(case.inputs))[0], one.forward(case.weights, one.encode(case.inputs))[0], atol=1e-6
    )


X0, W0, W1 = Angle("x0"), Angle("w0"), Angle("w1")
SPECIAL = {
    "no gates at all": (2, []),
    "encoding without gates": (2, [Step("Y", (0,), X0)]),
    "gates without encoding": (2, [Step("Y", (0,), W0), Step("cx", (0, 1))]),
    "qubits that nothing touches": (4, [Step("X", (2,), X0), Step("Z", (2,), W0), Step("Y", (2,), W1)]),
    "fixed gates alone": (2, [Step("h", (0,)), Step("cx", (0, 1)), Step("cz", (0, 1))]),
    "fixed one-qubit gate on an encoded qubit, nothing behind": (1, [Step("Y", (0,), X0), Step("h", (0,))]),
    "h, then rz encoding": (2, [Step("h", (0,)), Step("Z", (0,), X0), Step("X", (0,), W0), Step("cx", (0, 1)), Step("Y", (1,), W1)]),
    "encoding, h, encoding": (1, [Step("X", (0,), X0), Step("h", (0,)), Step("Y", (0,), Angle("x1")), Step("Y", (0,), W0)]),
    "scaled symbols": (1, [Step("Y", (0,), Angle("x0", -0.7, 1.1)), Step("X", (0,), Angle("w0", 2.0, 0.3))]),
    "one weight in three gates, scaled differently": (
        2,
        [Step("Y", (0,), W0), Step("X", (1,), Angle("w0", 2, 0.3)), Step("ZZ", (0, 1), Angle("w0", -1)), Step("Y", (0,), W0)],
    ),
    "one input on two qubits, and re-uploaded": (
        2,
        [
            *(Step("Y", (q,), X0) for q in (0, 1)),
            Step("cz", (0, 1)),
            *(Step("X", (q,), Angle("x0", 1.0 + q)) for q in (0, 1)),
            Step("Y", (0,), W0),
        ],
    ),
    "re-uploads in a row on one qubit": (
        1,
        [Step("Y", (0,), W0), Step("X", (0,), X0), Step("Y", (0,), Angle("x1")), Step("X", (0,), X0), Step("Z", (0,), W1)],
    ),
    "re-upload at the very end": (1, [Step("Y", (0,), X0), Step("Y", (0,), W0), Step("X", (0,), X0)]),
    "per-sample XX, YY, ZZ": (
        3,
        [
            Step("Y", (0,), W0),
            Step("XX", (0, 1), X0),
            Step("h", (1,)),
            Step("YY", (2, 1), Angle("x1", 0.5, 0.2)),
            Step("ZZ", (0, 2), X0),
            Step("X", (0,), W1),
        ],
    ),
    "trainable XX, YY, ZZ on reversed qubits": (
        3,
        [Step("h", (0,)), Step("XX", (2, 0), W0), Step("YY", (1, 0), W1), Step("ZZ", (2, 1), Angle("w2")), Step("Y", (1,), Angle("w3"))],
    ),
    "trainable and per-sample CZ powers": (
        2,
        [
            Step("h", (0,)),
            Step("h", (1,)),
            Step("czpow", (0, 1), W0),
            Step("X", (0,), W1),
            Step("czpow", (1, 0), X0),
            Step("h", (0,)),
            Step("h", (1,)),
        ],
    ),
    "a long chain of rotations and fixed gates on one qubit": (
        2,
        [
            Step("Y", (0,), X0),
            *(Step(kind, (0,), Angle(f"w{i}")) for i, kind in enumerate("XYZ")),
            Step("X", (0,), Angle(None, 1, 0.4)),
            *(Step(kind, (0,), Angle(f"w{i}", -0.7, 0.2)) for i, kind in enumerate("ZXY", 3)),
            Step("h", (0,)),
            *(Step(kind, (0,), Angle(f"w{i}")) for i, kind in enumerate("YZ", 6)),
            Step("Z", (1,), W0),
            Step("cx", (0, 1)),
        ],
    ),
    "encodings of different lengths that share inputs": (
        3,
        [
            Step("Z", (0,), Angle(None, 1, 0.8)),
            *(Step(kind, (0,), Angle(f"x{i}", 1.0 + i, 0.3)) for i, kind in enumerate("YXZ")),
            Step("h", (0,)),
            Step("Y", (0,), X0),
            Step("h", (1,)),
            Step("Z", (1,), Angle("x2")),
            *(Step("cx", pair) for pair in ((0, 1), (1, 2))),
            *(Step("Y", (q,), Angle(f"w{q}")) for q in range(3)),
        ],
    ),
    "rotations by numbers": (2, [Step("X", (0,), Angle(None, 1, 0.4)), Step("YY", (1, 0), Angle(None, 1, 2.0)), Step("Y", (1,), W0)]),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_circuits(name: str) -> None:
    n_qubits, steps = SPECIAL[name]
    check(make_case(n_qubits, steps, batch=5))


def test_pauli_strings_and_sums() -> None:
    steps = hardware_efficient(3, 1)
    observables: list[Terms] = [
        ((1.0, ()),),
        ((2.0, ((0, "X"),)),),
        ((-1.0, ((1, "Y"), (2, "Y"))),),
        ((0.5, ((0, "X"), (1, "Y"), (2, "Z"))),),
        ((0.5, ((0, "Z"), (2, "Z"))), (-0.25, ((1, "X"),)), (3.0, ())),
        ((1.0, ((0, "X"), (2, "X"))), (1.0, ((0, "Y"), (2, "Y"))), (1.0, ((0, "Z"), (2, "Z")))),
    ]
    check(make_case(3, steps, observables, batch=5))


@pytest.mark.parametrize("magnitude", [1e4, -1e4])
def test_large_angles_keep_their_digits(magnitude: float) -> None:
    """In single precision an angle of 1e4 is known to 5e-4 only."""
    steps = [Step("Y", (0,), X0), *SPECIAL["one weight in three gates, scaled differently"][1], Step("X", (1,), X0)]
    case = make_case(2, steps, batch=3)
    case.weights += magnitude
    case.inputs += magnitude
    check(case)


def test_gates_that_cirq_decomposes() -> None:
    w, x = sympy.symbols("w x")
    a, b, c = cirq.LineQubit.range(3)
    circuit = cirq.Circuit(
        cirq.H.on_each(a, b, c),
        cirq.CX(a, b) ** w,
        cirq.PhasedXPowGate(phase_exponent=0.3, exponent=w)(c),
        cirq.H(a) ** x,
        cirq.SWAP(b, c) ** w,
        cirq.ISWAP(a, b) ** 0.5,
        cirq.FSimGate(w, 0.2)(a, c),
        cirq.X(b) ** x,
        cirq.S(a),
        cirq.CCX(a, b, c),
        cirq.YPowGate(exponent=w)(c),
    )
    observable = cirq.X(a) * cirq.Y(b) + 0.5 * cirq.Z(c)
    for route in ROUTES:
        engine = CircuitEngine(compile_circuit(circuit, [a, b, c], ["x"], ["w"]), [Observable.from_cirq(observable, [a, b, c])], route)
        inputs = np.array([[0.4], [-1.3], [2.0]])

        def exact(weight: float, value: float) -> float:
            state = cirq.Simulator(dtype=np.complex128).simulate(circuit, {"w": weight, "x": value}).final_state_vector
            return observable.expectation_from_state_vector(state, {a: 0, b: 1, c: 2}).real

        values, tape = engine.forward(np.array([0.7]), engine.encode(inputs))
        np.testing.assert_allclose(values[:, 0], [exact(0.7, x) for x in inputs[:, 0]], atol=VALUE_TOLERANCE)
        slopes, input_slopes = engine.backward(tape, np.ones((3, 1)), inputs=True)
        step = 1e-4
        by_weight = sum(exact(0.7 + step, x) - exact(0.7 - step, x) for x in inputs[:, 0]) / (2 * step)
        np.testing.assert_allclose(slopes[0], by_weight, atol=GRADIENT_TOLERANCE, rtol=1e-5)
        by_input = [(exact(0.7, x + step) - exact(0.7, x - step)) / (2 * step) for x in inputs[:, 0]]
        assert input_slopes is not None
        np.testing.assert_allclose(input_slopes[:, 0], by_input, atol=GRADIENT_TOLERANCE, rtol=1e-5)


# Controlled rotations


WEIGHT, OTHER = sympy.symbols("w x")
CONTROLLED: dict[str, cirq.Operation] = {
    "rx": cirq.rx(WEIGHT).controlled()(LINE[0], LINE[1]),
    "ry, from an input": cirq.ry(2 * OTHER + 0.3).controlled()(LINE[2], LINE[0]),
    "rz": cirq.rz(-0.5 * WEIGHT).controlled()(LINE[1], LINE[3]),
    "on zero": cirq.rx(WEIGHT)(LINE[1]).controlled_by(LINE[0], control_values=[0]),
    "on either value": cirq.ry(WEIGHT)(LINE[1]).controlled_by(LINE[0], control_values=[(0, 1)]),
    "on values that differ": cirq.ControlledGate(cirq.rx(WEIGHT), control_values=cirq.SumOfProducts([[0, 1], [1, 0]]))(*LINE[:3]),
    "three controls": cirq.ry(WEIGHT).controlled(3, control_values=[1, 0, 1])(*LINE),
    "three controls, from an input": cirq.rx(OTHER).controlled(3)(*LINE),
    "a power has a phase": (cirq.X(LINE[2]) ** WEIGHT).controlled_by(LINE[0], LINE[3]),
    "a shifted power": cirq.YPowGate(exponent=WEIGHT, global_shift=0.7)(LINE[2]).controlled_by(LINE[0]),
    "a controlled power, controlled": cirq.CXPowGate(exponent=WEIGHT, global_shift=0.3)(LINE[2], LINE[1]).controlled_by(LINE[0]),
    "CX power": cirq.CX(LINE[3], LINE[1]) ** WEIGHT,
    "CZ power from an input": cirq.CZ(LINE[3], LINE[1]) ** OTHER,
    "CCX and CCZ powers": (cirq.CCX(*LINE[:3]) ** WEIGHT).controlled_by(LINE[3]),
    "CCZ power": cirq.CCZ(LINE[2], LINE[0], LINE[1]) ** WEIGHT,
    "a product": (cirq.YY(LINE[0], LINE[1]) ** WEIGHT).controlled_by(LINE[2]),
    "a product, two controls, from an input": (cirq.XX(LINE[0], LINE[1]) ** OTHER).controlled_by(LINE[2], LINE[3]),
    "tagged": cirq.rx(WEIGHT)(LINE[0]).with_tags("t").controlled_by(LINE[1]),
    "Hadamard power, by Cirq": cirq.H(LINE[0]).controlled_by(LINE[1]) ** WEIGHT,
    "swap power, by Cirq": (cirq.SWAP(LINE[0], LINE[1]) ** WEIGHT).controlled_by(LINE[2]),
    "fsim, by Cirq": cirq.FSimGate(WEIGHT, 0.2)(LINE[0], LINE[1]).controlled_by(LINE[2]),
}


def check_gate(operation: cirq.Operation, seed: int = 0) -> None:
    """Values and both gradients against cirq.Simulator and its central differences, in double precision, phases made visible."""
    generator = np.random.default_rng(seed)
    before = [axis(generator.uniform(-3, 3))(qubit) for axis in (cirq.rx, cirq.ry) for qubit in LINE]
    entangled = [*before, cirq.CZ(LINE[0], LINE[1]), cirq.CX(LINE[2], LINE[3]), cirq.CX(LINE[1], LINE[2])]
    behind = [cirq.ry(0.3 + index)(qubit) for index, qubit in enumerate(LINE)]
    circuit = cirq.Circuit(entangled, operation, behind, cirq.rx(WEIGHT)(LINE[0]), cirq.rz(OTHER)(LINE[3]), cirq.H(LINE[3]))
    observables = [cirq.X(LINE[0]) * cirq.Y(LINE[1]), cirq.Z(LINE[2]) + 0.5 * cirq.X(LINE[3])]
    weight, inputs = generator.uniform(-3, 3), generator.uniform(-3, 3, 2)

    def exact(weight: float, value: float) -> np.ndarray:
        numbers = {"w": weight, "x": value}
        simulator = cirq.Simulator(dtype=np.complex128)
        return np.real(simulator.simulate_expectation_values(circuit, observables, numbers, qubit_order=LINE))

    engine = CircuitEngine(compile_circuit(circuit, LINE, ["x"], ["w"]), [Observable.from_cirq(item, LINE) for item in observables])
    values, tape = engine.forward(np.array([weight]), engine.encode(inputs[:, None]))
    np.testing.assert_allclose(values, [exact(weight, value) for value in inputs], atol=VALUE_TOLERANCE)
    slopes, input_slopes = engine.backward(tape, np.ones((2, 2)), inputs=True)
    step = 1e-4
    by_weight = sum(exact(weight + step, value) - exact(weight - step, value) for value in inputs).sum() / (2 * step)
    by_input = [(exact(weight, value + step) - exact(weight, value - step)).sum() / (2 * step) for value in inputs]
    np.testing.assert_allclose(slopes, [by_weight], atol=GRADIENT_TOLERANCE)
    np.testing.assert_allclose(input_slopes, np.transpose([by_input]), atol=GRADIENT_TOLERANCE)


@pytest.mark.parametrize("name", CONTROLLED)
def test_controlled_gates_are_exact(name: str) -> None:
    check_gate(CONTROLLED[name])


@st.composite
def controlled_gates(draw: st.DrawFn) -> cirq.Operation:
    qubits = draw(st.permutations(LINE))
    angle = draw(st.sampled_from((WEIGHT, OTHER))) * draw(st.sampled_from((1.0, -0.7, 2.0))) + draw(st.sampled_from((0.0, 0.4)))
    kind = draw(st.sampled_from((cirq.XPowGate, cirq.YPowGate, cirq.ZPowGate, cirq.XXPowGate, cirq.ZZPowGate, cirq.CZPowGate)))
    gate = kind(exponent=angle, global_shift=draw(st.sampled_from((0.0, -0.5, 0.3))))
    width = cirq.num_qubits(gate)
    values = st.lists(st.sampled_from(((0,), (1,), (0, 1))), min_size=0, max_size=4 - width)
    controls = draw(values)
    return gate(*qubits[:width]).controlled_by(*qubits[width : width + len(controls)], control_values=controls)


@settings(max_examples=25, deadline=None)
@given(controlled_gates(), st.integers(0, 99))
def test_random_controlled_gates_are_exact(operation: cirq.Operation, seed: int) -> None:
    check_gate(operation, seed)


def test_a_controlled_rotation_about_z_is_two_rotations() -> None:
    program = compile_circuit(cirq.Circuit(cirq.rz(WEIGHT).controlled()(LINE[0], LINE[1])), LINE[:2])
    assert sorted(program.segments[0], key=lambda gate: len(gate.qubits)) == [
        Rotation("Z", (1,), 0, 0.5),
        Rotation("ZZ", (0, 1), 0, -0.5),
    ]


def test_register_order_is_the_callers() -> None:
    a, b = cirq.NamedQubit("a"), cirq.NamedQubit("b")
    circuit = cirq.Circuit(cirq.rx(0.3)(a), cirq.ry(1.1)(b))
    for register in ([a, b], [b, a]):
        engine = CircuitEngine(compile_circuit(circuit, register), [Observable.from_cirq(cirq.Z(a), register)])
        values, _ = engine.forward(np.zeros(0), engine.encode(np.zeros((1, 0))))
        np.testing.assert_allclose(values, [[math.cos(0.3)]], atol=VALUE_TOLERANCE)


def test_natural_order_of_symbols() -> None:
    qubit = cirq.LineQubit(0)
    names = ["w10", "w2", "w1", "a10b3", "a9", "a10b20"]
    circuit = cirq.Circuit(cirq.rx(sympy.Symbol(name))(qubit) for name in names)
    assert natural_symbols(circuit) == ("a9", "a10b3", "a10b20", "w1", "w2", "w10")


# qsim's low-level conventions. These fail when an upgrade of qsimcirq changes a name, sign, order or index that the engine relies on.


def random_states(n_qubits: int, batch: int = 1, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(2**n_qubits, batch)) + 1j * generator.normal(size=(2**n_qubits, batch))
    return (states / np.linalg.norm(states, axis=0)).astype(np.complex64)


CIRQ_ROTATIONS = {
    "X": cirq.rx,
    "Y": cirq.ry,
    "Z": cirq.rz,
    "XX": lambda angle: cirq.XXPowGate(exponent=angle / math.pi, global_shift=-0.5),
    "YY": lambda angle: cirq.YYPowGate(exponent=angle / math.pi, global_shift=-0.5),
    "ZZ": lambda angle: cirq.ZZPowGate(exponent=angle / math.pi, global_shift=-0.5),
}
CIRQ_FIXED = {"h": cirq.H, "cz": cirq.CZ, "cx": cirq.CX}


def segment_unitary(gate: Fixed | Rotation, n_qubits: int, angle: float, *, inverse: bool = False) -> np.ndarray:
    return Segment([gate], n_qubits, n_qubits).run(np.eye(2**n_qubits, dtype=np.complex64), np.array([angle]), inverse=inverse)


def cirq_unitary(gate: cirq.Gate, qubits: Sequence[int], n_qubits: int) -> np.ndarray:
    line = cirq.LineQubit.range(n_qubits)
    return cirq.Circuit(gate(*(line[q] for q in qubits))).unitary(qubit_order=line, qubits_that_should_be_present=line)


@pytest.mark.parametrize("axes", qsim_backend._ROTATION_KIND)
@pytest.mark.parametrize("angle", [0.7, -2.9, 5.0, 9.0])
def test_qsim_rotation_is_cirqs(axes: str, angle: float) -> None:
    """Sign, order of qubits and global phase: exp(-i·angle/2·P) exactly, beyond 2π too."""
    qubits = (2, 0)[: len(axes)]
    expected = cirq_unitary(CIRQ_ROTATIONS[axes](angle), qubits, 3)
    gate = Rotation(axes, qubits, 0)
    np.testing.assert_allclose(segment_unitary(gate, 3, angle), expected, atol=2e-6)
    np.testing.assert_allclose(segment_unitary(gate, 3, angle, inverse=True), expected.conj().T, atol=2e-6)


@pytest.mark.parametrize("name", qsim_backend._FIXED_KIND)
@pytest.mark.parametrize("qubits", [(0, 1), (1, 0), (2, 0)])
def test_qsim_fixed_gate_is_cirqs(name: str, qubits: tuple[int, int]) -> None:
    """For cx also which qubit controls."""
    acting = qubits[: cirq.num_qubits(CIRQ_FIXED[name])]
    expected = cirq_unitary(CIRQ_FIXED[name], acting, 3)
    for inverse in (False, True):
        np.testing.assert_allclose(segment_unitary(Fixed(name, acting), 3, 0.0, inverse=inverse), expected, atol=2e-6)


@pytest.mark.parametrize("qubits", [(0,), (2,), (0, 1), (1, 0), (0, 2), (2, 0), (0, 1, 2), (2, 0, 1), (1, 3, 0, 2)])
def test_qsim_matrix_gate_takes_qubits_in_cirqs_order(qubits: tuple[int, ...]) -> None:
    matrix = cirq.testing.random_unitary(2 ** len(qubits), random_state=3)
    expected = cirq_unitary(cirq.MatrixGate(matrix), qubits, 4)
    gate = Fixed("matrix", qubits, matrix)
    np.testing.assert_allclose(segment_unitary(gate, 4, 0.0), expected, atol=2e-6)
    np.testing.assert_allclose(segment_unitary(gate, 4, 0.0, inverse=True), expected.conj().T, atol=2e-6)


def test_every_name_of_qsim_that_is_used_is_held_against_cirq() -> None:
    """A name that is added to the backend needs a test here first; rotations and fixed gates are tested by their tables."""
    tables = (qsim_backend._ROTATION_KIND, qsim_backend._FIXED_KIND)
    assert [set(table) for table in tables] == [set(CIRQ_ROTATIONS), set(CIRQ_FIXED)]
    in_tables = {"krx", "kry", "krz", "kXXPowGate", "kYYPowGate", "kZZPowGate", "kH", "kCZ", "kCX"}
    calls = {"Circuit", "add_gate", "add_matrix_gate"}
    runs = {"qsim_simulate_fullstate"}
    used = set(re.findall(r"\bqsim\.([A-Za-z]\w*)", inspect.getsource(qsim_backend)))
    assert used <= in_tables | calls | runs
    assert all(hasattr(qsim, name) for name in used)


def test_qsim_applies_a_matrix_that_is_not_unitary_as_it_is() -> None:
    """Channels on a doubled register: nothing is normalised, and the inverse is the adjoint."""
    matrix = np.random.default_rng(0).normal(size=(4, 4)) + 0.3j
    expected = np.kron(matrix, np.eye(2))
    np.testing.assert_allclose(segment_unitary(Fixed("matrix", (0, 1), matrix), 3, 0.0), expected, atol=5e-6)
    np.testing.assert_allclose(segment_unitary(Fixed("matrix", (0, 1), matrix), 3, 0.0, inverse=True), expected.conj().T, atol=5e-6)


@pytest.mark.parametrize("axes", qsim_backend._ROTATION_KIND)
@pytest.mark.parametrize("log_batch", [0, 2])
def test_segment_gradient_of_each_rotation(axes: str, log_batch: int) -> None:
    """∂L/∂angle = Im⟨λ|G|ψ⟩ behind the gate, with neighbours in the same layer and in front, and several at one reading point."""
    n_qubits, batch = 3, 2**log_batch
    first, last = ((0,), (2,)) if len(axes) == 1 else ((0, 2), (2, 1))
    gates = [Rotation("Y", (1,), 0), Rotation(axes, first, 1), Rotation("X", (0,), 2), Rotation(axes, last, 3, 2.0, 0.1)]
    angles = np.array([0.3, -0.8, 1.9, 0.6])
    segment = BatchedSegment(gates, n_qubits, log_batch)
    before, costates = random_states(n_qubits, batch), random_states(n_qubits, batch, seed=1)
    after, kept = segment.forward(before, angles)
    np.testing.assert_allclose(after, Segment(gates, n_qubits, log_batch).run(before, angles), atol=1e-6)

    expected = np.zeros(4)
    for index, gate in enumerate(gates):
        behind = before.astype(complex)
        for position, other in enumerate(gates):
            angle = other.scale * angles[other.weight] + other.offset
            matrix = on(n_qubits, other.axes, other.qubits)
            behind = np.cos(angle / 2) * behind - 1j * np.sin(angle / 2) * (matrix @ behind)
            if position == index:
                behind = -1j * gate.scale * (matrix @ behind) / 2
        # L = ⟨ψ|O|ψ⟩ with λ = Oψ: the derivative is 2·Re⟨λ|∂ψ⟩.
        expected[index] = 2 * np.vdot(costates, behind).real
    found = np.zeros(4)
    readings, in_front = segment.backward(costates, kept, angles, carry=True)
    np.add.at(found, segment.weights, readings * segment.scales)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(in_front, Segment(gates, n_qubits, log_batch).run(costates, angles, inverse=True), atol=1e-6)


# Traps


@pytest.mark.parametrize(
    "states",
    [
        np.zeros((4, 2), np.complex64),
        np.zeros((4, 8), np.complex64),
        np.zeros((4, 4), np.complex128),
        np.zeros((4, 4), np.float64),
        np.zeros((4, 4), np.float32),
    ],
    ids=["short", "long", "complex128", "float64", "float32"],
)
def test_wrong_state_buffers_are_refused(states: np.ndarray) -> None:
    segment = Segment([Rotation("X", (0,), 0)], 2, 2)
    with pytest.raises(ValueError, match="complex64 amplitudes"):
        segment.run(states, np.zeros(1))


@pytest.mark.parametrize("states", [random_states(2, 8)[:, ::2], np.asfortranarray(random_states(2, 4))], ids=["strided", "Fortran order"])
def test_views_that_are_not_contiguous_are_read_correctly(states: np.ndarray) -> None:
    segment = Segment([Rotation("Y", (1,), 0)], 2, 2)
    expected = segment.run(np.ascontiguousarray(states), np.array([0.4]))
    np.testing.assert_array_equal(segment.run(states, np.array([0.4])), expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_and_inputs_that_are_not_finite(bad: float) -> None:
    case = make_case(2, hardware_efficient(2, 1), batch=3)
    engine = case.engine()
    inputs, weights = case.inputs.copy(), case.weights.copy()
    inputs[1, 0] = bad
    weights[2] = bad
    with pytest.raises(QumosError, match=r"inputs: .*row 1, column 0"):
        engine.encode(inputs)
    with pytest.raises(QumosError, match="weights: value 2"):
        engine.forward(weights, engine.encode(case.inputs))


@pytest.mark.parametrize("shape", [(0, 2), (3,), (3, 1), (3, 3), (3, 2, 1)])
def test_inputs_of_another_shape(shape: tuple[int, ...]) -> None:
    engine = make_case(2, hardware_efficient(2, 1)).engine()
    with pytest.raises(QumosError, match=r"inputs: .*(empty|\[batch, 2\])"):
        engine.encode(np.zeros(shape))


@pytest.mark.parametrize("count", [3, 5])
def test_weights_of_another_length(count: int) -> None:
    case = make_case(2, hardware_efficient(2, 1))
    engine = case.engine()
    with pytest.raises(QumosError, match=r"weights: shape \[4\]"):
        engine.forward(np.zeros(count), engine.encode(case.inputs))


Q0, Q1 = cirq.LineQubit.range(2)
SYMBOL = sympy.Symbol("w")


class Opaque(cirq.Gate):
    """A parametrised gate about which Cirq knows nothing."""

    def _num_qubits_(self) -> int:
        return 1

    def _is_parameterized_(self) -> bool:
        return True

    def _parameter_names_(self) -> set[str]:
        return {"w"}

    def __repr__(self) -> str:
        return "Opaque()"


REFUSED = {
    "no such symbol": (cirq.rx(SYMBOL)(Q0), [Q0], ["x7"], None, "input_symbols: .*'x7' occurs nowhere"),
    "no such weight": (cirq.rx(SYMBOL)(Q0), [Q0], [], ["w", "v"], "weight_symbols: .*'v' occurs nowhere"),
    "listed twice": (cirq.rx(SYMBOL)(Q0), [Q0], ["w"], ["w"], "listed twice"),
    "qubit listed twice": (cirq.CZ(Q0, Q1), [Q0, Q1, Q0], [], None, "qubits: a qubit is listed twice"),
    "in no list": (cirq.rx(SYMBOL)(Q0), [Q0], [], [], "'w' is neither"),
    "missing qubit": (cirq.CZ(Q0, Q1), [Q0], [], None, r"qubits: q\(1\) .*missing"),
    "qutrit": (cirq.IdentityGate(qid_shape=(3,))(cirq.LineQid(0, 3)), [cirq.LineQid(0, 3)], [], None, "dimension 3"),
    "measurement": (cirq.measure(Q0), [Q0], [], None, "not unitary"),
    "channel": (cirq.depolarize(0.1)(Q0), [Q0], [], None, "not unitary"),
    "reset": (cirq.R(Q0), [Q0], [], None, "not unitary"),
    "wide matrix": (
        cirq.MatrixGate(np.eye(128))(*cirq.LineQubit.range(7)),
        cirq.LineQubit.range(7),
        [],
        None,
        "acts on 7 qubits",
    ),
    "unknown parametrised gate": (Opaque()(Q0), [Q0], [], None, r"Opaque\(\).*not supported"),
    "unknown controlled gate": (Opaque()(Q0).controlled_by(Q1), [Q0, Q1], [], None, r"COpaque\(\).*not supported"),
    "many controls": (cirq.rx(SYMBOL).controlled(7)(*cirq.LineQubit.range(8)), cirq.LineQubit.range(8), [], None, "7 controls"),
    "matrix that is not unitary": (cirq.MatrixGate(np.diag([1, 2]), unitary_check=False)(Q0), [Q0], [], None, "not unitary"),
    "matrix with NaN": (cirq.MatrixGate(np.diag([1, np.nan]), unitary_check=False)(Q0), [Q0], [], None, "not unitary"),
    "piece with a nonlinear angle": (cirq.SWAP(Q0, Q1) ** (SYMBOL**2), [Q0, Q1], [], None, "not linear"),
    "nonlinear angle": (cirq.rx(SYMBOL**2)(Q0), [Q0], [], None, "not linear"),
    "two symbols in one angle": (cirq.rx(SYMBOL + sympy.Symbol("v"))(Q0), [Q0], [], None, "not linear"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_circuits_that_cannot_be_compiled(name: str) -> None:
    operation, qubits, inputs, weights, message = REFUSED[name]
    with pytest.raises(QumosError, match=message):
        compile_circuit(cirq.Circuit(operation), qubits, inputs, weights)


def test_fixed_gates_on_many_qubits_are_decomposed() -> None:
    line = cirq.LineQubit.range(7)
    circuit = cirq.Circuit(cirq.ry(SYMBOL)(line[3]), cirq.X(line[6]), cirq.qft(*line), cirq.X.controlled(6)(*line), cirq.rx(0.3)(line[1]))
    engine = CircuitEngine.from_program(compile_circuit(circuit, line), line, [cirq.X(line[2]) * cirq.Y(line[4]), cirq.Z(line[1]) * 1])
    values, _ = engine.forward(np.array([0.7]), engine.encode(np.zeros((1, 0))))
    expected = cirq.Simulator(dtype=np.complex128).simulate_expectation_values(
        circuit, [cirq.X(line[2]) * cirq.Y(line[4]), cirq.Z(line[1])], {"w": 0.7}, qubit_order=line
    )
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(values[0], np.real(expected), atol=VALUE_TOLERANCE)


def test_observables_that_do_not_fit() -> None:
    with pytest.raises(QumosError, match=r"observables: .*not finite"):
        Observable.from_cirq(math.nan * cirq.Z(Q0), [Q0])
    with pytest.raises(QumosError, match="observables: at least one"):
        CircuitEngine(compile_circuit(cirq.Circuit(cirq.rx(SYMBOL)(Q0)), [Q0]), [])
    with pytest.raises(QumosError, match=r"observables: .*not Hermitian"):
        Observable.from_cirq(1j * cirq.Z(Q0), [Q0])
    with pytest.raises(QumosError, match=r"observables: .*q\(1\)"):
        Observable.from_cirq(cirq.Z(Q0) * cirq.X(Q1), [Q0])

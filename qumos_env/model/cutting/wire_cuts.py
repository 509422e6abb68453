"""Wire cuts: a qubit that leaves one part and enters the next is measured there and prepared here, and no state is sent.

For one wire, with p(P±) the probability of outcome ± when P is measured upstream, and |P±⟩ its eigenstates,

    ρ = p(Z+)·|Z+⟩⟨Z+| + p(Z−)·|Z−⟩⟨Z−| + ½ Σ_{P = X, Y} (p(P+) − p(P−))·(|P+⟩⟨P+| − |P−⟩⟨P−|).

Upstream measures k wires in 3**k bases, downstream starts from 6**k product states; every variant gets the same number of shots.
Source: Peng, Harrow, Ozols and Wu, "Simulating large quantum circuits on a small quantum computer" (Phys. Rev. Lett. 125, 150504, 2020);
their identity term is read from the Z basis here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import cirq
import numpy as np

from ...errors import QumosError
from ...simulation.adjoint import CircuitEngine, Observable
from ...simulation.program import compile_circuit, natural_symbols
from ...simulation.sampling import pure_probabilities, sampled_counts
from .contraction import contract, diagonal, pair_coefficients, pair_table

BASES = ("X", "Y", "Z")
EIGENSTATES = ("X+", "X-", "Y+", "Y-", "Z+", "Z-")
"""Labels of a wire: upstream an outcome in its basis, downstream the state prepared."""
MAX_WIRES = 3
_DIFFERENCE = np.array([[0.5, -0.5], [-0.5, 0.5]])
COEFFICIENTS = np.zeros((6, 6))
"""Of an outcome upstream (rows) with a state prepared downstream."""
COEFFICIENTS[:2, :2] = COEFFICIENTS[2:4, 2:4] = _DIFFERENCE
COEFFICIENTS[4:, 4:] = np.eye(2)
# Circuits that turn the basis of a wire to Z before it is measured.
_TURN: dict[str, tuple[cirq.Gate, ...]] = {"X": (cirq.H,), "Y": (cirq.S**-1, cirq.H), "Z": ()}


@dataclass(frozen=True)
class WireResults:
    """Local results of a wire cut with k wires.

    Attributes:
        outcomes: ``[rows, 6, ..., 6, 1 + kept]``: per wire an outcome of ``EIGENSTATES`` in its basis: its probability, then that of
            it with the sign of Z of every qubit that stays upstream.
        values: ``[rows, 6, ..., 6, downstream qubits]``: ⟨Z⟩ downstream for the state of ``EIGENSTATES`` prepared on every wire.
    """

    outcomes: np.ndarray
    values: np.ndarray


class WireCut:
    """Two circuits, one after the other, joined by wires that are cut.

    Args:
        upstream: runs first; every qubit starts in |0⟩.
        downstream: continues on the ``wires``, and has its own qubits.
        wires: qubits that both share, at most ``MAX_WIRES``.
        input_symbols: symbols of both circuits that take a value per row, in the order of the input columns; all others are weights.

    Attributes:
        kept: qubits that stay upstream.
        received: qubits downstream, wires among them; ⟨Z⟩ is reported for ``kept``, then ``received``.
        upstream_variants: the circuits by bases of the wires, turned so that measuring Z of every qubit ends them.
        downstream_variants: the circuits by states prepared on the wires.

    Raises:
        QumosError: no wire or too many, a wire missing from a circuit, or another qubit in both.
    """

    def __init__(
        self, upstream: cirq.Circuit, downstream: cirq.Circuit, wires: Sequence[cirq.Qid], input_symbols: Sequence[str] = ()
    ) -> None:
        if not 1 <= len(wires) <= MAX_WIRES or len(set(wires)) != len(wires):
            raise QumosError(f"wires: 1 to {MAX_WIRES} different qubits are needed, got {list(map(str, wires))}")
        shared = upstream.all_qubits() & downstream.all_qubits()
        for wire in wires:
            if wire not in shared:
                raise QumosError(f"wires: {wire} is not in both circuits")
        if shared - set(wires):
            raise QumosError(f"wires: {min(shared - set(wires))} is in both circuits but no wire")
        self.wires = tuple(wires)
        self.kept = tuple(sorted(upstream.all_qubits() - set(wires)))
        self.received = tuple(sorted(downstream.all_qubits()))
        self.input_symbols = tuple(input_symbols)
        self.upstream_variants = {
            bases: upstream + cirq.Circuit(gate.on(wire) for wire, basis in zip(wires, bases, strict=True) for gate in _TURN[basis])
            for bases in product(BASES, repeat=len(wires))
        }
        self.downstream_variants = {
            states: cirq.Circuit(gate.on(wire) for wire, state in zip(wires, states, strict=True) for gate in _prepared(state)) + downstream
            for states in product(EIGENSTATES, repeat=len(wires))
        }

    def run(
        self,
        weights: Mapping[str, float],
        inputs: np.ndarray,
        shots: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> WireResults:
        """The results of both sides.

        Args:
            weights: trained angles in radians by symbol.
            inputs: ``[rows, input symbols]`` in radians.
            shots: repetitions of every variant, the same for all, or ``None`` for exact results.
            generator: source of the outcomes, needed with ``shots``.

        Raises:
            QumosError: a weight is missing, inputs do not fit, or shots without a generator.
        """
        if shots is not None and generator is None:
            raise QumosError("shots: a generator of their outcomes is needed too")
        n_wires, rows = len(self.wires), len(inputs)

        def measured(circuit: cirq.Circuit, qubits: Sequence[cirq.Qid]) -> np.ndarray:
            probabilities = self._probabilities(circuit, qubits, weights, inputs)
            if shots is None or generator is None:
                return probabilities
            return sampled_counts(probabilities, shots, generator) / shots

        outcomes = np.zeros((rows, *(len(EIGENSTATES),) * n_wires, 1 + len(self.kept)))
        signs = np.hstack([np.ones((2 ** len(self.kept), 1)), _z(len(self.kept))])
        for bases, circuit in self.upstream_variants.items():
            found = measured(circuit, (*self.wires, *self.kept)).reshape(rows, *(2,) * n_wires, -1) @ signs
            outcomes[(slice(None), *(_both_outcomes(basis) for basis in bases))] = found
        received = np.stack([measured(circuit, self.received) for circuit in self.downstream_variants.values()], axis=1)
        values = received @ _z(len(self.received))
        return WireResults(outcomes, values.reshape(rows, *(len(EIGENSTATES),) * n_wires, -1))

    def _probabilities(
        self, circuit: cirq.Circuit, qubits: Sequence[cirq.Qid], weights: Mapping[str, float], inputs: np.ndarray
    ) -> np.ndarray:
        """Outcome probabilities ``[rows, 2**qubits]``."""
        names = natural_symbols(circuit)
        columns = [column for column, name in enumerate(self.input_symbols) if name in names]
        features = [self.input_symbols[column] for column in columns]
        trained = [name for name in names if name not in features]
        for name in trained:
            if name not in weights:
                raise QumosError(f"weights: no value for the symbol {name!r}")
        program = compile_circuit(circuit, qubits, features, trained)
        engine = CircuitEngine(program, [Observable.from_cirq(cirq.PauliString(cirq.Z(qubits[0])), qubits)])
        _, tape = engine.forward(np.array([weights[name] for name in trained]), engine.encode(np.asarray(inputs)[:, columns]))
        probabilities = pure_probabilities(tape.states, "Z" * len(qubits)).astype(float)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def reconstruct(self, results: WireResults) -> np.ndarray:
        """⟨Z⟩ ``[rows, kept + received]`` of the joined circuit. For qubits that stay upstream all bases are averaged."""
        wires = range(len(self.wires))
        upstream = results.outcomes[..., 1:].sum(axis=tuple(1 + wire for wire in wires)) / len(BASES) ** len(wires)
        downstream = contract((wires, wires), (results.outcomes[None, ..., 0], results.values[None]), self._coefficients())
        return np.concatenate([upstream, downstream[0]], axis=1)

    def predicted_variance(self, results: WireResults, shots: int) -> np.ndarray:
        """Variance ``[rows, kept + received]`` of the estimate from ``shots`` repetitions of every variant; ``results`` are exact.

        Outcomes of one basis are multinomial, all else is independent; the second moment of the sum is taken term by term.
        """
        wires, mean = range(len(self.wires)), self.reconstruct(results)
        n_kept = len(self.kept)
        variances = np.zeros_like(mean)
        variances[:, :n_kept] = (1 - mean[:, :n_kept] ** 2) / (shots * len(BASES) ** len(wires))
        found = results.outcomes[None, ..., 0]
        flat = found.reshape(*found.shape[:2], -1)
        together = self._same_bases() * flat[..., :, None] * flat[..., None, :]
        outcomes = pair_table(found, (diagonal(found) - together) / shots)
        pairs = [pair_coefficients(matrix) for matrix in self._coefficients()]
        for number in range(len(self.received)):
            value = results.values[None, ..., number]
            table = pair_table(value, diagonal((1 - value**2) / shots))
            column = n_kept + number
            variances[:, column] = contract((wires, wires), (outcomes, table), pairs)[0] - mean[:, column] ** 2
        return np.maximum(variances, 0.0)

    def _coefficients(self) -> list[np.ndarray]:
        return [COEFFICIENTS[None] for _ in self.wires]

    def _same_bases(self) -> np.ndarray:
        """``[6**k, 6**k]``: 1 where two outcomes are of the same bases."""
        one = np.kron(np.eye(len(BASES)), np.ones((2, 2)))
        whole = np.ones((1, 1))
        for _ in self.wires:
            whole = np.kron(whole, one)
        return whole


def _both_outcomes(basis: str) -> slice:
    first = EIGENSTATES.index(f"{basis}+")
    return slice(first, first + 2)


def _prepared(state: str) -> tuple[cirq.Gate, ...]:
    """Gates that take |0⟩ to the eigenstate."""
    flip = () if state[1] == "+" else (cirq.X,)
    return (*flip, *(gate**-1 for gate in reversed(_TURN[state[0]])))


def _z(n_qubits: int) -> np.ndarray:
    """±1, ``[2**n, n]``: Z of every qubit by outcome."""
    return 1.0 - 2.0 * ((np.arange(2**n_qubits)[:, None] >> np.arange(n_qubits - 1, -1, -1)) & 1)

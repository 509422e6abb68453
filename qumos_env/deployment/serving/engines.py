"""What runs the circuits of a part: exact, from shots, with noise, or on what a vendor's adapter reaches.

All give the outcomes of every variant, from which ``readings`` makes what the owner recombines. The exact engine takes the gates of
a fixed circuit together into one unitary when the server starts, so that a query costs a matrix product.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ...errors import QumosError
from ...simulation.instructions import Fixed, InputRotation, Program
from ...simulation.states import ProductStates, checked_inputs, gate_matrix, rotate_samples
from ..circuit_files import build_circuit
from .part_files import PartFiles

if TYPE_CHECKING:
    from ...simulation.channels import NoiseSpec
    from ..vendors import Backend


MOST_SHOTS = 10**6
_UNITARY_QUBITS = 8  # wider circuits are run gate by gate
_CHUNK = 2**20  # amplitudes at once


class Engine(Protocol):
    """Runs the circuits of one part."""

    def outcomes(self, inputs: np.ndarray, shots: int | None) -> list[np.ndarray]:
        """Of every variant the probabilities of its outcomes, or from ``shots`` their frequencies, float64 ``[rows, 2**width]``.

        Args:
            inputs: encoded features in radians, ``[rows, qubits of the part]``.
            shots: runs of each circuit, or ``None`` for exact expectation values.

        Raises:
            QumosError: inputs or shots that do not fit, or exact values of an engine that has none.
        """
        ...


def readings(part: PartFiles, outcomes: Sequence[np.ndarray]) -> np.ndarray:
    """``[rows, variants, 1 + qubits of the part]``: the mean sign of the M of the variant, then that sign times Z of every qubit."""
    found = [one @ _signs(variant.labels.count("M"), len(part.qubits)) for variant, one in zip(part.variants, outcomes, strict=True)]
    return np.stack(found, axis=1)


def _signs(measured: int, n_qubits: int) -> np.ndarray:
    """``[2**(n_qubits + measured), 1 + n_qubits]``; the ancillas of the M are the last qubits."""
    width = n_qubits + measured
    cached = _SIGNS.get((measured, n_qubits))
    if cached is None:
        z = 1.0 - 2.0 * ((np.arange(2**width)[:, None] >> np.arange(width - 1, -1, -1)) & 1)
        sign = np.prod(z[:, n_qubits:], axis=1, keepdims=True)
        cached = _SIGNS[measured, n_qubits] = sign * np.hstack([np.ones((2**width, 1)), z[:, :n_qubits]])
    return cached


_SIGNS: dict[tuple[int, int], np.ndarray] = {}


class FixedCircuit:
    """A circuit without open weights: states behind it for encoded inputs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._start = ProductStates(program.encoding)
        self._unitary = program.n_qubits <= _UNITARY_QUBITS
        segments = [[gate for gate in gates if isinstance(gate, Fixed)] for gates in program.segments]
        self._gates = segments
        if self._unitary:
            identity = np.eye(2**program.n_qubits, dtype=complex)
            self._matrices = [_applied(gates, identity, program.n_qubits) if gates else None for gates in segments]

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Of the outcomes, float64 ``[rows, 2**n]``, for ``inputs`` ``[rows, n_inputs]``, which must be finite."""
        n_qubits = self.program.n_qubits
        states = np.asarray(self._start(inputs), complex)
        for index in range(len(self.program.segments)):
            if index:
                for rotation in self.program.reuploads[index - 1]:
                    states = _rotated(states, rotation, inputs, n_qubits)
            if self._unitary:
                matrix = self._matrices[index]
                states = states if matrix is None else matrix @ states
            else:
                states = _applied(self._gates[index], states, n_qubits)
        found = (states.real**2 + states.imag**2).T
        return found / found.sum(axis=1, keepdims=True)


def _rotated(states: np.ndarray, rotation: InputRotation, inputs: np.ndarray, n_qubits: int) -> np.ndarray:
    low = 2 ** (n_qubits - 1 - rotation.qubit)
    shaped = states.reshape(-1, 2, low, states.shape[1])
    return rotate_samples(shaped, rotation, inputs).reshape(states.shape)


def _applied(gates: Sequence[Fixed], columns: np.ndarray, n_qubits: int) -> np.ndarray:
    """``gates`` applied to ``columns`` ``[2**n, C]``."""
    states = columns.reshape((2,) * n_qubits + (-1,))
    for gate in gates:
        k = len(gate.qubits)
        matrix = gate_matrix(gate).reshape((2,) * (2 * k))
        states = np.moveaxis(np.tensordot(matrix, states, axes=(range(k, 2 * k), gate.qubits)), range(k), gate.qubits)
    return states.reshape(columns.shape)


class ExactEngine:
    """Exact probabilities, and shots drawn from them.

    Args:
        part: the part.
        generator: source of the outcomes of shots.
    """

    def __init__(self, part: PartFiles, generator: np.random.Generator) -> None:
        self._part, self._generator = part, generator
        self._circuits = [FixedCircuit(variant.program) for variant in part.variants]
        self._rows = max(1, _CHUNK // max(2**circuit.program.n_qubits for circuit in self._circuits))
        self._drawing = threading.Lock()  # a generator is no one's in two threads at once

    def outcomes(self, inputs: np.ndarray, shots: int | None) -> list[np.ndarray]:
        """See ``Engine``."""
        inputs = checked_inputs(inputs, len(self._part.qubits))
        chunks = [inputs[start : start + self._rows] for start in range(0, len(inputs), self._rows)]
        found = [np.concatenate([circuit.probabilities(chunk) for chunk in chunks]) for circuit in self._circuits]
        if shots is None:
            return found
        with self._drawing:
            return [self._generator.multinomial(shots, probabilities) / shots for probabilities in found]


class NoisyExactEngine:
    """Density matrices with the channels of a ``NoiseSpec`` behind every gate and its readout error; imports Cirq.

    Args:
        part: the part.
        generator: source of the outcomes of shots.
        noise: the rates.
    """

    def __init__(self, part: PartFiles, generator: np.random.Generator, noise: NoiseSpec) -> None:
        import cirq

        from ...simulation.noise import NoisyEngine

        self._part, self._generator, self._running = part, generator, threading.Lock()
        names = [f"x{qubit}" for qubit in part.qubits]
        self._engines = []
        for variant in part.variants:
            circuit, line = build_circuit(variant.moments), list(map(cirq.LineQubit, variant.qubits))
            # An encoded qubit may carry no further gate, and every symbol must occur: all features are encoded, so all do.
            self._engines.append(NoisyEngine.from_circuit(circuit, line, [cirq.Z(qubit) for qubit in line], names, noise=noise))

    def outcomes(self, inputs: np.ndarray, shots: int | None) -> list[np.ndarray]:
        """See ``Engine``."""
        inputs = checked_inputs(inputs, len(self._part.qubits))
        with self._running:
            raw = [np.clip(engine.probabilities(np.zeros(0), inputs), 0, None) for engine in self._engines]
            found = [one / one.sum(axis=1, keepdims=True) for one in raw]
            return found if shots is None else [self._generator.multinomial(shots, one) / shots for one in found]


class SamplerEngine:
    """Shots of a ``cirq.Sampler``, through the adapter that knows its gates; imports Cirq.

    Args:
        part: the part.
        backend: adapter and sampler.
    """

    def __init__(self, part: PartFiles, backend: Backend) -> None:
        import cirq

        self._part, self._backend, self._running = part, backend, threading.Lock()
        self._circuits = [(build_circuit(one.moments), list(map(cirq.LineQubit, one.qubits))) for one in part.variants]

    def outcomes(self, inputs: np.ndarray, shots: int | None) -> list[np.ndarray]:
        """See ``Engine``."""
        import cirq

        from ..vendors.adapter import READOUT

        inputs = checked_inputs(inputs, len(self._part.qubits))
        if shots is None:
            raise QumosError("shots: this provider's hardware has no exact expectation values; say how many shots")
        names = [f"x{qubit}" for qubit in self._part.qubits]
        found = []
        with self._running:
            for circuit, line in self._circuits:
                bound = [cirq.resolve_parameters(circuit, dict(zip(names, row.tolist(), strict=True))) for row in inputs]
                native = [self._backend.adapter.native(each, line) for each in bound]
                results = self._backend.sampler.run_batch(native, repetitions=shots)
                places = 2 ** np.arange(len(line) - 1, -1, -1)
                counted = [np.bincount(one.measurements[READOUT].astype(int) @ places, minlength=2 ** len(line)) for (one,) in results]
                found.append(np.array([counts / counts.sum() for counts in counted]))
        return found


def make_engine(part: PartFiles, generator: np.random.Generator, noise: NoiseSpec | None = None, backend: Backend | None = None) -> Engine:
    """The engine of ``part``: on ``backend``, or else simulated here, exactly or with ``noise``.

    Raises:
        QumosError: a backend whose package is missing, or a part that does not fit on it.
    """
    if backend is not None:
        return SamplerEngine(part, backend)
    return ExactEngine(part, generator) if noise is None else NoisyExactEngine(part, generator, noise)

"""The only module that touches qsim's low-level names.

``QSimSimulator`` translates the Cirq circuit anew on every call, which costs tens of times the simulation of a small
circuit. Here a segment of gates is laid out once and refilled with angles, and one call of qsim gives the final states of a batch.

Register: a block of 2**n amplitudes per sample, samples along the last axis. An array ``[2**n, 2**b]`` in C order is
one state of ``n + b`` qubits whose low ``b`` qubits number the samples; gates act on the ``n`` high qubits of all samples at
once (and high qubits are the fast ones in qsim's vector kernels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from qsimcirq import qsim
from qsimcirq.qsim_simulator import QSimOptions

from .instructions import Fixed, Rotation

_PERIOD = 4 * math.pi
_ROTATION_KIND = {
    "X": (qsim.krx, "phi", 1.0),
    "Y": (qsim.kry, "phi", 1.0),
    "Z": (qsim.krz, "phi", 1.0),
    "XX": (qsim.kXXPowGate, "exponent", 1 / math.pi),
    "YY": (qsim.kYYPowGate, "exponent", 1 / math.pi),
    "ZZ": (qsim.kZZPowGate, "exponent", 1 / math.pi),
}
_FIXED_KIND = {"h": qsim.kH, "cz": qsim.kCZ, "cx": qsim.kCX}


def _options(threads: int) -> dict[str, Any]:
    options = QSimOptions(cpu_threads=threads, max_fused_gate_size=2).as_dict()
    options["s"] = 1  # the seed is read by every call, though exact simulation draws nothing
    return options


class Segment:
    """A run of gates on ``n_qubits`` qubits of a batch of ``2**log_batch`` samples, to be refilled with angles."""

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int, log_batch: int, threads: int = 1) -> None:
        self._n_total = n_qubits + log_batch
        self._options = _options(threads)
        packed = _packed(gates)
        rotations = [gate for layer in packed for gate in layer if isinstance(gate, Rotation)]
        slot = {id(gate): index for index, gate in enumerate(rotations)}

        def entries(ordered: Sequence[Sequence[Fixed | Rotation]], inverse: bool) -> list[tuple[Any, ...]]:
            return [
                self._entry(gate, time, [self._n_total - 1 - qubit for qubit in gate.qubits], slot, inverse)
                for time, layer in enumerate(ordered)
                for gate in layer
            ]

        self._forward, self._backward = entries(packed, False), entries(packed[::-1], True)
        self._weights = np.array([gate.weight for gate in rotations], np.intp)
        self._scales = np.array([gate.scale for gate in rotations])
        self._offsets = np.array([gate.offset for gate in rotations])

    @staticmethod
    def _entry(gate: Fixed | Rotation, time: int, qubits: list[int], slot: dict[int, int], inverse: bool) -> tuple[Any, ...]:
        """(slot of the angle or -1, qsim kind or ``None`` for a matrix, time, qubits, parameters, their key, factor)."""
        if isinstance(gate, Rotation):
            kind, key, factor = _ROTATION_KIND[gate.axes]
            parameters = {key: 0.0} if key == "phi" else {key: 0.0, "global_shift": -0.5}
            return slot[id(gate)], kind, time, qubits, parameters, key, -factor if inverse else factor
        if gate.matrix is None:
            return -1, _FIXED_KIND[gate.name], time, qubits, {}, "", 0.0
        matrix = gate.matrix.conj().T if inverse else gate.matrix
        numbers = np.ascontiguousarray(matrix, np.complex128).view(np.float64).ravel().tolist()
        return -1, None, time, qubits, numbers, "", 0.0

    def _fill(self, entries: Sequence[tuple[Any, ...]], weights: np.ndarray) -> qsim.Circuit:
        # Reduced in double precision: qsim works in single precision, where large angles would lose digits.
        angles = ((weights[self._weights] * self._scales + self._offsets) % _PERIOD).tolist()
        circuit = qsim.Circuit()
        circuit.num_qubits = self._n_total
        add_gate = qsim.add_gate
        for slot, kind, time, qubits, parameters, key, factor in entries:
            if slot >= 0:
                parameters[key] = angles[slot] * factor
            elif kind is None:
                qsim.add_matrix_gate(time, qubits, parameters, circuit)
                continue
            add_gate(kind, time, qubits, parameters, circuit)
        return circuit

    def run(self, states: np.ndarray, weights: np.ndarray, *, inverse: bool = False) -> np.ndarray:
        """The states after the segment (or its inverse): complex64 ``[2**n, 2**b]`` in and out."""
        if not self._forward:
            return states
        options = dict(self._options, c=self._fill(self._backward if inverse else self._forward, weights))
        final = qsim.qsim_simulate_fullstate(options, _floats(states, self._n_total))
        return final.view(np.complex64).reshape(states.shape)


def _packed(gates: Sequence[Fixed | Rotation]) -> list[list[Fixed | Rotation]]:
    """``gates`` by the earliest times at which no two share a qubit."""
    free: dict[int, int] = {}
    packed: list[list[Fixed | Rotation]] = []
    for gate in gates:
        time = max(free.get(qubit, 0) for qubit in gate.qubits)
        if time == len(packed):
            packed.append([])
        packed[time].append(gate)
        free.update(dict.fromkeys(gate.qubits, time + 1))
    return packed


def _floats(states: np.ndarray, n_qubits: int) -> np.ndarray:
    """``states`` as qsim takes them; qsim reads past a buffer that is too short and accepts other types silently."""
    if states.dtype != np.complex64 or states.size != 2**n_qubits:
        raise ValueError(f"{2**n_qubits} complex64 amplitudes needed, got {states.size} of {states.dtype}")
    return np.ascontiguousarray(states).view(np.float32).ravel()

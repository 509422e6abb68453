"""The only module that touches qsim's low-level names.

``QSimSimulator`` translates the Cirq circuit anew on every call, which costs tens of times the simulation of a small
circuit. Here a segment of gates is laid out once and refilled with angles. Two calls serve everything: the final state, and
Pauli expectation values at chosen points of a run.

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

from .program import Fixed, Rotation, layers

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
_PAULI_KIND = {"X": qsim.kX, "Y": qsim.kY, "Z": qsim.kZ}


def _options(threads: int) -> dict[str, Any]:
    options = QSimOptions(cpu_threads=threads, max_fused_gate_size=2).as_dict()
    options["s"] = 1  # the seed is read by every call, though exact simulation draws nothing
    return options


class Segment:
    """A run of gates on ``n_qubits`` qubits of a batch of ``2**log_batch`` samples, to be refilled with angles.

    Attributes:
        weights: for every rotation, in the order of the gradients that ``gradients`` returns, the weight it depends on.
        scales: and the factor between that weight and its angle.
    """

    def __init__(self, gates: Sequence[Fixed | Rotation], n_qubits: int, log_batch: int, threads: int = 1) -> None:
        self._n_total = n_qubits + log_batch
        self._options = _options(threads)
        forward: list[tuple[Any, ...]] = []
        backward: list[tuple[Any, ...]] = []
        reversed_rotations: list[Rotation] = []
        readings = []
        packed = layers(gates, lambda gate: gate.qubits)
        rotations = [gate for layer in packed for gate in layer if isinstance(gate, Rotation)]
        slot = {id(gate): index for index, gate in enumerate(rotations)}

        def register(gate: Fixed | Rotation) -> list[int]:
            return [log_batch + n_qubits - 1 - qubit for qubit in gate.qubits]

        for time, layer in enumerate(packed):
            forward += [self._entry(gate, time, register(gate), slot, False) for gate in layer]
        for time, layer in enumerate(reversed(packed)):
            backward += [self._entry(gate, time, register(gate), slot, True) for gate in layer]
            observables = []
            for gate in layer:
                if isinstance(gate, Rotation):
                    # After its own inverse the generator is read: it commutes with that gate and with its neighbours' in the layer.
                    reading = qsim.OpString()
                    reading.weight = 0.5
                    qsim.add_gate_to_opstring(qsim.kY, [self._n_total], reading)
                    for axis, qubit in zip(gate.axes, register(gate), strict=True):
                        qsim.add_gate_to_opstring(_PAULI_KIND[axis], [qubit], reading)
                    observables.append(([reading], 1 + len(gate.qubits)))
                    reversed_rotations.append(gate)
            if observables:
                readings.append((len(backward), observables))
        self._forward, self._backward, self._readings = forward, backward, readings
        self._rotation_weights = np.array([gate.weight for gate in rotations], np.intp)
        self._rotation_scales = np.array([gate.scale for gate in rotations])
        self._rotation_offsets = np.array([gate.offset for gate in rotations])
        self.weights = np.array([gate.weight for gate in reversed_rotations], np.intp)
        self.scales = np.array([gate.scale for gate in reversed_rotations])

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

    def _fill(self, entries: Sequence[tuple[Any, ...]], weights: np.ndarray, n_qubits: int) -> qsim.Circuit:
        # Reduced in double precision: qsim works in single precision, where large angles would lose digits.
        angles = ((weights[self._rotation_weights] * self._rotation_scales + self._rotation_offsets) % _PERIOD).tolist()
        circuit = qsim.Circuit()
        circuit.num_qubits = n_qubits
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
        circuit = self._fill(self._backward if inverse else self._forward, weights, self._n_total)
        options = dict(self._options, c=circuit)
        final = qsim.qsim_simulate_fullstate(options, _floats(states, self._n_total))
        return final.view(np.complex64).reshape(states.shape)

    def gradients(self, cotangents: np.ndarray, states: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """∂L/∂angle of every rotation, in the order of ``self.weights``, summed over the batch.

        With λ = ``cotangents`` (= Σ_o ∂L/∂⟨O_o⟩·O_o·ψ) and ψ = ``states``, both behind the segment, the stack |0⟩λ + |1⟩ψ is
        run through the inverse circuit; ∂L/∂θ_k = ½⟨Y ⊗ G_k⟩ at the gate exp(-iθ_k·G_k/2), Y on the stacking qubit.
        """
        if not self._readings:
            return np.zeros(0)
        circuit = self._fill(self._backward, weights, self._n_total + 1)
        options = dict(self._options, c=circuit)
        stack = np.concatenate([cotangents, states])
        values = qsim.qsim_simulate_moment_expectation_values(options, self._readings, _floats(stack, self._n_total + 1))
        return np.array([value.real for group in values for value in group])


def _floats(states: np.ndarray, n_qubits: int) -> np.ndarray:
    """``states`` as qsim takes them; qsim reads past a buffer that is too short and accepts other types silently."""
    if states.dtype != np.complex64 or states.size != 2**n_qubits:
        raise ValueError(f"{2**n_qubits} complex64 amplitudes needed, got {states.size} of {states.dtype}")
    return np.ascontiguousarray(states).view(np.float32).ravel()

"""A compiled circuit as plain data: a product state that encodes the inputs, segments of gates, re-uploads between them.

It needs NumPy alone, so that a server of fixed circuits starts without Cirq; ``program`` makes such data of Cirq's circuits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Turn the eigenvectors of a Pauli to those of Z.
TO_Z = {
    "X": np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    "Y": np.array([[1, -1j], [1, 1j]]) / np.sqrt(2),
}


@dataclass(frozen=True)
class Fixed:
    """A gate without parameters: ``name`` is a native gate (``h``, ``cz``, ``cx``) or ``matrix``."""

    name: str
    qubits: tuple[int, ...]
    matrix: np.ndarray | None = None


@dataclass(frozen=True)
class Rotation:
    """exp(-i/2·(scale·w + offset)·P) with ``w`` the weight number ``weight`` and P the Pauli product ``axes`` on ``qubits``."""

    axes: str
    qubits: tuple[int, ...]
    weight: int
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class InputRotation:
    """exp(-i/2·(scale·x + offset)·P) with ``x`` the input number ``feature`` of each sample, P a Pauli on one qubit."""

    axis: str
    qubit: int
    feature: int
    scale: float = 1.0
    offset: float = 0.0


Instruction = Fixed | Rotation | InputRotation


@dataclass(frozen=True)
class Program:
    """A compiled circuit.

    Attributes:
        n_qubits: width; qubit 0 is the most significant bit of a state index, as in Cirq.
        n_inputs, n_weights: number of inputs per sample and of shared weights.
        encoding: per qubit the leading one-qubit instructions that make the initial product state.
        segments: shared gates; between segment ``i`` and ``i + 1`` stands ``reuploads[i]``.
        reuploads: layers of per-sample rotations, on distinct qubits within a layer.
    """

    n_qubits: int
    n_inputs: int
    n_weights: int
    encoding: tuple[tuple[Fixed | InputRotation, ...], ...]
    segments: tuple[tuple[Fixed | Rotation, ...], ...]
    reuploads: tuple[tuple[InputRotation, ...], ...]


def assemble(n_qubits: int, n_inputs: int, n_weights: int, instructions: Iterable[Instruction]) -> Program:
    """Sorts ``instructions`` (in circuit order) into encoding, segments and re-uploads."""
    encoding: list[list[Fixed | InputRotation]] = [[] for _ in range(n_qubits)]
    leading: list[list[Fixed]] = [[] for _ in range(n_qubits)]
    touched = [False] * n_qubits
    segments: list[list[Fixed | Rotation]] = [[]]
    reuploads: list[list[InputRotation]] = []
    for item in instructions:
        if isinstance(item, InputRotation):
            qubit = item.qubit
            if not touched[qubit]:
                # One-qubit gates before an input gate belong to the product state (for instance H before RZ).
                encoding[qubit] += [*leading[qubit], item]
                leading[qubit] = []
                continue
            if reuploads and not segments[-1] and all(other.qubit != qubit for other in reuploads[-1]):
                reuploads[-1].append(item)
            else:
                reuploads.append([item])
                segments.append([])
            continue
        if isinstance(item, Fixed) and len(item.qubits) == 1 and not touched[item.qubits[0]]:
            leading[item.qubits[0]].append(item)
            continue
        for qubit in item.qubits:
            if not touched[qubit]:
                touched[qubit] = True
                segments[-1].extend(leading[qubit])
                leading[qubit] = []
        segments[-1].append(item)
    for rest in leading:
        segments[-1].extend(rest)
    return Program(
        n_qubits, n_inputs, n_weights, tuple(map(tuple, encoding)), tuple(map(tuple, segments)), tuple(map(tuple, reuploads))
    )

"""Hybrid models: a classical torch network in front of quantum circuits, trained together.

``HybridQNN`` puts any ``torch.nn.Module`` in front of the parts of a design. ``convolutional_hybrid_qnn`` and ``basic_qnn`` are
the two architectures of Su et al. (arXiv 2509.06086, as in the code published with it), amplitude-encoded on one register. All
are plain torch modules: train them with torch's optimisers (Adam, AMSGrad, SGD with momentum).
"""

from __future__ import annotations

import cirq
import sympy
import torch

from ..design import Design
from ..design.circuits import input_symbol, joint_fragments, weight_symbol
from ..errors import QumosError
from ..simulation.layer import QuantumLayer


class HybridQNN(torch.nn.Module):
    """extractor -> angles of the register -> parts of a design -> linear head.

    Args:
        extractor: maps a batch of inputs to angles ``[batch, n_qubits]`` in radians.
        design: the distributed design behind it; gate cuts are simulated uncut.
        n_classes: number of classes.
        axis: rotation axis of the encoding (``rx``, ``ry``, ``rz``).
        seed: of the initial angles.

    Its output are logits ``[batch, n_classes]``.
    """

    def __init__(self, extractor: torch.nn.Module, design: Design, n_classes: int, axis: str = "ry", seed: int = 0) -> None:
        super().__init__()
        self.extractor = extractor
        self._qubits = [list(fragment.qubits) for fragment in joint_fragments(design, axis)]
        self.parts = torch.nn.ModuleList()
        for fragment in joint_fragments(design, axis):
            line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
            inputs, weights = [input_symbol(qubit) for qubit in fragment.qubits], [weight_symbol(index) for index in fragment.weights]
            self.parts.append(QuantumLayer(fragment.circuit, [cirq.Z(qubit) for qubit in line], inputs, weights, qubits=line, seed=seed))
        self.n_qubits = design.n_qubits
        self.head = torch.nn.Linear(design.n_qubits, n_classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits ``[batch, n_classes]``; raises QumosError where the extractor gives another number of angles."""
        angles = self.extractor(inputs)
        if angles.ndim != 2 or angles.shape[1] != self.n_qubits:
            raise QumosError(f"extractor: gave shape {list(angles.shape)}, [batch, {self.n_qubits}] is needed")
        readout = angles.new_zeros(angles.shape)
        for part, qubits in zip(self.parts, self._qubits, strict=True):
            readout = readout.index_copy(1, torch.tensor(qubits), part(angles[:, qubits]).to(angles.dtype))
        return self.head(readout)


def entangling_layers(n_qubits: int, layers: int) -> cirq.Circuit:
    """``layers`` times: a general rotation (Z, Y, Z angles) on every qubit, then a ring of CX."""
    line = cirq.LineQubit.range(n_qubits)
    circuit, weight = cirq.Circuit(), 0
    for _ in range(layers):
        for rotation in (cirq.rz, cirq.ry, cirq.rz):
            for qubit in line:
                circuit.append(rotation(sympy.Symbol(f"w{weight}")).on(qubit))
                weight += 1
        circuit.append(cirq.CX(line[i], line[(i + 1) % n_qubits]) for i in range(n_qubits if n_qubits > 2 else n_qubits - 1))
    return circuit


def _amplitude_layer(n_qubits: int, layers: int, seed: int) -> QuantumLayer:
    line = cirq.LineQubit.range(n_qubits)
    return QuantumLayer(entangling_layers(n_qubits, layers), [cirq.Z(q) for q in line], encoding="amplitude", qubits=line, seed=seed)


def convolutional_hybrid_qnn(n_classes: int = 10, layers: int = 5, side: int = 28, seed: int = 0) -> torch.nn.Sequential:
    """The hybrid QNN: images ``[batch, 1, side, side]`` to logits.

    Convolution 1→5 (5×5, padding 2), ReLU, max-pool 2, linear to 256, leaky ReLU 0.01, L2-normalised amplitudes of 8 qubits, entangling
    layers, eight ⟨Z⟩, linear. ``side`` is even. ``seed`` is that of the circuit; the classical layers use torch's generator.
    """
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 5, 5, padding=2),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(5 * (side // 2) ** 2, 256),
        torch.nn.LeakyReLU(0.01),
        _amplitude_layer(8, layers, seed),
        torch.nn.Linear(8, n_classes),
    )


def basic_qnn(n_classes: int = 10, layers: int = 5, seed: int = 0) -> torch.nn.Sequential:
    """The basic QNN: 256 features (a PCA of images) as amplitudes of 8 qubits, entangling layers, eight ⟨Z⟩, linear."""
    return torch.nn.Sequential(_amplitude_layer(8, layers, seed), torch.nn.Linear(8, n_classes))

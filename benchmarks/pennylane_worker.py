"""Worker: PennyLane. It tries the interfaces, precisions and encodings that its users have, and keeps the fastest."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pennylane as qml  # type: ignore[import-not-found]
import torch
from pennylane import numpy as pnp

from .serving import Configurations, Model, Workload, serve

_ROTATION = {"x": qml.RX, "y": qml.RY, "z": qml.RZ}
_PAIR = {"cz": qml.CZ, "cx": qml.CNOT}
_SEARCHED_QUBITS = 4  # wider, only the fastest of these is run: trying all takes minutes


def node(work: Workload, device: str, interface: str, *, states: bool, **options: object) -> qml.QNode:
    """⟨Z⟩ of every qubit for weights ``[layers, qubits, 2]`` and a broadcast batch of angles, or of product ``states``."""
    n_qubits = work.n_qubits

    def body(weights: object, rows: object) -> list[object]:
        if states:
            qml.StatePrep(rows, wires=range(n_qubits))
        else:
            for q in range(n_qubits):
                qml.RY(rows[..., q], wires=q)  # type: ignore[index]
        for kind, qubits, place in work.gates():
            if place is None:
                _PAIR[kind](wires=qubits)
            else:
                _ROTATION[kind](weights[place], wires=qubits)  # type: ignore[index]
        return [qml.expval(qml.PauliZ(q)) for q in range(n_qubits)]

    return qml.QNode(body, qml.device(device, wires=n_qubits), interface=interface, **options)


def torch_model(work: Workload, circuit: qml.QNode, dtype: torch.dtype, *, states: bool) -> Model:
    """Differentiated by torch."""
    rows = work.product_states() if states else work.inputs
    data, wanted = torch.tensor(rows, dtype=dtype), torch.tensor(work.targets, dtype=dtype)

    def values(weights: torch.Tensor) -> torch.Tensor:
        return torch.stack(circuit(weights, data), 1).to(dtype)

    def forward(weights: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return values(torch.tensor(weights, dtype=dtype)).double().numpy()

    def gradient(weights: np.ndarray) -> np.ndarray:
        variable = torch.tensor(weights, dtype=dtype, requires_grad=True)
        torch.nn.functional.mse_loss(values(variable), wanted).backward()
        assert variable.grad is not None
        return variable.grad.double().numpy()

    return Model(forward, gradient)


def autograd_model(work: Workload, circuit: qml.QNode, *, states: bool) -> Model:
    """Differentiated by autograd."""
    data = pnp.array(work.product_states() if states else work.inputs, requires_grad=False)
    targets = pnp.array(work.targets, requires_grad=False)
    slope = qml.grad(lambda weights: pnp.mean((pnp.stack(circuit(weights, data), 1) - targets) ** 2))

    def forward(weights: np.ndarray) -> np.ndarray:
        return np.stack(circuit(pnp.array(weights, requires_grad=False), data), 1)

    return Model(forward, lambda weights: np.asarray(slope(pnp.array(weights, requires_grad=True))))


def default(work: Workload) -> Configurations:
    """``default.qubit`` with backpropagation: the whole batch in one broadcast execution."""
    found: dict[str, Callable[[], Model]] = {}
    for states, encoding in ((True, "StatePrep"), (False, "RY")):

        def by_torch(dtype: torch.dtype, states: bool = states) -> Model:
            circuit = node(work, "default.qubit", "torch", states=states, diff_method="backprop")
            return torch_model(work, circuit, dtype, states=states)

        def by_autograd(states: bool = states) -> Model:
            return autograd_model(work, node(work, "default.qubit", "autograd", states=states, diff_method="backprop"), states=states)

        if work.n_qubits > _SEARCHED_QUBITS:
            found[f"torch float32 {encoding}"] = functools.partial(by_torch, torch.float32)
            continue
        for dtype in (torch.float32, torch.float64):
            found[f"torch {str(dtype)[6:]} {encoding}"] = functools.partial(by_torch, dtype)
        found[f"autograd {encoding}"] = by_autograd
    return found


def lightning(work: Workload) -> Configurations:
    """``lightning.qubit`` with the adjoint method; it splits a batch into rows itself."""

    def build(device_vjp: bool) -> Model:
        circuit = node(work, "lightning.qubit", "torch", states=False, diff_method="adjoint", device_vjp=device_vjp)
        return torch_model(work, circuit, torch.float64, states=False)

    found = {"torch": lambda: build(False)}
    if work.n_qubits <= _SEARCHED_QUBITS:
        found["torch, device_vjp"] = lambda: build(True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve({"default": default, "lightning": lightning}, ("pennylane", "pennylane-lightning"))

"""Worker: this library, and what it stands on (qsim alone, and Cirq's naive parameter shift). See ``benchmarks.serving``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cirq
import numpy as np
import sympy
import torch
from qsimcirq import qsim
from qsimcirq.qsim_circuit import QSimCircuit
from qsimcirq.qsim_simulator import QSimOptions, QSimSimulator

from qumos_env.simulation.adjoint import CircuitEngine, Observable
from qumos_env.simulation.layer import QuantumLayer
from qumos_env.simulation.program import compile_circuit

from .serving import Configurations, Model, Workload, serve

_ROTATION = {"x": cirq.rx, "y": cirq.ry, "z": cirq.rz}
_PAIR = {"cz": cirq.CZ, "cx": cirq.CX}


def gates(work: Workload, angle: Callable[[tuple[int, int, int]], object]) -> list[cirq.Operation]:
    """The gates behind the encoding."""
    line = cirq.LineQubit.range(work.n_qubits)
    made = []
    for kind, qubits, place in work.gates():
        gate = _PAIR[kind] if place is None else _ROTATION[kind](angle(place))
        made.append(gate.on(*(line[q] for q in qubits)))
    return made


def circuit(work: Workload) -> tuple[cirq.Circuit, list[str], list[str]]:
    """The circuit, with the names of its inputs and of its weights in the order of ``[layers, qubits, 2]``."""
    inputs, names = [f"x{q}" for q in range(work.n_qubits)], [f"w{i}" for i in range(work.weights.size)]
    line = cirq.LineQubit.range(work.n_qubits)
    made = cirq.Circuit(cirq.ry(sympy.Symbol(name))(qubit) for name, qubit in zip(inputs, line, strict=True))
    made.append(gates(work, lambda place: sympy.Symbol(names[np.ravel_multi_index(place, work.weights.shape)])))
    return made, inputs, names


def engine(work: Workload) -> Configurations:
    """Through the engine, the loss in closed form: what training does."""

    def build() -> Model:
        made, input_names, weight_names = circuit(work)
        line = cirq.LineQubit.range(work.n_qubits)
        observables = [Observable.from_cirq(cirq.PauliString(cirq.Z(qubit)), line) for qubit in line]
        found = CircuitEngine(compile_circuit(made, line, input_names, weight_names), observables)
        batch = found.encode(work.inputs)

        def gradient(weights: np.ndarray) -> np.ndarray:
            values, tape = found.forward(weights.ravel(), batch)
            return found.backward(tape, 2 * (values - work.targets) / work.targets.size)[0].reshape(weights.shape)

        return Model(lambda weights: found.forward(weights.ravel(), batch)[0], gradient)

    return {"engine": build}


def layer(work: Workload) -> Configurations:
    """Through QuantumLayer and torch's autograd, as a user writes it."""

    def build() -> Model:
        made, input_names, weight_names = circuit(work)
        module = QuantumLayer(made, [cirq.Z(qubit) for qubit in cirq.LineQubit.range(work.n_qubits)], input_names, weight_names)
        rows, wanted = torch.tensor(work.inputs), torch.tensor(work.targets, dtype=torch.float32)

        def forward(weights: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                module.weights.copy_(torch.from_numpy(weights.ravel()))
                return module(rows).numpy()

        def gradient(weights: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                module.weights.copy_(torch.from_numpy(weights.ravel()))
            module.weights.grad = None
            torch.nn.functional.mse_loss(module(rows), wanted).backward()
            assert module.weights.grad is not None
            return module.weights.grad.double().numpy().reshape(weights.shape)

        return Model(forward, gradient)

    return {"QuantumLayer": build}


def naive(work: Workload) -> Configurations:
    """Parameter shift through ``QSimSimulator.simulate_expectation_values``: two runs per weight and row."""

    def build() -> Model:
        made, input_names, weight_names = circuit(work)
        simulator = QSimSimulator({"t": 1})
        observables: list[Any] = [cirq.Z(qubit) for qubit in cirq.LineQubit.range(work.n_qubits)]

        def forward(weights: np.ndarray) -> np.ndarray:
            shared = dict(zip(weight_names, weights.ravel().tolist(), strict=True))
            rows = []
            for row in work.inputs.tolist():
                values = cirq.ParamResolver(shared | dict(zip(input_names, row, strict=True)))
                rows.append(simulator.simulate_expectation_values(made, observables, values))
            return np.real(np.array(rows))

        def gradient(weights: np.ndarray) -> np.ndarray:
            slope = 2 * (forward(weights) - work.targets) / work.targets.size
            flat = np.zeros(weights.size)
            for number in range(weights.size):
                shift = np.zeros(weights.size)
                shift[number] = np.pi / 2
                moved = shift.reshape(weights.shape)
                flat[number] = np.sum(slope * (forward(weights + moved) - forward(weights - moved))) / 2
            return flat.reshape(weights.shape)

        return Model(forward, gradient)

    return {"simulate_expectation_values": build}


def bare(work: Workload, rows: int | None = None) -> Configurations:
    """qsim alone, circuits made before: the forward run over the batch, and an inverse run of twice that register.

    The batch is the low qubits of one register, as in the engine. ``gradient`` computes nothing that means anything.

    Args:
        work: the circuit.
        rows: size of the batch, a power of two; default that of ``work``, padded. With 2**qubits rows the circuit runs on every basis
            state, as the engine does where that is fewer than the batch.
    """
    log_rows = (len(work.inputs) - 1).bit_length() if rows is None else rows.bit_length() - 1
    states = np.zeros((2**log_rows, 2**work.n_qubits), np.complex64)
    if rows is None:
        states[: len(work.inputs)] = work.product_states()
    else:
        states[:] = np.eye(2**work.n_qubits)
    forward_state = np.ascontiguousarray(states.T).view(np.float32).ravel()
    inverse_state = np.concatenate([forward_state, forward_state])
    operations = gates(work, lambda place: float(work.weights[place]))
    line = cirq.LineQubit.range(work.n_qubits)
    batch = [cirq.NamedQubit(f"row{bit}") for bit in range(log_rows)]

    def prepared(fused: int, moments: cirq.Circuit, register: list[cirq.Qid]) -> dict[str, object]:
        options = QSimOptions(cpu_threads=1, max_fused_gate_size=fused).as_dict()
        return options | {"s": 1, "c": QSimCircuit(moments).translate_cirq_to_qsim(register)[0]}

    def build(fused: int) -> Callable[[], Model]:
        made = cirq.Circuit(operations)
        ahead = prepared(fused, made, [*line, *batch])
        back = prepared(fused, cirq.inverse(made), [cirq.NamedQubit("stack"), *line, *batch])

        def forward(weights: np.ndarray) -> np.ndarray:
            final = qsim.qsim_simulate_fullstate(dict(ahead), forward_state).view(np.complex64).reshape(2**work.n_qubits, -1)
            if rows is not None:
                final = final @ work.product_states().T
            probabilities = np.abs(final) ** 2
            index = np.arange(len(probabilities))
            signs = [1 - 2 * ((index >> (work.n_qubits - 1 - q)) & 1) for q in range(work.n_qubits)]
            return (np.stack(signs) @ probabilities).T[: len(work.inputs)]

        def both(weights: np.ndarray) -> np.ndarray:
            qsim.qsim_simulate_fullstate(dict(ahead), forward_state)
            qsim.qsim_simulate_fullstate(dict(back), inverse_state)
            return np.zeros(())

        return lambda: Model(forward, both)

    return {f"up to {fused} qubits per fused gate": build(fused) for fused in (2, 3, 4)}


def bare_default(work: Workload) -> Configurations:
    """``bare`` as qsim comes: it fuses gates up to two qubits."""
    name, build = next(iter(bare(work).items()))
    return {name: build}


def bare_basis(work: Workload) -> Configurations:
    """``bare`` on the basis states, as qsim comes."""
    name, build = next(iter(bare(work, 2**work.n_qubits).items()))
    return {name: build}


if __name__ == "__main__":
    torch.set_num_threads(1)
    variants = {"engine": engine, "layer": layer, "naive": naive, "bare": bare_default, "bare-fused": bare, "bare-basis": bare_basis}
    serve(variants, ("qsimcirq",))

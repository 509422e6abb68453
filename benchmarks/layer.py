"""A training step of ``QuantumLayer`` against the engine below it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cirq
import numpy as np
import torch

from qumos_env.simulation.adjoint import CircuitEngine
from qumos_env.simulation.dense import DenseEngine
from qumos_env.simulation.layer import QuantumLayer
from qumos_env.simulation.program import compile_circuit

from .engine import in_turns
from .gradient import LAYERS, SIZES
from .qumos_worker import circuit
from .registry import Outcome, Row, Target, case
from .serving import Workload, elapsed
from .workers import Disagreement

STEP = {4: Target(below=1.5), 8: None, 12: None}
_BLOCK_SECONDS = 0.02
_DENSE_QUBITS = 5


def _loss(values: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.mse_loss(values, wanted)


def _layer(n_qubits: int, repeats: int) -> Outcome:
    work = Workload.make(n_qubits, LAYERS, SIZES[n_qubits])
    made, inputs, names = circuit(work)
    line = cirq.LineQubit.range(n_qubits)
    program = compile_circuit(made, line, inputs, names)
    engine = CircuitEngine.from_program(program, line, [cirq.PauliSum.wrap(cirq.Z(qubit)) for qubit in line])
    module = QuantumLayer(made, [cirq.Z(qubit) for qubit in line], inputs, names, initial_weights=work.weights.ravel().tolist())
    weights, batch = module.weights.detach().double().numpy(), engine.encode(work.inputs)
    rows, wanted = torch.tensor(work.inputs), torch.tensor(work.targets, dtype=torch.float32)
    others = [rows.roll(1, 0), rows]

    def bare() -> np.ndarray:
        values, tape = engine.forward(weights, batch)
        return engine.backward(tape, 2 * (values - work.targets) / work.targets.size)[0]

    def with_torch() -> np.ndarray:
        values, tape = engine.forward(weights, batch)
        leaf = torch.from_numpy(values).requires_grad_()
        _loss(leaf, wanted).backward()
        assert leaf.grad is not None
        return engine.backward(tape, leaf.grad.numpy())[0]

    def step(inputs: torch.Tensor) -> np.ndarray:
        module.weights.grad = None
        _loss(module(inputs), wanted).backward()
        assert module.weights.grad is not None
        return module.weights.grad.numpy()

    def other_step() -> np.ndarray:
        others.reverse()
        return step(others[0])

    actions: dict[str, Callable[[], np.ndarray]] = {"CircuitEngine": bare}
    if n_qubits <= _DENSE_QUBITS:
        dense = DenseEngine(program)
        dense_batch = dense.encode(work.inputs[None])

        def bare_dense() -> np.ndarray:
            values, tape = dense.forward(weights[None], dense_batch)
            return dense.backward(tape, 2 * (values - work.targets) / work.targets.size)[0]

        actions["DenseEngine"] = bare_dense
    engines = list(actions)
    actions |= {"torch": with_torch, "layer": lambda: step(rows)}
    for name, action in actions.items():
        worst = float(np.abs(action() - bare()).max() / np.abs(bare()).max())
        if worst > 1e-3:
            raise Disagreement(f"layer-{n_qubits}: {name} differs from the engine by {worst:.1e} of the largest value")
    actions["other"] = other_step
    calls = max(1, round(_BLOCK_SECONDS / elapsed(bare)[0]))

    def block(action: Callable[[], np.ndarray]) -> None:
        for _ in range(calls):
            action()

    times = in_turns({name: functools.partial(block, action) for name, action in actions.items()}, repeats)
    times = {name: found / calls for name, found in times.items()}
    fastest = min(engines, key=lambda name: float(np.median(times[name])))
    return Outcome(
        [
            *(Row(f"{name}, loss in closed form", "ms", (1e3 * times[name]).tolist()) for name in engines),
            Row("CircuitEngine, loss by torch", "ms", (1e3 * times["torch"]).tolist()),
            Row("QuantumLayer", "ms", (1e3 * times["layer"]).tolist()),
            Row("QuantumLayer, other inputs than in the step before", "ms", (1e3 * times["other"]).tolist()),
            Row(f"QuantumLayer / {fastest}, loss in closed form", "x", (times["layer"] / times[fastest]).tolist(), STEP[n_qubits]),
            Row("QuantumLayer / CircuitEngine, loss by torch", "x", (times["layer"] / times["torch"]).tolist(), STEP[n_qubits]),
        ],
        [
            "The bare engine is the fastest for the width: inputs encoded once before, forward, the gradient of the loss written out in"
            " NumPy, backward. Once more with the same torch loss as the layer: torch.from_numpy(values), mse_loss, backward to this leaf."
        ],
    )


for _qubits in STEP:
    case(
        f"layer-{_qubits}",
        f"the gradient step of gradient-{_qubits} in one process, without the optimiser: QuantumLayer (layer(inputs), mse_loss, backward)"
        " against the engine below it; blocks of steps in turns; processor time.",
    )(functools.partial(_layer, _qubits))

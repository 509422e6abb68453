"""Worker: TensorCircuit-NG with JAX, jit-compiled, single precision."""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX starts

import jax  # type: ignore[import-not-found]
import numpy as np
import tensorcircuit as tc  # type: ignore[import-not-found]

from .serving import Configurations, Model, Workload, serve

_SEARCHED_QUBITS = 4


def model(work: Workload, *, states: bool) -> Model:
    """The batch by ``vmap``; encoded in the circuit, or from product ``states`` made before."""
    index = np.arange(2**work.n_qubits)
    signs = jax.numpy.array([1 - 2 * ((index >> (work.n_qubits - 1 - q)) & 1) for q in range(work.n_qubits)], "float32")
    rows = jax.numpy.array(work.product_states(), "complex64") if states else jax.numpy.array(work.inputs, "float32")
    targets = jax.numpy.array(work.targets, "float32")

    def one(weights: jax.Array, row: jax.Array) -> jax.Array:
        circuit = tc.Circuit(work.n_qubits, inputs=row) if states else tc.Circuit(work.n_qubits)
        if not states:
            for q in range(work.n_qubits):
                circuit.ry(q, theta=row[q])
        for kind, qubits, place in work.gates():
            if place is None:
                getattr(circuit, kind)(*qubits)
            else:
                getattr(circuit, f"r{kind}")(*qubits, theta=weights[place])
        return signs @ jax.numpy.abs(circuit.state()) ** 2

    values = jax.vmap(one, in_axes=(None, 0))
    forward = jax.jit(values)
    slope = jax.jit(jax.grad(lambda weights, data: jax.numpy.mean((values(weights, data) - targets) ** 2)))

    def run(function: object, weights: np.ndarray) -> np.ndarray:
        return np.asarray(function(weights.astype(np.float32), rows), np.float64)  # type: ignore[operator]

    return Model(lambda weights: run(forward, weights), lambda weights: run(slope, weights))


def configurations(work: Workload) -> Configurations:
    """Two ways to encode; on wide registers, which take minutes to compile, only the one that was faster on narrow ones."""
    found = {"states": lambda: model(work, states=True)}
    if work.n_qubits <= _SEARCHED_QUBITS:
        found["RY"] = lambda: model(work, states=False)
    return found


if __name__ == "__main__":
    tc.set_backend("jax")
    tc.set_dtype("complex64")
    serve({"default": configurations}, ("tensorcircuit-ng", "jax"))

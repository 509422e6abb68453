"""A parametrised Cirq circuit as a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cirq
import numpy as np
import torch

from ..errors import QumosError, unknown
from .adjoint import MEMORY_LIMIT, CircuitEngine, Observable, Route
from .program import compile_circuit, natural_symbols


class QuantumLayer(torch.nn.Module):
    """Expectation values of a Cirq circuit, with exact adjoint gradients: ``[batch, inputs] -> [batch, observables]``.

    Args:
        circuit: unitary gates, parametrised gates linear in one symbol each.
        observables: Pauli strings or sums with real coefficients.
        input_symbols: names of the symbols that take a value per sample, in column order.
        weight_symbols: names of the trainable symbols; default all others in natural order.
        qubits: the register, most significant first; default the circuit's and the observables' qubits, sorted.
        initial_weights: start values in radians; default uniform in [-pi, pi) from ``seed``.
        seed: of the default initial weights.
        route: ``unitary``, ``states`` or ``auto``, see ``qumos_env.simulation.adjoint``.
        threads: CPU threads of a simulation.
        memory_limit: bytes that the states of a pass may take; larger batches run in chunks.
        encoding: ``angle``: inputs are the values of ``input_symbols``; ``amplitude``: inputs are ``[batch, 2**n]`` real numbers,
            normalised here and taken as the amplitudes of the initial state (no input symbols then).

    Attributes:
        weights: one float32 parameter vector, one value per weight symbol.

    Raises:
        QumosError: a symbol, qubit, gate or observable that does not fit; an input batch with another width, or not finite.
    """

    def __init__(
        self,
        circuit: cirq.AbstractCircuit,
        observables: Sequence[cirq.PauliString | cirq.PauliSum | cirq.SingleQubitPauliStringGateOperation],
        input_symbols: Sequence[str] = (),
        weight_symbols: Sequence[str] | None = None,
        *,
        qubits: Sequence[cirq.Qid] | None = None,
        initial_weights: Sequence[float] | None = None,
        seed: int = 0,
        route: Route = "auto",
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
        encoding: Literal["angle", "amplitude"] = "angle",
    ) -> None:
        super().__init__()
        if encoding not in ("angle", "amplitude"):
            raise unknown("encoding", encoding, ("angle", "amplitude"))
        if encoding == "amplitude" and input_symbols:
            raise QumosError("input_symbols: amplitude encoding takes the place of input symbols")
        if not observables:
            raise QumosError("observables: at least one is needed")
        try:
            sums = [cirq.PauliSum.wrap(observable) for observable in observables]
        except (TypeError, ValueError) as error:
            raise QumosError("observables: a list of Pauli strings or sums on qubits is needed, such as [cirq.Z(qubit)]") from error
        register = sorted(circuit.all_qubits().union(*(item.qubits for item in sums))) if qubits is None else list(qubits)
        if weight_symbols is None:
            weight_symbols = [name for name in natural_symbols(circuit) if name not in set(input_symbols)]
        self.encoding = encoding
        self.input_symbols = tuple(input_symbols)
        self.weight_symbols = tuple(weight_symbols)
        program = compile_circuit(circuit, register, self.input_symbols, self.weight_symbols)
        self._engine = CircuitEngine(program, [Observable.from_cirq(item, register) for item in sums], route, threads, memory_limit)
        if initial_weights is None:
            values = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(self.weight_symbols))
        else:
            values = np.array(initial_weights, float)
            if values.shape != (len(self.weight_symbols),):
                raise QumosError(f"initial_weights: {len(self.weight_symbols)} values needed, got shape {list(values.shape)}")
        self.weights = torch.nn.Parameter(torch.tensor(np.ascontiguousarray(values), dtype=torch.float32))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``inputs`` ``[batch, len(input_symbols)]`` in radians (or amplitudes) to expectation values ``[batch, len(observables)]``."""
        if self.encoding == "amplitude":
            inputs = torch.nn.functional.normalize(inputs, dim=-1)
        return _Expectations.apply(inputs, self.weights, self._engine, self.encoding)


class _Expectations(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: torch.Tensor, weights: torch.Tensor, engine: CircuitEngine, encoding: str) -> torch.Tensor:
        encode = engine.encode_amplitudes if encoding == "amplitude" else engine.encode
        batch = encode(inputs.detach().cpu().double().numpy())
        values, tape = engine.forward(weights.detach().cpu().double().numpy(), batch)
        context.engine, context.tape = engine, tape
        context.dtypes = inputs.dtype, weights.dtype
        return torch.as_tensor(np.ascontiguousarray(values), dtype=weights.dtype, device=inputs.device)

    @staticmethod
    def backward(context: Any, cotangents: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        if torch.is_grad_enabled():
            # Second derivatives would silently be missing from whatever asked for them.
            raise RuntimeError("QuantumLayer has first derivatives only; differentiate without create_graph")
        wants_inputs, wants_weights = context.needs_input_grad[:2]
        slopes, input_slopes = context.engine.backward(context.tape, cotangents.detach().cpu().numpy(), inputs=wants_inputs)
        device = cotangents.device
        return (
            torch.as_tensor(input_slopes, dtype=context.dtypes[0], device=device) if wants_inputs else None,
            torch.as_tensor(slopes, dtype=context.dtypes[1], device=device) if wants_weights else None,
            None,
            None,
        )

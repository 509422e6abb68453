"""A parametrised Cirq circuit as a torch module, exact or noisy.

It trains with torch's optimisers: ``torch.optim.Adam``, AMSGrad (``Adam(..., amsgrad=True)``), SGD with momentum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

import cirq
import numpy as np
import sympy
import torch

from ..errors import QumosError, unknown
from .adjoint import MEMORY_LIMIT, CircuitEngine, Route
from .channels import Noise, ReadoutError, compile_noisy, has_channels
from .noise import NoisyEngine, NoisyRoute
from .program import InputRotation, compile_circuit, natural_symbols, symbol_names
from .states import checked_bits

LayerEncoding = Literal["angle", "amplitude", "basis"]
_Engine = CircuitEngine | NoisyEngine


class QuantumLayer(torch.nn.Module):
    """Expectation values of a Cirq circuit, with exact adjoint gradients: ``[batch, inputs] -> [batch, observables]``.

    Args:
        circuit: unitary gates, parametrised gates linear in one symbol each; and channels.
        observables: Pauli strings or sums with real coefficients.
        input_symbols: the symbols that take a value per sample, in column order; each a ``sympy.Symbol`` or a name.
        weight_symbols: the trainable symbols, likewise; default all others in natural order.
        qubits: the register, most significant first; default the circuit's and the observables' qubits, sorted.
        initial_weights: start values in radians; default uniform in [-pi, pi) from ``seed``.
        seed: of the default initial weights.
        route: ``unitary``, ``states`` or ``auto``, see ``qumos_env.simulation.adjoint``; with noise ``samples``, ``observables`` or
            ``auto``, see ``qumos_env.simulation.noise``.
        threads: CPU threads of a simulation.
        memory_limit: bytes that the states of a pass may take; larger batches run in chunks.
        encoding: ``angle``: inputs are the values of ``input_symbols``; ``amplitude``: inputs are ``[batch, 2**n]`` real numbers,
            normalised here and taken as the amplitudes of the initial state; ``basis``: inputs are bits ``[batch, n]``, 0 or 1, that
            set the initial basis state (no input symbols for the latter two). Bits have no gradient.
        noise: what is added behind the circuit's gates; initial states of the encodings ``amplitude`` and ``basis`` are exact.
        readout: errors of the measurement, one for all qubits or one per qubit; default those of a ``NoiseSpec``. With noise, readout
            errors or a channel in the circuit the density matrix is simulated, and gradients are as exact as without.

    Attributes:
        input_symbols, weight_symbols: the names, in order.
        weights: one float32 parameter vector, one value per weight symbol.
        engine: what simulates; other ways to differentiate it by the weights, also from shots, are in
            ``qumos_env.simulation.gradients``.

    Raises:
        QumosError: a symbol, qubit, gate, channel or observable that does not fit; a register too wide for ``memory_limit``; an input
            batch with another width, empty, or not finite; bits that want a gradient.
    """

    def __init__(
        self,
        circuit: cirq.AbstractCircuit,
        observables: Sequence[cirq.PauliString | cirq.PauliSum | cirq.SingleQubitPauliStringGateOperation],
        input_symbols: Sequence[sympy.Symbol | str] = (),
        weight_symbols: Sequence[sympy.Symbol | str] | None = None,
        *,
        qubits: Sequence[cirq.Qid] | None = None,
        initial_weights: Sequence[float] | None = None,
        seed: int = 0,
        route: Route | NoisyRoute = "auto",
        threads: int = 1,
        memory_limit: int = MEMORY_LIMIT,
        encoding: LayerEncoding = "angle",
        noise: Noise | None = None,
        readout: ReadoutError | Sequence[ReadoutError] | None = None,
    ) -> None:
        super().__init__()
        if encoding not in get_args(LayerEncoding):
            raise unknown("encoding", encoding, get_args(LayerEncoding))
        self.input_symbols = symbol_names("input_symbols", input_symbols)
        if encoding != "angle" and self.input_symbols:
            raise QumosError(f"input_symbols: {encoding} encoding takes the place of input symbols")
        if not observables:
            raise QumosError("observables: at least one is needed")
        try:
            sums = [cirq.PauliSum.wrap(observable) for observable in observables]
        except (TypeError, ValueError) as error:
            raise QumosError("observables: a list of Pauli strings or sums on qubits is needed, such as [cirq.Z(qubit)]") from error
        register = sorted(circuit.all_qubits().union(*(item.qubits for item in sums))) if qubits is None else list(qubits)
        if weight_symbols is None:
            weight_symbols = [name for name in natural_symbols(circuit) if name not in self.input_symbols]
        self.encoding: LayerEncoding = encoding
        self.n_qubits = len(register)
        self.weight_symbols = symbol_names("weight_symbols", weight_symbols)
        if noise is None and readout is None and not has_channels(circuit):
            self.engine: _Engine = self._exact_engine(circuit, register, sums, route, threads, memory_limit)
        else:
            self.engine = self._noisy_engine(circuit, register, sums, noise, readout, route, threads, memory_limit)
        if initial_weights is None:
            values = np.random.default_rng(seed).uniform(-np.pi, np.pi, len(self.weight_symbols))
        else:
            values = np.array(initial_weights, float)
            if values.shape != (len(self.weight_symbols),):
                raise QumosError(f"initial_weights: {len(self.weight_symbols)} values needed, got shape {list(values.shape)}")
        self.weights = torch.nn.Parameter(torch.tensor(np.ascontiguousarray(values), dtype=torch.float32))

    def _exact_engine(
        self,
        circuit: cirq.AbstractCircuit,
        register: Sequence[cirq.Qid],
        observables: Sequence[cirq.PauliSum],
        route: Any,
        threads: int,
        memory_limit: int,
    ) -> CircuitEngine:
        program = compile_circuit(circuit, register, self.input_symbols, self.weight_symbols)
        if self.encoding == "basis":
            flips = _flips(len(register))
            program = replace(program, n_inputs=len(flips), encoding=tuple((flip,) for flip in flips))
        return CircuitEngine.from_program(program, register, observables, route, threads, memory_limit)

    def _noisy_engine(
        self,
        circuit: cirq.AbstractCircuit,
        register: Sequence[cirq.Qid],
        observables: Sequence[cirq.PauliSum],
        noise: Noise | None,
        readout: ReadoutError | Sequence[ReadoutError] | None,
        route: Any,
        threads: int,
        memory_limit: int,
    ) -> NoisyEngine:
        program = compile_noisy(circuit, register, self.input_symbols, self.weight_symbols, noise, readout)
        if self.encoding == "basis":
            flips = _flips(len(register))
            program = replace(program, n_inputs=len(flips), instructions=(*flips, *program.instructions))
        return NoisyEngine.from_program(
            program, register, observables, route, threads, memory_limit, amplitudes=self.encoding == "amplitude"
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Expectation values ``[batch, len(observables)]`` for ``inputs`` ``[batch, len(input_symbols)]`` in radians.

        Or for amplitudes ``[batch, 2**n]``, or bits ``[batch, n]``; see ``encoding``.
        """
        if self.encoding == "amplitude":
            inputs = torch.nn.functional.normalize(inputs, dim=-1)
        elif self.encoding == "basis":
            if inputs.requires_grad:
                raise QumosError("inputs: bits have no gradient, basis encoding takes inputs with requires_grad=False")
            checked_bits(inputs.cpu().numpy(), self.n_qubits)
        return _Expectations.apply(inputs, self.weights, self.engine, self.encoding)


def _flips(n_qubits: int) -> list[InputRotation]:
    """Bit i turns qubit i by pi about X, which is exact up to a global phase."""
    return [InputRotation("X", qubit, qubit, math.pi) for qubit in range(n_qubits)]


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


# Cotangents, and whether inputs want a gradient, to the gradients by weights and by inputs.
_Backward = Callable[..., tuple[np.ndarray, np.ndarray | None]]


def _run(engine: _Engine, weights: np.ndarray, inputs: np.ndarray, encoding: LayerEncoding) -> tuple[np.ndarray, _Backward]:
    if isinstance(engine, NoisyEngine):
        return engine.forward(weights, inputs), partial(engine.backward, weights, inputs)
    values, tape = engine.forward(weights, engine.encode_amplitudes(inputs) if encoding == "amplitude" else engine.encode(inputs))
    return values, partial(engine.backward, tape)


class _Expectations(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: torch.Tensor, weights: torch.Tensor, engine: _Engine, encoding: LayerEncoding) -> torch.Tensor:
        values, context.run_backward = _run(engine, _numbers(weights), _numbers(inputs), encoding)
        context.dtypes = inputs.dtype, weights.dtype
        return torch.as_tensor(np.ascontiguousarray(values), dtype=weights.dtype, device=inputs.device)

    @staticmethod
    def backward(context: Any, cotangents: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        if torch.is_grad_enabled():
            # Second derivatives would silently be missing from whatever asked for them.
            raise RuntimeError("QuantumLayer has first derivatives only; differentiate without create_graph")
        wants_inputs, wants_weights = context.needs_input_grad[:2]
        slopes, input_slopes = context.run_backward(cotangents.detach().cpu().numpy(), inputs=wants_inputs)
        device = cotangents.device
        return (
            torch.as_tensor(input_slopes, dtype=context.dtypes[0], device=device) if wants_inputs else None,
            torch.as_tensor(slopes, dtype=context.dtypes[1], device=device) if wants_weights else None,
            None,
            None,
        )

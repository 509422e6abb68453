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
from .adjoint import MEMORY_LIMIT, CircuitEngine, EncodedBatch, Route
from .channels import Noise, ReadoutError, compile_noisy, has_channels
from .instructions import InputRotation
from .noise import NoisyEngine, NoisyRoute
from .program import compile_circuit, natural_symbols, symbol_names
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

    The encoding of the last batch is kept, so that a step on the same inputs does not encode them again.

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
        self._last_batch = _LastBatch()
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
        elif self.encoding == "basis" and inputs.requires_grad:
            raise QumosError("inputs: bits have no gradient, basis encoding takes inputs with requires_grad=False")
        values, run_backward = self._run(_array(self.weights), _array(inputs))
        # What autograd does not need it is not given: it has a price for every tensor.
        return _Expectations.apply(self.weights, inputs if inputs.requires_grad else None, values, run_backward, inputs.device)

    def _run(self, weights: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, _Backward]:
        engine = self.engine
        # Copied, for the caller may change his tensors before the backward pass, which reads these.
        weights = np.array(weights, np.float64)
        if isinstance(engine, NoisyEngine):
            inputs = self._checked(np.array(inputs, np.float64))
            return engine.forward(weights, inputs), partial(engine.backward, weights, inputs)
        values, tape = engine.forward(weights, self._last_batch.encoded(inputs, self._encode))
        return values, partial(engine.backward, tape)

    def _encode(self, inputs: np.ndarray) -> EncodedBatch:
        assert isinstance(self.engine, CircuitEngine)
        return self.engine.encode_amplitudes(inputs) if self.encoding == "amplitude" else self.engine.encode(self._checked(inputs))

    def _checked(self, inputs: np.ndarray) -> np.ndarray:
        return checked_bits(inputs, self.n_qubits) if self.encoding == "basis" else inputs


class _LastBatch:
    """The last batch as the engine encoded it, for as long as the same inputs come again, as they do where every step takes all data.

    Inputs are told apart by their bytes: a tensor that was changed in place is another batch.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], EncodedBatch] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"_kept": None}

    def encoded(self, inputs: np.ndarray, encode: Callable[[np.ndarray], EncodedBatch]) -> EncodedBatch:
        """``encode`` of ``inputs`` as float64, or what it gave for the same inputs."""
        numbers = inputs.dtype, inputs.shape, inputs.tobytes()
        kept = self._kept
        if kept is not None and kept[0] == numbers:
            return kept[1]
        self._kept = kept = None  # No two batches are held while one is encoded.
        batch = encode(np.array(inputs, np.float64))
        if not batch.chunks:  # Chunks are encoded one by one, whenever they are needed.
            self._kept = numbers, batch
        return batch


def _flips(n_qubits: int) -> list[InputRotation]:
    """Bit i turns qubit i by pi about X, which is exact up to a global phase."""
    return [InputRotation("X", qubit, qubit, math.pi) for qubit in range(n_qubits)]


# Types of real numbers that both have.
_NUMPY: dict[torch.dtype, type] = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}
_CPU = torch.device("cpu")


def _array(tensor: torch.Tensor) -> np.ndarray:
    """``tensor`` for reading: on the CPU it shares memory."""
    return (tensor if tensor.dtype in _NUMPY else tensor.double()).numpy(force=True)


def _tensor(array: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    # NumPy converts small arrays with less overhead than torch.
    found = torch.from_numpy(array.astype(_NUMPY.get(dtype, np.float64), order="C", copy=False))
    return found if found.dtype == dtype and device == _CPU else found.to(device, dtype)


# Cotangents, and whether inputs want a gradient, to the gradients by weights and by inputs.
_Backward = Callable[..., tuple[np.ndarray, np.ndarray | None]]


class _Expectations(torch.autograd.Function):
    """``values`` as a tensor on ``device`` whose gradient by ``weights``, and by ``inputs`` if there are any, is ``run_backward``."""

    @staticmethod
    def forward(
        context: Any,
        weights: torch.Tensor,
        inputs: torch.Tensor | None,
        values: np.ndarray,
        run_backward: _Backward,
        device: torch.device,
    ) -> torch.Tensor:
        context.run_backward = run_backward
        context.dtypes = weights.dtype, None if inputs is None else inputs.dtype
        return _tensor(values, weights.dtype, device)

    @staticmethod
    def backward(context: Any, cotangents: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None, None]:
        if torch.is_grad_enabled():
            # Second derivatives would silently be missing from whatever asked for them.
            raise RuntimeError("QuantumLayer has first derivatives only; differentiate without create_graph")
        wants_weights, wants_inputs, *_ = context.needs_input_grad
        weights_dtype, inputs_dtype = context.dtypes
        slopes, input_slopes = context.run_backward(_array(cotangents), inputs=wants_inputs)
        return (
            _tensor(slopes, weights_dtype, cotangents.device) if wants_weights else None,
            _tensor(input_slopes, inputs_dtype, cotangents.device) if wants_inputs else None,
            None,
            None,
            None,
        )

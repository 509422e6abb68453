"""Cirq's simulators as the engine behind an adapter that reaches no device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cirq
import numpy as np

from ...errors import QumosError
from ...simulation.channels import NoiseSpec
from .adapter import checked, measured

_MAX_QUBITS = 24


@dataclass(frozen=True)
class LocalAdapter:
    """Cirq's own simulator, or any other sampler that takes Cirq's gates as they are."""

    service: cirq.Sampler | None = None

    @property
    def name(self) -> str:
        return "local"

    @property
    def width(self) -> int:
        return _MAX_QUBITS

    def native(self, circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.LineQubit]) -> cirq.Circuit:
        return measured(checked(self.name, self.width, circuit, qubits), qubits)

    def sampler(self, generator: np.random.Generator, noise: NoiseSpec | None = None) -> cirq.Sampler:
        return service_or(self.name, self.service, noise) or simulator(generator, noise)


def service_or(name: str, service: cirq.Sampler | None, noise: NoiseSpec | None) -> cirq.Sampler | None:
    """``service``; raises QumosError where ``noise`` is asked of it, since a device has its own."""
    if service is not None and noise is not None:
        raise QumosError(f"vendor {name}: noise is for the local engine, a service has its own")
    return service


def simulator(generator: np.random.Generator, noise: NoiseSpec | None = None) -> cirq.Sampler:
    """A seeded simulator of measured circuits: of state vectors, or of density matrices where there is noise."""
    return cirq.Simulator(seed=_seed(generator)) if noise is None else NoisySampler(noise, generator)


class NoisySampler(cirq.Sampler):
    """Outcomes of circuits with the channels of a ``NoiseSpec`` behind their gates and its readout error on every outcome.

    Args:
        noise: the rates.
        generator: source of the outcomes.
    """

    def __init__(self, noise: NoiseSpec, generator: np.random.Generator) -> None:
        self._noise = noise
        self._generator = generator
        self._simulator = cirq.DensityMatrixSimulator(seed=_seed(generator))

    def run_sweep(self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1) -> list[cirq.Result]:
        """As Cirq's samplers do.

        Raises:
            QumosError: a gate on more than two qubits, or a measurement that is not at the end.
        """
        body, readout = split_measurements(program)
        results: list[cirq.Result] = []
        for resolver in cirq.to_resolvers(params):
            noisy = self._noise.noisy(cirq.resolve_parameters(body, resolver)) + cirq.Circuit(readout)
            drawn = self._simulator.run(noisy, repetitions=repetitions).measurements
            results.append(cirq.ResultDict(params=resolver, measurements={key: self._read(bits) for key, bits in drawn.items()}))
        return results

    def _read(self, bits: np.ndarray) -> np.ndarray:
        error = self._noise.readout
        wrong = np.where(bits == 0, error.zero_as_one, error.one_as_zero)
        return bits ^ (self._generator.random(bits.shape) < wrong)


class CheckedSampler(cirq.Sampler):
    """A sampler that first puts every circuit through a vendor's ``check``, and runs what that gives.

    Args:
        check: the circuit as the vendor's service would receive it; raises where it would be refused.
        engine: runs the circuits.
    """

    def __init__(self, check: Callable[[cirq.AbstractCircuit], cirq.AbstractCircuit], engine: cirq.Sampler) -> None:
        self._check = check
        self._engine = engine

    def run_sweep(self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1) -> list[cirq.Result]:
        """As Cirq's samplers do."""
        resolvers = list(cirq.to_resolvers(params))
        return [self._engine.run(self._check(cirq.resolve_parameters(program, each)), repetitions=repetitions) for each in resolvers]


def split_measurements(circuit: cirq.AbstractCircuit) -> tuple[cirq.Circuit, list[cirq.Operation]]:
    """The gates of ``circuit``, and the measurements at its end.

    Raises:
        QumosError: a measurement in mid-circuit, or none.
    """
    readout = [op for op in circuit.all_operations() if cirq.is_measurement(op)]
    if not readout or not circuit.are_all_measurements_terminal():
        raise QumosError("a circuit with its measurements at the end is needed")
    return cirq.Circuit(op for op in circuit.all_operations() if not cirq.is_measurement(op)), readout


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**31))

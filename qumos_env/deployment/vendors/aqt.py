"""AQT's ion traps: circuits in R, RZ and RXX gates; every pair of qubits is coupled.

The service takes rotations R with angles of 0 to π about axes of 0 to 2π, RXX with angles of 0 to π/2, at most 2,000 shots a circuit
and 20 qubits (AQT's public API, Arnica v1). cirq-aqt sends what it is given, so angles are brought into these ranges here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cirq
import numpy as np

from ...errors import QumosError
from ...simulation.channels import NoiseSpec
from .adapter import READOUT, checked, compiled, measured, validated, vendor_package
from .local import service_or, simulator, split_measurements

_PACKAGE = "cirq_aqt"
_MAX_SHOTS = 2000
_KEY = "m"  # cirq-aqt reports all qubits under this key, whatever the circuit says


@dataclass(frozen=True)
class AqtAdapter:
    """A resource of AQT's service.

    Attributes:
        service: a ``cirq_aqt.AQTSampler`` or ``AQTSamplerLocalSimulator``, the package's noisy simulator, which cannot be seeded.
            ``None`` for that simulator with our engine in it, which can.
        width: of the resource; the default is the most that the service takes.
    """

    service: cirq.Sampler | None = None
    width: int = 20

    @property
    def name(self) -> str:
        return "aqt"

    def native(self, circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.LineQubit]) -> cirq.Circuit:
        package = vendor_package(_PACKAGE)
        gateset = vendor_package(f"{_PACKAGE}.aqt_target_gateset").AQTTargetGateset()
        part = checked(self.name, self.width, circuit, qubits)
        ions = cirq.LineQubit.range(len(qubits))
        moved = part.transform_qubits(dict(zip(qubits, ions, strict=True)))
        gates = cirq.map_operations_and_unroll(compiled(self.name, moved, gateset), lambda op, _: list(_in_range(op)))
        # The package counts the qubits that gates act on: an idle one would shift the others.
        idle = [cirq.Z(ion) ** 0 for ion in ions if ion not in gates.all_qubits()]
        device, _ = package.aqt_device.get_aqt_device(self.width)
        return validated(self.name, device, measured(gates + cirq.Circuit(idle), ions))

    def sampler(self, generator: np.random.Generator, noise: NoiseSpec | None = None) -> cirq.Sampler:
        return AqtSampler(service_or(self.name, self.service, noise) or _local_simulator(simulator(generator, noise)))


class AqtSampler(cirq.Sampler):
    """A sampler of cirq-aqt as Cirq's others are: takes measured circuits, reports their key, and any number of shots.

    Args:
        inner: the package's sampler, which takes unmeasured circuits.
    """

    def __init__(self, inner: cirq.Sampler) -> None:
        self._inner = inner

    def run_sweep(self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1) -> list[cirq.Result]:
        """As Cirq's samplers do.

        Raises:
            QumosError: not one measurement of all line qubits 0, 1, ... in this order, under ``READOUT``, at the end.
        """
        body, readout = split_measurements(program)
        ions = cirq.LineQubit.range(len(program.all_qubits()))
        if readout != [cirq.measure(*ions, key=READOUT)]:
            raise QumosError("vendor aqt: a native circuit is needed, measured once, on all its qubits in ascending order")
        results: list[cirq.Result] = []
        for resolver in cirq.to_resolvers(params):
            circuit = cirq.resolve_parameters(body, resolver)
            runs = [self._inner.run(circuit, repetitions=shots).measurements[_KEY] for shots in _batches(repetitions)]
            results.append(cirq.ResultDict(params=resolver, measurements={READOUT: np.concatenate(runs).astype(np.uint8)}))
        return results


def _batches(shots: int) -> list[int]:
    return [min(_MAX_SHOTS, shots - done) for done in range(0, shots, _MAX_SHOTS)]


def _in_range(op: cirq.Operation) -> Iterator[cirq.Operation]:
    """``op`` up to a global phase, with angles that the service takes."""
    gate = op.gate
    if isinstance(gate, cirq.PhasedXPowGate):
        turn = _wrapped(gate.exponent)
        axis = _wrapped(gate.phase_exponent + (turn < 0))
        # Cirq keeps axes in (-1, 1] half turns; between two Z, which cost nothing, an axis points the other way.
        flip = [cirq.Z(*op.qubits)] if axis < 0 else []
        yield from (*flip, cirq.PhasedXPowGate(exponent=abs(turn), phase_exponent=axis + len(flip)).on(*op.qubits), *flip)
    elif isinstance(gate, cirq.XXPowGate):
        turn = _wrapped(gate.exponent)
        if abs(turn) > 0.5:
            # XX is its own inverse: half a turn is an X on both.
            yield from (cirq.PhasedXPowGate(phase_exponent=0).on(qubit) for qubit in op.qubits)
            turn -= np.sign(turn)
        # Z on one side turns XX into -XX.
        flip = [cirq.Z(op.qubits[0])] if turn < 0 else []
        yield from (*flip, cirq.XX(*op.qubits) ** abs(turn), *flip)
    else:
        yield op


def _wrapped(exponent: Any) -> float:
    """``exponent`` in half turns, brought into (-1, 1]."""
    return 1 - (1 - float(exponent)) % 2


def _local_simulator(engine: cirq.Sampler) -> cirq.Sampler:
    """The package's local simulator, from the circuit to the service's format and back, with ``engine`` in place of its own."""
    package = vendor_package(_PACKAGE)

    class LocalSimulator(package.AQTSamplerLocalSimulator):  # type: ignore[name-defined]
        def _send_json(self, *, json_str: str, id_str: str, repetitions: int = 1, num_qubits: int = 1) -> np.ndarray:
            reader = package.aqt_device.AQTSimulator(num_qubits=num_qubits)
            reader.generate_circuit_from_list(json_str)
            return engine.run(reader.circuit, repetitions=repetitions).measurements[_KEY]

    sampler: cirq.Sampler = LocalSimulator()
    return sampler

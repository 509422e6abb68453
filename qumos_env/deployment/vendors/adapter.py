"""What every adapter does: a part in the vendor's gates, measured, and the sampler that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

import cirq
import networkx
import numpy as np

from ...errors import QumosError, one_line
from ...simulation.channels import NoiseSpec
from ...simulation.program import gate_name

READOUT = "z"
"""Key under which a native circuit measures its qubits: column i of the outcomes is qubit i of the part."""
EXTRA = "pip install 'qumos-env[vendors]'"


class VendorAdapter(Protocol):
    """A vendor's device as a runner of parts.

    Attributes:
        name: in the registry.
        service: a sampler of the vendor's package that reaches the device, made by the caller with its own credentials; ``None`` for
            the local engine.
    """

    @property
    def name(self) -> str: ...

    @property
    def service(self) -> cirq.Sampler | None: ...

    @property
    def width(self) -> int:
        """Number of qubits of the device."""
        ...

    def native(self, circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.LineQubit]) -> cirq.Circuit:
        """``circuit`` as the device runs it, measured at the end under the key ``READOUT``.

        Args:
            circuit: of a part: gates on one and two qubits, without symbols and measurements.
            qubits: of the part, in the order in which their outcomes are wanted.

        Raises:
            QumosError: the package is missing, the part is wider than the device, a symbol is open, a gate that the vendor cannot
                run, or a result that the vendor's own validation refuses.
        """
        ...

    def sampler(self, generator: np.random.Generator, noise: NoiseSpec | None = None) -> cirq.Sampler:
        """The sampler for native circuits: ``service``, or the local engine.

        Args:
            generator: source of the local engine's outcomes; a service has its own.
            noise: of the local engine, behind every native gate; without it the engine is exact but for the shots.

        Raises:
            QumosError: the package is missing, or ``noise`` for a service.
        """
        ...


def vendor_package(name: str) -> Any:
    """The package ``name`` of a vendor, imported at its first use.

    Raises:
        QumosError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise QumosError(f"package {name.partition('.')[0].replace('_', '-')} cannot be imported ({one_line(error)}); {EXTRA}") from error


def checked(name: str, width: int, circuit: cirq.AbstractCircuit, qubits: Sequence[cirq.LineQubit]) -> cirq.Circuit:
    """The gates of ``circuit``, if vendor ``name`` with ``width`` qubits can take it.

    Raises:
        QumosError: as for ``VendorAdapter.native``.
    """
    if not qubits or len(set(qubits)) < len(qubits) or not circuit.all_qubits() <= set(qubits):
        raise QumosError(f"vendor {name}: the qubits {list(map(str, qubits))} are not those of the circuit, each once")
    if len(qubits) > width:
        raise QumosError(f"vendor {name}: the part has {len(qubits)} qubits, the device {width}")
    symbols = sorted(cirq.parameter_names(circuit))
    if symbols:
        raise QumosError(f"vendor {name}: the symbols {', '.join(symbols)} are open, bind them first")
    for op in circuit.all_operations():
        if cirq.is_measurement(op):
            raise QumosError(f"vendor {name}: measurement {op} in the part; all qubits are measured at the end, without being told")
        if not cirq.has_unitary(op):
            raise QumosError(f"vendor {name}: cannot run {gate_name(op)}, which has no unitary")
        if len(op.qubits) > 2:
            raise QumosError(f"vendor {name}: cannot run {gate_name(op)} on {len(op.qubits)} qubits, only gates on one and two")
    return cirq.Circuit(circuit.all_operations())


def compiled(name: str, circuit: cirq.Circuit, gateset: cirq.CompilationTargetGateset) -> cirq.Circuit:
    """``circuit`` in the gates of ``gateset``, without global phases.

    Raises:
        QumosError: a gate that cannot be rewritten.
    """
    try:
        native = cirq.optimize_for_target_gateset(circuit, gateset=gateset, ignore_failures=False)
    except ValueError as error:
        raise QumosError(f"vendor {name}: cannot run the circuit ({one_line(error)[:200]})") from error
    return cirq.drop_empty_moments(cirq.map_operations(native, lambda op, _: op if op.qubits else []))


def measured(circuit: cirq.Circuit, qubits: Sequence[cirq.Qid]) -> cirq.Circuit:
    """``circuit`` with all of ``qubits`` measured in a moment of their own, in this order."""
    return circuit + cirq.Circuit(cirq.Moment(cirq.measure(*qubits, key=READOUT)))


def validated(name: str, device: cirq.Device, circuit: cirq.Circuit) -> cirq.Circuit:
    """``circuit``, if ``device`` runs it.

    Raises:
        QumosError: it does not.
    """
    try:
        device.validate_circuit(circuit)
    except (ValueError, NotImplementedError) as error:
        raise QumosError(f"vendor {name}: the device refuses the circuit ({one_line(error)[:200]})") from error
    return circuit


def placed(
    circuit: cirq.Circuit, qubits: Sequence[cirq.LineQubit], places: Sequence[cirq.Qid], couplings: networkx.Graph
) -> tuple[cirq.Circuit, list[cirq.Qid]]:
    """``circuit`` on the device qubits ``places``, with swaps where its gates do not fit the couplings.

    Args:
        circuit: gates on one and two of ``qubits``.
        qubits: of the circuit.
        places: a connected set of device qubits, one for each of ``qubits``, where they start.
        couplings: of the device; only those among ``places`` are used.

    Returns:
        The circuit, and where each of ``qubits`` is at its end.
    """
    start: dict[cirq.Qid, cirq.Qid] = dict(zip(qubits, places, strict=True))
    moved = circuit.transform_qubits(start)
    if all(couplings.has_edge(*op.qubits) for op in moved.all_operations() if len(op.qubits) == 2):
        return moved, list(places)
    # The router walks over sets, in an order that may differ from process to process, unless the graph leaves it no choice of qubits.
    region = networkx.Graph()
    region.add_nodes_from(places)
    region.add_edges_from(pair for pair in couplings.edges if region.has_node(pair[0]) and region.has_node(pair[1]))
    routed, initial, final = cirq.RouteCQC(region).route_circuit(circuit, initial_mapper=cirq.HardCodedInitialMapper(start))
    return routed.unfreeze(), [final[initial[qubit]] for qubit in qubits]

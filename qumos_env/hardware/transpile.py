"""Native circuits: what a device runs in place of a part of a design.

A part is placed on coupled qubits of the device, routed with Cirq's router where its gates do not fit the couplings, and then rewritten
in native gates, pair of qubits by pair. All qubits of a profile have the same errors, so no placement has better qubits than another:
the only thing that placement can save is swaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cirq
import networkx
import numpy as np
from networkx.algorithms.isomorphism import GraphMatcher

from ..errors import QumosError
from .profile import DeviceProfile
from .rewriting import rewritten

MAX_MATCHED_QUBITS = 8
"""Widest circuit whose swap-free placement is searched for; the search can take exponential time in the width."""
_REPRESENTATIVE = 0x9A1E


@dataclass(frozen=True)
class NativeCircuit:
    """A circuit in native gates on coupled qubits of a device, equal to the logical one up to a global phase and where qubits lie.

    Attributes:
        circuit: on ``cirq.LineQubit(i)`` for the device's qubit i, unmeasured, every gate as early as possible.
        qubits: the logical qubits, ascending.
        starts: for each of ``qubits`` the device's qubit that holds it at the start.
        ends: the same at the end, where it is measured.
        n_one_qubit, n_two_qubit: number of native gates on so many qubits.
        depth: number of moments.
    """

    circuit: cirq.FrozenCircuit
    qubits: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    n_one_qubit: int
    n_two_qubit: int
    depth: int


@lru_cache(maxsize=256)
def transpile(circuit: cirq.FrozenCircuit, profile: DeviceProfile) -> NativeCircuit:
    """``circuit`` as the device of ``profile`` runs it; the same gates in every process and on every processor.

    Args:
        circuit: gates on one and two line qubits. Rotations of one qubit about X, Y or Z may carry symbols, which stay; so inputs can be
            filled in later, at the price of a few one-qubit gates more than for numbers.
        profile: the device.

    Raises:
        QumosError: a circuit that ``route`` refuses, a symbol in another gate, or a gate that cannot be rewritten.
    """
    routed = route(circuit, profile)
    try:
        operations = rewritten(routed.circuit, profile.native_gates)
    except QumosError as error:
        raise QumosError(f"device profile {profile.name}: {error}") from error
    packed = cirq.FrozenCircuit(operations)
    return NativeCircuit(
        packed,
        routed.qubits,
        routed.starts,
        routed.ends,
        sum(len(op.qubits) == 1 for op in operations),
        sum(len(op.qubits) == 2 for op in operations),
        len(packed),
    )


@lru_cache(maxsize=1024)
def transpile_part(circuit: cirq.FrozenCircuit, profile: DeviceProfile) -> NativeCircuit:
    """``transpile`` with a fixed random angle for every symbol: as many gates as for almost all inputs and trained angles.

    Angles of special value, such as features at the end of their range, can only need fewer.
    """
    return transpile(representative(circuit), profile)


def representative(circuit: cirq.FrozenCircuit) -> cirq.FrozenCircuit:
    """``circuit`` with angles uniform in [-pi, pi) in place of its symbols; equal symbols get equal angles."""
    names = sorted(cirq.parameter_names(circuit))
    angles = np.random.default_rng(_REPRESENTATIVE).uniform(-np.pi, np.pi, len(names))
    return cirq.resolve_parameters(circuit, dict(zip(names, angles.tolist(), strict=True)))


@dataclass(frozen=True)
class RoutedCircuit:
    """A circuit on the qubits of a device, with swaps so that its gates act on coupled ones; fields as in ``NativeCircuit``."""

    circuit: cirq.Circuit
    qubits: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def route(circuit: cirq.FrozenCircuit, profile: DeviceProfile) -> RoutedCircuit:
    """Places ``circuit`` on the device of ``profile`` and adds the swaps it needs.

    Raises:
        QumosError: more qubits than the device has, none, or other than line qubits.
    """
    logical = [qubit for qubit in sorted(circuit.all_qubits()) if isinstance(qubit, cirq.LineQubit)]
    if not logical or len(logical) < len(circuit.all_qubits()):
        raise QumosError(f"device profile {profile.name}: a circuit on line qubits is needed")
    if len(logical) > profile.n_qubits:
        raise QumosError(f"device profile {profile.name}: {profile.n_qubits} qubits, the circuit has {len(logical)}")
    numbers = tuple(qubit.x for qubit in logical)
    starts = _swap_free(_interactions(circuit, logical), profile)
    if starts is not None:
        places: dict[cirq.Qid, cirq.Qid] = {qubit: cirq.LineQubit(start) for qubit, start in zip(logical, starts, strict=True)}
        return RoutedCircuit(circuit.unfreeze().transform_qubits(places), numbers, starts, starts)
    device, mapper = _device(profile)
    placed = mapper.initial_mapping(circuit)
    # The router iterates over a set if the device is larger than the circuit, in an order that differs from process to process.
    region = networkx.Graph()
    region.add_nodes_from(sorted(placed.values()))
    region.add_edges_from(edge for edge in device.edges if region.has_node(edge[0]) and region.has_node(edge[1]))
    router, mapping = cirq.RouteCQC(region), cirq.HardCodedInitialMapper(placed)
    try:
        routed, initial, moved = router.route_circuit(circuit, initial_mapper=mapping)
    except IndexError:
        # The router has no answer where swaps tie over all the gates it looks ahead; over the whole circuit they do not.
        routed, initial, moved = router.route_circuit(circuit, lookahead_radius=len(circuit) + 1, initial_mapper=mapping)
    first = [initial[qubit] for qubit in logical]
    return RoutedCircuit(routed.unfreeze(), numbers, _numbers(first), _numbers([moved[qubit] for qubit in first]))


def _numbers(qubits: list[cirq.Qid]) -> tuple[int, ...]:
    return tuple(qubit.x for qubit in qubits if isinstance(qubit, cirq.LineQubit))


def _interactions(circuit: cirq.FrozenCircuit, logical: list[cirq.LineQubit]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Number of qubits and the pairs that share a gate, by their positions in ``logical``."""
    position: dict[cirq.Qid, int] = {qubit: index for index, qubit in enumerate(logical)}
    pairs = {tuple(sorted(position[qubit] for qubit in op.qubits)) for op in circuit.all_operations() if len(op.qubits) == 2}
    return len(logical), tuple(sorted((pair[0], pair[1]) for pair in pairs))


@lru_cache(maxsize=1024)
def _swap_free(interactions: tuple[int, tuple[tuple[int, int], ...]], profile: DeviceProfile) -> tuple[int, ...] | None:
    """Device qubits on which all interacting pairs are coupled, or ``None`` where none are found."""
    width, pairs = interactions
    if profile.topology.complete:
        return tuple(range(width))
    if width > MAX_MATCHED_QUBITS:
        return None
    wanted = networkx.Graph()
    wanted.add_nodes_from(range(width))
    wanted.add_edges_from(pairs)
    device = profile.topology.graph()
    if networkx.is_bipartite(device) and not networkx.is_bipartite(wanted):
        return None
    found = next(GraphMatcher(device, wanted).subgraph_monomorphisms_iter(), None)
    if found is None:
        return None
    place = {mine: its for its, mine in found.items()}
    return tuple(place[qubit] for qubit in range(width))


@lru_cache(maxsize=32)
def _device(profile: DeviceProfile) -> tuple[networkx.Graph, cirq.LineInitialMapper]:
    device = networkx.relabel_nodes(profile.topology.graph(), cirq.LineQubit)
    return device, cirq.LineInitialMapper(device)

"""Theft by a provider that is sent transpiled circuits only.

The provider runs native circuits, one per query, and knows the encoded inputs of its own queries. From two of them it recovers the
encoding, and then the trained part in three ways (``circuit_recovery``):

- ``black box``: as a unitary. It runs other inputs through it but has no angles to train.
- ``known gates``: as the angles of the designer's gate list, where that is known (a published ansatz, or read off pulses).
- ``guessed ansatz``: as the angles of the textbook ansatz that comes nearest. Rotation layers and a ring or chain of entangling gates
  are tried, those first whose native two-qubit gates would sit where the observed ones do; the choice needs no labelled row.

Each recovered circuit is then used as loot by the tiers of ``qumos_env.evaluation.thief`` at the effort of a search. Without noise the
native angles determine the unitary to rounding errors, so recovery is expected to be near exact wherever the gate list is right; the
parameter ``resolution`` coarsens them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import cirq
import numpy as np

from ...design import Design, Gate
from ...design.blocks import Block, BlockKind
from ...design.circuits import Fragment, joint_fragments
from ...design.encodings import axis_called
from ...evaluation.service import Service
from ...evaluation.thief import Thief
from ...model.training import Parameters
from ...seeds import label
from ...simulation.layers import z_signs
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Measurement
from .circuit_recovery import (
    EXACT,
    GATESETS,
    Encoding,
    Fit,
    GateList,
    angle_errors,
    circuit_unitary,
    distance,
    native_circuit,
    read_encoding,
)
from .stealing import Scene

MAX_QUBITS = 5
"""Widest fragment whose unitary is recovered; the work grows as 16**qubits."""
RESTARTS = 8
GUESS_RESTARTS = 3
_TOO_WIDE = f"a fragment of more than {MAX_QUBITS} qubits is not recovered"
_NO_REMAINDER = "inputs enter more than once, or not at all: no remainder common to all queries was found"
_ROTATIONS = (("ry",), ("rx",), ("rx", "rz"), ("ry", "rz"))
_ENTANGLERS = ("cz", "cx", "rzz")
_MAX_LAYERS = 3
# What is measured of every provider: how it was recovered, and the quantity.
_What = tuple[str, str]
_AXES: _What = ("", "encoding axes recovered")
_KNOWN_GATES: tuple[_What, ...] = (
    (", known gates", "unitary distance"),
    (", known gates", "angle error (rad)"),
    (", known gates, fine-tune", "accuracy"),
)
_GUESSED: tuple[_What, ...] = ((", guessed ansatz", "unitary distance"), (", guessed ansatz, fine-tune", "accuracy"))
_BLACK_BOX: tuple[_What, ...] = ((", black box", "readout error"), (", black box, frozen-head", "accuracy"))
_HEADLINE = _GUESSED[1]
_JUDGED = (_KNOWN_GATES[2], _HEADLINE)


@dataclass(frozen=True, eq=False)
class Sighting:
    """What the provider of a fragment sees of one trained model: the unitaries of two queries, and their encoded inputs ``[2][qubits]``."""

    native: cirq.Circuit
    unitaries: list[np.ndarray]
    inputs: np.ndarray
    encoding: Encoding


def observe(victim: Service, fragment: Fragment, gateset: str = "cz", resolution: float = 0.0) -> list[Sighting]:
    """What each of the K models shows the provider of ``fragment``: the two own queries whose encodings differ most on every qubit."""
    queries = victim.encode(victim.together("thief"))
    qubits = list(fragment.qubits)
    sightings = []
    for angles, rows in zip(victim.trained.angles, queries, strict=True):
        apart = np.abs(rows[:, None, qubits] - rows[None, :, qubits]).min(axis=-1)
        chosen = rows[list(np.unravel_index(apart.argmax(), apart.shape))]
        natives = [native_circuit(fragment, angles, row, gateset, resolution) for row in chosen]
        unitaries = [circuit_unitary(native, qubits) for native in natives]
        encoding = read_encoding(unitaries[0], unitaries[1], _tolerance(resolution))
        sightings.append(Sighting(natives[0], unitaries, chosen[:, qubits], encoding))
    return sightings


def _tolerance(resolution: float) -> float:
    # Rounding errors of all one-qubit gates of a fragment add up.
    return max(EXACT, 10 * resolution)


def resynthesise(
    fragment: Fragment, sightings: Sequence[Sighting], restarts: int, key: Sequence[int], tolerance: float = EXACT
) -> list[Fit]:
    """The angles of ``fragment`` that give what was seen, one fit per model; ``key`` seeds the starts."""
    gates = GateList(fragment)
    fits = []
    for index, seen in enumerate(sightings):
        used = 1 if seen.encoding.local else len(seen.unitaries)
        generator = np.random.default_rng([*key, index])
        fits.append(gates.fit(seen.unitaries[:used], list(seen.inputs[:used]), restarts, generator, tolerance))
    return fits


def guess_ansatz(
    design: Design, part: int, sightings: Sequence[Sighting], axis: str, key: Sequence[int], tolerance: float = EXACT
) -> tuple[list[Gate], list[Fit]]:
    """Gates of the textbook ansatz nearest to what was seen of ``part``, and their fits: chosen on the first model, fitted to all."""
    qubits = design.parts[part].qubits
    best: tuple[float, list[Gate], Fragment] | None = None
    for number, gates in enumerate(_candidates(qubits, _pair_counts(sightings[0].native))):
        (fragment,) = joint_fragments(Design(design.partition, design.assignment, tuple(gates)), axis, [part])
        (found,) = resynthesise(fragment, sightings[:1], GUESS_RESTARTS, [*key, number], tolerance)
        if best is None or found.distance < best[0]:
            best = found.distance, gates, fragment
        if found.distance < tolerance:
            break
    assert best is not None
    restarts = RESTARTS if best[0] < tolerance else GUESS_RESTARTS
    return best[1], resynthesise(best[2], sightings, restarts, key, tolerance)


def as_parameters(design: Design, fragments: Sequence[Fragment], fits: Sequence[Sequence[Fit]]) -> Parameters:
    """The fits ``[fragments][K]`` as parameters of ``design``, with a leading axis of K; angles of other fragments are 0."""
    angles = np.zeros((len(fits[0]), design.n_trainable))
    for fragment, found in zip(fragments, fits, strict=True):
        angles[:, list(fragment.weights)] = [fit.angles for fit in found]
    return Parameters(angles, np.zeros((len(angles), 0)))


def _pair_counts(native: cirq.Circuit) -> Counter[frozenset[int]]:
    """How often each pair of qubits meets in a two-qubit gate."""
    pairs = [op.qubits for op in native.all_operations() if len(op.qubits) == 2]
    return Counter(frozenset(qubit.x for qubit in pair if isinstance(qubit, cirq.LineQubit)) for pair in pairs)


def _candidates(qubits: tuple[int, ...], observed: Counter[frozenset[int]]) -> Iterator[list[Gate]]:
    """Gates of textbook ansätze, the shallow first.

    Those whose entangling gates lie on the observed pairs, if there are any, and of these those whose busiest pair is as busy.
    """
    shapes: tuple[BlockKind, ...] = ("ring", "chain") if len(qubits) > 2 else ("chain",)
    options = []
    for layers, rotation, entangler, shape in product(range(_MAX_LAYERS + 1), _ROTATIONS, _ENTANGLERS, shapes):
        if layers == 0 and (entangler, shape) != (_ENTANGLERS[0], shapes[0]):
            continue  # without an entangling layer all of them are the same
        gates = _layered(qubits, layers, rotation, entangler, shape)
        same_pairs = {frozenset(gate.qubits) for gate in gates if len(gate.qubits) == 2} == set(observed)
        busiest = layers * (2 if entangler == "rzz" else 1)
        options.append((same_pairs, same_pairs and busiest == max(observed.values(), default=0), gates))
    most = max(option[:2] for option in options)
    return (gates for *similarity, gates in options if tuple(similarity) == most)


def _layered(qubits: tuple[int, ...], layers: int, rotation: Sequence[str], entangler: str, shape: BlockKind) -> list[Gate]:
    rotations = [gate for name in rotation for gate in Block("layer", name).gates(qubits)]
    entangling = Block(shape, entangler).fitted(qubits).gates(qubits) if len(qubits) > 1 else ()
    return [*rotations, *[gate for _ in range(layers) for gate in (*entangling, *rotations)]]


class BlackBoxThief(Thief):
    """A thief whose loot are unitaries: it can run its fragments on any input but not train them.

    Args:
        scene, provider: as for other thieves.
        boxes: per fragment of the provider, the K sightings.
    """

    def __init__(self, scene: Scene, provider: str, boxes: Sequence[tuple[Fragment, Sequence[Sighting]]]) -> None:
        victim, scenario = scene.victim, scene.victim.scenario
        super().__init__(victim.design, provider, victim.n_classes, scenario.model, scenario.threat, scenario.data.axis)
        self._boxes = [(list(fragment.qubits), [_black_box(seen) for seen in sightings]) for fragment, sightings in boxes]

    def _readout(self, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return self.readout(inputs)

    def readout(self, inputs: np.ndarray) -> np.ndarray:
        """⟨Z⟩ ``[K, rows, n_qubits]`` for encoded ``inputs`` ``[K, rows, n_qubits]``; 0 for qubits that are not held."""
        values = np.zeros(inputs.shape)
        for qubits, boxes in self._boxes:
            signs = np.stack([z_signs([qubit], len(qubits)) for qubit in range(len(qubits))], axis=1)
            for index, (encoding, remainder) in enumerate(boxes):
                states = encoding.states(inputs[index][:, qubits]) @ remainder.T
                values[index][:, qubits] = np.abs(states) ** 2 @ signs
        return values


def _black_box(seen: Sighting) -> tuple[Encoding, np.ndarray]:
    return seen.encoding, seen.unitaries[0] @ seen.encoding.unitary(seen.inputs[0]).conj().T


@attack(
    "transpiled-theft",
    goal="confidentiality",
    title="Theft behind a transpiler",
    adversary="runs one provider's native circuits, also for queries of its own, whose encoded inputs it knows; has a few labelled rows; "
    "undoes the transpilation and steals with what it recovers",
)
def run(victim: Service, gateset: str | None = None, resolution: float = 0.0) -> AttackResult:
    """Recovers every provider's part from its native circuits and steals with what was recovered.

    Args:
        victim: the trained models.
        gateset: of the providers' machines, ``cz`` or ``sqrt-iswap``; default that of each provider's device, and ``cz`` without one.
        resolution: of native one-qubit angles, radians; 0 is exact.

    Raises:
        QumosError: no such gate set.
        EvaluationFailure: a thief's training diverged.
    """
    scene = Scene(victim)
    found: list[Measurement] = []
    for number, provider in enumerate(victim.scenario.provider_names):
        if victim.design.held_by(provider):
            found += _ProviderAttack(scene, provider, number, gateset or _gateset(victim, provider), resolution).measurements()
    return AttackResult(found)


def _gateset(victim: Service, provider: str) -> str:
    """The native gates of the provider's device; those of ions, which Cirq does not compile to, are read as ``cz``."""
    profile = victim.scenario.provider(provider).profile
    return profile.native_gates if profile is not None and profile.native_gates in GATESETS else "cz"


class _ProviderAttack:
    """The attack on one provider."""

    def __init__(self, scene: Scene, provider: str, number: int, gateset: str, resolution: float) -> None:
        victim = scene.victim
        self.scene, self.victim, self.provider, self.number = scene, victim, provider, number
        self.use = f"transpiled theft by {provider}"
        self.axis = victim.scenario.data.axis
        self.held = [part.index for part in victim.design.held_by(provider)]
        self.fragments = joint_fragments(victim.design, self.axis, self.held)
        self.weights = [weight for fragment in self.fragments for weight in fragment.weights]
        self.tolerance = _tolerance(resolution)
        self.count = len(victim.rows)
        narrow = all(len(fragment.qubits) <= MAX_QUBITS for fragment in self.fragments)
        self.seen = [observe(victim, fragment, gateset, resolution) for fragment in self.fragments] if narrow else []

    def measurements(self) -> list[Measurement]:
        """Of this provider; NaN with a reason where there is nothing to recover."""
        if not self.seen:
            return self._missing([_AXES, *_KNOWN_GATES, *_GUESSED, *_BLACK_BOX], _TOO_WIDE)
        return [self._encoding(), *self._known_gates(), *self._guessed(), *self._black_box()]

    def _measured(self, what: _What, values: np.ndarray, control: Control | None, note: str = "") -> Measurement:
        way, quantity = what
        criterion = Criterion("higher") if what in _JUDGED else None
        return Measurement(f"{self.provider}{way}", quantity, values, control, note, headline=what == _HEADLINE, criterion=criterion)

    def _missing(self, everything: Sequence[_What], note: str) -> list[Measurement]:
        return [self._measured(what, np.full(self.count, np.nan), None, note) for what in everything]

    def _encoding(self) -> Measurement:
        true = axis_called(self.axis).seen
        right = [[[axis == true for axis in one.encoding.axes] for one in sightings] for sightings in self.seen]
        guess = Control("guessing one of three axes", 1 / 3)
        return self._measured(_AXES, np.concatenate(right, axis=1).mean(axis=1), guess)

    def _known_gates(self) -> list[Measurement]:
        fits = [
            resynthesise(fragment, sightings, RESTARTS, self._key(index), self.tolerance)
            for index, (fragment, sightings) in enumerate(zip(self.fragments, self.seen, strict=True))
        ]
        loot = as_parameters(self.victim.design, self.fragments, fits)
        determined = np.concatenate([[fit.identifiable for fit in found] for found in fits], axis=1)
        outcome = self.scene.steal(self.scene.thief(self.provider), "fine-tune", "labels", loot=loot, use=self.use)
        share = determined.mean() if determined.size else 0.0
        note = f"up to sign and half turns, over the {share:.0%} of the angles that the unitary determines"
        errors, blind = self._errors(loot.angles, determined), self._errors(self._random_angles(), determined)
        apart, error, accuracy = _KNOWN_GATES
        return [
            self._measured(apart, _distances(fits), Control("random angles", self._random_distances())),
            self._measured(error, errors, Control("random angles", blind), note),
            self._measured(accuracy, outcome.test, self.scene.control),
        ]

    def _guessed(self) -> list[Measurement]:
        if len(self.fragments) < len(self.held):
            return self._missing(_GUESSED, "no textbook ansatz spans two parts")
        axes = Counter(axis for sightings in self.seen for seen in sightings for axis in seen.encoding.axes)
        axis = "ry" if axes.most_common(1)[0][0] == "Y" else "rx"
        design = self.victim.design
        found = [
            guess_ansatz(design, part, sightings, axis, self._key(index), self.tolerance)
            for index, (part, sightings) in enumerate(zip(self.held, self.seen, strict=True))
        ]
        guess = Design(design.partition, design.assignment, tuple(gate for gates, _ in found for gate in gates))
        fits = [fit for _, fit in found]
        loot = as_parameters(guess, joint_fragments(guess, axis, self.held), fits)
        scenario = self.victim.scenario
        thief = Thief(guess, self.provider, self.victim.n_classes, scenario.model, scenario.threat, axis)
        outcome = self.scene.steal(thief, "fine-tune", "labels", loot=loot, use=self.use)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(Counter(gate.name for gate in guess.gates).items()))
        blind = Control("random angles in the true gates", self._random_distances())
        apart, accuracy = _GUESSED
        return [
            self._measured(apart, _distances(fits), blind, f"guessed {counts}"),
            self._measured(accuracy, outcome.test, self.scene.control),
        ]

    def _black_box(self) -> list[Measurement]:
        if not all(one.encoding.local and "?" not in one.encoding.axes for sightings in self.seen for one in sightings):
            return self._missing(_BLACK_BOX, _NO_REMAINDER)
        thief = BlackBoxThief(self.scene, self.provider, list(zip(self.fragments, self.seen, strict=True)))
        qubits = [qubit for fragment in self.fragments for qubit in fragment.qubits]
        inputs = self.victim.encode(self.victim.test)
        true = self.victim.model.stack.readout(self.victim.trained.angles, inputs)[..., qubits]
        missed = thief.readout(inputs)[..., qubits] - true
        outcome = self.scene.steal(thief, "frozen-head", "labels", use=self.use)
        means = Control("the mean readout of every qubit", _rms(true.mean(axis=1, keepdims=True) - true))
        error, accuracy = _BLACK_BOX
        return [self._measured(error, _rms(missed), means), self._measured(accuracy, outcome.test, self.scene.control)]

    def _random_angles(self) -> np.ndarray:
        """Angles ``[K, n_trainable]`` of a provider that saw nothing."""
        return np.random.default_rng([*self._key(0), label("random angles")]).uniform(-np.pi, np.pi, self.victim.trained.angles.shape)

    def _random_distances(self) -> np.ndarray:
        apart = np.zeros((len(self.fragments), self.count))
        for row, fragment, sightings in zip(apart, self.fragments, self.seen, strict=True):
            gates, angles = GateList(fragment), self._random_angles()[:, list(fragment.weights)]
            pairs = zip(angles, sightings, strict=True)
            row[:] = [distance(gates.unitary(mine, seen.inputs[0]), seen.unitaries[0]) for mine, seen in pairs]
        return apart.mean(axis=0)

    def _errors(self, angles: np.ndarray, determined: np.ndarray) -> np.ndarray:
        """Mean error ``[K]`` over the angles that are ``determined`` ``[K, weights held]``; NaN where none is."""
        errors = angle_errors(angles, self.victim.trained.angles)[:, self.weights]
        count = determined.sum(axis=1)
        return np.where(count > 0, np.sum(errors * determined, axis=1) / np.maximum(count, 1), np.nan)

    def _key(self, fragment: int) -> list[int]:
        return [self.victim.seed, self.number, fragment]


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(values**2, axis=(1, 2)))


def _distances(fits: Sequence[Sequence[Fit]]) -> np.ndarray:
    return np.mean([[fit.distance for fit in found] for found in fits], axis=0)

"""Side channels of a provider's machine, as models with one strength in [0, 1]: 0 tells nothing, 1 tells all.

They are models of what such a channel would tell, not of a device: a strength is no physical quantity.

*Power trace* (pulses to gate-level circuit; threat named by Kundu and Ghosh, arXiv:2408.09562). An observer of the control electronics
of one provider, without access to its files, reads the pulses of the provider's parts. With strength s it notices a gate with
probability s, reads its kind rightly with probability s (else as another kind on the same qubits), its time with a normal error of
(1 − s) moments and its angle with a normal error of (1 − s)·π, and intercepts the encoding of a qubit with probability s. It fine-tunes
the circuit that it reads on its few labelled rows; where it notices no gate it starts from a hand-made ansatz. At 1 it is the white-box
thief of ``qumos_env.evaluation.thief``, tier ``fine-tune``; at 0 the same thief with a circuit and an encoding of its own. That thief is
weak, so the control is C*, the best model without loot from the same rows.

*Residual state* (horizontal leakage: Xu, Sikora and Szefer, arXiv:2401.15529). A reset that fails with probability s leaves the measured
qubit as it was, so that the next tenant reads ⟨Z⟩' = (1 − s) + s·⟨Z⟩ of every qubit, from as many shots as the victim took.

*Crosstalk* (vertical leakage: compare readout crosstalk in Maurya et al., arXiv:2405.08962). A tenant beside the victim reads from its own
qubits outcomes that are correlated with those of the victim's by s: ⟨Z⟩' = s·⟨Z⟩. Every qubit is taken to have such a neighbour, which
is an upper bound.

In both the tenant knows the service's answers to queries of its own, fits a logistic regression from readings to answers, and
reads off the answers to other clients' queries. The control is the commonest answer to its own queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...design import Design, Gate
from ...design.circuits import initial_angles
from ...design.gates import gate_spec
from ...errors import QumosError
from ...evaluation.controls import linear
from ...evaluation.service import Service
from ...evaluation.thief import Thief, guess_rest
from ...model.training import Parameters
from ...seeds import label
from ..registry import attack
from ..results import AttackResult, Control, Curve, Measurement, Plot
from .stealing import Outcome, Scene, taught

STRENGTHS = (0.0, 0.1, 0.3, 0.6, 1.0)
HEADLINE = 0.3
"""The strength that stands in the summary."""
SHOTS = 1000
"""Shots per query of a design that is served exactly."""
MOST_QUERIES = 100
"""Queries of its own with which a tenant learns to read."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What an observer of power reads of one provider.

    Attributes:
        design: the gates it noticed, on the victim's partition.
        angles: as read, float ``[K, n_trainable of design]``, radians.
        encoded: bool ``[n_qubits]``: whether it intercepts the encoding of the qubit.
    """

    design: Design
    angles: np.ndarray
    encoded: np.ndarray


def read_power_trace(victim: Service, provider: str, strength: float) -> Trace:
    """The trace of ``provider``'s parts; see the module. The same gates are noticed in all K models, and more of them with more strength.

    Raises:
        QumosError: ``strength`` is not in [0, 1].
    """
    _check(strength)
    design = victim.design
    weights = {placed: number for number, placed in enumerate(one for one in design.placed_gates if one.gate.trainable)}
    placed = [one for part in design.held_by(provider) for one in part.gates]
    generator = np.random.default_rng([victim.seed, label("power trace"), victim.scenario.provider_names.index(provider)])
    noticed, right, other = generator.random((3, len(placed)))
    late = generator.normal(size=len(placed))
    encoded = generator.random(design.n_qubits) < strength
    noise = generator.normal(size=(len(placed), len(victim.rows)))
    blind = generator.uniform(-np.pi, np.pi, noise.shape)
    readings = []
    for number, one in enumerate(placed):
        if noticed[number] >= strength:
            continue
        gate = one.gate if right[number] < strength else _misread(one.gate, victim.scenario.design.gates, other[number])
        if one.gate.trainable:
            angles = victim.trained.angles[:, weights[one]] + (1 - strength) * np.pi * noise[number]
        else:
            angles = blind[number]
        readings.append((one.moment + (1 - strength) * late[number], number, gate, angles))
    readings.sort(key=lambda reading: reading[:2])
    found = Design(design.partition, design.assignment, tuple(gate for _, _, gate, _ in readings))
    return Trace(found, _in_canonical_order(found, [(gate, angles) for _, _, gate, angles in readings], len(victim.rows)), encoded)


def _misread(gate: Gate, vocabulary: Sequence[str], choice: float) -> Gate:
    """Another kind of gate on the same qubits; the gate itself where there is none."""
    names = [name for name in vocabulary if gate_spec(name).qubits == len(gate.qubits) and name != gate.name]
    return Gate(names[int(choice * len(names))], gate.qubits) if names else gate


def _in_canonical_order(design: Design, readings: Sequence[tuple[Gate, np.ndarray]], models: int) -> np.ndarray:
    """The angles ``[models, n_trainable]`` in the order of ``design``; equal gates keep their order there."""
    queues: dict[Gate, list[np.ndarray]] = {}
    for gate, angles in readings:
        queues.setdefault(gate, []).append(angles)
    ordered = [queues[gate].pop(0) for gate in design.gates if gate.trainable]
    return np.stack(ordered, axis=1) if ordered else np.zeros((models, 0))


def trace_theft(scene: Scene, provider: str, strength: float) -> Outcome:
    """What the power trace of ``provider`` is worth to a thief who fine-tunes what it reads.

    Raises:
        QumosError: ``strength`` is not in [0, 1].
        EvaluationFailure: the thief's training diverged.
    """
    victim, scenario = scene.victim, scene.victim.scenario
    trace = read_power_trace(victim, provider, strength)
    design, angles = trace.design, trace.angles
    use = f"power trace of {provider}"
    if not design.gates:
        design = guess_rest(victim.design, {part.index for part in victim.design.parts if part.provider != provider})
        angles = np.stack([initial_angles(design, key) for key in victim.keys(use)])
    thief = Thief(design, provider, victim.n_classes, scenario.model, scenario.threat, scenario.data.axis)
    loot = Parameters(angles, np.zeros((len(angles), 0)))
    return scene.steal(thief, "fine-tune", "labels", loot=loot, seen=trace.encoded, use=use)


def residual_state(values: np.ndarray, strength: float, shots: int, generator: np.random.Generator) -> np.ndarray:
    """What the next tenant reads of qubits with ⟨Z⟩ ``values`` after a reset that fails with probability ``strength``.

    Raises:
        QumosError: ``strength`` is not in [0, 1].
    """
    _check(strength)
    return _read((1 - strength) + strength * values, shots, generator)


def crosstalk(values: np.ndarray, strength: float, shots: int, generator: np.random.Generator) -> np.ndarray:
    """What a neighbour reads beside qubits with ⟨Z⟩ ``values``, its outcomes correlated with theirs by ``strength``.

    Raises:
        QumosError: ``strength`` is not in [0, 1].
    """
    _check(strength)
    return _read(strength * values, shots, generator)


Channel = Callable[[np.ndarray, float, int, np.random.Generator], np.ndarray]
LEAKS: dict[str, Channel] = {"residual state": residual_state, "crosstalk": crosstalk}


def _read(values: np.ndarray, shots: int, generator: np.random.Generator) -> np.ndarray:
    """⟨Z⟩ estimated from ``shots``, qubit by qubit."""
    return 2 * generator.binomial(shots, np.clip((1 + values) / 2, 0, 1)) / shots - 1


def _check(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise QumosError(f"strength is {strength}, it must be in [0, 1]")


@dataclass(frozen=True, eq=False)
class Tenant:
    """A tenant of a provider's machine.

    Attributes:
        own, others: ⟨Z⟩ of the provider's qubits for its own and for others' queries, ``[K, rows, qubits]``; it sees them leak.
        own_answers, answers: the labels that the service answers, ``[K, rows]``.
        shots: per query.
        seed: of its readings.
    """

    own: np.ndarray
    others: np.ndarray
    own_answers: np.ndarray
    answers: np.ndarray
    shots: int
    seed: int

    def recovered(self, channel: Channel, strength: float) -> np.ndarray:
        """Share of the answers to others' queries that it reads off, ``[K]``."""
        shares = []
        for index, own_answers in enumerate(self.own_answers):
            generator = np.random.default_rng([self.seed, index, label("power trace")])
            own = channel(self.own[index], strength, self.shots, generator)
            others = channel(self.others[index], strength, self.shots, generator)
            shares.append(np.mean(taught(linear, own, own_answers, others) == self.answers[index]))
        return np.array(shares)

    @property
    def blind(self) -> Control:
        """Share of the answers to others' queries that are the commonest of its own."""
        commonest = np.array([np.bincount(own).argmax() for own in self.own_answers])
        return Control("commonest answer to its own queries", (self.answers == commonest[:, None]).mean(axis=1))


def tenant_of(victim: Service, provider: str) -> Tenant:
    """The tenant of ``provider``'s machine; other clients ask about the test rows."""
    qubits = [qubit for part in victim.design.held_by(provider) for qubit in part.qubits]
    rows = victim.together("score", MOST_QUERIES)

    def values(asked: np.ndarray) -> np.ndarray:
        return victim.model.stack.readout(victim.trained.angles, victim.encode(asked))[..., qubits]

    own_answers = victim.answer(rows, "thief's questions").argmax(axis=-1)
    answers = victim.answer(victim.test, "test rows").argmax(axis=-1)
    return Tenant(values(rows), values(victim.test), own_answers, answers, victim.design.shots or SHOTS, victim.seed)


@attack(
    "side-channels",
    goal="confidentiality",
    title="Side channels of a provider's machine",
    adversary="watches the power of one provider's electronics, or is a tenant of its machine after or beside the service; has a few "
    "labelled rows, or answers to queries of its own",
)
def run(victim: Service, strengths: Sequence[float] = STRENGTHS) -> AttackResult:
    """Every channel at every provider: a measurement per strength above 0, and curves over all ``strengths``.

    Raises:
        QumosError: a strength is not in [0, 1].
        EvaluationFailure: a thief's training diverged.
    """
    scene = Scene(victim)
    found: list[Measurement] = []
    curves = []

    def sweep(provider: str, channel: str, quantity: str, measure: Callable[[float], np.ndarray], control: Control) -> None:
        values = [measure(strength) for strength in strengths]
        for strength, one in zip(strengths, values, strict=True):
            if strength:
                case = f"{provider}, {channel}, strength {strength:g}"
                found.append(Measurement(case, quantity, one, control, headline=strength == HEADLINE))
        plot = Plot(f"{quantity} by {channel}", "strength", quantity)
        curves.append(Curve(plot, provider, np.array(strengths), np.mean(values, axis=1)))

    for provider in victim.scenario.provider_names:
        if victim.design.held_by(provider):
            tenant = tenant_of(victim, provider)
            sweep(provider, "power trace", "accuracy", partial(_trace_accuracy, scene, provider), scene.control)
            for name, channel in LEAKS.items():
                sweep(provider, name, "answers recovered", partial(tenant.recovered, channel), tenant.blind)
    return AttackResult(found, curves)


def _trace_accuracy(scene: Scene, provider: str, strength: float) -> np.ndarray:
    return trace_theft(scene, provider, strength).test

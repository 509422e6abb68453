"""What an owner can do against the inference of cut angles, what it costs the owner, and what it does to the attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...design import Design
from ...design.gate_cuts import cut_angles
from ...evaluation.service import Service
from ...evaluation.statistics import Interval, mean_interval
from ...evaluation.workload import Workload
from ...model.training import Objective, Parameters, minimise, one_hot
from ...scenario import Scenario
from ...seeds import label
from .cut_angle import guesses
from .cut_holder import Holder, holders
from .cut_queries import Channel

AWAY = (0.4, 1.2)
"""Between which absolute values secret angles are drawn that stay away from 0 and ±π/2."""


@dataclass(frozen=True)
class Defence:
    """A counter-measure.

    Attributes:
        name: for people.
        channel: how the service answers.
        head: that the owner trains; default the scenario's.
        head_known: whether adversaries know how it ties qubits to classes.
        away: whether the cut angles are drawn by the owner, see ``AWAY``, and not trained.
    """

    name: str
    channel: Channel
    head: str | None = None
    head_known: bool = True
    away: bool = False


EXACT = Channel("exact")
DEFENCES = (
    Defence("none", EXACT),
    Defence("1,000 shots", Channel("1000 shots", shots=1000)),
    Defence("100 shots", Channel("100 shots", shots=100)),
    Defence("10 shots", Channel("10 shots", shots=10)),
    Defence("probabilities to .01", Channel("decimals", decimals=2)),
    Defence("labels", Channel("labels", labels=True)),
    Defence("kind of head secret", EXACT, head_known=False),
    Defence("linear head", EXACT, head="linear"),
    Defence("angles drawn in ±[.4, 1.2]", EXACT, away=True),
    Defence("drawn angles, 1,000 shots", Channel("1000 shots", shots=1000), away=True),
    Defence("drawn angles, 100 shots", Channel("100 shots", shots=100), away=True),
    Defence("drawn angles, labels", Channel("labels", labels=True), away=True),
)

VALUES = ("owner", "error", "guess", "accuracy", "no_loot")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a counter-measure leaves to one holder, values per model.

    Attributes:
        defence: the counter-measure.
        holder: name of who attacks.
        answers: to chosen queries.
        owner: accuracy of the service on the test rows as it answers.
        error: of the inferred angles in radians.
        guess: of a guess of ±π/2.
        accuracy: of the service rebuilt around the inferred angles.
        no_loot: of as many passive answers without loot.
    """

    defence: str
    holder: str
    answers: int
    owner: np.ndarray
    error: np.ndarray
    guess: np.ndarray
    accuracy: np.ndarray
    no_loot: np.ndarray

    def interval(self, name: str) -> Interval:
        """Of one of the values, over models."""
        return mean_interval(getattr(self, name))


def defences_study(
    scenario: Scenario, design: Design, seeds: Sequence[int], answers: Sequence[int] = (10, 100), tried: Sequence[Defence] = DEFENCES
) -> list[Outcome]:
    """Every counter-measure against every holder and number of answers; the models of all ``seeds`` together.

    Raises:
        QumosError: the design has no gate cut, or more answers than rows.
        EvaluationFailure: a training diverged.
    """
    found: dict[tuple[str, str, int], list[Outcome]] = {}
    workloads: dict[str | None, Workload] = {None: Workload(scenario)}
    for defence in tried:
        if defence.head not in workloads:
            model = scenario.model.model_copy(update={"head": defence.head})
            workloads[defence.head] = Workload(scenario.model_copy(update={"model": model}))
        for seed in seeds:
            service = _trained(workloads[defence.head], design, seed, away=defence.away)
            for holder in holders(service):
                for count in answers:
                    one = _outcome(defence, replace(holder, head_known=defence.head_known), count)
                    found.setdefault((one.defence, one.holder, count), []).append(one)
    return [_joined(same) for same in found.values()]


def _joined(same: Sequence[Outcome]) -> Outcome:
    """Outcomes of several seeds as one."""
    first = same[0]
    values = (np.concatenate([getattr(one, name) for one in same]) for name in VALUES)
    return Outcome(first.defence, first.holder, first.answers, *values)


def _outcome(defence: Defence, holder: Holder, count: int) -> Outcome:
    victim, channel = holder.victim, defence.channel
    right = channel(victim, victim.encode(victim.test), "accuracy of the service").argmax(axis=-1) == victim.labels[victim.test]
    asked, rows = holder.ask("chosen", count, channel), holder.ask("passive", count, channel)
    angles = holder.infer(asked)
    return Outcome(
        defence.name,
        holder.name,
        count,
        right.mean(axis=1),
        holder.error(angles),
        holder.error(guesses(holder, gathered=True)),
        holder.rebuilt(asked if holder.holds_all else rows, angles),
        holder.without_loot(rows),
    )


def _trained(workload: Workload, design: Design, seed: int, *, away: bool) -> Service:
    """The service; ``away``: with secret cut angles that are drawn and not trained."""
    service = Service.train(workload, design, seed)
    if not away:
        return service
    model, keys, cuts = service.model, [draw.key for draw in workload.draws(seed, "search")], list(cut_angles(design))
    start = Parameters.stack([model.initial(key) for key in keys])
    for angles, key in zip(start.angles, keys, strict=True):
        generator = np.random.default_rng([*key, label("secret cut angles")])
        angles[cuts] = generator.choice([-1, 1], len(cuts)) * generator.uniform(*AWAY, len(cuts))
    draws = workload.draws(seed, "search")
    inputs, labels = (np.stack([getattr(draw, name) for draw in draws]) for name in ("train", "train_labels"))
    objective = Objective(model.stack, model.head, inputs, one_hot(labels, model.n_classes), design.n_trainable)

    def gradient(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss, slope = objective(values, None)[0]
        slope[:, cuts] = 0.0
        return loss, slope

    settings = model.settings
    trained = minimise(gradient, start.joined, settings.steps, settings.learning_rate)
    return replace(service, trained=Parameters.split(trained, design.n_trainable))

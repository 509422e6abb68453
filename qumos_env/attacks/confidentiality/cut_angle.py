"""Inferring the angle of a cut gate, which no provider holds, from the variants that providers run and the service's answers.

What can be told: θ up to 2π by whoever holds both sides of a cut, |θ| by one side; see ``qumos_env.model.cutting.inference``. Passive
queries are held-out rows. Chosen queries of one provider move its own qubits alone, from one of its rows; among random ones those are
taken whose readings tell most.

Controls of an error are guesses: ±π/2, where trained angles gather (the sign by chance for who looks for it), and any angle. *Without
the loot* is the same fit with fresh angles in the place of the stolen ones. One side that learns nothing answers with the mean of its
uniform prior on |θ|, which is π/2 and so, of a trained angle, nearly right: what a fit finds is shown by the same models with cut
*angles at random*. The accuracy is that of the service rebuilt around the inferred angle: who holds everything fits the head alone, one
provider what the other side adds too, from as many passive answers. Beside it stands what the same answers give without loot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...design.circuits import initial_angles
from ...design.gate_cuts import cut_angles
from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Control, Curve, Measurement, Plot
from .cut_holder import Holder, Queries, answer_counts, holders
from .cut_queries import Channel

ANSWERS = (6, 10, 30, 100)
_FEW = 10  # answers of the headlines: with a hundred, a service of few features is cloned without loot
CHANNELS = (
    Channel("exact"),
    Channel("1000 shots", shots=1000),
    Channel("100 shots", shots=100),
    Channel("labels", labels=True),
)
QUERIES: tuple[Queries, ...] = ("passive", "chosen")
PRIOR = "guess of π/2, the sign by chance"
NO_LOOT = "the same answers without loot"


def guesses(holder: Holder, *, gathered: bool) -> np.ndarray:
    """Angles ``[K, touched cuts]`` without an answer: ±π/2, where trained angles gather, or any."""
    sides = np.array(holder.touched[1])
    found = []
    for key in holder.victim.keys(f"guessed cut angle of {holder.name}"):
        angles = np.random.default_rng(key).uniform(-np.pi, np.pi, len(sides))
        angles = np.where(angles < 0, -1, 1) * np.pi / 2 if gathered else angles
        found.append(np.where(sides == 2, angles, np.abs(angles)))
    return np.stack(found)


def with_any_angles(holder: Holder) -> Holder:
    """The same adversary of the same models with any cut angles: what is found where guessing does not help."""
    victim = holder.victim
    cuts = list(cut_angles(victim.design))
    angles = victim.trained.angles.copy()
    for one, key in zip(angles, victim.keys("any cut angles"), strict=True):
        one[cuts] = np.random.default_rng(key).uniform(-np.pi, np.pi, len(cuts))
    return replace(holder, victim=replace(victim, trained=replace(victim.trained, angles=angles)))


def without_angles(holder: Holder) -> Holder:
    """The same adversary with fresh angles in the place of the stolen ones."""
    keys = holder.victim.keys("no loot: angles of a fresh model")
    return replace(holder, loot=np.stack([initial_angles(holder.victim.design, key) for key in keys]))


@attack(
    "cut-angle",
    goal="confidentiality",
    title="Inference of a cut gate's angle",
    adversary="holds the parts of one provider, or of all that a cut touches, and their variants; asks held-out rows or queries of its "
    "choice; knows the kind of head",
    applies=lambda design: bool(design.cut_gates),
)
def run(victim: Service) -> AttackResult:
    """Errors and accuracies of every holder by queries, answers and shots.

    Raises:
        QumosError: the design has no gate cut, or more than can be recombined.
    """
    counts = answer_counts(victim, ANSWERS)
    served = Channel("", shots=victim.design.shots)
    settings = [(count, served) for count in counts] + [(counts[-1], one) for one in CHANNELS if one.labels or one.shots != served.shots]
    teams = holders(victim)
    passive = {setting: teams[0].ask("passive", *setting) for setting in settings}
    nobody = {setting: teams[0].without_loot(asked) for setting, asked in passive.items()}
    found: list[Measurement] = []
    curves = [_curve("accuracy", NO_LOOT, counts, [nobody[count, served] for count in counts])]
    for holder in teams:
        angle = "error of θ (rad)" if 2 in holder.touched[1] else "error of |θ| (rad)"
        prior, chance = (guesses(holder, gathered=gathered) for gathered in (True, False))
        guessed = Control(PRIOR, holder.error(prior))
        for queries in QUERIES:
            errors, accuracies = [], []
            for count, channel in settings:
                rows = passive[count, channel]
                asked = rows if queries == "passive" else holder.ask(queries, count, channel)
                angles = holder.infer(asked)
                errors.append(holder.error(angles))
                # Who holds everything needs no more than it asked; one provider learns from other rows what the other side adds.
                accuracies.append(holder.rebuilt(asked if holder.holds_all else rows, angles))
                case = f"{holder.name}, {count} {queries} answers" + (f", {channel.name}" if channel.name else "")
                headline = queries == "chosen" and channel == served and count == _FEW
                found.append(Measurement(case, angle, errors[-1], guessed, headline=headline))
                without = Control(NO_LOOT, nobody[count, channel])
                found.append(Measurement(case, "accuracy", accuracies[-1], without, headline=headline))
            curves.append(_curve("error", f"{holder.name}, {queries}", counts, errors))
            curves.append(_curve("accuracy", f"{holder.name}, {queries}", counts, accuracies))
        few = counts[min(1, len(counts) - 1)]
        for case, guess in (("guess of π/2", prior), ("guess at random", chance)):
            beside = Control("guess at random", holder.error(chance))
            found.append(Measurement(f"{holder.name}, {case}", angle, holder.error(guess), beside))
            accuracy, without = holder.rebuilt(passive[few, served], guess), Control(NO_LOOT, nobody[few, served])
            found.append(Measurement(f"{holder.name}, {case}, {few} passive answers", "accuracy", accuracy, without))
        blind = without_angles(holder)
        error = blind.error(blind.infer(blind.ask("chosen", counts[-1], served)))
        found.append(Measurement(f"{holder.name}, {counts[-1]} chosen answers without the loot", angle, error, guessed))
        planted = with_any_angles(holder)
        beside = Control(PRIOR, planted.error(guesses(planted, gathered=True)))
        for channel in [served, *(channel for _, channel in settings[len(counts) :])]:
            error = planted.error(planted.infer(planted.ask("chosen", counts[-1], channel)))
            case = f"{holder.name}, angles at random, {counts[-1]} chosen answers" + (f", {channel.name}" if channel.name else "")
            found.append(Measurement(case, angle, error, beside, headline=channel == served))
    return AttackResult(found, curves)


def _curve(quantity: str, name: str, counts: Sequence[int], values: Sequence[np.ndarray]) -> Curve:
    """Of the ``values`` ``[K]`` by number of answers; what follows them is of other answers."""
    plot = Plot(f"cut angle: {quantity} over answers", "answers", quantity, log_x=True)
    means = [float(np.mean(one)) for one, _ in zip(values, counts, strict=False)]
    return Curve(plot, name, np.array(counts, float), np.array(means))

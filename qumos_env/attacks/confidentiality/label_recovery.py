"""Label recovery from training traffic, for models that are trained on the providers' machines.

A provider that runs the training circuits sees, in every epoch and for every training row, the encoded angles of its qubits, the
angles of its gates and the outcomes it returns. It does not see the labels, the owner's head or the loss. But training drives
the outcomes towards the labels, so the provider reads a label off every row in every epoch and takes a majority vote. (The threat
is that of Upadhyay and Ghosh, arXiv:2407.14687, who lift about 90 % of the labels of an undivided model and prune and repair
doubtful ones; the steps below are this project's reading of it.)

- *Reading.* The heads ``scaled`` and ``fixed`` tie each qubit to a class; the provider takes the class with the largest sum of
  ⟨Z⟩ over its own qubits (others count 0). ``linear`` has no such tie; there the provider runs its own few labelled rows
  through the circuit of the epoch and takes the nearest class mean.
- *Vote.* The most frequent reading over the later half of the epochs; the circuits of the first half are hardly trained.
- *Pruning and repair.* Rows whose winner has less than ``CONFIDENT`` of the votes are dropped (``pruned``), or relabelled by a
  logistic regression from the encoded angles of the rows that were kept (``repaired``).

*Label masking.* The owner trains on labels renamed by a secret permutation and undoes it on the answers. Renaming leaves the
grouping of the rows in plain view, so ``masked, unmasked with own rows`` lets the provider find the permutation from its few
labelled rows (by the best assignment between their readings and their labels). Masking of this kind has no hold on the head
``linear``, where labels are read by example in the first place; its measurements are left out there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LogisticRegression

from ...evaluation.service import Service
from ...evaluation.thief import nearest_mean_logits
from ...model.heads import make_head
from ...model.training import Parameters, one_hot
from ..registry import attack
from ..results import AttackResult, Control, Curve, Measurement, Plot

CONFIDENT = 0.9
PLOT = Plot("labels read off one epoch", "passes over the train rows", "share of labels")


@dataclass(frozen=True, eq=False)
class Traffic:
    """What passed through all providers while K models were trained; a provider is given its qubits of it.

    Attributes:
        inputs: encoded training rows ``[K, rows, n_qubits]``.
        angles: of every epoch, ``[epochs, K, n_trainable]``.
        readouts: ⟨Z⟩ returned in every epoch, ``[epochs, K, rows, n_qubits]``.
        trained: the parameters at the end.
    """

    inputs: np.ndarray
    angles: np.ndarray
    readouts: np.ndarray
    trained: Parameters


def training_traffic(victim: Service, labels: np.ndarray) -> Traffic:
    """Trains the victim's design again as it was trained, on ``labels`` ``[K, rows]`` of its train rows, and records the traffic.

    Raises:
        EvaluationFailure: the training diverged.
    """
    model = victim.model
    inputs = victim.encode(victim.together("train"))
    angles: list[np.ndarray] = []
    readouts: list[np.ndarray] = []

    def record(used: np.ndarray, returned: np.ndarray) -> None:
        angles.append(used.copy())
        readouts.append(returned.copy())

    keys = [(victim.seed, index) for index in range(len(victim.rows))]
    trained = model.train_towards(inputs, one_hot(labels, victim.n_classes), keys, watch=record)
    return Traffic(inputs, np.stack(angles), np.stack(readouts), trained)


@dataclass(frozen=True, eq=False)
class Votes:
    """The readings of a provider over the epochs it counts.

    Attributes:
        winners: the most frequent class per row, ``[K, rows]``.
        shares: its share of the votes, ``[K, rows]``.
        epochs: the single readings, ``[epochs, K, rows]``.
    """

    winners: np.ndarray
    shares: np.ndarray
    epochs: np.ndarray


def count_votes(readings: np.ndarray, n_classes: int) -> Votes:
    """Majority over the later half of the epochs of ``readings`` ``[epochs, K, rows]``; a tie goes to the lower class."""
    counts = one_hot(readings[len(readings) // 2 :], n_classes).mean(axis=0)
    return Votes(counts.argmax(axis=-1), counts.max(axis=-1), readings)


@dataclass(frozen=True, eq=False)
class _Eavesdropper:
    """One provider during training: which qubits it runs, and its own few labelled rows."""

    victim: Service
    qubits: list[int]
    own: np.ndarray
    own_labels: np.ndarray

    def readings(self, traffic: Traffic) -> np.ndarray:
        """Classes read off the training rows, ``[epochs, K, rows]``."""
        if self.victim.model.settings.head != "linear":
            return self._tied(traffic.readouts)
        goal = one_hot(self.own_labels, self.victim.n_classes)
        found = [
            nearest_mean_logits(self._own_readout(angles)[..., self.qubits], goal, readout[..., self.qubits]).argmax(axis=-1)
            for angles, readout in zip(traffic.angles, traffic.readouts, strict=True)
        ]
        return np.stack(found)

    def own_readings(self, traffic: Traffic) -> np.ndarray:
        """Classes that the circuits of the last epoch read off its own rows, ``[K, rows]``."""
        return self._tied(self._own_readout(traffic.angles[-1]))

    def without_traffic(self, traffic: Traffic) -> np.ndarray:
        """The classes ``[K, rows]`` that the nearest class mean of its own encoded rows gives the training rows, with no circuit."""
        goal = one_hot(self.own_labels, self.victim.n_classes)
        logits = nearest_mean_logits(self.own[..., self.qubits], goal, traffic.inputs[..., self.qubits])
        return logits.argmax(axis=-1)

    def _own_readout(self, angles: np.ndarray) -> np.ndarray:
        return self.victim.model.stack.readout(angles, self.own)

    def _tied(self, readouts: np.ndarray) -> np.ndarray:
        mine = np.zeros_like(readouts)
        mine[..., self.qubits] = readouts[..., self.qubits]
        head = make_head("fixed", self.victim.design.n_qubits, self.victim.n_classes)
        return head.logits(np.zeros(0), mine).argmax(axis=-1)


def unmask(readings: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """For every class as read its most likely true name, ``[n_classes]``: the one-to-one assignment that fits own ``readings`` best."""
    agreement = one_hot(readings, n_classes).T @ one_hot(labels, n_classes)
    return linear_sum_assignment(agreement, maximize=True)[1]


def repaired(inputs: np.ndarray, votes: Votes) -> np.ndarray:
    """The winners ``[K, rows]``, with those of rows that are in doubt replaced by what the encoded ``inputs`` ``[K, rows, f]`` suggest."""
    result = votes.winners.copy()
    for fixed, angles, sure in zip(result, inputs, votes.shares >= CONFIDENT, strict=True):
        if not sure.all() and len(np.unique(fixed[sure])) > 1:
            fixed[~sure] = LogisticRegression(max_iter=1000).fit(angles[sure], fixed[sure]).predict(angles[~sure])
    return result


def _share(chosen: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Share of the ``kept`` ``[K, rows]`` rows that are ``chosen``, ``[K]``; NaN where none is kept."""
    return np.where(kept.any(axis=-1), np.sum(chosen & kept, axis=-1) / np.maximum(kept.sum(axis=-1), 1), np.nan)


@attack(
    "label-recovery",
    goal="confidentiality",
    title="Label theft during training",
    adversary="runs the training circuits of one provider: sees its qubits' encoded angles and outcomes per epoch and row, not the labels; "
    "has a few labelled rows of its own",
)
def run(victim: Service) -> AttackResult:
    """Share of the training labels that every provider recovers; see the module.

    The control is the share of the largest class of the train rows or, where the provider uses its own labelled rows, what the
    nearest class mean of these rows gives on the encoded train rows without any circuit. With pruning it is that of the rows kept.

    Raises:
        EvaluationFailure: the training diverged.
    """
    rows, own_rows = victim.together("train"), victim.together("thief")
    truth = victim.observed_labels[rows]
    plain = training_traffic(victim, truth)
    masked = None
    if victim.model.settings.head != "linear":
        masked = training_traffic(victim, np.take_along_axis(_secret_names(victim), truth, axis=1))
    found, curves = [], []
    for provider in victim.scenario.provider_names:
        qubits = [qubit for part in victim.design.held_by(provider) for qubit in part.qubits]
        if qubits:
            spy = _Eavesdropper(victim, qubits, victim.encode(own_rows), victim.labels[own_rows])
            found += _measured(spy, provider, truth, plain, masked)
            right = (spy.readings(plain) == truth).mean(axis=(1, 2))
            curves.append(Curve(PLOT, provider, np.arange(1, len(right) + 1, dtype=float), right))
    return AttackResult(found, curves)


def _measured(spy: _Eavesdropper, provider: str, truth: np.ndarray, plain: Traffic, masked: Traffic | None) -> list[Measurement]:
    n_classes = spy.victim.n_classes
    everything = np.ones(truth.shape, bool)
    by_example = spy.without_traffic(plain) == truth
    largest = [truth == label for label in range(n_classes)]

    def share(
        way: str, right: np.ndarray, kept: np.ndarray = everything, *, own_rows: bool = masked is None, note: str = ""
    ) -> Measurement:
        blind, taught = np.max([_share(one, kept) for one in largest], axis=0), _share(by_example, kept)
        # Whoever has rows of its own need not guess.
        if own_rows or taught.mean() > blind.mean():
            control = Control("nearest class mean of own rows, no traffic", taught)
        else:
            control = Control("share of the largest class", blind)
        return Measurement(f"{provider}{way}", "labels recovered", _share(right, kept), control, note, headline=not way)

    votes = count_votes(spy.readings(plain), n_classes)
    sure = votes.shares >= CONFIDENT
    found = [
        share("", votes.winners == truth),
        share(", pruned", votes.winners == truth, sure, note=f"of the rows kept, {sure.mean():.0%} of all"),
        share(", repaired", repaired(plain.inputs[..., spy.qubits], votes) == truth),
    ]
    if masked is not None:
        hidden = count_votes(spy.readings(masked), n_classes).winners
        own = zip(spy.own_readings(masked), spy.own_labels, hidden, strict=True)
        unmasked = np.stack([unmask(readings, labels, n_classes)[row] for readings, labels, row in own])
        found += [
            share(", masked", hidden == truth),
            share(", masked, unmasked with own rows", unmasked == truth, own_rows=True),
        ]
    return found


def _secret_names(victim: Service) -> np.ndarray:
    """The owner's renaming of the classes, one permutation per draw, ``[K, classes]``."""
    keys: Sequence[Sequence[int]] = victim.keys("renaming of classes")
    return np.stack([np.random.default_rng(key).permutation(victim.n_classes) for key in keys])

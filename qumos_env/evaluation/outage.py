"""A provider that does not answer: what the owner still has, and what it makes of that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..design import Design, Gate
from ..model.heads import softmax
from ..model.measured import MeasuredCircuits
from ..model.qnn import QNN
from ..model.stack import CircuitStack
from ..model.training import Parameters, one_hot, train_stack
from .choice import Accuracies
from .terms import Evidence, Observed, Subject, TermResult, term


@dataclass(frozen=True, eq=False)
class Outage:
    """The service of K models without one provider.

    Attributes:
        model: the design.
        trained: parameters of the K models.
        missing: numbers of the missing qubits.
        train_rest: ⟨Z⟩ of the remaining parts for the train rows ``[K, train rows, n_qubits]``, 0 on the missing qubits.
        train_full: the same of the whole service, from before the outage.
        train_labels: ``[K, train rows]``.
        rest: as ``train_rest``, for the rows to classify.
    """

    model: QNN
    trained: Parameters
    missing: np.ndarray
    train_rest: np.ndarray
    train_full: np.ndarray
    train_labels: np.ndarray
    rest: np.ndarray


def zero(outage: Outage) -> np.ndarray:
    """Class probabilities ``[K, rows, classes]`` with the missing ⟨Z⟩ taken as 0."""
    return softmax(outage.model.head.logits(outage.trained.head, outage.rest))


def mean(outage: Outage) -> np.ndarray:
    """The same with the missing ⟨Z⟩ taken as its mean over the train rows."""
    values = outage.rest.copy()
    values[:, :, outage.missing] = outage.train_full[:, :, outage.missing].mean(axis=1, keepdims=True)
    return softmax(outage.model.head.logits(outage.trained.head, values))


def new_head(outage: Outage) -> np.ndarray:
    """The same with a head retrained from the old one, without the missing ⟨Z⟩ and with the circuits as they are.

    Raises:
        EvaluationFailure: its training diverged.
    """
    model, settings = outage.model, outage.model.settings
    start = Parameters(np.zeros((len(outage.rest), 0)), outage.trained.head)
    targets = one_hot(outage.train_labels, model.n_classes)
    nothing = CircuitStack([], model.design.n_qubits)
    retrained = train_stack(
        nothing, model.head, outage.train_rest, targets, start, settings.steps, settings.learning_rate, frozen=outage.train_rest
    )
    return softmax(model.head.logits(retrained.head, outage.rest))


FALLBACKS: dict[str, Callable[[Outage], np.ndarray]] = {"zero": zero, "mean": mean, "new head": new_head}


def without_gates_to(design: Design, parts: Collection[int]) -> tuple[Design, list[int]]:
    """``design`` without the cut gates that touch ``parts``, and which of its angles the trainable gates that are left had."""
    lost = {placed for placed in design.cut_gates if not {design.partition[qubit] for qubit in placed.gate.qubits}.isdisjoint(parts)}
    kept = [placed.gate for placed in design.placed_gates if placed not in lost]
    trainable = [placed for placed in design.placed_gates if placed.gate.trainable]
    # The canonical order of fewer gates may be another one; equal gates keep theirs.
    numbers: dict[Gate, list[int]] = {}
    for number, placed in enumerate(trainable):
        if placed not in lost:
            numbers.setdefault(placed.gate, []).append(number)
    left = replace(design, gates=tuple(kept))
    return left, [numbers[gate].pop(0) for gate in left.gates if gate.trainable]


def outages(
    model: QNN,
    trained: Parameters,
    train_inputs: np.ndarray,
    train_labels: np.ndarray,
    inputs: np.ndarray,
    keys: Sequence[Sequence[int]],
) -> dict[str, Outage]:
    """Per provider, the service of K models without it.

    Args:
        model: the design.
        trained: parameters of the K models.
        train_inputs: encoded train rows ``[K, train rows, n_qubits]``; the owner knows their exact ⟨Z⟩ from training.
        train_labels: ``[K, train rows]``.
        inputs: encoded rows to classify ``[K, rows, n_qubits]``.
        keys: K seeds of the shots, where the design has any.
    """
    design = model.design
    train_full = model.stack.readout(trained.angles, train_inputs)
    full = None if design.cut_gates else model.circuits.readout(trained.angles, inputs, design.shots, keys)
    found = {}
    for provider in dict.fromkeys(design.assignment):
        own = {part.index for part in design.held_by(provider)}
        missing = np.flatnonzero([home in own for home in design.partition])
        if full is not None:
            train_rest, rest = train_full.copy(), full.copy()
        else:
            left, kept = without_gates_to(design, own)
            remaining = MeasuredCircuits(left, model.axis, model.circuits.noise)
            angles = trained.angles[:, kept]
            train_rest = remaining.exact.readout(angles, train_inputs)
            rest = remaining.readout(angles, inputs, design.shots, keys)
        train_rest[:, :, missing] = rest[:, :, missing] = 0.0
        found[provider] = Outage(model, trained, missing, train_rest, train_full, train_labels, rest)
    return found


def outage_answers(
    model: QNN,
    trained: Parameters,
    train_inputs: np.ndarray,
    train_labels: np.ndarray,
    inputs: np.ndarray,
    keys: Sequence[Sequence[int]],
    fallback: str = "new head",
) -> dict[str, np.ndarray]:
    """Per provider, the class probabilities ``[K, rows, classes]`` of the ``fallback`` while it is out; arguments as ``outages``."""
    found = outages(model, trained, train_inputs, train_labels, inputs, keys)
    return {provider: FALLBACKS[fallback](one) for provider, one in found.items()}


def _without_providers(subject: Subject) -> Observed:
    service = subject.service
    rows = np.concatenate([subject.together("tuning"), subject.together("score")], axis=1)
    train = subject.together("train"), subject.together("train_labels")
    answers = outage_answers(service.model, service.trained, *train, rows, subject.keys("outage"), "mean")
    truth, tuning = subject.together("target_labels"), subject.together("tuning_labels").shape[1]
    return {provider: Accuracies.of(given.argmax(axis=-1), truth, tuning).pairs for provider, given in answers.items()}


@term("resilience", observe=_without_providers)
def resilience(_: Evidence, observed: Observed) -> TermResult:
    """Reports ``fallback``, the owner's accuracy without the provider whose outage costs most, and ``fallback_provider``.

    The missing readouts are taken at their training mean; the provider is chosen on the tuning rows.
    """
    found = {provider: Accuracies.from_pairs(pairs) for provider, pairs in observed.items()}
    worst = min(found, key=lambda provider: float(found[provider].tuning.mean()))
    draws = {"fallback": found[worst].scored}
    return TermResult(draws, lambda standing, mean: standing.kept(mean["fallback"]), {"fallback_provider": worst})

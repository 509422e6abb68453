"""The term of extraction: how well a customer clones the service from its answers."""

from __future__ import annotations

import numpy as np

from .controls import CLONE_LAYERS, reference_qnn
from .terms import Subject, TermResult, term


@term("extraction")
def extraction(subject: Subject) -> TermResult:
    """Reports ``extraction``, the accuracy of a clone that is trained on the service's answers to the tuning rows.

    A rational adversary keeps the no-loot control where that is better.
    """
    scenario, service = subject.scenario, subject.service
    clone = reference_qnn(scenario, service.n_classes, CLONE_LAYERS)
    answers = subject.answers("tuning")
    cloned = clone.train_towards(subject.together("clone_queries"), answers, subject.keys("clone"), steps=scenario.threat.steps)
    predicted = clone.probabilities(cloned, subject.together("clone_score")).argmax(axis=-1)
    found = {"extraction": np.mean(predicted == subject.together("score_labels"), axis=-1)}
    if scenario.threat.thief == "rational":
        control = subject.control.accuracies
        return TermResult(found | {"control": control}, lambda standing, mean: standing.margin(max(mean["extraction"], mean["control"])))
    return TermResult(found, lambda standing, mean: standing.margin(mean["extraction"]))

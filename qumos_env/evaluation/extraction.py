"""The term of extraction: how well a customer clones the service from its answers.

It sends the queries that the threat section of the scenario names, and fits to the answers a quantum model of the scenario's kind and the
closed-form models of thieves, without loot. The best clone is chosen on tuning rows that were no queries, and scored on others.
"""

from __future__ import annotations

import numpy as np

from .controls import CLONE_LAYERS, QNN_CONTROL, reference_qnn
from .reward import Standing
from .surrogates import as_told, log_odds, unaided
from .terms import Means, Subject, TermResult, term


@term("extraction")
def extraction(subject: Subject) -> TermResult:
    """Reports ``extraction``, the accuracy of the best clone, and ``extraction_model``, its name.

    A rational adversary keeps the no-loot control where that is better.
    """
    scenario, service = subject.scenario, subject.service
    asked = service.workload.questions(service.seed, subject.rows)
    answers = as_told(subject.answers_to(asked.encoded, "answers to a customer"), scenario.threat.answers)
    model = reference_qnn(scenario, service.n_classes, CLONE_LAYERS)
    trained = model.train_towards(asked.own, answers, subject.keys("clone"), steps=scenario.threat.steps)
    clones = {QNN_CONTROL: model.probabilities(trained, asked.own_targets)}
    fitted = unaided(asked.kernels, {"answers": log_odds(answers)})
    clones |= {name: scores[:, asked.raw.shape[1] :] for name, scores in fitted.items()}
    tuning = asked.tuning.shape[1]
    truth = np.concatenate([service.labels[asked.tuning], subject.together("score_labels")], axis=1)
    right = {name: scores.argmax(axis=-1) == truth for name, scores in clones.items()}
    best = max(right, key=lambda name: float(right[name][:, :tuning].mean()))
    found, facts = {"extraction": right[best][:, tuning:].mean(axis=1)}, {"extraction_model": best}
    rivals = ["extraction"]
    if scenario.threat.thief == "rational":
        found["control"] = subject.control.accuracies
        rivals.append("control")

    def share(standing: Standing, means: Means) -> float:
        return standing.margin(max(means[rival] for rival in rivals))

    return TermResult(found, share, facts)

"""The term of extraction: how well a customer clones the service from its answers.

It sends the queries that the threat section of the scenario names, and fits to the answers a quantum model of the scenario's kind and the
closed-form models of thieves, without loot. The best clone is chosen on tuning rows that were no queries, and scored on others.
"""

from __future__ import annotations

import numpy as np

from .choice import Accuracies, strongest
from .controls import CLONE_LAYERS, QNN_CONTROL, reference_qnn
from .reward import Standing
from .surrogates.models import ANSWERS, as_told, log_odds, unaided
from .terms import Evidence, Means, Observed, Subject, TermResult, term


def _clones(subject: Subject) -> Observed:
    scenario, service = subject.scenario, subject.service
    asked = subject.questions
    answers = as_told(subject.answers_to(asked.encoded, "answers to a customer"), scenario.threat.answers)
    model = reference_qnn(scenario, service.n_classes, CLONE_LAYERS)
    trained = model.train_towards(asked.own, answers, subject.keys("clone"), steps=scenario.threat.steps)
    clones = {QNN_CONTROL: model.probabilities(trained, asked.own_targets)}
    fitted = unaided(asked.ground, {ANSWERS: log_odds(answers)})
    clones |= {name: scores[:, asked.raw.shape[1] :] for name, scores in fitted.items()}
    truth = np.concatenate([service.labels[asked.tuning], subject.together("score_labels")], axis=1)
    return {name: Accuracies.of(scores.argmax(axis=-1), truth, asked.tuning.shape[1]).pairs for name, scores in clones.items()}


@term("extraction", observe=_clones)
def extraction(evidence: Evidence, observed: Observed) -> TermResult:
    """Reports ``extraction``, the accuracy of the best clone, and ``extraction_model``, its name.

    A rational adversary keeps the no-loot control where that is better.
    """
    clones = {name: Accuracies.from_pairs(pairs) for name, pairs in observed.items()}
    best = strongest(clones)
    found, facts = {"extraction": clones[best].scored}, {"extraction_model": best}
    rivals = ["extraction"]
    if evidence.scenario.threat.thief == "rational":
        found["control"] = evidence.control.accuracies
        rivals.append("control")

    def share(standing: Standing, means: Means) -> float:
        return standing.margin(max(means[rival] for rival in rivals))

    return TermResult(found, share, facts)

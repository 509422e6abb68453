"""Availability: what is left of the service while one provider returns nothing.

The adversary withholds the results of every part that it runs: an outage, a ransom, a flood. The owner notices, and falls back on
what the other providers return. Fallbacks: the missing ⟨Z⟩ taken as 0 (``zero``), or as its mean over the train rows (``mean``),
or a head retrained on the train rows without it (``new head``), the circuits staying as they are. The owner takes the one that is
best on its tuning rows. With gate cuts to the missing part, the others run without these gates. Beside them stands what needs no
quantum provider at all: a linear model on the raw features of the train rows.
"""

from __future__ import annotations

import numpy as np

from ...evaluation.controls import linear
from ...evaluation.outage import FALLBACKS, outages
from ...evaluation.service import Service
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Measurement


@attack(
    "outage",
    goal="availability",
    title="Withheld results",
    adversary="runs one provider, or keeps it from answering: the results of all its parts are withheld",
)
def run(victim: Service) -> AttackResult:
    """Accuracy of every fallback while one provider is out, beside that of the full service.

    The best fallback of a provider, and the provider whose outage costs most, are chosen on the tuning rows.
    """
    tuning, train = victim.together("tuning"), victim.together("train")
    rows = np.concatenate([tuning, victim.test], axis=1)
    inputs, keys = victim.encode(rows), victim.keys("outage")
    labels = victim.labels[rows]

    def accuracies(predicted: np.ndarray) -> tuple[float, np.ndarray]:
        right = predicted == labels
        return float(right[:, : tuning.shape[1]].mean()), right[:, tuning.shape[1] :].mean(axis=1)

    _, full = accuracies(victim.model.answers(victim.trained, inputs, keys).argmax(axis=-1))
    control = Control("full service", full)
    measurements = []

    def measured(case: str, values: np.ndarray, note: str = "", headline: bool = True, criterion: Criterion | None = None) -> None:
        measurements.append(Measurement(case, "accuracy", values, control, note, headline, criterion=criterion))

    best: dict[str, tuple[float, np.ndarray]] = {}
    for provider, one in outages(victim.model, victim.trained, victim.encode(train), victim.observed_labels[train], inputs, keys).items():
        found = {name: accuracies(fallback(one).argmax(axis=-1)) for name, fallback in FALLBACKS.items()}
        for name, (_, tested) in found.items():
            measured(f"without {provider}, {name}", tested, headline=False)
        chosen = max(found, key=lambda name: found[name][0])
        best[provider] = found[chosen]
        measured(f"without {provider}, best fallback", best[provider][1], f"on the tuning rows: {chosen}")
    worst = min(best, key=lambda provider: best[provider][0])
    measured("worst outage, best fallback", best[worst][1], f"on the tuning rows: {worst} missing", criterion=Criterion("lower"))
    features, observed, truth = victim.features, victim.observed_labels, victim.labels[victim.test]
    plain = np.stack([linear(features[a], observed[a], features[b]) for a, b in zip(train, victim.test, strict=True)])
    measured("no provider, linear model on raw features", (plain == truth).mean(axis=1))
    majority = np.array([np.bincount(observed[one]).argmax() for one in train])
    measured("no provider, majority class", (majority[:, None] == truth).mean(axis=1), headline=False)
    return AttackResult(measurements)

"""Gradient inversion: training rows reconstructed from training gradients.

It is the attack of whoever overhears a training: the gradient of a batch by the angles, together with circuit, parameters and
labels, has more entries than the batch has unknown inputs. The gradients are exact here, without shots, and taken at the first step
of a training. So this is the most that can leak: of one row of eight angles all are to be expected. Rows of one label in a batch are
exchangeable, and an answer in either order counts; what another symmetry of a circuit hides (a feature that no gate joins to a
trained qubit, say) stays hidden, and counts as an error.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...evaluation.service import Service
from ...model.stack import DENSE_MAX_QUBITS
from ...model.training import Parameters, one_hot
from ..registry import attack
from ..results import AttackResult, Control, Criterion, Measurement
from .class_means import class_means
from .gradient_matching import GradientMap, invert

BATCHES = 4
"""Batches attacked per model."""
BATCH_ROWS = (1, 2)
MODELS = 3
"""Models attacked; one where a fragment is too wide for dense simulation."""
RESTARTS = 4
SPREAD = 0.5
"""Standard deviation in radians of the starts about the mean of the adversary's rows of the class."""
TOLERANCE = 0.1
"""Radians within which every angle of a row must lie for it to count as reconstructed."""
LEAK = Criterion("lower", 0.05)
"""An angle known better by this, in radians, tells something."""

@attack(
    "gradient-inversion",
    goal="confidentiality",
    title="Gradient inversion",
    adversary="eavesdrops on the training: sees the exact gradient of a batch by all angles at the first step, and knows circuit, "
    "parameters, labels, and the encoded angles of a few labelled rows of its own",
)
def run(victim: Service) -> AttackResult:
    """Encoded angles of training rows from the gradients of batches of one and two rows, beside guesses from the adversary's rows."""
    wide = max(len(engine.qubits) for engine in victim.model.stack.engines) > DENSE_MAX_QUBITS
    attacked = min(len(victim.rows), 1 if wide else MODELS)
    note = f"{attacked} of {len(victim.rows)} models attacked" if attacked < len(victim.rows) else ""
    own = victim.together("thief")
    own_angles, own_labels = victim.encode(own), victim.labels[own]
    guesses = np.stack([class_means(*one, victim.n_classes) for one in zip(own_angles, own_labels, strict=True)])
    measurements = []

    def measured(case: str, quantity: str, values: np.ndarray, guessed: np.ndarray, headline: bool = False) -> None:
        padded = np.full((2, len(victim.rows)), np.nan)
        padded[:, :attacked] = values, guessed
        control = Control("guess: mean of own rows of the class", padded[1])
        measurements.append(Measurement(case, quantity, padded[0], control, note, headline, criterion=LEAK if headline else None))

    for size in BATCH_ROWS:
        inputs, labels = _batches(victim, attacked, size)
        guess = np.stack([means[one] for means, one in zip(guesses, labels, strict=False)])
        found = _from_gradients(victim, inputs, labels, guess)
        batches = range(BATCHES)
        errors = np.stack([[matched_errors(found[k, g], inputs[k, g], labels[k, g]) for g in batches] for k in range(attacked)])
        guessed = np.abs(guess - inputs)
        by_class = guessed.mean(axis=(1, 2, 3))
        measured(f"batch of {size}", "mean error (rad)", errors.mean(axis=(1, 2, 3)), by_class, headline=True)
        within, by_guess = ((one.max(axis=-1) <= TOLERANCE).mean(axis=(1, 2)) for one in (errors, guessed))
        measured(f"batch of {size}", f"rows within {TOLERANCE} rad", within, by_guess)
        if size == BATCH_ROWS[0]:
            middle = own_angles[:attacked].mean(axis=1)[:, None, None]
            measured("guess without a label", "mean error (rad)", np.abs(middle - inputs).mean(axis=(1, 2, 3)), by_class)
    return AttackResult(measurements)


def matched_errors(found: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Absolute errors ``[rows, n_qubits]`` of ``found`` rows, each against the row of ``inputs`` of its label that fits best."""
    distance = np.abs(found[:, None] - inputs[None]).mean(axis=-1)
    cost = np.where(labels[:, None] == labels[None], distance, 1e6)
    mine, other = linear_sum_assignment(cost)
    return np.abs(found[mine] - inputs[other])


def _batches(victim: Service, attacked: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Encoded training rows ``[attacked, BATCHES, size, n_qubits]`` and their labels."""
    train = victim.together("train")
    count = BATCHES * size
    generators = [np.random.default_rng(key) for key in victim.keys("batch")]
    rows = np.stack([generator.choice(one, count, len(one) < count) for generator, one in zip(generators, train, strict=True)])
    shape = (attacked, BATCHES, size)
    return victim.encode(rows)[:attacked].reshape(*shape, -1), victim.observed_labels[rows][:attacked].reshape(shape)


def _from_gradients(victim: Service, inputs: np.ndarray, labels: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """What the eavesdropper makes of the gradients of batches ``[D, BATCHES, rows, n_qubits]``, starting near its ``guess``."""
    models, batches, rows, width = inputs.shape
    gradient = GradientMap(victim.model)
    start = Parameters.stack([victim.model.initial((victim.seed, index)) for index in range(models)])
    targets = one_hot(labels, victim.n_classes)
    seen = gradient.gradients(start, inputs.reshape(models, -1, width), targets.reshape(models, batches * rows, -1))
    observed = seen.reshape(models, batches, rows, -1).mean(axis=2)
    low, high = victim.scenario.data.angle_range
    keys = victim.keys("starts of the inversion")[:models]
    noise = [np.random.default_rng(key).normal(0, SPREAD, (RESTARTS, *guess.shape[1:])) for key in keys]
    starts = np.clip(guess + np.stack(noise, axis=1), low, high)
    return invert(gradient, start, observed, targets, starts, (low, high)).inputs

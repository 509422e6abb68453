"""Designs that would earn reward for hiding the loot from a clumsy thief: the reward's thief sees about as much as the audit's."""

from __future__ import annotations

import numpy as np
import pytest

from qumos_env import Design, Evaluator, load_scenario
from qumos_env.attacks.confidentiality.theft import strongest_thief
from qumos_env.design import Gate
from qumos_env.design.ansatz import contiguous, interleaved, ry_cz_ry
from qumos_env.evaluation.service import Service

SCENARIO = "two-curves-six"
PROVIDERS = ("aurora", "borealis")
SEED = 5


def base(partition: tuple[int, ...] = (0, 0, 0, 1, 1, 1), layers: int = 2) -> Design:
    return ry_cz_ry(partition, PROVIDERS, layers)


def behind(design: Design, *gates: Gate) -> Design:
    """``design`` with ``gates`` at its end."""
    return Design(design.partition, design.assignment, (*design.gates, *gates))


def everywhere(name: str, qubits: range = range(6)) -> list[Gate]:
    return [Gate(name, (qubit,)) for qubit in qubits]


HACKS = {
    "re-upload storm": behind(base(layers=1), *(everywhere("reupload") + everywhere("ry")) * 2),
    "information in X": behind(base(), *everywhere("h")),
    "information in Y": behind(base(), *everywhere("rx"), *everywhere("h")),
    "information in correlators": behind(base(), *(Gate("cx", (a, a + 1)) for a in (0, 1, 3, 4)), *everywhere("h", range(0, 6, 2))),
    "scrambled part": behind(base(), *(Gate("rzz", (a, b)) for a, b in ((3, 4), (4, 5), (3, 5))), *everywhere("rx", range(3, 6))),
    "a part of noise": Design((0, 0, 0, 0, 1, 1), PROVIDERS, (*base((0, 0, 0, 0, 1, 1)).gates[:20], Gate("rx", (4,)), Gate("h", (5,)))),
    "all but two qubits at one provider": base((0, 0, 0, 0, 1, 1)),
    "a split of other features": base((0, 1, 1, 0, 0, 1)),
    "interleaved": base(interleaved(6, 2), 3),
    "contiguous": base(contiguous(6, 2), 3),
    "few shots": Design(base().partition, PROVIDERS, base().gates, shots=30),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HACKS))
def test_hiding_from_the_reward_is_hiding_from_the_audit(name: str) -> None:
    """On the same rows and seed; ``few shots`` is held against no limit, since the scenario offers none."""
    evaluator = Evaluator(load_scenario(SCENARIO))
    design = HACKS[name]
    scored = evaluator.evaluate(design, seed=SEED, rows="test", limits=False)
    audited = strongest_thief(Service.train(evaluator.workload, design, SEED, "test"))
    assert scored.theft >= np.mean(audited.values) - 0.03, (scored.theft_model, audited.note)

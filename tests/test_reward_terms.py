"""What a scenario can weigh beyond accuracy and theft by one provider: coalitions, LiRA, extraction, outages."""

import numpy as np
import pytest

from qumos_env.attacks.confidentiality.shadow_models import SHADOW_SCORES, Shadows
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.membership import leave_pair_out
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.scenario import Scenario, parse_scenario

DESIGN = ry_cz_ry(interleaved(4, 2), ("aurora", "borealis"), 1)
ROUND = 1e-9


def tiny(**sections: object) -> Scenario:
    data: dict[str, object] = {
        "name": "tiny",
        "title": "tiny",
        "data": {"source": "iris", "reducer": "none"},
        "draws": {"count": 3, "train_rows": 20, "thief_rows_per_class": 3, "tuning_rows": 21},
        "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 4},
        "model": {"steps": 25},
        "threat": {"steps": 25},
        "providers": [{"name": "aurora"}, {"name": "borealis"}],
    }
    return parse_scenario(data | sections)


def test_a_coalition_of_all_holds_everything() -> None:
    """It is one thief, and a better one than either provider alone."""
    threat = {"steps": 25, "tiers": ["frozen-head"]}
    alone = Evaluator(tiny(threat=threat)).evaluate(DESIGN)
    together = Evaluator(tiny(threat=threat | {"coalition": 2})).evaluate(DESIGN)
    assert {name.rpartition("/")[0] for name in alone.thieves} == {"aurora", "borealis"}
    assert {name.rpartition("/")[0] for name in together.thieves} == {"aurora+borealis"}
    assert together.thieves["aurora+borealis/frozen-head"] > min(alone.thieves["aurora/frozen-head"], alone.thieves["borealis/frozen-head"])
    assert together.accuracy == alone.accuracy


def test_lira_takes_the_other_draws_as_shadows() -> None:
    """The same AUCs as the audit's LiRA on the same models, from what the evaluation asked anyway."""
    draws = {"count": 16, "train_rows": 20, "thief_rows_per_class": 2, "tuning_rows": 12, "half_split": True}
    scenario = tiny(draws=draws, threat={"steps": 3, "membership": "lira", "tiers": ["frozen-head"]}, model={"steps": 25})
    found = Evaluator(scenario).evaluate(DESIGN, seed=5).per_draw["membership_auc"]
    signals = Shadows.of(Service.train(Workload(scenario), DESIGN, 5)).signals()
    for target, shadows in leave_pair_out(16):
        scores = SHADOW_SCORES["LiRA online"](signals, target, shadows)
        member = signals.member[target]
        # Mann-Whitney by counting pairs.
        pairs = scores[member][:, None] - scores[~member][None]
        assert found[target] == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)), abs=ROUND)
    assert len(set(found)) > 1


def test_an_outage_costs_what_the_missing_part_decides() -> None:
    """A part without a gate worth anything is not missed; with everything on one provider nothing is left but a guess."""
    reward = {"accuracy": 0.5, "theft": 0.3, "resilience": 0.2}
    both = Evaluator(tiny(reward=reward)).evaluate(DESIGN)
    assert both.fallback is not None and both.fallback_provider in ("aurora", "borealis")
    assert both.rewards["resilience"] == pytest.approx(0.2 * max(0, min(both.fallback, both.accuracy) - both.chance) / (1 - both.chance))
    whole = Evaluator(tiny(reward=reward)).evaluate(ry_cz_ry((0,) * 4, ("aurora",), 1), limits=False)
    assert whole.fallback_provider == "aurora" and whole.fallback == pytest.approx(whole.chance, abs=0.02)
    assert both.fallback > whole.fallback + 0.1
    assert "fallback" not in Evaluator(tiny()).evaluate(DESIGN).measured


def test_a_clone_learns_from_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a service that answers at random nothing is learned; the term is what the clone leaves of the accuracy."""
    reward = {"accuracy": 0.5, "theft": 0.3, "extraction": 0.2}
    scenario = tiny(reward=reward)
    found = Evaluator(scenario).evaluate(DESIGN)
    assert found.extraction is not None and found.extraction > found.chance + 0.2
    left = np.clip(found.accuracy - found.extraction, 0, found.accuracy - found.chance)
    assert found.rewards["extraction"] == pytest.approx(0.2 * left / (1 - found.chance))
    honest = QNN.answers

    def at_random(self: QNN, trained: object, inputs: np.ndarray, keys: object) -> np.ndarray:
        given = honest(self, trained, inputs, keys)  # type: ignore[arg-type]
        generator = np.random.default_rng(0)
        return generator.permuted(given, axis=1) if inputs.shape[1] == scenario.queries else given

    monkeypatch.setattr(QNN, "answers", at_random)
    assert Evaluator(scenario).evaluate(DESIGN).extraction < found.extraction - 0.1
    assert "extraction" not in Evaluator(tiny()).evaluate(DESIGN).measured


def test_a_thief_that_runs_the_circuit_as_it_is() -> None:
    """The tier that trains nothing can be one of a reward's."""
    found = Evaluator(tiny(threat={"steps": 5, "tiers": ["as-is"]})).evaluate(DESIGN)
    assert set(found.thieves) == {"aurora/as-is", "borealis/as-is"}
    idle = Design((0, 0, 1, 1), ("aurora", "borealis"), (Gate("ry", (0,)), Gate("ry", (2,))))
    assert 0 <= Evaluator(tiny(threat={"steps": 5, "tiers": ["as-is"]})).evaluate(idle).theft <= 1

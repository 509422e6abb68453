"""A design measured on its first draws, and later on more of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import Scenario
from tests.test_reward_terms import tiny

DESIGN = ry_cz_ry(interleaved(4, 2), ("aurora", "borealis"), 1)
HALVES = {"count": 6, "train_rows": 20, "thief_rows_per_class": 2, "tuning_rows": 12, "half_split": True}
ALL_TERMS = {"accuracy": 0.3, "theft": 0.2, "extraction": 0.2, "resilience": 0.2, "membership": 0.1}


def every_term() -> Scenario:
    threat = {"steps": 5, "tiers": ["stacked", "frozen-head", "guessed-rest"]}
    return tiny(draws=HALVES, reward=ALL_TERMS, threat=threat, model={"steps": 15})


@pytest.mark.parametrize("kept", [False, True])
def test_more_draws_go_on_from_fewer(kept: bool, trained: list[int], tmp_path: Path) -> None:
    """Every draw is trained once, in one evaluator or, by a cache in a file, in several; and the result has the bits of all at once."""
    scenario = every_term()
    whole = Evaluator(scenario).evaluate(DESIGN)
    trained.clear()
    evaluator = Evaluator(scenario, tmp_path / "cache.sqlite")
    for count in (2, 4, 6):
        if kept:
            evaluator = Evaluator(scenario, tmp_path / "cache.sqlite")
        found = evaluator.evaluate(DESIGN, draws=count)
        assert found.draws == count and trained == list(range(count))
    assert found == whole


def test_fewer_draws_are_the_first_ones() -> None:
    """Per draw the same figures, and a scenario that has no more draws gives the same evaluation."""
    scenario = tiny()
    whole, first = Evaluator(scenario).evaluate(DESIGN), Evaluator(scenario).evaluate(DESIGN, draws=2)
    assert first.per_draw["accuracy"] == whole.per_draw["accuracy"][:2]
    draws = {"count": 2, "train_rows": 20, "thief_rows_per_class": 3, "tuning_rows": 21}
    shorter = Evaluator(tiny(draws=draws)).evaluate(DESIGN)
    assert first.to_dict() == shorter.to_dict()
    assert first.reward_se > 0 and Evaluator(scenario).evaluate(DESIGN, draws=1).reward_se == 0


def test_after_all_draws_fewer_are_known(trained: list[int]) -> None:
    """Nothing is trained for a look at fewer draws that was had before."""
    evaluator = Evaluator(tiny())
    first = evaluator.evaluate(DESIGN, draws=1)
    evaluator.evaluate(DESIGN, draws=3)
    assert trained == [0, 1, 2]
    assert evaluator.evaluate(DESIGN, draws=1) == first and trained == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"accuracy": {"accuracy": [1, 2]}}', '{"accuracy": 3}', '{"theft": {"a": "x"}}'])
def test_a_spoilt_observation_is_made_again(text: str, tmp_path: Path) -> None:
    """A cache lies in a file, into which anybody may have written."""
    scenario = tiny()
    whole = Evaluator(scenario).evaluate(DESIGN)
    evaluator = Evaluator(scenario, tmp_path / "cache.sqlite")
    evaluator.evaluate(DESIGN, draws=2)
    key = f"{evaluator._identity}/{DESIGN.hash}/search/{scenario.seed}/draw 1"
    kept = evaluator._cache.get(key)
    assert kept is not None and set(json.loads(kept)) == {"accuracy", "theft", "membership", "cost"}
    evaluator._cache.put(key, text)
    assert Evaluator(scenario, tmp_path / "cache.sqlite").evaluate(DESIGN) == whole


@pytest.mark.parametrize(("count", "wrong", "nearest"), [(3, 0, 1), (3, 4, 3), (3, "two", 1), (3, 1.5, 1), (6, 3, 2), (6, 1, 2), (6, 8, 6)])
def test_numbers_of_draws_that_make_no_sense(count: int, wrong: object, nearest: int) -> None:
    scenario = tiny(draws=HALVES) if count == 6 else tiny()
    with pytest.raises(QumosError, match=rf"{wrong!r} draws: scenario tiny needs .* to {count}, nearest is {nearest}$"):
        Evaluator(scenario).evaluate(DESIGN, draws=wrong)  # type: ignore[arg-type]


def test_levels_double() -> None:
    """From the fewest that a scenario allows to all of them."""
    draws = {"count": 40, "train_rows": 20, "thief_rows_per_class": 2, "tuning_rows": 12}
    lira = tiny(draws=draws | {"half_split": True}, threat={"steps": 5, "membership": "lira"})
    assert tiny(draws=draws).draw_levels == (1, 2, 4, 8, 16, 32, 40)
    assert tiny(draws=HALVES).draw_levels == (2, 4, 6)
    assert lira.draw_levels == (16, 32, 40)
    for scenario in (tiny(), lira):
        assert [scenario.checked_draws(np.int64(level)) for level in scenario.draw_levels] == list(scenario.draw_levels)

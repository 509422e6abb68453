"""A policy trained over many scenarios: what it leaves, and what starts from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from agents import SearchTask, Trial, load_agent
from agents.context_ppo import Policy, Settings
from agents.pretraining import Batch, Pretraining, pretrain
from qumos_env.env.context_env import flat_context_env, play
from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario, load_scenario, parse_scenario

pytestmark = [pytest.mark.slow, pytest.mark.rllib]


def quick(name: str) -> Scenario:
    """The scenario with hardly any training."""
    data = load_scenario(name).model_dump(mode="json")
    data["model"]["steps"] = data["threat"]["steps"] = 1
    data["draws"] |= {"count": 2, "half_split": False}
    return parse_scenario(data)


@pytest.fixture(scope="module", autouse=True)
def _stop_ray() -> Any:
    yield
    import ray

    ray.shutdown()


def test_a_policy_is_trained_over_scenarios_and_designs_for_another(tmp_path: Path) -> None:
    scenarios = [quick("iris-smoke"), quick("two-curves-six")]
    path, settings = tmp_path / "policy.npz", Settings(batch=6, hidden=16)
    batches: list[Batch] = []
    task = Pretraining(scenarios, 14, path, seed=2, workers=1, cache=str(tmp_path / "cache.sqlite"), settings=settings)
    assert pretrain(task, on_batch=batches.append) == 14
    assert [batch.episodes for batch in batches] == [6, 12, 14]
    # RLlib gives its runners one seed again and again; all scenarios are met all the same.
    assert {name for batch in batches for name in batch.rewards} == {"iris-smoke", "two-curves-six"}
    # The same seed, the same policy; and it goes on from what is there.
    again = replace(task, path=tmp_path / "again.npz")
    pretrain(again)
    weights = [dict(np.load(one)) for one in (path, again.path)]
    for name, values in weights[0].items():
        np.testing.assert_array_equal(values, weights[1][name])
    pretrain(replace(again, episodes=6, randomise={"axes": ["generator", "providers"], "seeds": [0, 2]}))
    assert float(np.load(again.path)["optimizer/0/step"]) > float(np.load(path)["optimizer/0/step"])

    # Zero-shot, without Ray: as likely as the policy has it, or the likeliest.
    held_out = quick("parity-cut")
    env = flat_context_env(scenarios=scenarios)
    found = [play(env, Policy(path, 16, seed), scenario=held_out) for seed in (None, None, 1, 1, 2)]
    assert found[0]["actions"] == found[1]["actions"] and found[2]["actions"] == found[3]["actions"]
    assert len({tuple(one["actions"]) for one in found}) > 1 and all("evaluation" in one for one in found)
    with pytest.raises(QumosError, match=r"policy\.npz"):
        Policy(path, 17)

    # Few-shot: a search that starts from it. Its first designs are those of the policy, not those of a fresh one.
    over = load_agent("context-ppo").settings_for("parity-cut", {"batch": 4, "hidden": 16, "weights": str(path)}).model_dump()
    trials: list[Trial] = []
    search = load_agent("context-ppo").search
    of = SearchTask(held_out, 8, 3, 1, None, over)
    summary = search(of, on_trial=trials.append, should_stop=lambda: False, on_stage=lambda _: None)
    assert summary.distinct == 8 and all(trial.evaluation["scenario"] == "parity-cut" for trial in trials)
    fresh: list[Trial] = []
    search(replace(of, settings=over | {"weights": ""}), on_trial=fresh.append, should_stop=lambda: False, on_stage=lambda _: None)
    assert [trial.actions for trial in fresh[:4]] != [trial.actions for trial in trials[:4]]
    with pytest.raises(QumosError, match=r"missing\.npz"):
        lost = replace(of, settings=over | {"weights": str(tmp_path / "missing.npz")})
        search(lost, on_trial=trials.append, should_stop=lambda: False, on_stage=lambda _: None)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QumosError, match="at least one scenario"):
        Pretraining([], 5, tmp_path / "policy.npz")
    with pytest.raises(QumosError, match="episodes is 0"):
        Pretraining([quick("iris-smoke")], 0, tmp_path / "policy.npz")

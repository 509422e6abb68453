"""Every registered environment through the checkers of Gymnasium and Stable-Baselines3."""

import json
import subprocess
import sys
import warnings
from itertools import combinations
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from qumos_env.design import Design
from qumos_env.design.ansatz import encode_only, interleaved
from qumos_env.design.blocks import Block
from qumos_env.env.design_env import DesignEnv
from qumos_env.evaluation.evaluator import Evaluation, Evaluator
from qumos_env.registration import env_id, register_all
from qumos_env.scenario import list_scenarios, load_scenario, parse_scenario

IDS = [env_id(name) for name in list_scenarios()]


def shrunk(name: str) -> dict[str, Any]:
    """The scenario with as little training as there can be."""
    data = load_scenario(name).model_dump(mode="json")
    data["model"]["steps"] = data["threat"]["steps"] = 1
    data["draws"]["count"] = 2
    data["threat"]["membership"] = "loss"  # LiRA needs more draws
    return data


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """One real evaluation, given for every design of every scenario."""
    scenario = parse_scenario(shrunk("iris-smoke"))
    evaluation = Evaluator(scenario).evaluate(encode_only(interleaved(4, 2), scenario.provider_names))
    monkeypatch.setattr(Evaluator, "evaluate", lambda *_, **__: evaluation)
    return evaluation


def test_every_scenario_is_registered_under_a_readable_id() -> None:
    """Without dots, with plain JSON arguments, and once."""
    assert env_id("digits-theft") == "qumos/DigitsTheft-v0"
    assert env_id("iris-smoke") == "qumos/IrisSmoke-v1"
    assert len(set(IDS)) == len(list_scenarios())
    register_all()
    for name, identifier in zip(list_scenarios(), IDS, strict=True):
        spec = gym.spec(identifier)
        assert spec.kwargs == {"scenario": name} == json.loads(json.dumps(spec.kwargs))
        assert spec.max_episode_steps is None
        assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("identifier", IDS)
def test_gymnasium_checker(identifier: str, stubbed: Evaluation) -> None:
    """Not one warning."""
    env = gym.make(f"qumos_env:{identifier}", render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check(env.unwrapped)


@pytest.mark.parametrize("identifier", IDS)
def test_stable_baselines_checker(identifier: str, stubbed: Evaluation) -> None:
    """Not one warning; it plays unmasked random actions."""
    env = gym.make(f"qumos_env:{identifier}", render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check(env.unwrapped, skip_render_check=False)


@pytest.mark.parametrize("name", list_scenarios())
def test_one_real_episode(name: str) -> None:
    """Every scenario trains and attacks a design for real, here with a single training step."""
    env = DesignEnv(shrunk(name))
    scenario, table = env.scenario, env.table
    parts = min(scenario.design.max_parts, len(scenario.providers))
    partition = interleaved(scenario.design.qubits, parts)
    actions = table.opening(partition, range(parts))
    for part in range(parts):
        qubits = tuple(qubit for qubit, home in enumerate(partition) if home == part)
        actions += table.placing(Block("layer", "ry"), part, qubits)
    env.reset(seed=0)
    for action in [*actions, table.finish]:
        _, reward, terminated, truncated, info = env.step(action)
    assert terminated and not truncated and "failure" not in info
    evaluation = info["evaluation"]
    assert np.isfinite(reward) and reward <= 1
    assert reward == pytest.approx(sum(info["rewards"].values()), abs=1e-12)
    for figure in ("accuracy", "theft", "control", "membership_auc", "chance"):
        assert 0 <= evaluation[figure] <= 1
    assert evaluation["scenario"] == name and evaluation["draws"] == 2
    attacked = {key.removeprefix("thieves.").split("/")[0] for key in evaluation if key.startswith("thieves.")}
    assert attacked == {"+".join(group) for group in combinations(scenario.provider_names[:parts], scenario.threat.coalition)}
    assert Design.from_dict(info["design"]).hash == evaluation["design_hash"]


def test_the_checker_of_gymnasium_sees_a_fault(stubbed: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above can fail: an observation outside its space is found."""
    env = DesignEnv("iris-smoke", render_mode="ansi")
    good = DesignEnv._observe
    monkeypatch.setattr(DesignEnv, "_observe", lambda self: good(self) | {"observations": np.full(3, 2.0)})
    with pytest.raises(AssertionError):
        gymnasium_check(env)


def test_maskable_ppo_plays() -> None:
    """The mask is found through wrappers, and no step that it takes is masked."""
    from sb3_contrib import MaskablePPO

    class Watched(DesignEnv):
        """Notes whether a masked action was ever taken."""

        violations = 0
        finished = 0

        def step(self, action: Any) -> Any:
            self.violations += not self.action_masks()[int(action)]
            result = super().step(action)
            self.finished += "evaluation" in result[-1]
            return result

    env = Watched(shrunk("iris-smoke"))
    wrapped = gym.wrappers.RecordEpisodeStatistics(env)
    model = MaskablePPO("MultiInputPolicy", wrapped, n_steps=32, batch_size=16, n_epochs=1, seed=0, device="cpu")
    model.learn(64)
    assert env.violations == 0
    assert env.finished >= 1


def test_importing_the_package_loads_no_simulator() -> None:
    """Registration must stay cheap: Cirq alone takes over a second to import."""
    code = "import qumos_env, sys; print([name for name in ('cirq', 'qsimcirq', 'torch', 'sklearn') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"

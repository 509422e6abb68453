"""Randomised scenarios: each an ordinary one, the same everywhere, varied along its axes and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qumos_env.data import load_dataset
from qumos_env.env.actions import DesignState
from qumos_env.env.context_env import ContextEnv
from qumos_env.env.padding import Padding
from qumos_env.env.random_designs import uniform_actions
from qumos_env.env.variants import AXES, Variation, variant
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import Scenario, list_scenarios, load_scenario, parse_scenario
from qumos_env.scenario.sections import DataSection

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = {
    "classes": {"data"},
    "features": {"data"},
    "generator": {"data"},
    "providers": {"providers", "design", "threat"},
    "thief": {"draws"},
    "threat": {"threat"},
    "weights": {"reward"},
}


def changed(one: Scenario, other: Scenario) -> set[str]:
    """Names of the sections that differ."""
    before, after = one.model_dump(mode="json"), other.model_dump(mode="json")
    prose = {"name", "title", "description", "tags", "compare", "calibration"}
    return {name for name in before if before[name] != after.get(name) and name not in prose}


@pytest.mark.parametrize("name", list_scenarios())
def test_variants_of_every_scenario_are_scenarios(name: str) -> None:
    """They can be solved, fit the padding, differ from each other, and are the same when asked for again."""
    base = load_scenario(name)
    found = [variant(base, number) for number in range(4)]
    assert len({one.hash for one in (base, *found)}) == 5
    for number, one in enumerate(found):
        assert one == variant(base, number) == parse_scenario(one.model_dump(mode="json"))
        assert one.name == f"{name}-variant-{number}" and not one.compare and not one.calibration
        assert Padding().fits(one)
        actions = uniform_actions(one, np.random.default_rng(number))
        one.check_design(DesignState(one).replay(actions).design())


@pytest.mark.parametrize("axis", list(AXES))
def test_an_axis_changes_its_own_sections_alone(axis: str) -> None:
    touched = set()
    for name in ("digits-theft", "digits-devices", "two-curves-close", "parity-three", "membership-strong"):
        base = load_scenario(name)
        for number in range(3):
            touched |= changed(base, variant(base, number, [axis]))
    assert touched and touched <= SECTIONS[axis]


def test_what_varies_along_one_axis_does_not_depend_on_the_others() -> None:
    base = load_scenario("two-curves-close")
    alone, together = variant(base, 7, ["generator"]), variant(base, 7, ["thief", "generator", "weights"])
    assert alone.data == together.data != base.data
    assert alone.draws == base.draws != together.draws


def test_the_recipes() -> None:
    """Over many numbers, what each axis may give."""
    digits, parity, membership = (load_scenario(name) for name in ("digits-theft", "parity-three", "membership-strong"))
    for number in range(25):
        classes = variant(digits, number, ["classes"]).data.classes
        assert 2 <= len(classes) <= 4 and set(classes) <= set("0123456789")
        assert variant(parity, number, ["features"]).data.mixing == "permutation"
        mix = variant(parity, number, ["providers", "threat"])
        assert 2 <= len(mix.providers) <= 4 and 2 <= mix.design.max_parts <= len(mix.providers)
        assert 1 <= mix.threat.coalition < len(mix.providers)
        weights = variant(membership, number, ["weights"]).reward
        assert 0.3 <= weights.accuracy <= 0.7
        old = membership.reward
        assert weights.membership * old.theft == pytest.approx(weights.theft * old.membership)
        devices = variant(load_scenario("digits-devices"), number, ["providers"])
        assert all(provider.device is not None for provider in devices.providers)
    assert {variant(digits, number, ["threat"]).threat.thief for number in range(20)} == {"loot", "rational"}
    assert variant(digits, 0, ["generator"]).data == digits.data
    mixings = {variant(load_scenario("two-curves-close"), number, ["features"]).data.mixing for number in range(20)}
    assert mixings == {"permutation", "rotation"}


def test_a_variant_has_rows_and_a_reward_of_its_own() -> None:
    data = load_scenario("two-curves-six").model_dump(mode="json")
    data["model"]["steps"] = data["threat"]["steps"] = 1
    data["draws"]["count"] = 2
    base = parse_scenario(data)
    rewards = set()
    for number in range(3):
        one = variant(base, number, ["generator", "features"])
        design = DesignState(base).replay(uniform_actions(base, np.random.default_rng(8))).design()
        evaluation = Evaluator(one).evaluate(design)
        assert evaluation.scenario == one.name
        rewards.add(evaluation.accuracy)
    assert len(rewards) > 1


def test_the_same_variant_in_another_process() -> None:
    code = "from qumos_env.env.variants import variant; from qumos_env.scenario import load_scenario;"
    code += "print(variant(load_scenario('digits-theft'), 5).hash)"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.strip() == variant(load_scenario("digits-theft"), 5).hash


def test_variants_that_cannot_be_are_refused() -> None:
    with pytest.raises(QumosError, match="unknown axis of variation 'thieves'; did you mean thief"):
        variant(load_scenario("iris-smoke"), 0, ["thieves"])
    data = load_scenario("iris-smoke").model_dump(mode="json")
    data["draws"] |= {"train_rows": 130}
    with pytest.raises(QumosError, match=r"scenario iris-smoke: no variant 0 that can be solved in 100 tries; the last: data set 'iris'"):
        variant(parse_scenario(data), 0, ["thief"])
    with pytest.raises(QumosError, match="start < stop is needed"):
        Variation(seeds=(3, 3))


def test_an_environment_draws_variants_from_its_range() -> None:
    """And leaves the others to tests, which may name them."""
    env = ContextEnv(["two-curves-six"], randomise={"axes": ["generator"], "seeds": [10, 14]})
    drawn = {env.reset(seed=seed)[1]["variant"] for seed in range(30)}
    assert drawn == {10, 11, 12, 13}
    _, info = env.reset(options={"scenario": "two-curves-six", "variant": 99})
    assert info["variant"] == 99 and env.scenario == variant(load_scenario("two-curves-six"), 99, ["generator"])
    assert env.reset(options={"scenario": "two-curves-six"})[1]["variant"] is None
    with pytest.raises(QumosError, match="whole number from 0"):
        env.reset(options={"scenario": "two-curves-six", "variant": -1})


# The mixing of features, which is a field of scenarios


def section(**values: Any) -> DataSection:
    return DataSection(source="two-curves", parameters={"rows": 40, "features": 5}, reducer="none", **values)


def test_without_mixing_scenarios_hash_as_before() -> None:
    assert "mixing" not in section().model_dump() and "mixing_seed" not in section(mixing_seed=3).model_dump()
    assert section(mixing="rotation", mixing_seed=3).model_dump()["mixing_seed"] == 3


def test_permutations_and_rotations_of_features() -> None:
    plain = load_dataset(section())
    permuted, rotated = (load_dataset(section(mixing=mixing, mixing_seed=4)) for mixing in ("permutation", "rotation"))
    for found in (permuted, rotated):
        np.testing.assert_array_equal(found.labels, plain.labels)
        assert not np.allclose(found.features, plain.features)
    columns = {tuple(column) for column in plain.features.T}
    assert {tuple(column) for column in permuted.features.T} == columns
    gram = plain.features @ plain.features.T
    np.testing.assert_allclose(rotated.features @ rotated.features.T, gram, atol=1e-9)
    assert not np.allclose(rotated.features, load_dataset(section(mixing="rotation", mixing_seed=5)).features)

"""Noise of providers: error rates, what they become in the simulation, and that a provider without them leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest

from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario, load_scenario, parse_scenario
from qumos_env.scenario.providers import NoiseProfile, Provider, noise_spec
from qumos_env.simulation.channels import NoiseSpec, ReadoutError

RATES = {
    "one_qubit": 0.001,
    "two_qubit": 0.01,
    "amplitude_damping": 0.002,
    "phase_damping": 0.003,
    "readout_zero_as_one": 0.02,
    "readout_one_as_zero": 0.04,
}


def with_noise(noise: object) -> Scenario:
    data: dict[str, Any] = load_scenario("digits-theft").model_dump(mode="json")
    data["providers"][1]["noise"] = noise
    return parse_scenario(data)


def test_rates_become_the_noise_of_the_simulation() -> None:
    provider = with_noise(RATES).providers[1]
    assert noise_spec(provider.noise) == NoiseSpec(0.001, 0.01, 0.002, 0.003, ReadoutError(0.02, 0.04))
    assert noise_spec(NoiseProfile(readout_one_as_zero=0.1)) == NoiseSpec(readout=ReadoutError(0.0, 0.1))
    assert noise_spec(Provider(name="aurora").noise) is None


def test_a_profile_without_noise_is_not_in_the_hash() -> None:
    """No noise and noise of rate 0 are the same problem."""
    plain = load_scenario("digits-theft")
    assert "noise" not in plain.model_dump(mode="json")["providers"][1]
    assert with_noise({}).hash == with_noise({"one_qubit": 0.0}).hash == plain.hash


@pytest.mark.parametrize("name", RATES)
def test_noise_is_in_the_hash_and_survives_a_round_trip(name: str) -> None:
    noisy = with_noise({name: 0.1})
    assert noisy.hash != load_scenario("digits-theft").hash
    again = parse_scenario(noisy.model_dump(mode="json"))
    assert again == noisy and again.hash == noisy.hash


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"two_qubit": 1.5}, r"providers\.1\.noise\.two_qubit: .*less than or equal to 1"),
        ({"one_qubit": -0.1}, r"providers\.1\.noise\.one_qubit: .*greater than or equal to 0"),
        ({"phase_damping": float("nan")}, r"providers\.1\.noise\.phase_damping: .*finite"),
        ({"readout": 0.1}, "unknown field 'readout'; did you mean readout_"),
        (0.1, r"providers\.1\.noise: "),
    ],
)
def test_rates_that_are_no_probabilities(noise: object, message: str) -> None:
    with pytest.raises(QumosError, match=message):
        with_noise(noise)

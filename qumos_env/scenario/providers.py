"""Providers: what an isolated quantum provider can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..design.gates import REGISTRY
from ..errors import QumosError, shown
from ..hardware.profile import DeviceProfile, Probability, load_profile
from ..hardware.profile import noise_spec as device_noise
from ..simulation.channels import NoiseSpec, ReadoutError
from .sections import MOST_AMOUNT, MOST_PARTS, MOST_WIDTH, GateNames, Identifier, PathOrName


class NoiseProfile(BaseModel):
    """Error rates of a provider's hardware; the default has none.

    Attributes:
        one_qubit, two_qubit: probability of a random Pauli error behind a gate on so many qubits.
        amplitude_damping, phase_damping: probabilities of decay and of losing the phase, on each qubit of a gate.
        readout_zero_as_one, readout_one_as_zero: probability that measuring a qubit reports the other outcome.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    one_qubit: Probability = 0.0
    two_qubit: Probability = 0.0
    amplitude_damping: Probability = 0.0
    phase_damping: Probability = 0.0
    readout_zero_as_one: Probability = 0.0
    readout_one_as_zero: Probability = 0.0

    @classmethod
    def of(cls, noise: NoiseSpec) -> NoiseProfile:
        """The profile whose ``noise_spec`` is ``noise``."""
        return cls(
            one_qubit=noise.one_qubit,
            two_qubit=noise.two_qubit,
            amplitude_damping=noise.amplitude_damping,
            phase_damping=noise.phase_damping,
            readout_zero_as_one=noise.readout.zero_as_one,
            readout_one_as_zero=noise.readout.one_as_zero,
        )


class Provider(BaseModel):
    """One isolated provider of a scenario.

    Attributes:
        name: the name used in designs and bundles.
        max_qubits: widest part it runs, at most 10,000.
        max_parts: how many parts it takes, at most 100.
        gates: the gates of the registry that a design may place there; those of the encoding, and RZ and CX in the variants of a gate
            cut, every provider runs.
        mid_circuit_measurement: whether it can measure before the end of a circuit. A fact about it and no rule: the measured variant of a
            gate cut needs an ancilla instead, see ``DesignLimits``.
        price: cost of one gate, relative to a one-qubit gate on an ideal provider, at most 10¹².
        noise: its error rates; left out of what is dumped, and so hashed, where there are none and its device has none.
        device: name of a device profile (``qumos_env.hardware``), or path of a TOML file with one: its figures stand where the fields
            above say nothing, and costs and times can be estimated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier
    max_qubits: Annotated[int, Field(ge=1, le=MOST_WIDTH)] = 20
    max_parts: Annotated[int, Field(ge=1, le=MOST_PARTS)] = 8
    gates: GateNames = tuple(REGISTRY)
    mid_circuit_measurement: bool = True
    price: Annotated[FiniteFloat, Field(ge=0, le=MOST_AMOUNT)] = 1.0
    noise: NoiseProfile = NoiseProfile()
    device: PathOrName | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_the_device_is(cls, data: Any) -> Any:
        """Written into the fields, so that a scenario's hash changes with the profile."""
        if not isinstance(data, dict) or not isinstance(data.get("device"), str):
            return data
        try:
            profile = load_profile(data["device"])
        except QumosError as error:
            raise ValueError(str(error)) from error
        filled = {"max_qubits": profile.n_qubits, "mid_circuit_measurement": profile.mid_circuit_measurement} | data
        if isinstance(filled["max_qubits"], int) and filled["max_qubits"] > profile.n_qubits:
            raise ValueError(f"max_qubits is {shown(filled['max_qubits'])}, {profile.name} has {profile.n_qubits} qubits")
        if filled["mid_circuit_measurement"] is True and not profile.mid_circuit_measurement:
            raise ValueError(f"mid_circuit_measurement is true, {profile.name} cannot measure in mid-circuit")
        return {"noise": NoiseProfile.of(device_noise(profile))} | filled

    @property
    def profile(self) -> DeviceProfile | None:
        """The profile of its device, if it names one."""
        return None if self.device is None else load_profile(self.device)

    @model_serializer(mode="wrap")
    def _without_absent_noise(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = dump(self)
        profile = self.profile
        # What is read without noise gets that of its device.
        if self.noise == NoiseProfile() and (profile is None or NoiseProfile.of(device_noise(profile)) == NoiseProfile()):
            data.pop("noise", None)
        if self.device is None:
            data.pop("device", None)
        return data


def noise_spec(profile: NoiseProfile) -> NoiseSpec | None:
    """The noise of a provider as the simulation takes it; ``None`` for a profile without errors."""
    if profile == NoiseProfile():
        return None
    return NoiseSpec(
        profile.one_qubit,
        profile.two_qubit,
        profile.amplitude_damping,
        profile.phase_damping,
        ReadoutError(profile.readout_zero_as_one, profile.readout_one_as_zero),
    )


def device_profiles(providers: Sequence[Provider]) -> dict[str, DeviceProfile]:
    """The profiles of the providers' devices by the names of the providers; those without a device are left out."""
    found = {provider.name: provider.profile for provider in providers}
    return {name: profile for name, profile in found.items() if profile is not None}

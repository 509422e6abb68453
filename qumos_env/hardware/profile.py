"""Device profiles: what a family of devices can run, how well, how fast, for how much, and where each figure comes from.

A profile is a TOML file. Those of the package lie in ``profiles``; any other file is loaded by its path. Every figure needs a source:
a publication, or ``assumed`` and why.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from scipy.special import ndtr, ndtri

from ..errors import QumosError, problem, unknown
from ..files import file_status, read_toml
from ..simulation.channels import NoiseSpec, ReadoutError
from .topology import KINDS, Topology

NO_GATE_CIRCUITS = {
    "quera-aquila": "an analogue simulator of 256 neutral atoms",
    "xanadu-x": "a photonic interferometer that samples photon numbers",
}
"""Devices that providers sell and that have no profile, with what they are instead of a gate-model qubit device."""
ASSUMED = "assumed"
Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]
NativeGates = Literal["cz", "sqrt-iswap", "ms"]
_MOST = 1e12  # seconds or dollars; what follows from figures up to this stays finite
_LEAST = 1e-18  # seconds; light crosses an atom in that time
Duration = Annotated[FiniteFloat, Field(ge=_LEAST, le=_MOST)]
Lifetime = Annotated[float, Field(ge=_LEAST)]
Amount = Annotated[FiniteFloat, Field(ge=0, le=_MOST)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Errors(_Section):
    """Average error rates.

    Attributes:
        one_qubit, two_qubit: average gate infidelity (1 − average fidelity), as randomised benchmarking reports it.
        zero_as_one, one_as_zero: probability that measuring a qubit reports the other outcome.
    """

    one_qubit: Probability
    two_qubit: Probability
    zero_as_one: Probability
    one_as_zero: Probability

    @property
    def readout(self) -> float:
        """Mean probability of a wrong outcome."""
        return (self.zero_as_one + self.one_as_zero) / 2


class Times(_Section):
    """Times in seconds, from 10⁻¹⁸ to 10¹².

    Attributes:
        t1, t2: relaxation and coherence time; ``inf`` if there is no decay.
        one_qubit, two_qubit, readout: durations of a native gate on so many qubits and of a measurement.
        reset: from the end of a measurement to the start of the next shot.
    """

    t1: Lifetime
    t2: Lifetime
    one_qubit: Duration
    two_qubit: Duration
    readout: Duration
    reset: Duration


class Price(_Section):
    """US dollars, at most 10¹²; a provider charges the sum of what is not zero.

    Attributes:
        per_second: of the device's running time.
        per_task: for every circuit that is submitted, whatever its shots.
        per_shot: for every execution of a circuit.
    """

    per_second: Amount
    per_task: Amount
    per_shot: Amount

    def total(self, circuits: int, shots: int, seconds: float) -> float:
        """Dollars for ``circuits`` circuits of ``shots`` shots each that keep the device busy for ``seconds``."""
        return circuits * (self.per_task + shots * self.per_shot) + seconds * self.per_second


class Queue(_Section):
    """Waiting time before a job starts, lognormal.

    Attributes:
        median: in seconds, at most 10¹²; 0 if there is no queue.
        spread: standard deviation of the logarithm of the waiting time; beyond 5 the mean would lie in a tail that estimates leave out.
    """

    median: Amount
    spread: Annotated[FiniteFloat, Field(ge=0, le=5)]

    @property
    def mean(self) -> float:
        """Seconds."""
        return self.median * math.exp(self.spread**2 / 2)

    def quantile(self, share: float) -> float:
        """Seconds within which ``share`` of the jobs start; 0 < ``share`` < 1.

        Raises:
            QumosError: another share.
        """
        if not 0 < share < 1:
            raise QumosError(f"a share between 0 and 1 is needed, got {share}")
        return self.median * math.exp(self.spread * float(ndtri(share)))

    def started(self, seconds: float) -> float:
        """Share of the jobs that start within ``seconds``."""
        if seconds <= 0:
            return float(self.median == 0 and seconds == 0)
        if self.median == 0 or self.spread == 0:
            return float(seconds >= self.median)
        return float(ndtr(math.log(seconds / self.median) / self.spread))

    def sample(self, generator: np.random.Generator, size: int) -> np.ndarray:
        """``size`` independent waiting times in seconds."""
        return self.median * np.exp(self.spread * generator.standard_normal(size))


def _flat(value: object, deepest: int = 4) -> object:
    """Sources as sorted pairs, so that they can be hashed; nested tables become dotted names."""
    if not isinstance(value, Mapping):
        return value
    if deepest == 0:
        raise ValueError("nested too deep")
    pairs: list[tuple[str, object]] = []
    for name, source in value.items():
        inner = _flat(source, deepest - 1)
        pairs += [(f"{name}.{rest}", text) for rest, text in inner] if isinstance(inner, tuple) else [(str(name), source)]
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


class DeviceProfile(_Section):
    """A family of devices that one provider offers.

    Attributes:
        name: of the profile, at most 100 characters.
        title: the device it describes, at most 1,000 characters.
        topology: its qubits and their couplings, see ``qumos_env.hardware.topology``.
        native_gates: its two-qubit gate besides arbitrary one-qubit gates: ``cz``, ``sqrt-iswap``, or ``ms``, the Mølmer–Sørensen gate of
            any angle.
        mid_circuit_measurement: whether it can measure before the end of a circuit.
        errors, times, price, queue: figures, the same for all its qubits.
        sources: pairs of a field (``errors.two_qubit``) or a section (``errors``) and where its figures come from; the field's own entry
            counts before its section's. At most 100 of at most 10,000 characters.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=100)]
    title: Annotated[str, Field(max_length=1000)]
    topology: Topology
    native_gates: NativeGates
    mid_circuit_measurement: bool
    errors: Errors
    times: Times
    price: Price
    queue: Queue
    sources: Annotated[
        tuple[tuple[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=10_000)]], ...],
        Field(max_length=100),
        BeforeValidator(_flat),
    ]

    @model_validator(mode="after")
    def _possible(self) -> DeviceProfile:
        times, errors = self.times, self.errors
        if times.t2 > 2 * times.t1:
            raise ValueError(f"times.t2 is {times.t2:g} s, at most twice times.t1 ({times.t1:g} s) is possible")
        for field, qubits, rate, seconds in (
            ("one_qubit", 1, errors.one_qubit, times.one_qubit),
            ("two_qubit", 2, errors.two_qubit, times.two_qubit),
        ):
            dimension = 2**qubits
            if rate > dimension / (dimension + 1) * (1 - 1 / dimension**2):
                raise ValueError(f"errors.{field} is {rate:g}, more than complete depolarisation would give")
            least = (1 - _idle_fidelity(times, seconds) ** qubits) * dimension / (dimension + 1)
            if rate < least * (1 - 1e-9):
                raise ValueError(f"errors.{field} is {rate:g}, but decay alone costs {least:.2g} in times.{field} = {seconds:g} s")
        return self

    @model_validator(mode="after")
    def _sourced(self) -> DeviceProfile:
        known = {*self.figures, *(figure.partition(".")[0] for figure in self.figures)}
        for name, text in self.sources:
            if name not in known:
                raise ValueError(f"sources: {unknown('field', name, known)}")
            if not text.strip():
                raise ValueError(f"sources: {name} is empty; name a publication or say {ASSUMED!r}")
        for figure in self.figures:
            self.source(figure)
        return self

    @property
    def figures(self) -> tuple[str, ...]:
        """The fields that need a source."""
        sections = (("errors", Errors), ("times", Times), ("price", Price), ("queue", Queue))
        inner = [f"{name}.{field}" for name, section in sections for field in section.model_fields]
        return ("topology", "native_gates", "mid_circuit_measurement", *inner)

    def source(self, figure: str) -> str:
        """Where ``figure`` (a name of ``figures``) comes from.

        Raises:
            QumosError: nothing is said about it.
        """
        sources = dict(self.sources)
        for name in (figure, figure.partition(".")[0]):
            if name in sources:
                return sources[name]
        raise QumosError(f"sources: {figure} has none; name a publication or say {ASSUMED!r}")

    @property
    def assumed(self) -> tuple[str, ...]:
        """The figures that no publication backs."""
        return tuple(figure for figure in self.figures if self.source(figure).startswith(ASSUMED))

    @property
    def n_qubits(self) -> int:
        """Number of qubits."""
        return self.topology.size


def _idle_fidelity(times: Times, seconds: float) -> float:
    """Entanglement fidelity of one qubit that decays for ``seconds``: Σ|Tr K|²/4 over the Kraus operators K."""
    return (2 - -math.expm1(-seconds / times.t1) + 2 * math.exp(-seconds / times.t2)) / 4


def noise_spec(profile: DeviceProfile) -> NoiseSpec:
    """The noise of ``profile`` as the simulation takes it: every native gate has the average infidelity that the profile states.

    The simulation damps each qubit of a gate alike, so damping is that of a one-qubit gate's duration. Depolarisation behind it is chosen
    so that both together give the stated infidelity, by the relation of average and entanglement fidelity, F = (d·Fₑ + 1)/(d + 1)
    (Nielsen, "A simple formula for the average gate fidelity of a quantum dynamical operation", quant-ph/0205035).
    """
    times = profile.times
    idle = _idle_fidelity(times, times.one_qubit)

    def depolarising(rate: float, qubits: int) -> float:
        dimension = 2**qubits
        mixed = 1 / dimension**2
        left = (idle**qubits - (1 - rate * (dimension + 1) / dimension)) / (idle**qubits - mixed)
        return max(0.0, left) * (1 - mixed)

    dephasing = 1 / times.t2 - 1 / (2 * times.t1)
    return NoiseSpec(
        one_qubit=depolarising(profile.errors.one_qubit, 1),
        two_qubit=depolarising(profile.errors.two_qubit, 2),
        amplitude_damping=-math.expm1(-times.one_qubit / times.t1),
        phase_damping=-math.expm1(-2 * times.one_qubit * max(0.0, dephasing)),
        readout=ReadoutError(profile.errors.zero_as_one, profile.errors.one_as_zero),
    )


def _folder() -> Path:
    return Path(__file__).resolve().parent / "profiles"


def list_profiles() -> tuple[str, ...]:
    """Names of the profiles of the package, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load_profile(name_or_path: str | Path) -> DeviceProfile:
    """The profile of that name, or the one in that TOML file.

    Raises:
        QumosError: unknown name (nearest ones offered), a device that runs no gate circuits, an unreadable or malformed file, or a
            missing, unknown or impossible figure.
    """
    text = str(name_or_path)
    if text in list_profiles():
        path = _folder() / f"{text}.toml"
    elif text.endswith(".toml") or os.sep in text:
        path = Path(text)
    elif text in NO_GATE_CIRCUITS:
        raise QumosError(f"device profile {text!r}: {NO_GATE_CIRCUITS[text]}, which runs no gate circuits")
    else:
        raise unknown("device profile", text, list_profiles())
    stamp = file_status(path).st_mtime_ns
    return _read(path.resolve(), stamp)


@lru_cache(maxsize=64)
def _read(path: Path, stamp: int) -> DeviceProfile:
    return parse_profile(read_toml(path), where=str(path))


def parse_profile(data: object, where: str = "device profile") -> DeviceProfile:
    """The profile in plain data, as TOML or JSON reads it.

    Raises:
        QumosError: names ``where``, the field and what is wrong with it.
    """
    try:
        return DeviceProfile.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "union_tag_not_found":
            first["msg"] = f"kind is missing; choose from {', '.join(KINDS)}"
        raise QumosError(f"{where}: {problem(first, data, _fields)}") from error


def _fields(location: tuple[int | str, ...]) -> list[str]:
    sections: dict[Any, type[BaseModel]] = {"errors": Errors, "times": Times, "price": Price, "queue": Queue, **KINDS}
    return list(sections[location[-1]].model_fields if location else DeviceProfile.model_fields)

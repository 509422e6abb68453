"""Provider profiles: what an isolated quantum provider can run."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from .gates import REGISTRY


class Provider(BaseModel):
    """One isolated provider of a scenario.

    Attributes:
        name: the name used in designs and bundles.
        max_qubits: widest part it runs.
        max_parts: how many parts it takes.
        gates: the gates of the registry it runs.
        mid_circuit_measurement: whether it can run the measured variant of a gate cut.
        price: cost of one gate, relative to a one-qubit gate on an ideal provider.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    max_qubits: Annotated[int, Field(ge=1)] = 20
    max_parts: Annotated[int, Field(ge=1)] = 8
    gates: tuple[str, ...] = tuple(REGISTRY)
    mid_circuit_measurement: bool = True
    price: Annotated[FiniteFloat, Field(ge=0)] = 1.0

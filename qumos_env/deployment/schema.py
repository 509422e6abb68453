"""What the files of a bundle hold, as pydantic models: everything that is read from one is held against them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from ..design import Design
from ..design.gate_cuts import MAX_GATE_CUTS
from ..errors import QumosError, problem
from ..files import parse_json

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MOST_QUBITS = 20
OWNER_FILES = tuple(f"owner/{name}.json" for name in ("assembly", "design", "head", "preprocessing"))

Text = Annotated[str, Field(max_length=200)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^(owner|providers/[a-z][a-z0-9-]{0,99})/[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Relative, inside the folder, and no name that a system reads otherwise."""
Qubit = Annotated[int, Field(ge=0, lt=MOST_QUBITS)]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Manifest(BaseModel):
    """``manifest.json``. Figures of the export, and what unlearning adds, are further fields."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    schema_version: Literal[1]
    kind: Literal["qumos-bundle"]
    scenario: Text
    scenario_hash: Digest
    design_hash: Digest
    files: Annotated[dict[FileName, Digest], Field(max_length=10_000)]


class PartEntry(_File):
    """A part in the owner's assembly."""

    part: Qubit
    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=100)]
    qubits: Annotated[list[Qubit], Field(min_length=1, max_length=MOST_QUBITS)]
    readout: Literal["Z on every qubit"]


class CutEntry(_File):
    """A gate cut in the owner's assembly."""

    gate: Literal["rzz"]
    angle: FiniteFloat
    qubits: Annotated[list[Qubit], Field(min_length=2, max_length=2)]
    parts: Annotated[list[Qubit], Field(min_length=2, max_length=2)]
    ancilla: Annotated[int, Field(ge=0, lt=MOST_QUBITS + MAX_GATE_CUTS)]


class Assembly(_File):
    """``owner/assembly.json``: what the owner needs to put the results of the parts together."""

    classes: Annotated[list[Text], Field(min_length=2, max_length=1000)]
    n_qubits: Annotated[int, Field(ge=1, le=MOST_QUBITS)]
    parts: Annotated[list[PartEntry], Field(min_length=1, max_length=MOST_QUBITS)]
    recombination: dict[str, Any] | None = None
    cuts: Annotated[list[CutEntry], Field(max_length=MAX_GATE_CUTS)] = []

    def differs_from(self, design: Design) -> str | None:
        """What it says otherwise than ``design``, or ``None``."""
        if self.n_qubits != design.n_qubits:
            return f"{self.n_qubits} qubits, the design has {design.n_qubits}"
        if [(part.part, part.provider, tuple(part.qubits)) for part in self.parts] != [
            (part.index, part.provider, part.qubits) for part in design.parts
        ]:
            return "other parts than the design"
        expected = [
            (list(placed.gate.qubits), [design.partition[qubit] for qubit in placed.gate.qubits], design.n_qubits + number)
            for number, placed in enumerate(design.cut_gates)
        ]
        if [(cut.qubits, cut.parts, cut.ancilla) for cut in self.cuts] != expected:
            return "other gate cuts than the design"
        return None


class HeadFile(_File):
    """``owner/head.json``."""

    kind: Literal["scaled", "linear", "fixed"]
    parameters: Annotated[list[FiniteFloat], Field(max_length=100_000)]


class PreprocessingFile(_File):
    """``owner/preprocessing.json``, see ``qumos_env.data.Preprocessor``."""

    matrix: Annotated[list[Annotated[list[FiniteFloat], Field(max_length=MOST_QUBITS)]], Field(max_length=100_000)]
    offset: Annotated[list[FiniteFloat], Field(max_length=MOST_QUBITS)]
    angle_range: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]
    encoding: Text = "angle"


_Model = TypeVar("_Model", bound=BaseModel)


def parsed(model: type[_Model], content: bytes, where: str | Path) -> _Model:
    """``content`` as the JSON of a ``model``; raises QumosError that names ``where``, the field, and what is wrong with it."""
    data = parse_json(content, str(where))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise QumosError(f"{where}: {problem(dict(error.errors()[0]), data, lambda _: tuple(model.model_fields))}") from error


"""What the files of a bundle hold, as pydantic models: everything that is read from one is held against them.

``json_schemas`` writes them as JSON Schema; docs/schemas holds what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from ..design import Design
from ..design.cut_terms import LABELS, MAX_GATE_CUTS
from ..errors import QumosError, problem
from ..files import parse_json

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
MOST_QUBITS = 20
OWNER_FILES = tuple(f"owner/{name}.json" for name in ("assembly", "design", "head", "preprocessing"))
MOST_VERSION = 10**9

Text = Annotated[str, Field(max_length=200)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, hexadecimal")]
ProviderName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,99}$")]
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="of the model, in addresses too")]
Version = Annotated[int, Field(ge=1, le=MOST_VERSION, description="of the model; a later one is higher")]
Created = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", description="time of the export, UTC")]
FileName = Annotated[str, Field(pattern=r"^(owner|providers/[a-z][a-z0-9-]{0,99})/[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Relative, inside the folder, and no name that a system reads otherwise."""
CircuitFile = Annotated[str, Field(pattern=r"^part-\d{1,2}(-(I|Z|S|Sdg|M)){0,3}\.(json|qasm)$")]
Qubit = Annotated[int, Field(ge=0, lt=MOST_QUBITS)]
WireQubit = Annotated[int, Field(ge=0, lt=MOST_QUBITS + MAX_GATE_CUTS)]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Signature(_File):
    """Of the manifest's canonical JSON without ``value``, see ``qumos_env.deployment.signing``."""

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="of the owner, hexadecimal")]
    value: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$", description="hexadecimal")]


class Manifest(_File):
    """``manifest.json``: what the bundle is, and the digest of every other file. It stays with the owner."""

    schema_version: Literal[2]
    kind: Literal["qumos-bundle"]
    name: ModelName
    version: Version
    created: Created
    scenario: Text
    scenario_hash: Digest
    design_hash: Digest
    software: Annotated[dict[Text, Text], Field(max_length=50, description="versions of what trained it")]
    files: Annotated[dict[FileName, Digest], Field(max_length=10_000)]
    fallback: Annotated[bool, Field(description="whether the gateway may answer without a part, and say so")] = False
    seed: Annotated[int | None, Field(description="of the training rows and initial angles")] = None
    train_rows: int | None = None
    test_accuracy: FiniteFloat | None = None
    test_rows: int | None = None
    audit: Annotated[dict[str, Any] | None, Field(description="yardstick and scorecard of `qumos audit`")] = None
    unlearning: Annotated[dict[str, Any] | None, Field(description="what `qumos unlearn` did")] = None
    signature: Signature


class VariantEntry(_File):
    """One circuit of a part."""

    labels: Annotated[list[Literal["I", "Z", "S", "Sdg", "M"]], Field(max_length=MAX_GATE_CUTS)]
    circuit: CircuitFile
    qubits: Annotated[list[WireQubit], Field(min_length=1, max_length=MOST_QUBITS, description="of the part, then ancillas, as measured")]


class ProviderPart(_File):
    """A part as its provider knows it."""

    part: Qubit
    qubits: Annotated[list[Qubit], Field(min_length=1, max_length=MOST_QUBITS)]
    variants: Annotated[list[VariantEntry], Field(min_length=1, max_length=len(LABELS) ** MAX_GATE_CUTS)]


class ProviderManifest(_File):
    """``providers/<name>/manifest.json``: all that a provider is told, with the digests of its own files alone."""

    schema_version: Literal[2]
    kind: Literal["qumos-provider"]
    name: ModelName
    version: Version
    created: Created
    provider: ProviderName
    parts: Annotated[list[ProviderPart], Field(min_length=1, max_length=MOST_QUBITS)]
    files: Annotated[dict[CircuitFile, Digest], Field(max_length=10_000)]
    signature: Signature


class PartEntry(_File):
    """A part in the owner's assembly."""

    part: Qubit
    provider: ProviderName
    qubits: Annotated[list[Qubit], Field(min_length=1, max_length=MOST_QUBITS)]
    readout: Literal["Z on every qubit"]


class CutEntry(_File):
    """A gate cut in the owner's assembly."""

    gate: Literal["rzz"]
    angle: FiniteFloat
    qubits: Annotated[list[Qubit], Field(min_length=2, max_length=2)]
    parts: Annotated[list[Qubit], Field(min_length=2, max_length=2)]
    ancilla: WireQubit


class Assembly(_File):
    """``owner/assembly.json``: what the owner needs to put the results of the parts together."""

    classes: Annotated[list[Text], Field(min_length=2, max_length=1000)]
    n_qubits: Annotated[int, Field(ge=1, le=MOST_QUBITS)]
    parts: Annotated[list[PartEntry], Field(min_length=1, max_length=MOST_QUBITS)]
    axis: Annotated[Text, Field(description="rotation that encodes a feature")]
    fallback: Annotated[
        list[Annotated[float, Field(ge=-1.001, le=1.001)]] | None,
        Field(max_length=MOST_QUBITS, description="mean of Z of every qubit over the training rows, for answers without a part"),
    ] = None
    recombination: dict[str, Any] | None = None
    cuts: Annotated[list[CutEntry], Field(max_length=MAX_GATE_CUTS)] = []

    def differs_from(self, design: Design) -> str | None:
        """What it says otherwise than ``design``, or ``None``."""
        if self.n_qubits != design.n_qubits:
            return f"{self.n_qubits} qubits, the design has {design.n_qubits}"
        if self.fallback is not None and len(self.fallback) != self.n_qubits:
            return f"fallback values of {len(self.fallback)} qubits, the design has {self.n_qubits}"
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


FILES: Mapping[str, type[BaseModel]] = {
    "manifest": Manifest,
    "provider-manifest": ProviderManifest,
    "assembly": Assembly,
    "head": HeadFile,
    "preprocessing": PreprocessingFile,
}
"""The kinds of files by name; design.json and the circuits have formats of their own."""


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema (2020-12) of every kind of file."""
    return {name: {"$schema": "https://json-schema.org/draft/2020-12/schema"} | model.model_json_schema() for name, model in FILES.items()}


_Model = TypeVar("_Model", bound=BaseModel)


def parsed(model: type[_Model], content: bytes, where: str | Path) -> _Model:
    """``content`` as the JSON of a ``model``; raises QumosError that names ``where``, the field, and what is wrong with it."""
    data = parse_json(content, str(where))
    if isinstance(data, dict) and data.get("schema_version") == 1 and "schema_version" in model.model_fields:
        raise QumosError(f"{where}: a bundle of schema version 1, from before bundles were signed; export it again")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise QumosError(f"{where}: {problem(dict(error.errors()[0]), data, lambda _: tuple(model.model_fields))}") from error

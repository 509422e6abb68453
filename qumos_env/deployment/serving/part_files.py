"""A provider's folder, checked, as programs of fixed circuits; nothing in it needs Cirq."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from ...design.cut_terms import LABELS
from ...errors import QumosError
from ...simulation.instructions import Fixed, InputRotation, Instruction, Program, assemble
from ...simulation.states import PAULI
from ..circuit_files import PlainGate, read_moments
from ..folder import SignedFolder
from ..schema import ProviderManifest, ProviderPart


@dataclass(frozen=True)
class VariantFile:
    """One circuit of a part.

    Attributes:
        labels: of the cuts; empty where no cut touches the part.
        qubits: numbers of its line qubits: of the part, then ancillas.
        moments: its gates, angles bound, features open.
        program: the same for simulation; input i is the feature of qubit i of the part.
    """

    labels: tuple[str, ...]
    qubits: tuple[int, ...]
    moments: tuple[tuple[PlainGate, ...], ...]
    program: Program


@dataclass(frozen=True)
class PartFiles:
    """A part as its provider holds it; ``variants`` by labels in the order of ``product(LABELS, repeat=cuts)``."""

    index: int
    qubits: tuple[int, ...]
    variants: tuple[VariantFile, ...]

    @property
    def cuts(self) -> int:
        """How many gate cuts touch it."""
        return len(self.variants[0].labels)


@dataclass(frozen=True)
class ProviderFolder:
    """A provider's folder, read.

    Attributes:
        manifest: signed by the owner.
        digest: SHA-256 of the manifest's file.
        parts: by their numbers.
    """

    manifest: ProviderManifest
    digest: str
    parts: Mapping[int, PartFiles]


def read_provider(folder: Path, public_key: str | None = None, contents: Mapping[str, bytes] | None = None) -> ProviderFolder:
    """The provider's files in ``folder``, or ``contents`` in their place.

    Raises:
        QumosError: a signature by another key or of something else, or a file that is missing, changed or not of its kind.
    """
    files = SignedFolder(ProviderManifest, folder, public_key, contents)
    files.read_all()
    parts: dict[int, PartFiles] = {}
    for entry in files.manifest.parts:
        if entry.part in parts:
            raise QumosError(f"{folder}: part {entry.part} is listed twice")
        parts[entry.part] = _part(files, folder, entry)
    return ProviderFolder(files.manifest, files.digest, parts)


def _part(files: SignedFolder[ProviderManifest], folder: Path, entry: ProviderPart) -> PartFiles:
    own = tuple(entry.qubits)
    labels = [tuple(variant.labels) for variant in entry.variants]
    if labels != list(product(LABELS, repeat=len(labels[0]))):
        raise QumosError(f"{folder}: part {entry.part} lists other variants than those of {len(labels[0])} gate cut(s)")
    inputs = {f"x{qubit}": place for place, qubit in enumerate(own)}
    variants = []
    for listed, variant in zip(labels, entry.variants, strict=True):
        qubits = tuple(variant.qubits)
        if qubits[: len(own)] != own or len(set(qubits)) < len(qubits) or len(qubits) != len(own) + listed.count("M"):
            raise QumosError(f"{folder}: {variant.circuit} is listed with qubits that are not those of part {entry.part}")
        moments = read_moments(files.read(variant.circuit), qubits, inputs, str(folder / variant.circuit))
        place = {qubit: number for number, qubit in enumerate(qubits)}
        instructions = [_instruction(gate, place, inputs) for moment in moments for gate in moment]
        program = assemble(len(qubits), len(own), 0, instructions)
        variants.append(VariantFile(listed, qubits, tuple(map(tuple, moments)), program))
    return PartFiles(entry.part, own, tuple(variants))


def _instruction(gate: PlainGate, place: Mapping[int, int], inputs: Mapping[str, int]) -> Instruction:
    qubits = tuple(place[qubit] for qubit in gate.qubits)
    if isinstance(gate.angle, str):
        return InputRotation(gate.name[1].upper(), qubits[0], inputs[gate.angle])
    if gate.name in ("h", "cz", "cx"):
        return Fixed(gate.name, qubits)
    half = gate.angle / 2
    if gate.name == "rzz":
        signs = np.array([1, -1, -1, 1])
        return Fixed("matrix", qubits, np.diag(np.exp(-1j * half * signs)))
    matrix = math.cos(half) * np.eye(2) - 1j * math.sin(half) * PAULI[gate.name[1].upper()]
    return Fixed("matrix", qubits, matrix)

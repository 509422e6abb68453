"""One version of a model as the gateway serves it: the owner's half, what is pushed to providers, and simulations to check them by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import QumosError
from ...model.heads import softmax
from ..folder import SignedFolder, bundle_folder
from ..owner import OwnerModel, Seat, read_owner
from ..schema import MANIFEST, Manifest
from .engines import ExactEngine, readings
from .part_files import PartFiles, read_provider


@dataclass(frozen=True)
class Served:
    """A version.

    Attributes:
        owner: the owner's half.
        digest: SHA-256 of the manifest's file.
        files: of every provider's folder, texts by name, as they are pushed.
        seats: of every provider its parts.
        parts, engines: the circuits by part, and their simulation.
        groups: parts that gate cuts join, directly or through others.
    """

    owner: OwnerModel
    digest: str
    files: Mapping[str, Mapping[str, str]]
    seats: Mapping[str, tuple[Seat, ...]]
    parts: Mapping[int, PartFiles]
    engines: Mapping[int, ExactEngine]
    groups: tuple[frozenset[int], ...]

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.owner.manifest["name"])

    @property
    def version(self) -> int:
        """The number."""
        return int(self.owner.manifest["version"])

    @property
    def n_features(self) -> int:
        """Raw features of a row."""
        return len(self.owner.preprocessor.matrix)

    @property
    def public_key(self) -> str:
        """Who signed it."""
        return str(self.owner.manifest["signature"]["public_key"])

    def variants(self) -> dict[int, int]:
        """Of every part how many circuits it has."""
        return {index: len(part.variants) for index, part in self.parts.items()}

    def simulated(
        self, part: int, inputs: np.ndarray, shots: int | None = None, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """What an honest provider returns for ``part`` and encoded ``inputs`` ``[rows, n_qubits]`` of the register."""
        held = self.parts[part]
        exact = self.engines[part].outcomes(inputs[:, list(held.qubits)], None)
        if shots is not None and generator is not None:
            exact = [generator.multinomial(shots, probabilities) / shots for probabilities in exact]
        return readings(held, exact)

    def probabilities(self, results: Mapping[int, np.ndarray]) -> np.ndarray:
        """Class probabilities from the results of the parts; those that are missing are replaced, with all that cuts join to them.

        Raises:
            QumosError: a part is missing, and the owner allows no answer without it.
        """
        owner = self.owner
        missing = {part.index for part in owner.parts} - results.keys()
        if not missing:
            return softmax(owner.head(owner.reconstruct([results[part.index] for part in owner.parts])))
        if owner.fallback is None:
            raise QumosError(f"part {min(missing)} is missing")
        lost = frozenset().union(*(group for group in self.groups if group & missing))
        rows = next((len(one) for one in results.values()), 0)
        filled = [
            np.zeros((rows, len(self.parts[part.index].variants), 1 + len(part.qubits))) if part.index in lost else results[part.index]
            for part in owner.parts
        ]
        for part, one in zip(owner.parts, filled, strict=True):
            if part.index in lost:
                one[:, :, 0] = 1  # no sign of an M may make what is left of other parts vanish
        values = owner.reconstruct(filled)
        for part in owner.parts:
            if part.index in lost:
                values[:, list(part.qubits)] = owner.fallback[list(part.qubits)]
        return softmax(owner.head(values))


def read_served(folder: Path, public_key: str | None = None, contents: Mapping[str, bytes] | None = None) -> Served:
    """The bundle in ``folder``, or of ``contents``, for the gateway.

    Raises:
        QumosError: not whole, not signed, or not by ``public_key``.
    """
    files = bundle_folder(folder, public_key) if contents is None else SignedFolder(Manifest, folder, public_key, contents)
    every = files.read_all()
    owner = read_owner(files, folder)
    pushed: dict[str, dict[str, str]] = {}
    parts: dict[int, PartFiles] = {}
    seats: dict[str, tuple[Seat, ...]] = {}
    for provider in sorted({seat.provider for seat in owner.parts}):
        home = f"providers/{provider}/"
        mine = {name.removeprefix(home): content for name, content in every.items() if name.startswith(home)}
        held = read_provider(folder / home, files.manifest.signature.public_key, mine)
        theirs, ours = held.manifest, files.manifest
        if (theirs.name, theirs.version, theirs.created, theirs.provider) != (ours.name, ours.version, ours.created, provider):
            raise QumosError(f"{folder / home / MANIFEST}: of another bundle ({theirs.name}, version {theirs.version}, {theirs.created})")
        seats[provider] = tuple(seat for seat in owner.parts if seat.provider == provider)
        for seat in seats[provider]:
            found = held.parts.get(seat.index)
            if found is None or found.qubits != seat.qubits or found.cuts != len(seat.cuts):
                raise QumosError(f"{folder / home}: part {seat.index} is not that of the design")
            parts[seat.index] = found
        needed = {MANIFEST, *theirs.files}
        pushed[provider] = {name: mine[name].decode("utf-8") for name in needed}
    engines = {index: ExactEngine(part, np.random.default_rng(0)) for index, part in parts.items()}
    return Served(owner, files.digest, pushed, seats, parts, engines, _groups(owner))


def _groups(owner: OwnerModel) -> tuple[frozenset[int], ...]:
    group = {part.index: {part.index} for part in owner.parts}
    for cut in range(len(owner.cut_angles)):
        joined = set().union(*(group[part.index] for part in owner.parts if cut in part.cuts))
        for index in joined:
            group[index] = joined
    return tuple({frozenset(one) for one in group.values()})


def contents_of(folder: Path) -> dict[str, bytes]:
    """All files of the bundle in ``folder`` that its manifest lists, and the manifest, by their names."""
    files = bundle_folder(folder)
    return {MANIFEST: (folder / MANIFEST).read_bytes(), **files.read_all()}


def card_facts(served: Served) -> dict[str, object]:
    """What the page shows of a version, as plain JSON data."""
    manifest = served.owner.manifest
    shown = ("name", "version", "created", "scenario", "test_accuracy", "test_rows", "train_rows", "audit", "unlearning")
    facts: dict[str, object] = json.loads(json.dumps({name: manifest[name] for name in shown if name in manifest}))
    return facts

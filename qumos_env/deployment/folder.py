"""Folders of signed files: read once, whole, and only what the manifest lists with its checksum."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import QumosError
from ..files import parse_json, read_bytes
from .schema import MANIFEST, OWNER_FILES, Manifest, ProviderManifest, parsed
from .signing import check_signature

MOST_BYTES = 256 * 2**20
"""Of all files of a bundle together; those of a design with three cuts at one part have some megabytes."""
_M = TypeVar("_M", Manifest, ProviderManifest)


class SignedFolder(Generic[_M]):
    """The files of a folder with a signed manifest.

    Args:
        kind: of the manifest.
        folder: where.
        public_key: the key that the signature must be from; default any.
        contents: the files by their names, in the place of those in the folder.

    Attributes:
        manifest: the manifest.

    Raises:
        QumosError: no manifest, one of another kind, or one that its signature does not hold for.
    """

    def __init__(self, kind: type[_M], folder: Path, public_key: str | None = None, contents: Mapping[str, bytes] | None = None) -> None:
        self._folder, self._contents = folder, contents
        self._kept: dict[str, bytes] = {}
        try:
            content = read_bytes(folder / MANIFEST, MOST_BYTES) if contents is None else contents[MANIFEST]
        except (QumosError, KeyError) as error:
            raise QumosError(f"{folder}: no readable {MANIFEST} ({error})") from error
        self.manifest: _M = parsed(kind, content, folder / MANIFEST)
        check_signature(parse_json(content, str(folder / MANIFEST)), folder / MANIFEST, public_key)
        self.digest = hashlib.sha256(content).hexdigest()

    def read(self, name: str) -> bytes:
        """The content of the file that the manifest calls ``name``; raises QumosError where it is not as it was written, or not there."""
        if name in self._kept:
            return self._kept[name]
        if name not in self.manifest.files:
            raise QumosError(f"{self._folder}: {MANIFEST} does not list {name}")
        content = self._found(name)
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise QumosError(f"{self._folder}: {name} fails its checksum")
        self._kept[name] = content
        return content

    def read_all(self) -> dict[str, bytes]:
        """All files that the manifest lists, by their names."""
        return {name: self.read(name) for name in self.manifest.files}

    def _found(self, name: str) -> bytes:
        if self._contents is not None:
            if name not in self._contents:
                raise QumosError(f"{self._folder}: {name} is missing")
            return self._contents[name]
        path = self._folder
        for step in name.split("/"):
            path = path / step
            try:
                kind = path.lstat().st_mode
            except OSError as error:
                raise QumosError(f"{self._folder}: {name} is missing") from error
            if stat.S_ISLNK(kind):
                raise QumosError(f"{self._folder}: {name} is reached by a link; a bundle holds its own files")
        return read_bytes(path, MOST_BYTES - sum(map(len, self._kept.values())))


def bundle_folder(folder: Path, public_key: str | None = None) -> SignedFolder[Manifest]:
    """The files of the bundle in ``folder``; raises QumosError as ``SignedFolder``, and where the owner's files are not listed."""
    files = SignedFolder(Manifest, folder, public_key)
    missing = set(OWNER_FILES) - files.manifest.files.keys()
    if missing:
        raise QumosError(f"{folder / MANIFEST}: does not list {min(missing)}")
    return files

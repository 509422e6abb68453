"""The tokens by which the gateway and a provider know each other: one per provider, in the provider's folder and in the owner's."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from ..errors import QumosError
from ..files import parse_json, read_bytes, write_text
from .schema import Manifest

PROVIDER_FILE = "token"
OWNER_FILE = "owner/tokens.json"
_FILE_MODE = 0o600
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,200}")


def providers_of(manifest: Manifest) -> tuple[str, ...]:
    """Names of the providers of a bundle, sorted."""
    return tuple(sorted({name.split("/")[1] for name in manifest.files if name.startswith("providers/")}))


def token_files(manifest: Manifest) -> tuple[str, ...]:
    """Names of the files with tokens in a bundle."""
    return (OWNER_FILE, *(f"providers/{name}/{PROVIDER_FILE}" for name in providers_of(manifest)))


def write_tokens(folder: Path, manifest: Manifest, keep: Mapping[str, str] | None = None) -> None:
    """Writes a token for every provider of the bundle in ``folder``: that in ``keep``, or a new one of 256 bits."""
    tokens = {name: (keep or {}).get(name) or secrets.token_urlsafe(32) for name in providers_of(manifest)}
    for name, token in tokens.items():
        write_text(folder / "providers" / name / PROVIDER_FILE, token + "\n", _FILE_MODE)
    write_text(folder / OWNER_FILE, json.dumps(tokens, indent=2) + "\n", _FILE_MODE)


def read_token(path: Path) -> str:
    """The token in a provider's file; raises QumosError where there is none."""
    return _checked(read_bytes(path).decode("ascii", "replace").strip(), path)


def read_tokens(path: Path) -> dict[str, str]:
    """The tokens in the owner's file, by provider; raises QumosError where they are none."""
    data = parse_json(read_bytes(path), str(path))
    if not isinstance(data, dict):
        raise QumosError(f"{path}: a table of tokens by provider is needed")
    return {str(name): _checked(token, path) for name, token in data.items()}


def _checked(token: object, path: Path) -> str:
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise QumosError(f"{path}: holds no token of 32 to 200 letters, digits, - and _")
    return token

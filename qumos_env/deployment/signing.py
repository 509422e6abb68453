"""Signatures of manifests: Ed25519 (RFC 8032) over their canonical JSON, with the owner's key.

What is signed is the whole manifest but for the signature's own value: names, version number, time, figures, and the digest of every
file. Canonical JSON is what Python writes with sorted keys, no spaces and no escapes, as UTF-8.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ..errors import QumosError, one_line, shown
from ..files import read_bytes

ALGORITHM = "ed25519"
_KEY_MODE = 0o600


def default_key_path() -> Path:
    """Where the owner's key is unless told otherwise: in the owner's folder of settings."""
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "qumos" / "owner-key.pem"


def owner_key(path: str | Path | None = None) -> Ed25519PrivateKey:
    """The owner's signing key from the PEM file ``path``; the default one is made when it is missing, another is not.

    Raises:
        QumosError: no file at ``path``, or one that holds no Ed25519 key without a password.
    """
    where = default_key_path() if path is None else Path(path)
    if path is None and not where.exists():
        _create(where)
    try:
        key = load_pem_private_key(read_bytes(where), password=None)
    except (ValueError, TypeError) as error:  # QumosError among them
        if isinstance(error, QumosError):
            raise
        raise QumosError(f"{where}: holds no private key in PEM without a password ({one_line(error)[:100]})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise QumosError(f"{where}: holds a key of another kind, an Ed25519 key is needed")
    return key


def new_key(path: str | Path) -> Ed25519PrivateKey:
    """A new key in the PEM file ``path``, which only its owner may read; raises QumosError where there is one already."""
    where = Path(path)
    if where.exists():
        raise QumosError(f"{where}: exists already; a key that is replaced can sign no more versions of its models")
    _create(where)
    return owner_key(where)


def _create(where: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        beside = where.with_name(f".{where.name}-{os.getpid()}")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _KEY_MODE), "wb") as handle:
            handle.write(pem)
        try:
            os.link(beside, where)  # of two processes that make one, the first wins and both use it
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    except OSError as error:
        raise QumosError(f"{where}: cannot be written ({error.strerror})") from error


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half of ``key``, 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def signed(manifest: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """``manifest`` with the signature by ``key``, in the place of any that it has."""
    found = dict(manifest) | {"signature": {"algorithm": ALGORITHM, "public_key": public_hex(key)}}
    found["signature"]["value"] = key.sign(_canonical(found)).hex()
    return found


def check_signature(manifest: Mapping[str, Any], where: str | Path, public_key: str | None = None) -> None:
    """Checks the signature of ``manifest``, JSON data that has the fields of one.

    Args:
        manifest: with its signature.
        where: what errors name.
        public_key: the key that it must be from; default any.

    Raises:
        QumosError: it is from another key, or not of this content.
    """
    signature = manifest["signature"]
    if public_key is not None and signature["public_key"] != public_key.lower():
        raise QumosError(f"{where}: signed with key {signature['public_key']}, not with the expected {shown(public_key.lower())}")
    bare = dict(manifest) | {"signature": {name: value for name, value in signature.items() if name != "value"}}
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"])).verify(
            bytes.fromhex(signature["value"]), _canonical(bare)
        )
    except (InvalidSignature, ValueError) as error:
        raise QumosError(f"{where}: the signature is not of this content; the manifest was changed, or forged") from error


def _canonical(data: Mapping[str, Any]) -> bytes:
    # Surrogates pass: they are no text, but a manifest that holds some is refused by its signature and not by an error of encoding.
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")

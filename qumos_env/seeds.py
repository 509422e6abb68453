"""Seeds by name: what a random number is for is a readable word, and no two purposes share one by accident."""

from __future__ import annotations

import hashlib


def label(text: str) -> int:
    """The word that stands for ``text`` in a sequence of seeds, such as ``default_rng([seed, draw, label("thief's guess")])``.

    The first four bytes of its SHA-256, so that it is the same everywhere, and never 0: NumPy takes [seed] and [seed, 0] for the same.
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") | 1

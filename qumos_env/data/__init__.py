"""Data: where rows come from, how they are split and redrawn, and how features become angles."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoder import AngleEncoder
    from .preprocessing import Preprocessor
    from .protocol import DataProtocol, Draw, make_protocol
    from .sources import Dataset, list_datasets, load_dataset

_EXPORTS = {
    "AngleEncoder": "encoder",
    "DataProtocol": "protocol",
    "Dataset": "sources",
    "Draw": "protocol",
    "Preprocessor": "preprocessing",
    "list_datasets": "sources",
    "load_dataset": "sources",
    "make_protocol": "protocol",
}
__all__ = ["AngleEncoder", "DataProtocol", "Dataset", "Draw", "Preprocessor", "list_datasets", "load_dataset", "make_protocol"]


def __getattr__(name: str) -> object:
    # Lazy: a server that only applies a fitted preprocessing starts without scikit-learn.
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)

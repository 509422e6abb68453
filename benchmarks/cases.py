"""Importing this module registers every case, in the order in which they run."""

from . import evaluation, gradient, engine, layer, searching, stepping, table  # isort: skip
from .registry import CASES

__all__ = ["CASES", "engine", "evaluation", "gradient", "layer", "searching", "stepping", "table"]

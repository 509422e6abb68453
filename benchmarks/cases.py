"""Importing this module registers every case, in the order in which they run."""

from . import evaluation, gradient, stepping
from .registry import CASES

__all__ = ["CASES", "evaluation", "gradient", "stepping"]

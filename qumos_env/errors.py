"""Errors that a user can act on: one line that says what is wrong, where, and the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QumosError(ValueError):
    """Input that cannot be used; the message is a single line meant for a person."""


class EvaluationFailure(RuntimeError):
    """A valid design whose evaluation broke down, for instance because its training diverged."""


def unknown(kind: str, given: object, choices: Iterable[object]) -> QumosError:
    """The error for a name that is not among ``choices``; it offers the nearest ones."""
    names = sorted(str(choice) for choice in choices)
    near = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names) or 'nothing'}"
    return QumosError(f"unknown {kind} {str(given)!r}; {hint}")


def one_line(message: object) -> str:
    """``message`` on a single line."""
    return " ".join(str(message).split())

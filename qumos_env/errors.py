"""Errors that a user can act on: one line that says what is wrong, where, and the nearest valid choice."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

MOST_CHARACTERS = 400
"""Of the message of a ``QumosError``."""
_MOST_OF_A_VALUE = 60
_MOST_ITEMS = 3  # of a list that is quoted
_MOST_CHOICES = 20
_PLAIN = (str, bytes, int, float, type(None))


class QumosError(ValueError):
    """Input that cannot be used; the message is a single line meant for a person, see ``one_line``."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class EvaluationFailure(RuntimeError):
    """A valid design whose evaluation broke down, for instance because its training diverged."""


def unknown(kind: str, given: object, choices: Iterable[object]) -> QumosError:
    """The error for a name that is not among ``choices``; it offers the nearest ones."""
    names = sorted(str(choice) for choice in choices)
    name = shortened(given if isinstance(given, str) else shown(given), _MOST_OF_A_VALUE)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    more = f" and {len(names) - _MOST_CHOICES} more" if len(names) > _MOST_CHOICES else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names[:_MOST_CHOICES]) or 'nothing'}{more}"
    return QumosError(f"unknown {kind} {name!r}; {hint}")


def one_line(message: object, most: int = MOST_CHARACTERS) -> str:
    """``message`` on a single line of at most ``most`` characters, what cannot be printed escaped."""
    # Cut before as well as after: a message may quote a whole file.
    text = " ".join(shortened(str(message), 4 * most).split())
    return shortened("".join(map(_printable, text)), most)


def shortened(text: str, most: int) -> str:
    """``text``, or where it has more than ``most`` characters its beginning and end with an ellipsis between."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def shown(value: object) -> str:
    """``value`` as a message quotes it: as Python writes it, but never long, and whatever it is without an error of its own."""
    if isinstance(value, (str, bytes)):
        size = f" ({len(value)} characters)" if len(value) > _MOST_OF_A_VALUE else ""
        return repr(shortened(value, _MOST_OF_A_VALUE) if isinstance(value, str) else value[:_MOST_OF_A_VALUE]) + size
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 100:
        # Python refuses to write out thousands of digits.
        return f"about {'-' if value < 0 else ''}1e{math.floor(value.bit_length() * math.log10(2))}"
    if isinstance(value, Mapping):
        return f"a table with {len(value)} field(s)"
    if isinstance(value, (list, tuple, set, frozenset)):
        # Of lists inside lists only the outermost is written out: they may be nested without end.
        items = [shown(item) if isinstance(item, _PLAIN) else "…" for item in islice(value, _MOST_ITEMS)]
        more = f", … ({len(value)} in all)" if len(value) > _MOST_ITEMS else ""
        return f"[{', '.join(items)}{more}]"
    return shortened(repr(value), _MOST_OF_A_VALUE)


def problem(found: Mapping[str, Any], data: object, fields: Callable[[tuple[int | str, ...]], Sequence[str]]) -> str:
    """The field that is wrong, what is wrong with it, and the value that was given.

    Args:
        found: the first entry of pydantic's ``ValidationError.errors()``.
        data: what was validated.
        fields: names of the fields of the table at a location.
    """
    message = str(found["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    if found["type"] == "extra_forbidden":
        message = str(unknown("field", found["loc"][-1], fields(found["loc"][:-1])))
    # Of what is too long, and of what a check of ours refuses, the message itself says how much it is.
    elif found["type"] not in ("missing", "value_error") and isinstance(found["input"], _PLAIN):
        message += f", got {shown(found['input'])}"
    return ": ".join(filter(None, (_field(found, data), message)))


def _field(found: Mapping[str, Any], data: object) -> str:
    """Where it is in ``data``: ``providers.0.name``. Pydantic also names the members of unions, which no file does."""
    steps, last = [], len(found["loc"]) - 1
    for number, step in enumerate(found["loc"]):
        if isinstance(data, (Mapping, list, tuple)):
            try:
                data = data[step]
            except (LookupError, TypeError):
                if found["type"] != "missing" or number < last:
                    continue
            steps.append(shortened(str(step), _MOST_OF_A_VALUE))
    return ".".join(steps)


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")

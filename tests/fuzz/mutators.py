"""Mutations of valid content: plain data as TOML and JSON hold it, tables of text, and bytes. All randomness from the generator."""

from __future__ import annotations

import copy
import datetime
import json
import math
from typing import Any

import numpy as np

NUMBERS: tuple[int | float, ...] = (
    *(0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 20, 21, 50, 100, 101, 1000, 1001, 2000, 2001, 10**4, 10**5, 10**6, 10**7, 10**9, 10**12),
    *(2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, -(10**400), 10**4000),
    *(0.5, 1.5, -0.5, 1e-300, 5e-324, 1e-9, 1e-12, 1e9, 1e12, 1e15, 1e30, 1e200, 1e300, 1.7e308, -1e300, math.nan, math.inf, -math.inf),
)
TEXTS = (
    *("", " ", "x", "X", "1", "0", "-1", "1e400", "nan", "true", "null", "iris", "digits", "two-curves", "hyperplanes", "parity", "gates"),
    *("[bold]x[/bold]", "[/]", "[red", ":smile:", "a\nb", "a\r\nb", "\t", "\x00", "a\x00.csv", "\x1b[31m", "\x7f", "\u0085", "\u2028"),
    *("\u202e", "\u200b", "\ufeff", "é", "ﷺ", "👍", "\udc80", "e" + "\u0301" * 500, "%s%n", "{0}", "${HOME}", "'; --", "\\", '"', "'''"),
    *("~", "~/x.csv", "~nobody-there/x.csv", "x" * 300 + ".csv", "../" * 200 + "x.npz", "/dev/zero", "/dev/zero.csv", "/", ".", ".."),
    *(".csv", "x.csv/", "x.toml", "/x.toml", "ibm-heron", "ideal", "x" * 5000, "a-" * 60_000, "\n" * 20_000, "0" * 10_000),
    *("ry", "rzz", "aurora"),
)
DATES = (datetime.date(2024, 1, 1), datetime.datetime(1, 1, 1), datetime.time(23, 59))


class Raw(str):
    """Text that stands in a file as it is."""


def text_of(value: Any, toml: bool) -> str:
    """``value`` as TOML or JSON writes it; what the format cannot hold becomes something malformed."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, dict):
        between, ends = (" = ", ", ") if toml else (": ", ", ")
        pairs = (json.dumps(str(key), ensure_ascii=False) + between + text_of(item, toml) for key, item in value.items())
        return "{" + ends.join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(text_of(item, toml) for item in value) + "]"
    if isinstance(value, float):
        return repr(value) if toml else json.dumps(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)


def toml_of(value: Any, generator: np.random.Generator) -> str:
    """``value`` as a TOML document, its tables as sections or inline."""
    if not isinstance(value, dict):
        return text_of(value, True)
    lines, sections = [], []
    for key, item in value.items():
        name = key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key, ensure_ascii=False)
        if isinstance(item, dict) and item and generator.random() < 0.7:
            sections += [f"[{name}]", *(f"{json.dumps(str(k), ensure_ascii=False)} = {text_of(v, True)}" for k, v in item.items())]
        else:
            lines.append(f"{name} = {text_of(item, True)}")
    return "\n".join([*lines, *sections]) + "\n"


def pick(generator: np.random.Generator, choices: Any) -> Any:
    """One of ``choices``, as it is (NumPy would make an array of them)."""
    return choices[int(generator.integers(len(choices)))]


def size(generator: np.random.Generator, most: int) -> int:
    """A number from 1 to ``most``, small ones as likely as large ones."""
    return int(most ** generator.random())


def times(generator: np.random.Generator) -> int:
    """How many mutations: mostly one, so that many files are nearly valid."""
    return int(pick(generator, (1, 1, 1, 2, 3)))


def nested(generator: np.random.Generator, as_text: bool) -> Any:
    """Lists or tables inside each other, up to 100,000 deep."""
    depth, table = size(generator, 100_000), generator.random() < 0.5
    if as_text:
        return Raw(('{"a": ' if generator.random() < 0.5 else "{a = ") * depth + "1" + "}" * depth if table else "[" * depth + "]" * depth)
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if table else [value]
    return value


def anything(generator: np.random.Generator, as_text: bool) -> Any:
    """A value that hardly belongs where it is put."""
    kind = generator.integers(12)
    if kind < 4:
        return pick(generator, NUMBERS)
    if kind < 7:
        return pick(generator, TEXTS)
    if kind == 7:
        return pick(generator, (None, True, False, [], {}, [[]], [None], {"a": 1}, {"": ""}, *DATES))
    if kind == 8:
        return [pick(generator, NUMBERS[:31])] * size(generator, 100_000)
    if kind == 9:
        return [pick(generator, TEXTS[:30])] * size(generator, 10_000)
    if kind == 10:
        return {f"{pick(generator, TEXTS[:30])}{number}": pick(generator, NUMBERS) for number in range(size(generator, 10_000))}
    return nested(generator, as_text)


def _place(value: Any, generator: np.random.Generator) -> tuple[Any, ...]:
    """The path of one of the values inside ``value``, those in few and small tables as likely as those in many."""
    path: tuple[Any, ...] = ()
    while isinstance(value, (dict, list)) and value and (not path or generator.random() < 0.85):
        step = pick(generator, list(value)[:100]) if isinstance(value, dict) else int(generator.integers(len(value)))
        path, value = (*path, step), value[step]
    return path


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def mutated(value: Any, generator: np.random.Generator, as_text: bool = False) -> Any:
    """A copy of ``value`` with one to three mutations.

    Args:
        value: dictionaries, lists and scalars.
        generator: source of all choices.
        as_text: it will be written to a file, so it may hold ``Raw`` text.
    """
    valid, value = value, copy.deepcopy(value)
    for _ in range(times(generator)):
        place = _place(value, generator)
        if not place:
            return anything(generator, as_text)
        above = _at(value, place[:-1])
        old = above[place[-1]]
        number = isinstance(old, (int, float)) and not isinstance(old, bool)
        kind = generator.integers(12)
        if number and kind < 5 and abs(old) < 2**60:
            factor = 10.0 ** generator.uniform(-2, 5)
            above[place[-1]] = round(old * factor) if isinstance(old, int) else old * factor
        elif number and kind < 9:
            above[place[-1]] = pick(generator, NUMBERS)
        elif kind < 7:
            above[place[-1]] = anything(generator, as_text)
        elif kind == 7:
            del above[place[-1]]
        elif kind == 8 and isinstance(above, dict):
            above[pick(generator, (*TEXTS, *above))] = anything(generator, as_text)
        elif kind == 9 and isinstance(old, list):
            above[place[-1]] = old * size(generator, 20_000)
        else:
            above[place[-1]] = copy.deepcopy(_at(valid, _place(valid, generator)))
    return value


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """``content`` with one to three pieces cut off, changed, repeated or put in."""
    for _ in range(times(generator)):
        at, end = sorted(int(place) for place in generator.integers(0, len(content) + 1, 2))
        kind = generator.integers(7)
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content = content[:at] + content[end:]
        elif kind == 2:
            content = content[:at] + generator.bytes(size(generator, 64)) + content[at:]
        elif kind == 3:
            changed = bytearray(content)
            for place in generator.integers(0, max(1, len(content)), size(generator, 16)):
                changed[place : place + 1] = generator.bytes(1)
            content = bytes(changed)
        elif kind == 4:
            content = content[:at] + content[at : at + 200] * size(generator, 1000) + content[at:]
        elif kind == 5:
            put_in = pick(generator, TEXTS).encode("utf-8", "surrogatepass")
            content = content[:at] + put_in + content[end if generator.random() < 0.3 else at :]
        else:
            digits = np.flatnonzero(np.isin(np.frombuffer(content, np.uint8), list(b"0123456789")))
            if len(digits):
                place = int(pick(generator, digits))
                content = content[:place] + str(pick(generator, NUMBERS)).encode() + content[place + 1 :]
    return content

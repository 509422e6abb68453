"""Plain data from files, command lines and settings as frozen values: every field checked, nothing unknown let through."""

from __future__ import annotations

from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import QumosError, one_line, shortened, unknown

LARGEST = 10**9
"""Above any count that makes sense by a factor of a thousand."""
SHOWN = 80
"""Characters of a text from a file or a command line that a message quotes."""


class Record(BaseModel):
    """A frozen value with typed fields; nothing is converted but JSON lists to tuples and whole numbers to floats."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


R = TypeVar("R", bound=Record)


def parse(kind: type[R], data: object, where: str, *, what: str = "field") -> R:
    """``data`` as a ``kind``.

    Args:
        kind: the record.
        data: JSON as bytes, or plain data, or the fields of a record.
        where: what the error names: a file, a line of it, or whose settings these are.
        what: what a field is called there.

    Raises:
        QumosError: one line with the first field that is wrong; for an unknown one the nearest names are offered.
    """
    try:
        return kind.model_validate_json(data) if isinstance(data, bytes) else kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = shortened(".".join(str(step) for step in first["loc"]), SHOWN)
        message = one_line(first["msg"].removeprefix("Value error, "))
        if first["type"] == "json_invalid":
            message = f"not JSON ({message.removeprefix('Invalid JSON: ')})"
        elif first["type"] == "extra_forbidden":
            message = str(unknown(f"{what} in {where}", str(first["loc"][-1]), _fields(kind, first["loc"][:-1])))
            raise QumosError(message) from error
        elif place:
            message = f"{place}: {message}"
        raise QumosError(f"{where}: {shortened(message, 3 * SHOWN)}") from error


def _fields(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The fields of the model at ``location`` inside ``kind``."""
    for step in location:
        if isinstance(step, str) and step in kind.model_fields:
            annotation = kind.model_fields[step].annotation
            models = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type) and issubclass(one, BaseModel)]
            kind = models[0] if models else kind
    return list(kind.model_fields)

"""What is expensive to make and often asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by name, made when asked for; the ``size`` that were asked for last are kept."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._kept: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str, make: Callable[[], T]) -> T:
        """The value called ``name``, by ``make`` if it is not there."""
        value = self._kept.pop(name) if name in self._kept else make()
        # Back at the end: dictionaries keep the order in which names came.
        self._kept[name] = value
        if len(self._kept) > self.size:
            del self._kept[next(iter(self._kept))]
        return value

"""All attacks: importing this module imports every module in the folders of the goals, which fills the registry."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .registry import ATTACKS, GOALS, Attack

for _goal in GOALS:
    _folder = import_module(f"{__package__}.{_goal}")
    for _module in iter_modules(_folder.__path__, f"{_folder.__name__}."):
        import_module(_module.name)


def all_attacks() -> tuple[Attack, ...]:
    """Every registered attack, also those from elsewhere: by goal, then by name."""
    return tuple(sorted(ATTACKS.values(), key=lambda one: (GOALS.index(one.goal), one.name)))

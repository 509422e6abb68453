"""docs/environments.md: what it lists is what there is, and its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qumos_env.env.actions import NumberedActions
from qumos_env.env.context_env import ContextEnv, flat_context_env
from qumos_env.env.padding import padded_table
from qumos_env.env.variants import AXES
from qumos_env.registration import CONTEXT_IDS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| (.+?) \|", TEXT, re.M)


def test_every_entry_of_the_observation_is_listed_in_order_with_its_shape() -> None:
    env = ContextEnv(["iris-smoke"])
    shapes = {name: " × ".join(map(str, shape)) for name, shape in env.encoder.shapes.items()} | {"last_action": "actions"}
    listed: dict[str, str] = {}
    for name, shape in ROWS:
        if name.strip("`") in shapes:
            listed.setdefault(name.strip("`"), shape)  # two axes of variation have names of entries
    assert list(listed.items()) == list(shapes.items())
    size = flat_context_env(scenarios=["iris-smoke"]).observation_space["observations"].shape[0]
    assert f"({size:,} numbers)" in TEXT


def test_actions_axes_arguments_and_ids_are_listed() -> None:
    def count(table: NumberedActions, *kinds: str) -> int:
        return sum(action.kind in kinds for action in table.actions)

    table = padded_table()
    numbers = [int(number) for _, number in ROWS[[name for name, _ in ROWS].index("`part(j)`") :][:6]]
    kinds = [("part",), ("assign",), ("gate",), ("layer", "chain", "ring"), ("shots",), ("finish",)]
    assert numbers == [count(table, *one) for one in kinds] and sum(numbers) == len(table)
    for name in (*AXES, *CONTEXT_IDS, "scenarios", "randomise", "padding", "keep"):
        assert any(f"`{name}`" in row[0] for row in ROWS), name


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.S))
def test_every_piece_of_python_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

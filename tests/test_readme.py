"""Every command of the README, in the order in which a newcomer meets them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What makes a line quick, with the same words otherwise.
QUICK = {"--budget 600": "--budget 6 --set batch=4", "--budget 200": "--budget 4", "--seeds 3": "--seeds 2"}
ADDED = {"qumos audit": "--seeds 1", "qumos scenarios check": "--designs 4"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("qumos ", "python -m training", "cp "))]


@pytest.mark.slow
@pytest.mark.rllib
def test_every_command_runs_in_order(tmp_path: Path) -> None:
    """In a folder of its own, each with what those before it wrote."""
    pytest.importorskip("ray")
    shutil.copytree(ROOT / "scenarios", tmp_path / "scenarios")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = commands()
    assert len(ran) > 12
    for line in ran:
        quick = line
        for words, fewer in QUICK.items():
            quick = quick.replace(words, fewer)
        quick = " ".join([quick, *(more for words, more in ADDED.items() if line.startswith(words))])
        words = shlex.split(quick)
        if words[0] == "qumos":
            words = [sys.executable, "-c", "from qumos_env.cli import main; main()", *words[1:]]
        elif words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_every_piece_of_python_runs() -> None:
    """The environment is played, the layer differentiated."""
    for code in blocks("python"):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]

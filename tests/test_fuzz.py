"""A few hundred mutated files of every kind; `python -m tests.fuzz` runs as many as one likes."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qumos_env.errors import QumosError
from tests.fuzz import harness
from tests.fuzz.harness import fuzz
from tests.fuzz.mutators import damaged, mutated
from tests.fuzz.subject import Reading, Subject
from tests.fuzz.subjects import SUBJECTS

ROOT = Path(__file__).resolve().parent.parent
CASES = 80


def test_mutated_files_load_or_are_refused_with_one_line() -> None:
    """In a process of its own, as the command runs them: forking needs one without threads."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--cases", str(CASES), "--seed", "0"], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^(\w+): (\d+) load, (\d+) are refused, 0 faults$", done.stdout, re.M)
    assert [name for name, _, _ in lines] == [subject.name for subject in SUBJECTS]
    for _, loaded, refused in lines:
        assert int(loaded) + int(refused) == CASES and int(loaded) >= CASES / 30 and int(refused) >= CASES / 3


def test_mutations_are_the_same_for_the_same_seed() -> None:
    data = {"a": 1, "b": [1, 2, {"c": "x"}], "d": {"e": 0.5}}
    for seed in range(50):
        first, second = (mutated(data, np.random.default_rng(seed), as_text=True) for _ in range(2))
        assert repr(first) == repr(second)
        first, second = (damaged(b"some 1 text 2", np.random.default_rng(seed)) for _ in range(2))
        assert first == second
    assert data == {"a": 1, "b": [1, 2, {"c": "x"}], "d": {"e": 0.5}}


# --- what the harness calls a fault ---


def _wait() -> None:
    time.sleep(60)


def _compute() -> None:
    while True:
        pass


def _fill() -> None:
    np.ones(harness.MEMORY // 4)


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse() -> None:
    raise QumosError("no")


def _refuse_at_length() -> None:
    error = QumosError("no")
    error.args = ("x" * 500,)
    raise error


def _refuse_in_lines() -> None:
    error = QumosError("no")
    error.args = ("a\nb",)
    raise error


def _break() -> None:
    raise KeyError("field")


@pytest.mark.parametrize(
    ("reading", "fault"),
    [
        (_wait, "more than 1 s"),
        (_compute, "more than 1 s of processor time"),
        (_fill, "MemoryError"),
        (_crash, "the process was ended by SIGKILL"),
        (_refuse_at_length, "a message of 500 characters"),
        (_refuse_in_lines, "a message that is no printable line"),
        (_break, "KeyError: 'field' (test_fuzz.py:"),
    ],
)
def test_every_kind_of_fault_is_found_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: Reading, fault: str
) -> None:
    """The third case is at fault, the others are not."""
    monkeypatch.setattr(harness, "CLOCK_SECONDS", 1 if reading is _wait else 60)
    monkeypatch.setattr(harness, "PROCESSOR_SECONDS", 1)
    asked = tmp_path / "asked"
    asked.touch()

    def case(generator: np.random.Generator, folder: Path) -> Reading:
        with asked.open("a") as file:
            file.write("x")
        return reading if len(asked.read_text()) == 3 else _refuse

    report = fuzz(Subject("none", case), 5, seed=0)
    assert list(report.faults) == [2] and report.faults[2].startswith(fault), report
    assert (report.loaded, report.refused) == (0, 4)


def test_the_limits_of_a_case_end_with_its_process() -> None:
    """They are those of a fork, never of the process that asks."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert fuzz(Subject("none", lambda generator, folder: _refuse), 3, seed=0).refused == 3
    assert resource.getrlimit(resource.RLIMIT_AS) == before and signal.alarm(0) == 0

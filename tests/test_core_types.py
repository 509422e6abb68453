"""What must be the same on every processor, computed as the other ones compute that this one can stand in for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from cores import core_types
from native_circuits import native_circuits


def test_native_circuits_are_the_same_on_every_processor() -> None:
    """Budgets mask actions by their number of gates, and rewards charge it."""
    command = [sys.executable, str(Path(__file__).parent / "native_circuits.py")]
    started = [subprocess.Popen(command, env=os.environ | one, stdout=subprocess.PIPE, text=True) for one in core_types().values()]
    here = json.loads(json.dumps(native_circuits()))
    for process in started:
        there = json.loads(process.communicate()[0])
        assert process.returncode == 0
        for one, two in zip(here, there, strict=True):
            assert [one[key] for key in ("exact", "quick", "gates")] == [two[key] for key in ("exact", "quick", "gates")]
            for ours, theirs in zip(one["unitaries"], two["unitaries"], strict=True):
                mine, other = (np.array(entries).view(complex) for entries in (ours, theirs))
                assert 1 - abs(np.vdot(mine, other)) ** 2 / np.vdot(mine, mine).real ** 2 < 1e-9

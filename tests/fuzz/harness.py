"""Runs cases in forked processes with bounded time and memory, so that a hang, a crash or a full memory is a finding and no end."""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qumos_env.errors import QumosError, one_line

from .subject import Subject, message_fault

BATCH = 100
"""Cases of a process."""
PROCESSOR_SECONDS = 5
CLOCK_SECONDS = 60
"""For what waits instead of computing; a busy machine must not look like a fault."""
MEMORY = 2**30
"""Bytes that a case may take beside what the process has."""


@dataclass
class Report:
    """What happened to the cases of one subject: how many loaded and were refused, and the faults by the number of their case."""

    loaded: int = 0
    refused: int = 0
    faults: dict[int, str] = field(default_factory=dict)


def fuzz(subject: Subject, cases: int, seed: int, first: int = 0) -> Report:
    """Cases ``first`` to ``first + cases - 1`` of ``subject``; the same for the same ``seed``."""
    report, done = Report(), first
    while done < first + cases:
        done = _batch(subject, range(done, min(first + cases, done + BATCH)), seed, report)
    return report


def _batch(subject: Subject, numbers: range, seed: int, report: Report) -> int:
    """Runs ``numbers`` in one process, as far as it lives; returns the next number."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            _work(subject, numbers, seed, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    current = numbers[0]
    finished = False
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            current, outcome = json.loads(line)
            finished = outcome != "begun"
            if outcome == "loaded":
                report.loaded += 1
            elif outcome == "refused":
                report.refused += 1
            elif finished:
                report.faults[current] = outcome
    _, status = os.waitpid(child, 0)
    if not finished or current < numbers[-1]:
        current += finished
        report.faults[current] = _ending(status)
    return current + 1


def _ending(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return f"the process ended with exit code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    limits = {signal.SIGPROF: f"more than {PROCESSOR_SECONDS} s of processor time", signal.SIGALRM: f"more than {CLOCK_SECONDS} s"}
    return limits.get(signal.Signals(number), f"the process was ended by {signal.Signals(number).name}")


def _work(subject: Subject, numbers: range, seed: int, writing: int) -> None:
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    # Their usual action ends the process, also in the middle of a library's C code.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for number in numbers:
        os.write(writing, (json.dumps([number, "begun"]) + "\n").encode())
        outcome = verdict(subject, number, seed)
        os.write(writing, (json.dumps([number, outcome]) + "\n").encode())


def verdict(subject: Subject, number: int, seed: int) -> str:
    """``loaded``, ``refused``, or the fault of case ``number``."""
    generator = np.random.default_rng([seed, number, *subject.name.encode()])
    with tempfile.TemporaryDirectory() as folder:
        reading = subject.case(generator, Path(folder))
        signal.alarm(CLOCK_SECONDS)
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
        try:
            reading()
        except QumosError as error:
            return message_fault(error) or "refused"
        except BaseException as error:
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            place = "" if where is None else f" ({Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno})"
            return f"{type(error).__name__}: {one_line(error, 200)}{place}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
    return "loaded"

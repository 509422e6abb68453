"""`python -m tests.fuzz`: every fault with the numbers that bring it back; exit code 1 if there is one."""

from __future__ import annotations

import argparse
import sys

from .harness import fuzz
from .subjects import SUBJECTS


def main() -> int:
    """Parses the command line and runs."""
    names = [subject.name for subject in SUBJECTS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Mutated files load, or are refused with one line.")
    parser.add_argument("--cases", type=int, default=3000, help="of every kind (default 3000)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default 0)")
    parser.add_argument("--kind", choices=names, action="append", help="only this kind of file; may be repeated")
    parser.add_argument("--first", type=int, default=0, help="number of the first case: with --cases 1 a single one")
    given = parser.parse_args()
    faults = 0
    for subject in SUBJECTS:
        if given.kind and subject.name not in given.kind:
            continue
        report = fuzz(subject, given.cases, given.seed, given.first)
        print(f"{subject.name}: {report.loaded} load, {report.refused} are refused, {len(report.faults)} faults", flush=True)
        for number, fault in report.faults.items():
            print(f"  --kind {subject.name} --seed {given.seed} --first {number} --cases 1: {fault}", flush=True)
        faults += len(report.faults)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())

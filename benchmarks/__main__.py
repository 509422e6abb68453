"""``python -m benchmarks [CASE ...] [--out FILE.json] [--repeats N]``: a Markdown table on standard output.

A target that is missed is reported and is no failure. Exit code 2 means wrong arguments, 1 a side that computes something else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qumos_env.errors import QumosError, unknown

from .cases import CASES
from .registry import Outcome
from .report import environment, markdown, write_json
from .workers import Disagreement, PeerUnavailable


def main(arguments: list[str] | None = None) -> int:
    """Runs the cases named in ``arguments`` (default: all) and prints the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed of qumos_env, side by side with other libraries.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}, or what stands before the dash; default all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the figures, all repeats included, as JSON")
    parser.add_argument("--repeats", type=int, default=25, metavar="N", help="repeats per case (default %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.repeats < 1:
            raise QumosError(f"--repeats is {chosen.repeats}, at least 1 is needed")
        if chosen.out is not None and not chosen.out.absolute().parent.is_dir():
            raise QumosError(f"--out: folder {chosen.out.absolute().parent} does not exist")
        names: list[str] = []
        for wanted in chosen.cases or [""]:
            group = [name for name in CASES if wanted in ("", name, name.partition("-")[0])]
            if not group:
                raise unknown("case", wanted, CASES)
            names += group
    except QumosError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    outcomes: dict[str, Outcome] = {}
    try:
        for name in dict.fromkeys(names):
            print(f"benchmarks: {name} ...", file=sys.stderr, flush=True)
            outcomes[name] = CASES[name].run(chosen.repeats)
            if chosen.out is not None:  # after every case, since a run may be ended
                write_json(chosen.out, outcomes, environment(outcomes))
    except (Disagreement, PeerUnavailable) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(markdown(outcomes, environment(outcomes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

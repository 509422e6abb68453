"""Worker of the case ``scaling``: evaluates one design again and again for a while."""

from __future__ import annotations

import json
import sys
import time

from qumos_env.design.ansatz import interleaved, ry_cz_ry
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.scenario import load_scenario

from .evaluation import LAYERS, SCENARIO


def main() -> None:
    """Answers questions until standard input ends."""
    scenario = load_scenario(SCENARIO)
    design = ry_cz_ry(interleaved(scenario.design.qubits, 2), scenario.provider_names[:2], LAYERS)
    prepared = Evaluator(scenario)
    prepared.evaluate(design)
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        designs, clock, processor = 0, time.perf_counter(), time.process_time()
        while designs == 0 or time.perf_counter() - clock < seconds:
            fresh = Evaluator(scenario)  # an empty cache
            fresh.workload = prepared.workload
            fresh.evaluate(design)
            designs += 1
        taken = {"processor": time.process_time() - processor, "clock": time.perf_counter() - clock}
        print(json.dumps({"designs": designs} | taken), flush=True)


if __name__ == "__main__":
    main()

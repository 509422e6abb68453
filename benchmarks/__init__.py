"""Speed of qumos_env, side by side with other libraries: ``python -m benchmarks``.

A case is a function in one of the modules that ``benchmarks.cases`` lists. Times drift from machine to machine and from minute
to minute, so a comparison is a ratio of paired runs: the two sides take turns within one run of the command.
"""

import os

# Set before numpy and torch are imported, and inherited by the workers: every figure is per core.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

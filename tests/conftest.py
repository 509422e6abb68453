"""Settings that every test shares; set before numpy, torch and matplotlib are imported."""

import os

# pytest-xdist brings the parallelism, and sums come out bit-identical only with a fixed number of threads.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

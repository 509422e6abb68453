"""Seeded fuzzing of everything that is read from a user's file: scenarios, designs, device profiles and data.

A mutated file either loads, or is refused with one line; it never takes long, never takes much memory and never fails otherwise.

    python -m tests.fuzz --cases 3000 --seed 0
"""

import os

# Before NumPy and Arrow are imported: a forked process has no threads but its own, and Arrow's own memory pool reserves more addresses
# than a case may have.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"

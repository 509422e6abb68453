"""The processors that this one can stand in for, and the numerical tests on each: `make test-cores`.

OpenBLAS, NumPy and torch choose their kernels by the processor, and kernels round differently. A newer processor runs the kernels of older
ones too, so what would be found on other machines only is found here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Names of OpenBLAS for x86-64. Several can mean the same kernels, and a build has only some: it is asked which.
CANDIDATES = ("Prescott", "Core2", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX", "Cooperlake", "Sapphirerapids")
_WITH_AVX2 = ("Haswell", "Zen")
_WITH_AVX512 = ("SkylakeX", "Cooperlake", "Sapphirerapids")
# Prints the kernels taken, or is killed where the processor has no such instruction.
_PROBE = """
import numpy as np
from threadpoolctl import threadpool_info

for kind in (np.float32, np.float64, np.complex64, np.complex128):
    square = (np.arange(81 * 81) % 7).reshape(81, 81).astype(kind) + 9 * np.eye(81, dtype=kind)
    square @ square, square @ square[0], square[0] @ square[0]
    np.linalg.solve(square, square), np.linalg.svd(square), np.linalg.eigh(square)
found = {pool.get("architecture") for pool in threadpool_info() if pool["internal_api"] == "openblas"}
print(*found if len(found) == 1 else ())
"""
_FEATURES = """
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

print(*(name for name in __cpu_dispatch__ if __cpu_features__[name]))
"""
# Tests of what computes nothing, and those that mostly wait for other processes: what those compute has tests of its own.
ELSEWHERE = (
    "test_actions.py",
    "test_admission.py",
    "test_agents.py",
    "test_benchmarks.py",
    "test_cache_and_files.py",
    "test_claims.py",
    "test_cli.py",
    "test_cli_hardware.py",
    "test_cluster.py",
    "test_context_env.py",
    "test_core_types.py",
    "test_deploy.py",
    "test_design.py",
    "test_env.py",
    "test_environments_page.py",
    "test_evaluation.py::test_fresh_processes_give_the_same_bits_whatever_their_threads",
    "test_evaluation.py::test_the_cache_is_shared_between_processes",
    "test_every_id.py",
    "test_fuzz.py",
    "test_hardware.py::TestTranspile::test_another_process_gives_the_same",
    "test_house.py",
    "test_measuring.py",
    "test_noise.py::test_memory_stays_under_the_limit_whatever_the_batch",
    "test_packaging.py",
    "test_pool.py",
    "test_pretraining.py",
    "test_ray_address.py",
    "test_readme.py",
    "test_registered_envs.py",
    "test_rendering.py",
    "test_run_safety.py",
    "test_scaling.py",
    "test_scenario.py",
    "test_serving.py",
    "test_serving_api.py",
    "test_signed_bundles.py",
    "test_training.py",
    "test_variants.py",
    "test_width_and_memory.py",
    "test_zoo.py",
)


def core_types() -> dict[str, dict[str, str]]:
    """Environment variables by core type, for each that this processor has and does not take by itself; none without OpenBLAS on x86-64."""
    own = _architecture({})
    found: dict[str, dict[str, str]] = {}
    for name in CANDIDATES if own else ():
        variables = {"OPENBLAS_CORETYPE": name}
        architecture = _architecture(variables)
        if architecture and architecture != own and architecture not in found:
            found[architecture] = variables | _dispatch(name)
    return found


def _architecture(variables: dict[str, str]) -> str:
    """The kernels that OpenBLAS takes with these variables; empty where they do not run or there is no OpenBLAS."""
    done = _python(_PROBE, variables)
    return done.stdout.strip() if done.returncode == 0 else ""


def _dispatch(name: str) -> dict[str, str]:
    """NumPy's and torch's kernels as they are on a processor of this core type."""
    if name in _WITH_AVX512:
        return {}
    features = _python(_FEATURES, {}).stdout.split()
    if name in _WITH_AVX2:
        features = [feature for feature in features if "512" in feature or feature == "X86_V4"]
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(features), "ATEN_CPU_CAPABILITY": "avx2" if name in _WITH_AVX2 else "default"}


def _python(code: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"} | variables
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def main() -> int:
    """Runs the numerical tests on each core type and stops at the first that fails."""
    types = core_types()
    if not types:
        print("No other core type: there is no OpenBLAS on x86-64 here, or this processor has the oldest kernels alone.", flush=True)
    folder = Path(__file__).parent
    left_out = [f"--{'deselect' if '::' in name else 'ignore'}={folder / name}" for name in ELSEWHERE]
    for name, variables in types.items():
        print(f"Core type {name}: " + " ".join(f"{key}='{value}'" for key, value in variables.items()), flush=True)
        command = [sys.executable, "-m", "pytest", "-n", "2", "-q", "-m", "not slow", *left_out, *sys.argv[1:]]
        if code := subprocess.run(command, env=os.environ | variables).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())

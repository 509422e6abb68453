"""Ray for the time of a search: started, joined, kept quiet, and kept from taking over the signals of this process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from qumos_env.errors import QumosError, one_line

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@contextmanager
def ray_session(workers: int, on_stage: Callable[[str], None]) -> Iterator[None]:
    """Ray for the time of the block: the cluster that ``RAY_ADDRESS`` names, or else a private one on the loopback interface.

    When this process is killed, a private Ray ends its env runners within seconds; two agents of its own (``ray::DashboardAgent``,
    ``ray::RuntimeEnvAgent``) try for a minute to report that, which cannot be set, and then end too.

    Raises:
        QumosError: there is no connection to the named cluster.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    root = str(Path(__file__).resolve().parent.parent)
    address = os.environ.get("RAY_ADDRESS")
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with _own_signals():
        if address:
            on_stage(f"connecting to the Ray cluster at {address}")
            # Workers elsewhere get the checkout; on this machine they import it from where it is.
            environment = {"working_dir": root, "excludes": ["/.git", "/runs", "/.venv*", "*.sqlite", "/build", "/dist"]}
            try:
                with captured_stderr():
                    ray.init(address=address, runtime_env=environment, **common)
            except (ConnectionError, RuntimeError, ValueError) as error:
                hint = "if the cluster asks for a token, set RAY_AUTH_MODE=token here"
                raise QumosError(f"no connection to the Ray cluster at {address}: {one_line(error)} ({hint})") from error
        else:
            on_stage("starting Ray")
            paths = [root, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
            # Without an address Ray would join whatever cluster happens to run on this machine.
            ray.init(
                address="local",
                num_cpus=workers + 1,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}},
                **common,
            )
    try:
        yield
    finally:
        on_stage("stopping Ray")
        with _own_signals():
            ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Puts this process's handlers back after the block: Ray sets its own, which exit or abort, and at its end the system's default."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        # Only the main thread can set handlers, and so only there Ray has.
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def captured_stderr() -> Iterator[Callable[[], list[str]]]:
    """Keeps what Ray's C++ side prints while actors start off the terminal; yields a function that gives its lines."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)

        def lines() -> list[str]:
            sys.stderr.flush()
            captured.seek(0)
            return captured.read().decode(errors="replace").splitlines()

        try:
            yield lines
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)

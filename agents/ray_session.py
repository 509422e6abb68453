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
from types import FrameType
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
    with _starting():
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
            with captured_stderr():
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
def _starting() -> Iterator[None]:
    """What Ray makes of a request to end while it starts is what Ctrl-C is."""
    with _own_signals():
        try:
            yield
        except SystemExit as error:
            ray.shutdown()
            raise KeyboardInterrupt from error


@contextmanager
def impatient() -> Iterator[None]:
    """In the block the first signal to end interrupts: where nothing has been found yet there is nothing to wait for.

    A signal to the whole group ends Ray too, and a start that waits for it would end with this process after a minute.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _own_signals() as numbers:
        for number in numbers:
            signal.signal(number, interrupt)
        yield


@contextmanager
def _own_signals() -> Iterator[tuple[signal.Signals, ...]]:
    """Puts this process's handlers back after the block: Ray sets its own, which exit or abort, and at its end the system's default.

    Yields the signals that this thread can handle: only the main thread can, and only there Ray does.
    """
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield numbers
    finally:
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

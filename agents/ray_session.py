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

import ray

from qumos_env.errors import QumosError, one_line

from .ray_address import check_cluster

PRIVATE = "local"
"""The address of a Ray of one's own."""
_ROOT = Path(__file__).resolve().parent.parent
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the environment of a submitted job's driver: what the job has been given."""


@contextmanager
def ray_session(workers: int, on_stage: Callable[[str], None], address: str | None = None) -> Iterator[None]:
    """Ray for the time of the block: the cluster at ``address``, or without one a private one on the loopback interface.

    When this process is killed, a private Ray ends its env runners within seconds; two agents of its own (``ray::DashboardAgent``,
    ``ray::RuntimeEnvAgent``) try for a minute to report that, which cannot be set, and then end too.

    Args:
        workers: processors of a private Ray, beside one for this process.
        on_stage: told what is being waited for.
        address: ``host:port`` of the cluster's head; ``auto``: the cluster that runs on this machine; ``local`` or ``None``: a private
            one. Where this process is connected already, it stays so.

    Raises:
        QumosError: the cluster cannot be joined.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    with _starting():
        if address is None or address == PRIVATE:
            on_stage("starting Ray")
            _start_private(workers)
        else:
            on_stage(f"connecting to the Ray cluster at {address}")
            _join(address)
    try:
        yield
    finally:
        on_stage("stopping Ray")
        with _own_signals():
            ray.shutdown()


def _start_private(workers: int) -> None:
    paths = [str(_ROOT), *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    # Without an address Ray would join whatever cluster happens to run on this machine.
    with captured_stderr():
        ray.init(
            address="local",
            num_cpus=workers + 1,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )


def _join(address: str) -> None:
    check_cluster(address)
    # What Ray's C++ side has to say of nodes that come and go is no news: a search goes on without them.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    # Workers get the checkout, less what .gitignore and .rayignore name; those of a submitted job have it from there.
    environment = None if "working_dir" in os.environ.get(_JOB, "") else {"working_dir": str(_ROOT)}
    try:
        with captured_stderr():
            ray.init(address=address, runtime_env=environment, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "this process must run on a machine of the cluster, or be sent there by `ray job submit`"
        raise QumosError(f"no connection to the Ray cluster at {address}: {one_line(error, 200)} ({hint})") from error


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

"""One evaluation cache for a whole cluster: an actor beside the driver that keeps it in the file of the run.

The file is the one that local processes use, so a run may go on anywhere. The actor holds nothing that is not in the file: killed, it is
started again by Ray and reads on there, and calls that were under way are made again.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from qumos_env.errors import QumosError, one_line
from qumos_env.evaluation.cache import Cache, EvaluationCache

PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
T = TypeVar("T")


class SharedCache:
    """The cache of the actor ``name``, from any process of the cluster; a ``Cache`` that travels."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._actor: Any = None

    def __reduce__(self) -> tuple[type[SharedCache], tuple[str]]:
        return SharedCache, (self.name,)

    def get(self, key: str) -> str | None:
        """See ``Cache``."""
        return self._call(lambda actor: actor.get.remote(key))

    def put(self, key: str, value: str) -> None:
        """See ``Cache``."""
        self.put_all({key: value})

    def put_all(self, values: Mapping[str, str]) -> None:
        """See ``Cache``."""
        self._call(lambda actor: actor.put_all.remote(dict(values)))

    def _call(self, method: Callable[[Any], Any]) -> Any:
        """What ``method`` of the actor returns, however often that has to be started again meanwhile.

        Raises:
            QumosError: the actor cannot use its file, or did not come back for ``PATIENCE_SECONDS``.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._actor = self._actor or ray.get_actor(self.name)
                return ray.get(method(self._actor))
            except ray.exceptions.RayTaskError as error:
                raise QumosError(error.cause) from error
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError, ValueError) as error:
                # ValueError: there is no actor of that name, or not yet again.
                if time.monotonic() > deadline:
                    raise QumosError(f"the shared evaluation cache does not answer ({one_line(error)})") from error
                self._actor = None
                time.sleep(_PAUSE_SECONDS)


@contextmanager
def shared_cache(path: str | Cache | None) -> Iterator[Cache | None]:
    """The cache in the file ``path`` of this machine for all of the cluster, for the time of the block; what is no path is left as it is.

    Raises:
        QumosError: the file cannot be used.
    """
    if not isinstance(path, str):
        yield path
        return
    EvaluationCache(path)  # an unusable file is better found here than by an actor that dies of it
    name = f"qumos-cache-{hashlib.sha256(path.encode()).hexdigest()[:12]}-{secrets.token_hex(4)}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # The handle is kept for the time of the block: without one the actor would end.
    actor: Any = (
        ray.remote(EvaluationCache)
        .options(name=name, num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
        .remote(path)
    )
    try:
        yield SharedCache(name)
    finally:
        ray.kill(actor)

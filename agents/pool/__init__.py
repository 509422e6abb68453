"""One evaluation pool, two backends: processes of this machine (``local``), and actors on a Ray cluster (``cluster``).

Importing this package does not import Ray.
"""

from __future__ import annotations

from qumos_env.evaluation.cache import Cache
from qumos_env.scenario import Scenario

from ..meter import Meter
from .base import EvaluationPool, Pending
from .jobs import Answer, Job, LevelsJob, Rows, level_name
from .local import LocalPool

__all__ = ["Answer", "EvaluationPool", "Job", "LevelsJob", "LocalPool", "Pending", "Rows", "level_name", "open_pool"]


def open_pool(
    scenario: Scenario,
    workers: int,
    cache: str | Cache | None = None,
    *,
    address: str | None = None,
    limit: float | None = None,
    meter: Meter | None = None,
) -> EvaluationPool:
    """A pool of ``workers`` workers for ``scenario``; see ``EvaluationPool``.

    Args:
        scenario, workers, cache, limit, meter: as in ``EvaluationPool``.
        address: of the Ray cluster that this process is connected to, see ``agents.ray_session``; ``None``: local processes. Scenarios
            that are looked up in a table are answered in this process in any case.
    """
    if scenario.table is not None:
        # What is looked up takes less time than the way to a worker.
        return LocalPool(scenario, 0, cache, meter=meter)
    if address is None:
        return LocalPool(scenario, workers, cache, limit=limit, meter=meter)
    from .cluster import ClusterPool

    return ClusterPool(scenario, workers, cache, limit=limit, meter=meter)

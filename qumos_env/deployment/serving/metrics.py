"""What the gateway counts, for Prometheus, and the last minute of it, for people."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_WINDOW = 60.0
_MOST_KEPT = 60_000


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("qumos_requests", "requests answered", ["route", "status"], registry=registry)
        self.seconds = Histogram("qumos_request_seconds", "from the request to its answer", ["route"], buckets=_SECONDS, registry=registry)
        self.rows = Counter("qumos_rows", "rows classified", ["version"], registry=registry)
        self.refused = Counter("qumos_refused", "requests refused", ["reason"], registry=registry)
        self.batch = Histogram("qumos_batch_rows", "rows that went to the providers together", buckets=_ROWS, registry=registry)
        self.provider_seconds = Histogram(
            "qumos_provider_seconds", "of one call of a provider", ["provider"], buckets=_SECONDS, registry=registry
        )
        self.provider_failures = Counter("qumos_provider_failures", "calls that failed", ["provider", "reason"], registry=registry)
        self.provider_up = Gauge("qumos_provider_up", "1 where its calls go through", ["provider"], registry=registry)
        self.canaries = Counter("qumos_canaries", "rows that were checked", ["provider", "outcome"], registry=registry)
        self.fallbacks = Counter("qumos_fallback_rows", "rows answered without a part", registry=registry)
        self.version = Gauge("qumos_active_version", "of the model", registry=registry)
        self._recent: deque[tuple[float, float, int]] = deque(maxlen=_MOST_KEPT)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts one answered request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if route in ("predict", "infer"):
            self._recent.append((time.monotonic(), seconds, status))

    def recent(self) -> dict[str, Any]:
        """Predictions of the last minute: how many, how long, and how many went wrong."""
        since = time.monotonic() - _WINDOW
        found = [(seconds, status) for moment, seconds, status in self._recent if moment >= since]
        if not found:
            return {"requests": 0, "per_second": 0.0, "p50_ms": None, "p99_ms": None, "errors": 0, "refused": 0}
        p50, p99 = np.quantile([1000 * seconds for seconds, _ in found], [0.5, 0.99])
        return {
            "requests": len(found),
            "per_second": round(len(found) / _WINDOW, 2),
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
            "errors": sum(status >= 500 for _, status in found),
            "refused": sum(400 <= status < 500 for _, status in found),
        }

"""The simulation of a cluster, against cases that can be worked out on paper."""

from __future__ import annotations

import pytest

from benchmarks.scaling.__main__ import main, simulated
from benchmarks.scaling.simulation import Costs, classical, learning

FREE = Costs(evaluations=(1.0,), ask=0.0, tell=0.0, submit=0.0, receive=0.0, trip=0.0, cache=0.0, calls=3)


def costs(**change: object) -> Costs:
    """Free but for what is given."""
    return Costs(**(vars(FREE) | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 4, 100])
def test_what_costs_nothing_scales(workers: int) -> None:
    found = classical(FREE, workers, 4 * workers, 50 * workers, seed=0)
    assert found.efficiency == pytest.approx(1) and found.rate == pytest.approx(workers) and found.bottleneck == "none"


def test_a_lag_below_the_workers_is_the_limit() -> None:
    found = classical(FREE, 32, 8, 320, seed=0)
    assert found.efficiency == pytest.approx(8 / 32) and found.bottleneck == "waiting in order"


def test_the_driver_is_the_limit() -> None:
    """It spends 10 ms a design, so no more than 100 a second, whatever the workers."""
    found = classical(costs(ask=0.006, tell=0.004), 256, 1024, 4000, seed=0)
    assert found.rate == pytest.approx(100, rel=0.02) and found.bottleneck == "driver"


def test_the_cache_is_the_limit() -> None:
    """Three calls of 5 ms each."""
    found = classical(costs(cache=0.005), 256, 1024, 4000, seed=0)
    assert found.rate == pytest.approx(1000 / 15, rel=0.05) and found.bottleneck == "cache"


def test_one_worker_waits_for_every_trip() -> None:
    """There, three times to the cache and back, and back again: eight trips an evaluation."""
    assert classical(costs(trip=0.01), 1, 8, 100, seed=0).rate == pytest.approx(1 / 1.08, rel=1e-3)


def test_told_in_order_a_slow_evaluation_holds_up_the_others() -> None:
    """With as many designs under way as workers, and hardly with four times as many."""
    uneven = costs(evaluations=(0.2, 0.2, 0.2, 2.0))
    tight, wide = (classical(uneven, 16, lag, 2000, seed=0).efficiency for lag in (16, 64))
    assert tight < 0.7 < wide


def test_rounds_wait_for_the_slowest_runner_and_for_the_learner() -> None:
    assert learning(FREE, 8, 32, 4, 320, seed=0).efficiency == pytest.approx(1)
    assert learning(FREE, 8, 16, 4, 320, seed=0).efficiency == pytest.approx(1)
    assert learning(FREE, 32, 16, 4, 320, seed=0).efficiency == pytest.approx(0.5)  # half of them have nothing to play
    assert learning(costs(learn=4.0), 8, 32, 4, 320, seed=0).efficiency == pytest.approx(0.5)


def test_the_table_has_every_agent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scaling.__main__.WORKERS", (1, 2))
    rows = simulated({"evolution": FREE, "reinforce": FREE})
    assert {row[:2] for row in rows} == {("evolution", 1), ("evolution", 2), ("reinforce", 1), ("reinforce", 2)}
    assert main(["--measured", "no such file"]) == 2 and "no such file" in capsys.readouterr().err

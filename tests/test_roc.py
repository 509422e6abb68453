"""ROC figures against scikit-learn and SciPy, and against what pure noise gives."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from qumos_env.errors import QumosError
from qumos_env.evaluation.roc import RATE_GRID, auc, rates_on_grid, resolution_note, threshold_at, true_positive_rate


def scores(seed: int, members: int = 300, others: int = 500, shift: float = 0.8, tied: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    found = generator.normal(shift, 1, members), generator.normal(0, 1, others)
    return (np.round(found[0]), np.round(found[1])) if tied else found


def labelled(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([1, 0], [len(members), len(others)]), np.concatenate([members, others])


@pytest.mark.parametrize("tied", [False, True])
def test_the_auc_is_that_of_scikit_learn(tied: bool) -> None:
    members, others = scores(0, tied=tied)
    assert auc(members, others) == pytest.approx(roc_auc_score(*labelled(members, others)), abs=1e-12)


def test_true_positive_rates_are_points_of_the_curve() -> None:
    """The rate at k/n is the lowest point of the curve above k/n, where the k-th non-member has just been called a member."""
    members, others = scores(5, 400, 1000)
    false, true, _ = sklearn_roc_curve(*labelled(members, others), drop_intermediate=False)
    for rate in (0.001, 0.01, 0.25):
        expected = true[np.flatnonzero(np.isclose(false, rate))[0]]
        found = true_positive_rate(members, others, rate)
        assert found.mean == pytest.approx(expected, abs=1e-12)
        called = round(expected * 400)
        # Clopper and Pearson: at either bound what was seen, or more extreme, has probability 2.5 %.
        assert binom.sf(called - 1, 400, found.low) == pytest.approx(0.025, abs=1e-6)
        assert binom.cdf(called, 400, found.high) == pytest.approx(0.025, abs=1e-6)


def test_below_the_resolution_there_is_no_figure() -> None:
    members, others = scores(6, 50, 99)
    assert np.isnan(true_positive_rate(members, others, 0.01).mean)
    assert np.isnan(true_positive_rate(members, np.append(others, 0.0), 0.001).mean)
    assert np.isfinite(true_positive_rate(members, np.append(others, 0.0), 0.01).mean)
    assert "needs 100 non-member scores, there are 99" in resolution_note(99, 0.01)
    assert "n/a" not in resolution_note(100, 0.01)
    on_grid = rates_on_grid(members, others)
    assert np.isnan(on_grid[RATE_GRID < 1 / 99]).all() and np.isfinite(on_grid[RATE_GRID > 1 / 99]).all()
    assert on_grid[-1] == 1.0 and np.all(np.diff(on_grid[np.isfinite(on_grid)]) >= 0)
    assert np.isnan(auc(members[:0], others))


def test_ties_never_exceed_the_rate() -> None:
    _, others = scores(7, tied=True)
    for rate in (0.01, 0.1, 0.5):
        assert np.mean(others >= threshold_at(others, rate)) <= rate
    # All scores equal: nobody can be singled out.
    assert true_positive_rate(np.ones(10), np.ones(200), 0.01).mean == 0.0


def test_noise_gives_a_true_positive_rate_of_the_false_positive_rate() -> None:
    """Taking the threshold just above the *next* non-member would give twice the rate here."""
    noise = (scores(seed, 100, 100, 0.0) for seed in range(1500))
    found = [np.mean(members >= threshold_at(others, 0.01)) for members, others in noise]
    assert np.mean(found) == pytest.approx(1 / 101, abs=4 * np.std(found) / np.sqrt(len(found)))
    assert np.mean(found) < 0.013


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(QumosError, match="false-positive rate is 0"):
        threshold_at(np.ones(3), 0)

"""The reward: its formulas by hand, its bounds, and what it may never do."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qumos_env.errors import QumosError
from qumos_env.evaluation.membership import privacy
from qumos_env.evaluation.reward import BLENDS, Standing, blend_of
from qumos_env.scenario.sections import RewardSection

SHARES = st.floats(0, 1, allow_nan=False)
WEIGHTS = st.tuples(SHARES, SHARES, SHARES).filter(lambda item: sum(item) > 0.01).map(lambda item: [value / sum(item) for value in item])
CHANCES = st.floats(0.05, 0.95)


@dataclass(frozen=True)
class Measured:
    """What the terms measured."""

    accuracy: float
    theft: float
    chance: float
    auc: float
    cost: float
    extraction: float | None = None
    fallback: float | None = None


def reward_parts(measured: Measured, weights: RewardSection) -> dict[str, float]:
    """The parts as the terms' modules state them."""
    standing = Standing(measured.accuracy, measured.chance, blend_of(weights))
    shares = {
        "accuracy": standing.learned,
        "theft": standing.margin(measured.theft),
        "membership": standing.learned * privacy(measured.auc),
        "cost": -measured.cost,
    }
    if measured.extraction is not None:
        shares["extraction"] = standing.margin(measured.extraction)
    if measured.fallback is not None:
        shares["resilience"] = standing.kept(measured.fallback)
    return {name: weights.weight(name) * share for name, share in shares.items()}


def section(weights: list[float], cost: float = 0.0, blend: str = "default") -> RewardSection:
    """Weights that sum to 1 up to rounding, as the scenario asks."""
    accuracy, theft = (min(1.0, value) for value in weights[:2])
    return RewardSection(blend=blend, accuracy=accuracy, theft=theft, membership=max(0.0, min(1.0, 1 - accuracy - theft)), cost=cost)


MIXED = RewardSection(accuracy=0.5, theft=0.3, membership=0.2, cost=0.1)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        # acc .8 over chance .5: A = .6; acc − T = .2 of .5: .4; AUC .6: M = .8
        (Measured(0.8, 0.6, 0.5, 0.6, 0.5), {"accuracy": 0.30, "theft": 0.12, "membership": 0.096, "cost": -0.05}),
        # The thief gets nothing: the gap is clipped at acc − chance.
        (Measured(0.8, 0.1, 0.5, 0.5, 0.0), {"accuracy": 0.30, "theft": 0.18, "membership": 0.12, "cost": 0.0}),
        # The thief is better than the owner: nothing lost beyond the term.
        (Measured(0.8, 0.9, 0.5, 0.4, 2.0), {"accuracy": 0.30, "theft": 0.0, "membership": 0.12, "cost": -0.2}),
        # Below chance: no reward for being useless, however safe.
        (Measured(0.4, 0.1, 0.5, 0.5, 0.0), {"accuracy": 0.0, "theft": 0.0, "membership": 0.0, "cost": 0.0}),
        # Perfect in everything.
        (Measured(1.0, 0.25, 0.25, 0.5, 0.0), {"accuracy": 0.5, "theft": 0.3, "membership": 0.2, "cost": 0.0}),
        # Every member is recognised: M = 0.
        (Measured(1.0, 0.25, 0.25, 1.0, 0.0), {"accuracy": 0.5, "theft": 0.3, "membership": 0.0, "cost": 0.0}),
    ],
)
def test_the_default_blend_by_hand(measured: Measured, expected: dict[str, float]) -> None:
    """w_a·A + w_s·clip(acc − T, 0, acc − chance)/(1 − chance) + w_m·A·M − w_c·C."""
    parts = reward_parts(measured, MIXED)
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        assert parts[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        # A = .6; security min(1, 2·.2/.5) = .8; M = .8
        (Measured(0.8, 0.6, 0.5, 0.6, 0.5), {"accuracy": 0.30, "theft": 0.3 * 0.6 * 0.8, "membership": 0.096, "cost": -0.05}),
        (Measured(0.8, 0.1, 0.5, 0.5, 0.0), {"accuracy": 0.30, "theft": 0.18, "membership": 0.12, "cost": 0.0}),
        (Measured(0.4, 0.1, 0.5, 0.5, 0.0), {"accuracy": 0.0, "theft": 0.0, "membership": 0.0, "cost": 0.0}),
    ],
)
def test_the_product_blend_by_hand(measured: Measured, expected: dict[str, float]) -> None:
    """A·(w_a + w_s·min(1, 2·(acc − T)/(1 − chance)) + w_m·M) − w_c·C."""
    parts = reward_parts(measured, MIXED.model_copy(update={"blend": "product"}))
    for name, value in expected.items():
        assert parts[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("blend", sorted(BLENDS))
def test_extraction_and_resilience_by_hand(blend: str) -> None:
    """acc .8 over chance .5: a clone at .7 leaves .1 of .5, a fallback at .6 keeps .1 of .5; neither earns more than there is to lose."""
    weights = RewardSection(blend=blend, accuracy=0.5, theft=0.0, extraction=0.3, resilience=0.2)

    def parts(extraction: float, fallback: float) -> dict[str, float]:
        return reward_parts(Measured(0.8, 0.8, 0.5, 0.5, 0.0, extraction, fallback), weights)

    found = parts(0.7, 0.6)
    assert found["extraction"] == pytest.approx(0.3 * (0.2 if blend == "default" else 0.6 * 0.4))
    assert found["resilience"] == pytest.approx(0.2 * 0.2)
    assert parts(0.9, 0.4)["extraction"] == parts(0.9, 0.4)["resilience"] == 0
    assert parts(0.1, 0.95)["extraction"] == pytest.approx(0.3 * 0.6)
    assert parts(0.1, 0.95)["resilience"] == pytest.approx(0.2 * 0.6)
    assert "extraction" not in reward_parts(Measured(0.8, 0.8, 0.5, 0.5, 0.0), weights)


@pytest.mark.parametrize("blend", sorted(BLENDS))
@given(weights=WEIGHTS, accuracy=SHARES, theft=SHARES, chance=CHANCES, auc=SHARES)
def test_rewards_stay_within_their_bounds(
    blend: str, weights: list[float], accuracy: float, theft: float, chance: float, auc: float
) -> None:
    """Without cost between 0 and 1, and every part between 0 and its weight."""
    blended = section(weights, blend=blend)
    parts = reward_parts(Measured(accuracy, theft, chance, auc, 0.0), blended)
    assert 0 <= sum(parts.values()) <= 1 + 1e-9
    for name in ("accuracy", "theft", "membership"):
        assert 0 <= parts[name] <= getattr(blended, name) + 1e-9
    assert parts["cost"] == 0


@pytest.mark.parametrize("blend", sorted(BLENDS))
@given(weights=WEIGHTS, theft=SHARES, chance=CHANCES, auc=SHARES, below=SHARES)
def test_a_model_that_learned_nothing_earns_nothing(
    blend: str, weights: list[float], theft: float, chance: float, auc: float, below: float
) -> None:
    """Least of all for its privacy."""
    parts = reward_parts(Measured(below * chance, theft, chance, auc, 0.0), section(weights, blend=blend))
    assert sum(parts.values()) == 0


@given(weights=WEIGHTS, theft=SHARES, chance=CHANCES, auc=SHARES)
def test_nothing_blows_up_near_chance(weights: list[float], theft: float, chance: float, auc: float) -> None:
    """A hair above chance earns a hair: nothing is divided by acc − chance."""
    parts = reward_parts(Measured(chance + 1e-9, theft, chance, auc, 0.0), section(weights))
    assert 0 <= sum(parts.values()) < 1e-6


@pytest.mark.parametrize("blend", sorted(BLENDS))
def test_no_room_above_chance_is_no_crash(blend: str) -> None:
    """Scored rows of one class only leave nothing to learn."""
    parts = reward_parts(Measured(1.0, 1.0, 1.0, 0.5, 0.0), MIXED.model_copy(update={"blend": blend}))
    assert all(math.isfinite(value) for value in parts.values())
    assert sum(parts.values()) == 0


@pytest.mark.parametrize("blend", sorted(BLENDS))
@given(weights=WEIGHTS, accuracy=SHARES, thefts=st.tuples(SHARES, SHARES), chance=CHANCES, auc=SHARES)
def test_a_stronger_thief_never_pays(
    blend: str, weights: list[float], accuracy: float, thefts: tuple[float, float], chance: float, auc: float
) -> None:
    """So max(T, C*) of the rational thief can only lower the reward."""
    blended = section(weights, blend=blend)
    weak, strong = (sum(reward_parts(Measured(accuracy, t, chance, auc, 0.0), blended).values()) for t in sorted(thefts))
    assert strong <= weak + 1e-12


@given(weights=WEIGHTS, accuracies=st.tuples(SHARES, SHARES), theft=SHARES, chance=CHANCES, auc=SHARES)
def test_a_better_model_never_costs(weights: list[float], accuracies: tuple[float, float], theft: float, chance: float, auc: float) -> None:
    """With thief and privacy unchanged."""
    assume(accuracies[0] != accuracies[1])
    low, high = (sum(reward_parts(Measured(a, theft, chance, auc, 0.0), section(weights)).values()) for a in sorted(accuracies))
    assert low <= high + 1e-12


def test_an_auc_below_one_half_is_no_better_than_one_half() -> None:
    """Noise below ½ is not privacy."""
    low, half = (reward_parts(Measured(0.9, 0.5, 0.5, auc, 0.0), MIXED)["membership"] for auc in (0.3, 0.5))
    assert low == half == pytest.approx(0.2 * 0.8)


def test_unknown_blends_offer_the_nearest() -> None:
    """The registry is the scenario's to choose from."""
    with pytest.raises(QumosError, match=r"unknown reward blend 'defualt'; did you mean default"):
        reward_parts(Measured(0.9, 0.5, 0.5, 0.5, 0.0), RewardSection(blend="defualt"))


def test_a_registered_blend_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is open."""
    monkeypatch.setitem(BLENDS, "all-or-nothing", lambda standing, rival: float(standing.accuracy > rival))
    assert reward_parts(Measured(0.9, 0.5, 0.5, 0.5, 0.0), RewardSection(blend="all-or-nothing"))["theft"] == 0.5

"""Racing inside a search: a first look with few draws, more of them for what looks promising.

Source: Li et al., *A system for massively parallel hyperparameter tuning* (2020), asynchronous successive halving (ASHA): a design is
promoted as soon as it is among the best share of those on its rung, so nothing waits for a rung to fill and no budget need be known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qumos_env.scenario import Scenario

from .ask_tell import Proposal
from .protocol import Outcome, full_draws, possible_draws
from .settings import RacingSettings

Actions = tuple[int, ...]


@dataclass
class _Rung:
    draws: int
    rewards: dict[Actions, float] = field(default_factory=dict)
    promoted: set[Actions] = field(default_factory=set)


class Ladder:
    """Says with how many draws to measure a new design, and which known one deserves more.

    Args:
        scenario: the problem; its K draws are the last rung.
        settings: the first rung and the share that is promoted; every rung has 1/share times the draws of the one before. Without
            ``racing`` the last rung is the only one.
    """

    def __init__(self, scenario: Scenario, settings: RacingSettings) -> None:
        self._share = settings.promoted
        full = full_draws(scenario)
        rungs = [full]
        if settings.racing:
            draws = possible_draws(scenario, settings.first_draws)
            rungs = []
            while draws < full:
                rungs.append(draws)
                draws = possible_draws(scenario, max(draws + 1, round(draws / self._share)))
            rungs.append(full)
        self._rungs = [_Rung(draws) for draws in rungs]

    @property
    def rungs(self) -> tuple[int, ...]:
        """The draws of every rung."""
        return tuple(rung.draws for rung in self._rungs)

    def entry(self, actions: Actions) -> Proposal:
        """A new design, on the first rung."""
        return Proposal(actions, self._rungs[0].draws)

    def promotion(self) -> Proposal | None:
        """The known design that is to be measured on the next rung, those of higher rungs first; ``None`` where none deserves it."""
        for rung, above in reversed(list(zip(self._rungs, self._rungs[1:], strict=False))):
            best = sorted(rung.rewards, key=lambda actions: -rung.rewards[actions])[: int(self._share * len(rung.rewards))]
            for actions in best:
                if actions not in rung.promoted:
                    rung.promoted.add(actions)
                    return Proposal(actions, above.draws)
        return None

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Files what a design gave on the highest rung that its draws reach; what broke down is not promoted."""
        reached = [rung for rung in self._rungs if proposal.draws is not None and rung.draws <= proposal.draws]
        if reached and not outcome.failure:
            reached[-1].rewards[proposal.actions] = outcome.reward

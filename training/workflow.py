"""One run from search to scored results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agents import SearchSummary, SearchTask, Trial, load_agent
from agents.baselines import Baseline, baselines, starting_points
from agents.pool import EvaluationPool
from agents.protocol import full_draws
from qumos_env import Design, Evaluator, load_scenario
from qumos_env.errors import QumosError, one_line
from qumos_env.evaluation.cache import set_aside_damaged
from qumos_env.records import parse
from qumos_env.scenario import Scenario

from .curves import search_best
from .display import Display, Work, duration
from .fronts import front_of
from .results import Range, Results, finite
from .rundir import RUN, TRACE, RunDirectory, RunPlan, TraceWriter
from .scoring import Entrant, Scored, best_admissible, contenders, paired_difference, race, race_length, score
from .stopping import StopRequest

MIN_RANDOM_BUDGET = 8
RANDOM_SHARE = 0.1


def make_plan(
    *,
    scenario: str,
    agent: str,
    budget: int,
    seed: int,
    workers: int,
    time_limit: float | None,
    warm_start: bool | None,
    random_budget: int | None,
    contenders: int,
    test_seeds: int,
    overrides: Mapping[str, object],
) -> RunPlan:
    """A checked plan; ``None`` takes the default.

    Raises:
        QumosError: unknown scenario, agent or setting, data that cannot be read, or numbers that make no sense.
    """
    loaded = load_scenario(scenario)
    checked = load_agent(agent).settings_for(loaded.name, overrides)
    warm = checked.warm_start if warm_start is None else warm_start
    plan = {
        "scenario": loaded,
        "agent": agent,
        "settings": checked.model_dump() | {"warm_start": warm},
        "budget": budget,
        "seed": seed,
        "workers": workers,
        "time_limit": time_limit,
        "warm_start": warm,
        # A random search beside random search would compare it with itself.
        "random_budget": (0 if agent == "random" else -1) if random_budget is None else random_budget,
        "contenders": contenders,
        "test_seeds": test_seeds,
    }
    # Loads the data: a missing file is better found now than in every evaluation.
    return parse(RunPlan, plan | {"data_digest": data_digest(loaded)}, "plan")


def data_digest(scenario: Scenario) -> str:
    """SHA-256 of the rows of ``scenario``.

    Raises:
        QumosError: they cannot be read.
    """
    try:
        return Evaluator(scenario).workload.digest
    except QumosError:
        raise
    except (OSError, ValueError) as error:
        raise QumosError(f"data of scenario {scenario.name}: cannot be read ({one_line(error)})") from error


def check_unchanged(run: RunDirectory) -> None:
    """Checks that what the run began with is still there: a search goes on over the same problem or not at all.

    Raises:
        QumosError: rows or device profiles have changed.
    """
    scenario = run.plan.scenario
    if run.scenario_hash != scenario.hash:
        raise QumosError(f"{run.path / RUN}: scenario {scenario.name} or its device profiles are not those that the run began with")
    if run.plan.data_digest and run.plan.data_digest != data_digest(scenario):
        source = scenario.data.source
        raise QumosError(f"data {source}: not the rows that {run.path} began with; restore them, or begin a new run")


def sound_cache(path: str, display: Display) -> str:
    """``path``; where the cache there is damaged it is set aside, and evaluations are run again.

    Raises:
        QumosError: it cannot be set aside.
    """
    aside = set_aside_damaged(path)
    if aside is not None:
        display.note(f"warning: {path} is no evaluation cache; set aside as {aside.name}, evaluations are run again")
    return path


def run_to_results(run: RunDirectory, display: Display, history: Sequence[Trial] = (), *, with_references: bool = True) -> Results:
    """Searches (going on from ``history``), selects and scores; writes everything into the run directory.

    Args:
        run: the run.
        display: shows progress.
        history: trials of an earlier session.
        with_references: also score the hand-made designs and a random search.

    Raises:
        QumosError: nothing could be evaluated.
        KeyboardInterrupt: interrupted while scoring; what the search found is on disk.
    """
    run.save("searching")
    summary, trials, interrupted = search(run, display, history)
    if not any(trial.design_hash and not trial.failure for trial in trials):
        failures = sorted({trial.failure for trial in trials if trial.failure})
        reasons = f"; failures: {', '.join(failures[:3])}" if failures else ""
        raise QumosError("the search ended before any design was evaluated" + reasons)
    run.save("scoring")
    if interrupted:
        display.note("scoring the best designs found so far; press Ctrl-C to leave without")
    references = baselines(run.plan.scenario) if with_references else ()
    results = select_and_score(run, display, summary, trials, references, with_random=with_references and not interrupted)
    run.write_best(Design.from_dict(results.winner.design))
    run.write_results(results)
    run.save("interrupted" if interrupted and summary.stopped == "stopped" else "done")
    return results


def search(run: RunDirectory, display: Display, history: Sequence[Trial]) -> tuple[SearchSummary, list[Trial], bool]:
    """Runs the agent of ``run``; returns its counts, all trials, and whether the user interrupted it."""
    plan = run.plan
    task = SearchTask(
        scenario=plan.scenario,
        budget=plan.budget,
        seed=plan.seed,
        workers=plan.workers,
        cache=sound_cache(run.cache, display),
        settings=plan.settings,
        starts=starting_points(plan.scenario) if plan.warm_start else (),
        history=tuple(history),
        checkpoint=run.checkpoint,
    )
    trials = list(history)
    with (
        TraceWriter(run.path / TRACE, trials) as trace,
        display.work(f"{plan.agent} on {plan.scenario.name}", plan.budget) as work,
        StopRequest(plan.time_limit, lambda: work.stage("stopping after the designs under way (Ctrl-C again to abort)")) as stop,
    ):
        progress = _SearchProgress(work, plan, stop, trials)

        def on_trial(trial: Trial) -> None:
            trace.write(trial)
            trials.append(trial)
            if progress.add(trial):
                run.write_best(Design.from_dict(trial.design))

        summary = load_agent(plan.agent).search(task, on_trial=on_trial, should_stop=stop, on_stage=work.stage)
        return summary, trials, stop.requested


class _SearchProgress:
    """Counts trials for the display."""

    def __init__(self, work: Work, plan: RunPlan, stop: StopRequest, earlier: Sequence[Trial]) -> None:
        self._work = work
        self._scenario = plan.scenario
        self._budget = plan.budget
        self._stop = stop
        self._draws: dict[str, int] = {}
        self._best = float("-inf")
        self._first: float | None = None
        self._at_first = 0.0
        for trial in earlier:
            self._take(trial)
        if earlier:
            self._first, self._at_first = earlier[-1].seconds, self._done

    @property
    def _done(self) -> float:
        """Trained models, as so many full evaluations."""
        return sum(self._draws.values()) / full_draws(self._scenario)

    def _take(self, trial: Trial) -> bool:
        if trial.design_hash and not trial.repeated:
            self._draws[trial.design_hash] = trial.draws_of(self._scenario)
        better = trial.is_full(self._scenario) and not trial.failure and trial.reward > self._best
        if better:
            self._best = trial.reward
        return better

    def add(self, trial: Trial) -> bool:
        """Shows ``trial``; returns whether it is the best so far of those measured with all draws."""
        if self._first is None:
            self._first = trial.seconds
        better = self._take(trial)
        elapsed = trial.seconds - self._first
        rate = (self._done - self._at_first) / elapsed if elapsed > 0 else 0.0
        left = (self._budget - self._done) / rate if rate else float("inf")
        left = min(left, self._stop.seconds_left)
        info = (f"best {self._best:.3f}  " if self._best > float("-inf") else "") + f"{rate:.1f} designs/s"
        self._work.at(int(self._done), info + (f"  {duration(left)} left" if left < float("inf") else ""))
        return better


def select_and_score(
    run: RunDirectory,
    display: Display,
    summary: SearchSummary,
    trials: Sequence[Trial],
    references: Sequence[Baseline],
    *,
    with_random: bool,
) -> Results:
    """Races the best designs of the search and of a random search, and scores the winners and ``references`` on the test split."""
    plan = run.plan
    with EvaluationPool(plan.scenario, plan.workers, run.cache) as pool:
        chosen = contenders(plan.scenario, trials, plan.contenders)
        raced = _race(pool, display, f"choosing among the best {len(chosen)}", chosen)
        winner = raced[0]
        random_winner = _random_winner(plan, summary, pool, display) if with_random else None
        hand_made = [Entrant(baseline.name, baseline.design, baseline.limits) for baseline in references]
        entrants = [Entrant("winner", winner.design, winner.limits), *hand_made]
        if random_winner is not None:
            # The number tells how far the comparison goes: usually a tenth of the search's budget.
            entrants.append(Entrant(f"random, {_random_budget(plan, summary)} designs", random_winner))
        with display.work("scoring on the test split", len(entrants) * plan.test_seeds) as work:
            scored = score(pool, entrants, plan.test_seeds, work.at)
    random = scored[-1] if random_winner is not None else None
    return results_of(plan.scenario, summary, trials, raced, scored[0], scored[1 : 1 + len(hand_made)], random)


def results_of(
    scenario: Scenario,
    summary: SearchSummary,
    trials: Sequence[Trial],
    raced: Sequence[Scored],
    winner: Scored,
    hand_made: Sequence[Scored],
    random: Scored | None,
) -> Results:
    """The record of a search and of what was scored after it: the race, the winner and what it is set beside."""
    best = best_admissible(hand_made)

    def lead(other: Scored | None) -> Range | None:
        return None if other is None else Range(**finite(paired_difference(winner, other).to_dict()))

    return Results(
        distinct=summary.distinct,
        episodes=summary.episodes,
        stopped=summary.stopped,
        search_seconds=trials[-1].seconds,
        draws=summary.draws,
        search_best=search_best(scenario, trials),
        winner=winner.record(),
        race=tuple(one.record() for one in raced),
        hand_made=tuple(one.record() for one in hand_made),
        random=random.record() if random is not None else None,
        best_hand_made=best.name if best is not None else None,
        winner_is_hand_made=next((one.name for one in hand_made if one.design == winner.design), None),
        winner_minus_best_hand_made=lead(best),
        winner_minus_random=lead(random),
        front=front_of(scenario, trials),
    )


def _race(pool: EvaluationPool, display: Display, title: str, designs: Sequence[Design]) -> list[Scored]:
    with display.work(title, race_length(len(designs))) as work:
        return race(pool, designs, work.at)


def _random_budget(plan: RunPlan, summary: SearchSummary) -> int:
    if plan.random_budget >= 0:
        return plan.random_budget
    return max(MIN_RANDOM_BUDGET, round(RANDOM_SHARE * summary.draws / full_draws(plan.scenario)))


def _random_winner(plan: RunPlan, summary: SearchSummary, pool: EvaluationPool, display: Display) -> Design | None:
    """The best of a random search, chosen as the winner was."""
    budget = _random_budget(plan, summary)
    if budget == 0:
        return None
    agent = load_agent("random")
    settings = agent.settings_for(plan.scenario.name, {"warm_start": False}).model_dump()
    task = SearchTask(plan.scenario, budget, plan.seed, plan.workers, pool.cache, settings)
    trials: list[Trial] = []
    with display.work("random search for comparison", budget) as work:

        def on_trial(trial: Trial) -> None:
            trials.append(trial)
            work.at(len(trials))

        agent.search(task, on_trial=on_trial, should_stop=lambda: False, on_stage=lambda _: None)
    chosen = contenders(plan.scenario, trials, plan.contenders)
    return _race(pool, display, "choosing among the random designs", chosen)[0].design if chosen else None


def with_budget(plan: RunPlan, budget: int | None, time_limit: float | None) -> RunPlan:
    """``plan`` with a larger budget or another time limit, for a run that goes on.

    Raises:
        QumosError: the budget would shrink.
    """
    if budget is not None and budget < plan.budget:
        raise QumosError(f"budget is {budget}, below the {plan.budget} of the run; it can only grow")
    return parse(RunPlan, dict(plan) | {"budget": budget or plan.budget, "time_limit": time_limit}, "plan")

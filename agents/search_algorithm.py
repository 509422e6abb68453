"""What the RLlib agents share: whole episodes sampled by the env runners, every one recorded, and the search itself.

An agent adds its settings, its ``DesignSearch`` and the configuration of that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, ENV_RUNNER_SAMPLING_TIMER, SYNCH_WORKER_WEIGHTS_TIMER, TIMERS
from ray.tune.registry import register_env

from qumos_env import DesignEnv, list_scenarios, load_scenario
from qumos_env.env.context_env import ContextEnv
from qumos_env.errors import QumosError, one_line
from qumos_env.evaluation.cache import Cache
from qumos_env.registration import env_id
from qumos_env.scenario import Scenario

from . import checkpoint
from .modules import DesignModule
from .protocol import Ledger, Outcome, Search, SearchSummary, SearchTask, Trial, design_of
from .ray_session import captured_stderr, impatient, ray_session
from .settings import AgentSettings, parse_settings
from .shared_cache import shared_cache

ROUND = 4
"""Episodes that a runner plays between two reports: long enough to level out slow ones, short enough for a live display."""
PATIENCE_SECONDS = 60.0
Config = TypeVar("Config", bound=AlgorithmConfig)
CHECKPOINT_SECONDS = 60.0
Script = tuple[int, ...]
"""An episode as effective actions by the scenario's own numbers."""
Environment = gym.Env[dict[str, np.ndarray], np.int64]
S = TypeVar("S", bound=AgentSettings)
_ENV_NAME = "qumos-design"
_LOG = logging.getLogger(__name__)


class NoRunnerError(RuntimeError):
    """All env runners are gone and do not come back."""


@dataclass(frozen=True)
class Played:
    """A finished episode: what RLlib trains on, what was built, and what it gave."""

    episode: SingleAgentEpisode
    actions: tuple[int, ...]
    outcome: Outcome


class DesignMetrics(RLlibCallback):
    """Logs reward and length of every design, so that Tune and RLlib's own tools see them too."""

    def on_episode_end(self, *, episode: Any, metrics_logger: Any = None, **kwargs: Any) -> None:
        """Called by RLlib on the env runner."""
        if metrics_logger is not None:
            metrics_logger.log_value("design_reward_max", float(episode.get_return()), reduce="max", window=100)
            metrics_logger.log_value("design_failures", float("failure" in episode.get_infos(-1)), reduce="sum")


class DesignSearch(Algorithm):
    """An algorithm that samples a fixed number of whole episodes and hands each on as soon as its round is over.

    ``sink`` and ``may_play`` are set by the search loop; without them (as under Tune) everything is simply sampled. What an agent does
    with designs beyond training on its own batches it says by ``recalled``, ``remember``, ``begin`` and ``own``.
    """

    # RLlib declares these as optional; they are set once an algorithm is built.
    config: Any
    metrics: Any
    learner_group: Any
    env_runner_group: Any
    sink: Callable[[Sequence[Played]], None] | None = None
    may_play: Callable[[int], int] | None = None

    @property
    def recalled(self) -> int:
        """How many of the best designs of an earlier session it wants to meet again."""
        return 0

    def remember(self, design_hash: str, played: Played) -> None:
        """Told of every hand-made design, of those that it wanted to meet again, and of all that it has played itself."""

    def begin(self, history: Sequence[Trial], restored: bool, on_stage: Callable[[str], None]) -> None:
        """Told before it plays of the trials of earlier sessions, and whether the learner's state is that of the last one."""

    def own(self) -> dict[str, float]:
        """The numbers that it keeps beside the learner's state, for the checkpoint."""
        return {}

    def set_own(self, numbers: Mapping[str, float]) -> None:
        """Takes up what ``own`` gave in an earlier session."""

    def environment(self, task: SearchTask) -> Environment:
        """What designs are played in that the env runners have not played, such as the hand-made ones."""
        return DesignEnv(scenario=task.scenario, cache=task.cache)

    def drain(self) -> None:
        """Told when the search is over: whatever is still under way is waited for and handed on."""

    def collect(self, episodes: int, scripts: Sequence[Script] = ()) -> list[Played]:
        """Plays ``scripts`` and samples that many episodes besides, fewer where ``may_play`` allows fewer.

        What an env runner that died had to play is made up for by samples.

        Raises:
            NoRunnerError: no env runner answered for ``PATIENCE_SECONDS``.
        """
        played: list[Played] = []
        waiting = list(scripts)
        silent_since: float | None = None
        while len(played) < episodes + len(scripts):
            wanted = episodes + len(scripts) - len(played)
            if self.may_play is not None:
                wanted = min(wanted, self.may_play(wanted))
            if wanted <= 0:
                break
            jobs: list[Script | None] = [*waiting[:wanted], *[None] * (wanted - len(waiting))]
            handed, fresh = self._round(jobs)
            del waiting[:handed]
            if self.sink is not None and fresh:
                self.sink(fresh)
            played += fresh
            if fresh:
                silent_since = None
                continue
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > PATIENCE_SECONDS:
                raise NoRunnerError(f"no env runner answered for {PATIENCE_SECONDS:.0f} s")
            time.sleep(1.0)
            self.restore_env_runners(self.env_runner_group)
        return played

    def sync(self) -> None:
        """Sends the learner's weights to the env runners."""
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            # Waits for them (RLlib's default does not): which weights an episode is sampled with must not depend on the load.
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, inference_only=True, timeout_seconds=PATIENCE_SECONDS
            )

    def _round(self, jobs: Sequence[Script | None]) -> tuple[int, list[Played]]:
        """Hands the first of ``jobs`` to the env runners; how many, and what came back."""
        group = self.env_runner_group
        ids = group.healthy_worker_ids()
        local = group.num_remote_workers() == 0
        shares = _shares(jobs, 1 if local else len(ids))
        if not shares:
            return 0, []
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            if local:
                results = [play(group.local_env_runner, shares[0])]
            else:
                results = group.foreach_env_runner(
                    [_player(share) for share in shares], remote_worker_ids=ids[: len(shares)], local_env_runner=False
                )
        self.metrics.aggregate([metrics for _, metrics in results], key=ENV_RUNNER_RESULTS)
        return sum(map(len, shares)), [played for fresh, _ in results for played in fresh]


def _shares(jobs: Sequence[Script | None], runners: int) -> list[Sequence[Script | None]]:
    """What each runner plays in the next round, as even as can be; runners without anything are left out."""
    total = min(len(jobs), ROUND * runners)
    sizes = [total // runners + (index < total % runners) for index in range(runners)] if runners else []
    return [jobs[sum(sizes[:index]) : sum(sizes[: index + 1])] for index, size in enumerate(sizes) if size]


def play(runner: Any, jobs: Sequence[Script | None]) -> tuple[list[Played], Any]:
    """Has an env runner play ``jobs`` one after the other: a script in its own environment, or, for ``None``, what its policy samples."""
    played: list[Played] = []
    for script in jobs:
        if script is None:
            # One call per episode: asked for several, a runner resets in between only through its vector environment.
            played += [_read(episode) for episode in runner.sample(num_episodes=1)]
        else:
            # The next sample resets the environment.
            played.append(replay(runner.env.unwrapped.envs[0], script))
    return played, runner.get_metrics()


def _player(jobs: Sequence[Script | None]) -> Callable[[Any], tuple[list[Played], Any]]:
    return lambda runner: play(runner, jobs)


def _read(episode: SingleAgentEpisode) -> Played:
    info = episode.get_infos(-1)
    evaluation = {str(key): _plain(value) for key, value in info.get("evaluation", {}).items()}
    actions = tuple(int(action) for action in info.get("actions", ()))
    return Played(episode, actions, Outcome(float(episode.get_return()), evaluation, str(info.get("failure", ""))))


def _plain(value: Any) -> Any:
    """``value`` as JSON has it: the vector environment turns scalars into NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def replay(env: Environment, actions: Sequence[int]) -> Played:
    """Plays ``actions``, the scenario's own, in ``env`` and returns the episode as an env runner would, for imitation."""
    episode, numbers, info = _opened(env, actions)
    for action in numbers:
        observation, reward, terminated, truncated, info = env.step(np.int64(action))
        episode.add_env_step(observation, action, reward, info, terminated=terminated, truncated=truncated)
        if terminated:
            break
    return _read(episode.to_numpy())


def retold(env: Environment, actions: Sequence[int], outcome: Outcome) -> Played:
    """The episode of ``actions``, which end with ``finish``, made without evaluating anything: its design has that ``outcome``."""
    episode, numbers, info = _opened(env, actions)
    observation = episode.get_observations(-1)
    for action in numbers[:-1]:
        observation, reward, _, _, info = env.step(np.int64(action))
        episode.add_env_step(observation, action, reward, info)
    info = {**info, "actions": list(actions), "evaluation": dict(outcome.evaluation)}
    # Nobody learns from what is seen after the last action.
    episode.add_env_step(observation, numbers[-1], outcome.reward, info, terminated=True)
    return Played(episode.to_numpy(), tuple(actions), outcome)


def _opened(env: Environment, actions: Sequence[int]) -> tuple[SingleAgentEpisode, list[int], dict[str, Any]]:
    """An episode that has just begun, ``actions`` as ``env`` numbers them, and the first ``info``."""
    observation, info = env.reset()
    inner = env.unwrapped
    numbers = inner.table.from_own(inner.scenario, actions) if isinstance(inner, ContextEnv) else [int(action) for action in actions]
    episode = SingleAgentEpisode(observation_space=env.observation_space, action_space=env.action_space)
    episode.add_env_reset(observation, info)
    return episode, numbers, info


def episode_length(scenario: Scenario) -> int:
    """The longest episode of valid actions, plus the step that RLlib adds to bootstrap values."""
    rules = scenario.design
    return rules.qubits + rules.max_parts + rules.max_gates + bool(rules.shots) + 2


def configure(config: Config, task: SearchTask, hidden: int, module: type[RLModule] = DesignModule) -> Config:
    """Fills in what all agents share: environment, env runners, module, seeds and fault tolerance."""
    scenario = task.scenario
    if scenario.name in list_scenarios() and load_scenario(scenario.name).hash == scenario.hash:
        # The module prefix makes remote workers import the package, which registers the id.
        config.environment(f"qumos_env:{env_id(scenario.name)}", env_config={"cache": task.cache})
    else:
        register_env(_ENV_NAME, _make_env)
        config.environment(_ENV_NAME, env_config={"scenario": scenario.model_dump(mode="json"), "cache": task.cache})
    config.framework("torch")
    config.env_runners(num_env_runners=task.workers, num_envs_per_env_runner=1, batch_mode="complete_episodes", sample_timeout_s=None)
    config.learners(num_learners=0)
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=module, model_config={"hidden": hidden, "max_seq_len": episode_length(scenario)})
    )
    # RLlib adds the runner's index to the seed; the factors keep the streams of neighbouring seeds and of earlier sessions apart.
    config.debugging(seed=(task.seed * 1009 + len(task.history) * 104_729) % 2**31, log_level="ERROR")
    config.fault_tolerance(restart_failed_env_runners=True, delay_between_env_runner_restarts_s=1.0, max_num_env_runner_restarts=100)
    config.callbacks(DesignMetrics)
    return config


def _make_env(context: Mapping[str, Any]) -> DesignEnv:
    return DesignEnv(scenario=dict(context["scenario"]), cache=context["cache"])


def start(config: AlgorithmConfig) -> Algorithm:
    """Builds the algorithm and its env runners.

    Raises:
        QumosError: an env runner could not be made; says why as far as Ray does.
    """
    with captured_stderr() as printed:
        try:
            return config.build_algo()
        # RLlib only logs why a remote runner failed, and stumbles over the missing answer.
        except (ray.exceptions.RayError, IndexError) as error:
            lines = [*printed(), *str(error).splitlines()]
            reason = next((line for line in reversed(lines) if "Error" in line), str(error))
            raise QumosError(f"the env runners could not be started: {one_line(reason)}") from error


def rllib_search(name: str, kind: type[S], configuration: Callable[[SearchTask, S], AlgorithmConfig]) -> Search:
    """The function ``search`` of an RLlib agent.

    The same seed gives the same trace for the same number of workers.

    Args:
        name: the agent's.
        kind: the class of its settings.
        configuration: what says how to build it, a ``DesignSearch``; Ray is running then.
    """

    def search(
        task: SearchTask,
        *,
        on_trial: Callable[[Trial], None],
        should_stop: Callable[[], bool],
        on_stage: Callable[[str], None],
    ) -> SearchSummary:
        settings = parse_settings(kind, task.settings, name)
        ledger = Ledger(task, on_trial, should_stop)
        for trial in task.history:
            ledger.restore(trial)
        with ray_session(task.workers, on_stage, task.address), _cache_for_all(task) as cache:
            task = replace(task, cache=cache)
            on_stage("starting the agent")
            with impatient():
                algorithm = start(configuration(task, settings))
            assert isinstance(algorithm, DesignSearch)
            try:
                _prepare(algorithm, task, ledger, on_stage)
                on_stage("searching")
                _run(algorithm, task, ledger)
            finally:
                on_stage("stopping the agent")
                algorithm.stop()
        return ledger.summary()

    return search


def _cache_for_all(task: SearchTask) -> AbstractContextManager[str | Cache | None]:
    """The cache of ``task`` as env runners on other machines can use it too."""
    return nullcontext(task.cache) if task.address is None else shared_cache(task.cache)


def _prepare(algorithm: DesignSearch, task: SearchTask, ledger: Ledger, on_stage: Callable[[str], None]) -> None:
    """Takes up what an earlier session learned, and evaluates the starting designs."""
    restored = bool(task.history) and _restore(algorithm, task.checkpoint)
    env = algorithm.environment(task)
    if task.starts:
        on_stage("evaluating the hand-made designs")
        for design_hash, played in warm_start(task, ledger, env).items():
            algorithm.remember(design_hash, played)
    if task.history and algorithm.recalled:
        on_stage("replaying the best designs")
        distinct = {trial.design_hash: trial for trial in task.history if trial.design_hash and not trial.failure}
        for trial in sorted(distinct.values(), key=lambda trial: -trial.reward)[: algorithm.recalled]:
            outcome = Outcome(trial.reward, trial.evaluation, trial.failure)
            algorithm.remember(trial.design_hash, retold(env, trial.actions, outcome))
    algorithm.begin(task.history, restored, on_stage)


def _run(algorithm: DesignSearch, task: SearchTask, ledger: Ledger) -> None:
    """Trains ``algorithm`` until the ledger is full or the search is interrupted, with checkpoints on the way."""

    def sink(played: Sequence[Played]) -> None:
        trials = [ledger.record(one.actions, one.outcome) for one in played]
        for one, trial in zip(played, trials, strict=True):
            if task.meter is not None:
                task.meter.failed(one.outcome.failure)
            if trial.evaluation.get("design_hash", trial.design_hash) != trial.design_hash:
                raise QumosError("the env runners evaluate other designs than this process: they import another release of qumos_env")
            algorithm.remember(trial.design_hash, one)

    algorithm.sink = sink
    algorithm.may_play = lambda wanted: 0 if ledger.finished() else min(wanted, ledger.episodes_left)
    saved = time.monotonic()
    try:
        while not ledger.finished():
            algorithm.train()
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                _save(algorithm, task.checkpoint)
                saved = time.monotonic()
        algorithm.drain()
    except (ray.exceptions.RayError, NoRunnerError) as error:
        # A signal to end may reach Ray's processes as well as this one: what was found is kept all the same.
        if not ledger.interrupted():
            raise QumosError(f"the search broke down: {one_line(str(error).splitlines()[-1])}") from error
    _save(algorithm, task.checkpoint)


def _save(algorithm: DesignSearch, path: str | None) -> None:
    if path is not None:
        checkpoint.save(Path(path), algorithm.learner_group, algorithm.own())


def _restore(algorithm: DesignSearch, path: str | None) -> bool:
    """Takes up the checkpoint in ``path``; returns whether there was one that could be read. Without one learning begins anew."""
    if path is None or not Path(path).exists():
        return False
    try:
        algorithm.set_own(checkpoint.load(Path(path), algorithm.learner_group))
    except QumosError as error:
        _LOG.warning("warning: %s; the trials are kept, the agent learns anew", error)
        return False
    algorithm.sync()
    return True


def warm_start(task: SearchTask, ledger: Ledger, env: Environment) -> dict[str, Played]:
    """Evaluates the starting designs that the ledger does not know yet and records them; all of them by design hash."""
    played: dict[str, Played] = {}
    for actions in task.starts:
        design_hash = design_of(task.scenario, actions).hash
        if ledger.known(design_hash) is None and ledger.finished():
            break
        played[design_hash] = replay(env, actions)
        if ledger.known(design_hash) is None:
            ledger.record(played[design_hash].actions, played[design_hash].outcome)
    return played

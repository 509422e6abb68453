"""What the RLlib agents share: whole episodes sampled by the env runners, every one recorded, and the search loop."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, ENV_RUNNER_SAMPLING_TIMER, SYNCH_WORKER_WEIGHTS_TIMER, TIMERS
from ray.tune.registry import register_env

from qumos_env import DesignEnv, list_scenarios, load_scenario
from qumos_env.errors import QumosError, one_line
from qumos_env.registration import env_id
from qumos_env.scenario import Scenario

from .modules import DesignModule
from .protocol import Ledger, Outcome, SearchTask, Trial, design_of

ROUND = 4
"""Episodes that a runner plays between two reports: long enough to level out slow ones, short enough for a live display."""
PATIENCE_SECONDS = 60.0
Config = TypeVar("Config", bound=AlgorithmConfig)
_ENV_NAME = "qumos-design"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


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

    ``sink`` and ``may_play`` are set by the search loop; without them (as under Tune) everything is simply sampled.
    """

    # RLlib declares these as optional; they are set once an algorithm is built.
    config: Any
    metrics: Any
    learner_group: Any
    env_runner_group: Any
    sink: Callable[[Sequence[Played]], None] | None = None
    may_play: Callable[[int], int] | None = None

    def collect(self, episodes: int) -> list[Played]:
        """Samples that many episodes, fewer where ``may_play`` allows fewer.

        Raises:
            NoRunnerError: no env runner answered for ``PATIENCE_SECONDS``.
        """
        played: list[Played] = []
        silent_since: float | None = None
        while len(played) < episodes:
            wanted = episodes - len(played)
            if self.may_play is not None:
                wanted = min(wanted, self.may_play(wanted))
            if wanted <= 0:
                break
            fresh = self._round(wanted)
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

    def _round(self, wanted: int) -> list[Played]:
        group = self.env_runner_group
        ids = group.healthy_worker_ids()
        local = group.num_remote_workers() == 0
        shares = _shares(wanted, 1 if local else len(ids))
        if not shares:
            return []
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            if local:
                results = [_play(group.local_env_runner, shares[0])]
            else:
                results = group.foreach_env_runner(
                    [_player(share) for share in shares], remote_worker_ids=ids[: len(shares)], local_env_runner=False
                )
        self.metrics.aggregate([metrics for _, metrics in results], key=ENV_RUNNER_RESULTS)
        return [_read(episode) for episodes, _ in results for episode in episodes]


def _shares(wanted: int, runners: int) -> list[int]:
    """Episodes for each runner in the next round, as even as can be; runners without any are left out."""
    total = min(wanted, ROUND * runners)
    return [share for share in (total // runners + (index < total % runners) for index in range(runners)) if share] if runners else []


def _play(runner: Any, episodes: int) -> tuple[list[SingleAgentEpisode], Any]:
    # One call per episode: asked for several, a runner resets in between only through its vector environment.
    return [episode for _ in range(episodes) for episode in runner.sample(num_episodes=1)], runner.get_metrics()


def _player(episodes: int) -> Callable[[Any], tuple[list[SingleAgentEpisode], Any]]:
    return lambda runner: _play(runner, episodes)


def _read(episode: SingleAgentEpisode) -> Played:
    info = episode.get_infos(-1)
    evaluation = {str(key): _plain(value) for key, value in info.get("evaluation", {}).items()}
    actions = tuple(int(action) for action in info.get("actions", ()))
    return Played(episode, actions, Outcome(float(episode.get_return()), evaluation, str(info.get("failure", ""))))


def _plain(value: Any) -> Any:
    """``value`` as JSON has it: the vector environment turns scalars into NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


def replay(env: DesignEnv, actions: Sequence[int]) -> Played:
    """Plays ``actions`` in ``env`` and returns the episode as an env runner would, for imitation."""
    observation, info = env.reset()
    episode = SingleAgentEpisode(observation_space=env.observation_space, action_space=env.action_space)
    episode.add_env_reset(observation, info)
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(int(action))
        episode.add_env_step(observation, int(action), reward, info, terminated=terminated, truncated=truncated)
        if terminated:
            break
    return _read(episode.to_numpy())


def episode_length(scenario: Scenario) -> int:
    """The longest episode of valid actions, plus the step that RLlib adds to bootstrap values."""
    rules = scenario.design
    return rules.qubits + rules.max_parts + rules.max_gates + bool(rules.shots) + 2


def configure(config: Config, task: SearchTask, hidden: int) -> Config:
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
        rl_module_spec=RLModuleSpec(module_class=DesignModule, model_config={"hidden": hidden, "max_seq_len": episode_length(scenario)})
    )
    # RLlib adds the runner's index to the seed; the factor keeps the streams of neighbouring seeds apart.
    config.debugging(seed=(task.seed * 1009) % 2**31, log_level="ERROR")
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
    with _captured_stderr() as printed:
        try:
            return config.build_algo()
        # RLlib only logs why a remote runner failed, and stumbles over the missing answer.
        except (ray.exceptions.RayError, IndexError) as error:
            lines = [*printed(), *str(error).splitlines()]
            reason = next((line for line in reversed(lines) if "Error" in line), str(error))
            raise QumosError(f"the env runners could not be started: {one_line(reason)}") from error


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], list[str]]]:
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


@contextmanager
def ray_session(workers: int, on_stage: Callable[[str], None]) -> Iterator[None]:
    """Ray for the time of the block: the cluster that ``RAY_ADDRESS`` names, or else a private one on the loopback interface.

    Raises:
        QumosError: there is no connection to the named cluster.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    root = str(Path(__file__).resolve().parent.parent)
    address = os.environ.get("RAY_ADDRESS")
    common: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address:
        on_stage(f"connecting to the Ray cluster at {address}")
        # Workers elsewhere get the checkout; on this machine they import it from where it is.
        environment = {"working_dir": root, "excludes": ["/.git", "/runs", "/.venv*", "*.sqlite", "/build", "/dist"]}
        try:
            with _captured_stderr():
                ray.init(address=address, runtime_env=environment, **common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            hint = "if the cluster asks for a token, set RAY_AUTH_MODE=token here"
            raise QumosError(f"no connection to the Ray cluster at {address}: {one_line(error)} ({hint})") from error
    else:
        on_stage("starting Ray")
        paths = [root, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
        # Without an address Ray would join whatever cluster happens to run on this machine.
        ray.init(
            address="local",
            num_cpus=workers + 1,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}},
            **common,
        )
    try:
        yield
    finally:
        on_stage("stopping Ray")
        ray.shutdown()


def run_search(
    algorithm: DesignSearch,
    task: SearchTask,
    ledger: Ledger,
    on_played: Callable[[Sequence[Played], Sequence[Trial]], None] | None = None,
    checkpoint_every: float = 60.0,
) -> None:
    """Trains ``algorithm`` until the ledger is full or the search is interrupted, with checkpoints on the way.

    Raises:
        QumosError: the env runners fail for good.
    """

    def sink(played: Sequence[Played]) -> None:
        trials = [ledger.record(one.actions, one.outcome) for one in played]
        for trial in trials:
            if trial.evaluation.get("design_hash", trial.design_hash) != trial.design_hash:
                raise QumosError("the env runners evaluate other designs than this process: they import another release of qumos_env")
        if on_played is not None:
            on_played(played, trials)

    algorithm.sink = sink
    algorithm.may_play = lambda wanted: 0 if ledger.finished() else min(wanted, ledger.episodes_left)
    saved = time.monotonic()
    try:
        while not ledger.finished():
            algorithm.train()
            if task.checkpoint is not None and time.monotonic() - saved > checkpoint_every:
                save(algorithm, task.checkpoint)
                saved = time.monotonic()
    except (ray.exceptions.RayError, NoRunnerError) as error:
        raise QumosError(f"the search broke down: {one_line(str(error).splitlines()[-1])}") from error
    if task.checkpoint is not None:
        save(algorithm, task.checkpoint)


def save(algorithm: Algorithm, folder: str) -> None:
    """Writes a checkpoint beside ``folder`` and moves it there, so that an interrupt never leaves half a one."""
    target = Path(folder).resolve()
    fresh = target.with_name(target.name + ".new")
    old = target.with_name(target.name + ".old")
    _remove(fresh)
    algorithm.save_to_path(str(fresh))
    _remove(old)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    _remove(old)


def restore(algorithm: Algorithm, folder: str | None) -> bool:
    """Restores the checkpoint in ``folder`` where there is one; returns whether there was."""
    if folder is None or not Path(folder).is_dir():
        return False
    algorithm.restore_from_path(str(Path(folder).resolve()))
    return True


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def warm_start(task: SearchTask, ledger: Ledger, env: DesignEnv) -> dict[str, Played]:
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

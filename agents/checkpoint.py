"""What an RLlib agent has learned, as one NPZ file that is read without unpickling anything.

It holds the weights of the network, Adam's two moments and its step count for each of them, and as JSON the few numbers that the agent
keeps itself. What else RLlib would put into a checkpoint is left out: its classes and settings are those of the run, its connectors have
no state here, its metrics only count, and its runners are seeded anew (see ``search_algorithm.configure``).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup

from qumos_env.errors import QumosError, one_line, shortened
from qumos_env.files import read_bytes, write_bytes
from qumos_env.records import SHOWN, Record, parse

_WEIGHTS, _OPTIMIZER, _OWN = "weights", "optimizer", "own"
_STEP, _MOMENTS = "step", ("exp_avg", "exp_avg_sq")
_PARTS = [f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", f"{COMPONENT_LEARNER}/{COMPONENT_OPTIMIZER}"]
_SPARE = 2**20
"""Bytes that a checkpoint may have beside its numbers."""


class _Own(Record):
    """The part of a checkpoint that is JSON."""

    schema_version: Literal[1] = 1
    numbers: dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]] = Field(default_factory=dict)


def save(path: Path, learners: LearnerGroup, own: dict[str, float]) -> None:
    """Writes what ``learners`` have learned, and the agent's ``own`` numbers, in one step.

    Raises:
        QumosError: the file cannot be written.
    """
    learner = learners.get_state(components=_PARTS)[COMPONENT_LEARNER]
    arrays = {f"{_WEIGHTS}/{name}": value for name, value in learner[COMPONENT_RL_MODULE][DEFAULT_MODULE_ID].items()}
    (optimizer,) = learner[COMPONENT_OPTIMIZER].values()
    for number, buffers in optimizer["state"]["state"].items():
        arrays |= {f"{_OPTIMIZER}/{number}/{name}": np.asarray(value) for name, value in buffers.items()}
    data = io.BytesIO()
    arrays[_OWN] = np.array(_Own(numbers=own).model_dump_json())
    np.savez(data, **arrays)
    try:
        write_bytes(path, data.getvalue())
    except OSError as error:
        raise QumosError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from error


def load(path: Path, learners: LearnerGroup) -> dict[str, float]:
    """Gives ``learners`` what ``save`` wrote; returns the agent's own numbers.

    Raises:
        QumosError: the file cannot be read or is not of this network; then nothing has changed.
    """
    state = learners.get_state(components=_PARTS)
    learner = state[COMPONENT_LEARNER]
    weights = learner[COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]
    arrays = _read(path, size=3 * sum(value.nbytes for value in weights.values()) + _SPARE)
    own = parse(_Own, _text(path, arrays.pop(_OWN, None)), str(path))
    (optimizer,) = learner[COMPONENT_OPTIMIZER].values()
    new: dict[str, np.ndarray] = {}
    adam: dict[int, dict[str, Any]] = {}
    for number, (name, value) in enumerate(weights.items()):
        new[name] = _take(path, arrays, f"{_WEIGHTS}/{name}", value)
        # Before the first update Adam has no state.
        if f"{_OPTIMIZER}/{number}/{_STEP}" in arrays:
            adam[number] = {moment: _take(path, arrays, f"{_OPTIMIZER}/{number}/{moment}", value) for moment in _MOMENTS}
            adam[number][_STEP] = float(_take(path, arrays, f"{_OPTIMIZER}/{number}/{_STEP}", np.zeros(())))
    if arrays:
        raise QumosError(f"{path}: {shortened(next(iter(arrays)), SHOWN)} is not part of this agent")
    learner[COMPONENT_RL_MODULE][DEFAULT_MODULE_ID] = new
    optimizer["state"]["state"] = adam
    # Without its sequence number, which would have RLlib keep the weights of a fresh network.
    learners.set_state({COMPONENT_LEARNER: {part: learner[part] for part in (COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER)}})
    return own.numbers


def load_network(path: Path, learners: LearnerGroup) -> None:
    """Gives the network of ``learners`` the weights alone of what ``save`` wrote; what env runners do without stays as it is.

    Raises:
        QumosError: the file cannot be read or is not of this network; then nothing has changed.
    """
    (like,) = [one.get() for one in learners.foreach_learner(_network)]
    weights = load_weights(path, like)

    def take(learner: Learner, _: object = None) -> None:
        learner.module[DEFAULT_MODULE_ID].set_state(weights)

    learners.foreach_learner(take)


def _network(learner: Learner, _: object = None) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = learner.module[DEFAULT_MODULE_ID].get_state(inference_only=True)
    return state


def load_weights(path: Path, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights alone of what ``save`` wrote, for a network with weights of the shapes of ``like``.

    Raises:
        QumosError: the file cannot be read or is not of this network.
    """
    arrays = _read(path, size=3 * sum(value.nbytes for value in like.values()) + _SPARE)
    return {name: _take(path, arrays, f"{_WEIGHTS}/{name}", value) for name, value in like.items()}


def _read(path: Path, size: int) -> dict[str, np.ndarray]:
    data = io.BytesIO(read_bytes(path, size + _SPARE))
    try:
        with zipfile.ZipFile(data) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("compressed")
            if sum(entry.file_size for entry in archive.infolist()) > size:
                raise ValueError("larger than this agent's network")
        data.seek(0)
        with np.load(data, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays}
    # zipfile and NumPy raise all kinds over bytes that somebody else wrote, errors of Python's tokenizer among them.
    except Exception as error:
        raise QumosError(f"{path}: not a checkpoint ({one_line(error, SHOWN)})") from error


def _text(path: Path, value: np.ndarray | None) -> bytes:
    try:
        if value is None or value.dtype.kind != "U":
            raise ValueError("another type")
        # Not by way of str, which NumPy makes of anything.
        return value.astype("<U").tobytes().decode("utf-32-le").rstrip("\0").encode()
    except ValueError as error:  # what is no character, or half of one
        raise QumosError(f"{path}: {_OWN} is not text ({one_line(error)})") from error


def _take(path: Path, arrays: dict[str, np.ndarray], name: str, like: np.ndarray) -> np.ndarray:
    value = arrays.pop(name, None)
    if value is not None and value.shape == like.shape and value.dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = value.astype(like.dtype)
        if np.isfinite(value).all():
            return value
    raise QumosError(f"{path}: {name} is missing, not finite or of another shape than in this agent's network")

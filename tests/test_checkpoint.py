"""Checkpoints of RLlib agents: what they keep, and that nothing in them is ever executed."""

from __future__ import annotations

import copy
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qumos_env.errors import QumosError

pytest.importorskip("ray")
pytestmark = pytest.mark.rllib
SHAPES = {"encoder.weight": (4, 3), "encoder.bias": (4,), "policy.weight": (2, 4)}


class Learners:
    """As much of RLlib's learner group as a checkpoint needs: weights, and Adam's state after the first update."""

    def __init__(self, seed: int, updated: bool = True) -> None:
        rng = np.random.default_rng(seed)
        adam = {
            number: {"step": float(seed + 1), **{name: rng.random(shape).astype(np.float32) for name in ("exp_avg", "exp_avg_sq")}}
            for number, shape in enumerate(SHAPES.values())
        }
        self.learner: dict[str, Any] = {
            "rl_module": {"default_policy": {name: rng.random(shape).astype(np.float32) for name, shape in SHAPES.items()}},
            "optimizer": {"adam": {"module_id": "default_policy", "state": {"state": adam if updated else {}, "param_groups": []}}},
        }

    def get_state(self, components: object) -> dict[str, Any]:
        """A copy."""
        return {"learner": copy.deepcopy(self.learner)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Replaces both parts."""
        self.learner = state["learner"]


def same(first: Learners, second: Learners) -> bool:
    """Whether two learner groups have learned the same."""
    np.testing.assert_equal(first.learner, second.learner)
    return True


def saved(path: Path, learners: Learners, own: dict[str, float]) -> Path:
    """A checkpoint."""
    from agents.checkpoint import save

    save(path, learners, own)  # type: ignore[arg-type]
    return path


def load(path: Path, learners: Learners) -> dict[str, float]:
    """Its way back."""
    from agents import checkpoint

    return checkpoint.load(path, learners)  # type: ignore[arg-type]


@pytest.mark.parametrize("updated", [True, False])
def test_everything_that_was_learned_comes_back(updated: bool, tmp_path: Path) -> None:
    """To the bit, into a network that knows something else."""
    path = saved(tmp_path / "checkpoint.npz", Learners(1, updated), {"baseline": 0.25, "entropy_scale": 1.5})
    other = Learners(2)
    assert load(path, other) == {"baseline": 0.25, "entropy_scale": 1.5}
    assert same(other, Learners(1, updated))
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.npz"]


class Spy:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither among the weights nor in the place of the agent's numbers."""
    monkeypatch.chdir(tmp_path)
    planted = np.empty((), object)
    planted[()] = Spy()
    path = saved(tmp_path / "checkpoint.npz", Learners(1), {})
    for name in ("own", "weights/encoder.bias", "optimizer/0/step"):
        arrays = dict(np.load(path)) | {name: planted}
        np.savez(tmp_path / "planted.npz", **arrays)
        other = Learners(2)
        with pytest.raises(QumosError, match=r"planted\.npz: not a checkpoint"):
            load(tmp_path / "planted.npz", other)
        assert same(other, Learners(2))
    assert not (tmp_path / "unpickled").exists()


def without(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """All but one."""
    return {key: value for key, value in arrays.items() if key != name}


def test_a_checkpoint_of_something_else_changes_nothing(tmp_path: Path) -> None:
    """Missing, misshapen, infinite or unknown parts; integers and text in the place of numbers."""
    arrays = dict(np.load(saved(tmp_path / "good.npz", Learners(1), {"baseline": 1.0})))
    bias = "weights/encoder.bias"
    wrong = [
        without(arrays, bias),
        without(arrays, "own"),
        without(arrays, "optimizer/1/exp_avg"),
        arrays | {bias: np.zeros(5, np.float32)},
        arrays | {bias: np.full(4, np.nan, np.float32)},
        arrays | {bias: np.zeros(4, np.int64)},
        arrays | {"weights/more": np.zeros(4, np.float32)},
        arrays | {"optimizer/0/step": np.zeros(2)},
        arrays | {"own": np.array('{"schema_version": 2}')},
        arrays | {"own": np.array('{"schema_version": 1, "numbers": {"baseline": 1e300}}')},
        arrays | {"own": np.array("[" * 5000)},
        arrays | {"own": np.zeros(3)},
        arrays | {"own": np.array("\ud800")},
        arrays | {bias: np.full(4, 1e300)},
        arrays | {"large": np.zeros(2**18)},
    ]
    for number, content in enumerate(wrong):
        path = tmp_path / f"{number}.npz"
        np.savez(path, **content)
        other = Learners(2)
        with pytest.raises(QumosError) as caught:
            load(path, other)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 500 and "\n" not in str(caught.value)
        assert same(other, Learners(2))
    with pytest.raises(QumosError, match=r"none\.npz"):
        load(tmp_path / "none.npz", Learners(2))


def test_any_damage_is_one_line(tmp_path: Path) -> None:
    """Bytes changed, cut off and put in; a compressed file, which could be a bomb."""
    good = saved(tmp_path / "good.npz", Learners(1), {"baseline": 1.0}).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.npz"
    refused = 0
    for case in range(300):
        data = bytearray(good)
        spot = int(rng.integers(len(data)))
        if case % 3 == 0:
            data[spot] ^= int(rng.integers(1, 256))
        elif case % 3 == 1:
            del data[spot:]
        else:
            data[spot:spot] = rng.bytes(int(rng.integers(1, 50)))
        path.write_bytes(data)
        try:
            load(path, Learners(2))
        except QumosError as error:
            refused += 1
            assert len(str(error)) < 500 and "\n" not in str(error)
    assert refused > 200
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("own.npy", b"\0" * 2**24)
    with pytest.raises(QumosError, match="compressed"):
        load(path, Learners(2))


HEADERS = [
    b"{'descr': (",
    b"{\n  1\n 2",
    b"(" * 900,
    b"{'descr': (), 'fortran_order': False, 'shape': (1,)}",
    b"{'descr': '<U1', 'fortran_order': False, 'shape': ()}",
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_headers_that_are_no_headers(header: bytes, tmp_path: Path) -> None:
    """NumPy reads them with Python's parser, which has errors of its own."""
    path = saved(tmp_path / "checkpoint.npz", Learners(1), {})
    member = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + b"\xff" * 4
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("own.npy", member)
    with pytest.raises(QumosError) as caught:
        load(path, Learners(2))
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_only_a_file_is_a_checkpoint(tmp_path: Path) -> None:
    """A pipe that nobody writes to would never end."""
    os.mkfifo(tmp_path / "checkpoint.npz")
    with pytest.raises(QumosError, match="not a regular file"):
        load(tmp_path / "checkpoint.npz", Learners(2))

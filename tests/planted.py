"""What tests of attacks share: gates in words, planted data and services trained on it, measurements by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qumos_env.attacks.results import Measurement
from qumos_env.design import Design, Gate
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.surrogates import models
from qumos_env.evaluation.surrogates.families import BLIND, FAMILIES
from qumos_env.evaluation.workload import Workload
from qumos_env.scenario import Scenario, parse_scenario


def gates(text: str) -> tuple[Gate, ...]:
    """``"ry 0, cx 0 1"`` as gates."""
    words = [item.split() for item in text.split(",")]
    return tuple(Gate(name, tuple(map(int, qubits))) for name, *qubits in words)


def planted_scenario(path: Path, **sections: dict[str, Any]) -> Scenario:
    """A scenario on four features of the NPZ file ``path``, for two providers; ``sections`` change the fields that they name."""
    data: dict[str, Any] = {
        "name": "planted",
        "title": "planted",
        "data": {"source": str(path), "reducer": "none"},
        "draws": {"count": 4, "train_rows": 80, "thief_rows_per_class": 15, "tuning_rows": 60},
        "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 4, "max_gates": 60, "vocabulary": "gates"},
        "model": {"head": "linear", "steps": 60},
        "threat": {"steps": 40},
        "providers": [{"name": "aurora"}, {"name": "borealis"}],
    }
    for name, values in sections.items():
        data[name] = data.get(name, {}) | values if isinstance(values, dict) else values
    return parse_scenario(data)


def parity_file(folder: Path) -> Path:
    """600 rows whose label is the sign parity of features 0 to 2; feature 3 is noise. No single feature says anything."""
    generator = np.random.default_rng(0)
    features = generator.uniform(0.2, 1, (600, 4)) * generator.choice([-1, 1], (600, 4))
    path = folder / "parity.npz"
    np.savez(path, features=features, labels=(features[:, :3] < 0).sum(axis=1) % 2)
    return path


# ⟨Z⟩ of qubit 2 after the CX chain is the product of three cosines, whose sign is the parity.
HOLDS_PARITY = Design((0, 0, 0, 1), ("aurora", "borealis"), gates("cx 0 1, cx 1 2, rz 0, ry 0, ry 1"))

TWO_LAYERS = "ry 0, ry 1, cz 0 1, ry 0, ry 1, ry 2, ry 3, cz 2 3, ry 2, ry 3"


def decided_by_aurora(folder: Path) -> Service:
    """A service whose class feature 0 decides, which aurora sees; what borealis sees is noise."""
    generator = np.random.default_rng(0)
    features = generator.uniform(0.1, 1, (600, 4)) * generator.choice([-1, 1], (600, 4))
    path = folder / "planted.npz"
    np.savez(path, features=features, labels=(features[:, 0] > 0).astype(int))
    scenario = planted_scenario(path, draws={"train_rows": 100, "thief_rows_per_class": 4})
    return Service.train(Workload(scenario), Design((0, 0, 1, 1), ("aurora", "borealis"), gates(TWO_LAYERS)), seed=5)


def modest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves adversaries the smooth kernels alone: the parities above are no secret to the others, who need no loot for them."""
    for name in set(FAMILIES) - {"kernel", BLIND}:
        monkeypatch.delitem(FAMILIES, name)
    for name in ("_single_products", "_products_with_loot"):
        monkeypatch.setattr(models, name, lambda *_: {})


def named(measurements: Iterable[Measurement]) -> dict[str, Measurement]:
    """By name."""
    return {one.name: one for one in measurements}

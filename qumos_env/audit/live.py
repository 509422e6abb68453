"""The query attacks on a service as it runs: through its API, with a customer's key, beside the same attacks on the simulated model.

The owner runs this, who has the bundle and the scenario: so both sides are the same model, adversary and randomness, and what differs is
the deployment. The adversary is drawn anew a few times; the intervals are over these draws.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np

from ..attacks.results import Measurement
from ..attacks.suite import all_attacks
from ..deployment.bundle import Bundle
from ..errors import QumosError, one_line
from ..evaluation.service import Service
from ..evaluation.statistics import Interval, mean_interval
from ..evaluation.workload import Workload
from ..model.training import Parameters

LIVE_ATTACKS = ("extraction", "membership", "model-inversion")
"""The attacks of the audit that need nothing but answers."""
CANARIES = "canaries"
_CHUNK = 256
_SECONDS = 60
_ROUNDING = 1e-4  # of an answer: servers compute in single precision here and there


@dataclass
class Api:
    """The API of a gateway, with a customer's key.

    Attributes:
        url: of the gateway.
        key: of the customer.
        rows: that were classified so far.
    """

    url: str
    key: str
    rows: int = field(default=0)

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise QumosError(f"--live {self.url}: an address such as http://127.0.0.1:8080 is needed")

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Answers ``[rows, classes]`` to raw ``features`` ``[rows, f]``.

        Raises:
            QumosError: the gateway refuses, or is not there.
        """
        found = []
        for start in range(0, len(features), _CHUNK):
            chunk = features[start : start + _CHUNK]
            found.append(np.array(self._ask({"rows": chunk.tolist()})["probabilities"], float))
            self.rows += len(chunk)
        return np.concatenate(found)

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        request = Request(self.url.rstrip("/") + "/v1/predict", json.dumps(body).encode(), headers)
        try:
            with urlopen(request, timeout=_SECONDS) as response:
                answer: dict[str, Any] = json.loads(response.read())
        except HTTPError as error:
            why = error.read(400).decode("utf-8", "replace")
            raise QumosError(f"{self.url}: refused after {self.rows} rows ({error.code}: {one_line(why)})") from error
        except (URLError, OSError, ValueError) as error:
            raise QumosError(f"{self.url}: no answer ({one_line(error)})") from error
        if answer.get("fallback"):
            raise QumosError(
                f"{self.url}: answers without {', '.join(answer['fallback']['missing'])} now; audit it when all providers are up"
            )
        return answer


@dataclass(frozen=True, eq=False)
class LiveService(Service):
    """The service whose answers come from the API, and all else from the owner's own copy of the model."""

    api: Api = field(kw_only=True)

    def answer_features(self, features: np.ndarray, use: str) -> np.ndarray:
        """See ``Service``; ``use`` does not reach the service, which draws shots of its own."""
        return np.stack([self.api.probabilities(rows) for rows in features])


@dataclass(frozen=True)
class Pair:
    """A measurement at the deployment and in simulation.

    Attributes:
        attack, name: what was measured.
        live, simulated: over the draws of the adversary.
        headline: whether it stands in the summary.
    """

    attack: str
    name: str
    live: Interval
    simulated: Interval
    headline: bool

    @property
    def agree(self) -> bool:
        """Whether the intervals meet, apart from rounding."""
        margin = sum(one.half for one in (self.live, self.simulated) if np.isfinite(one.half))
        return bool(abs(self.live.mean - self.simulated.mean) <= margin + _ROUNDING)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        values = {"live": self.live.to_dict(), "simulated": self.simulated.to_dict()}
        return {"attack": self.attack, "name": self.name, "headline": self.headline, "agree": self.agree} | values


@dataclass(frozen=True)
class LiveAudit:
    """What an audit of a deployment measured.

    Attributes:
        pairs: the measurements.
        rows: that it had classified.
    """

    pairs: tuple[Pair, ...]
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"rows": self.rows, "pairs": [one.to_dict() for one in self.pairs]}


def audit_live(
    bundle: Bundle,
    workload: Workload,
    api: Api,
    *,
    attacks: Sequence[str] = (),
    repeats: int = 3,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> LiveAudit:
    """Runs the query attacks on the service behind ``api``, and the same on the model of ``bundle``, which it serves.

    Args:
        bundle: the one that is deployed.
        workload: of the scenario that it was made from.
        api: where, and with whose key.
        attacks: of ``LIVE_ATTACKS`` and ``CANARIES``; default all.
        repeats: draws of the adversary.
        on_progress: called with steps done, steps in all, and what comes next.

    Raises:
        QumosError: another scenario, an attack that needs more than answers, or a service that refuses or is not there.
        EvaluationFailure: a clone's training diverged.
    """
    known = (*LIVE_ATTACKS, CANARIES)
    for name in attacks:
        if name not in known:
            raise QumosError(f"attack {name!r} needs more than answers; through an API there are {', '.join(known)}")
    if bundle.manifest["scenario_hash"] != workload.scenario.hash:
        raise QumosError(f"the bundle was made from scenario {bundle.manifest['scenario']!r}, and not from this {workload.scenario.name!r}")
    seed = bundle.manifest.get("seed")
    if seed is None:
        raise QumosError("the bundle names no seed, so that its training rows are unknown")
    names = attacks or known
    rows, trained = workload.protocol.draws(seed)[:1], Parameters.stack([bundle.parameters(bundle.axis)])
    chosen = [one for one in all_attacks() if one.name in names]
    pairs: list[Pair] = []
    steps, done = repeats * len(chosen), 0
    if CANARIES in names:
        service = Service(workload, seed, workload.model(bundle.design), trained, rows, (bundle.preprocessor,))
        pairs.extend(_canaries(service, api))
    for attack in chosen:
        live: list[Sequence[Measurement]] = []
        simulated: list[Sequence[Measurement]] = []
        for repeat in range(repeats):
            if on_progress is not None:
                on_progress(done, steps, attack.name)
            held = (workload, repeat, workload.model(bundle.design), trained, rows, (bundle.preprocessor,))
            live.append(attack.run(LiveService(*held, api=api)).measurements)
            simulated.append(attack.run(Service(*held)).measurements)
            done += 1
        for number, one in enumerate(live[0]):
            found = [mean_interval(np.concatenate([side[number].values for side in sides])) for sides in (live, simulated)]
            if found[0].known and found[1].known:
                pairs.append(Pair(attack.name, one.name, found[0], found[1], one.headline))
    return LiveAudit(tuple(pairs), api.rows)


def _canaries(service: Service, api: Api) -> list[Pair]:
    """What a customer who holds answers of the honest model finds: how far those of the deployment are from them."""
    rows = service.test[0]
    expected = service.model.probabilities(service.trained, service.encode(rows[None]))[0]
    given = api.probabilities(service.features[rows])
    apart = np.abs(given - expected).sum(axis=1) / 2
    right = service.labels[rows]
    nothing, same = np.zeros(len(rows)), np.ones(len(rows))
    found = [
        ("total variation from the honest model", apart, nothing),
        ("labels as of the honest model", (given.argmax(axis=1) == expected.argmax(axis=1)).astype(float), same),
        ("accuracy on the test split", (given.argmax(axis=1) == right).astype(float), (expected.argmax(axis=1) == right).astype(float)),
    ]
    return [Pair(CANARIES, name, mean_interval(live), mean_interval(simulated), True) for name, live, simulated in found]

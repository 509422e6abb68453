"""Holders of parts that gate cuts touch: what they ask, how they are answered, and what they make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.linalg import helmert

from ...design.gate_cuts import cut_angles
from ...errors import QumosError
from ...evaluation.service import Service
from ...model.cutting.estimator import CutEngine
from ...model.cutting.inference import CutFit, Evidence, contrasts, evidence, fit_angles, fit_head, predict
from ...model.cutting.readings import canonical, read_variants
from .black_box import most_queries, query_rows
from .cut_queries import Asked, Channel, fit_affine, informative, opposite_pairs, similarities

Queries = Literal["passive", "chosen"]
_POOL = 400  # random queries among which the chosen ones are
_INTERIOR, _BISECTIONS = 16, 12  # of those who see labels only
_LABEL_NOISE, _BORDER_NOISE = 1.0, 1e-6


@dataclass(frozen=True, eq=False)
class Holder:
    """Whoever holds all parts of ``providers``, with their trained angles and every query's encoding on them.

    It knows the scenario, the partition and the kind of head, and the encoding of its own rows; from these it works out raw features
    that move its own qubits alone. It does not know head, preprocessing, cut angles or the other parts.

    Attributes:
        victim: the service.
        providers: one, or several that work together.
        loot: the trained angles; other ones stand for an adversary without them.
        head_known: whether it knows how the head ties qubits to classes.
    """

    victim: Service
    providers: tuple[str, ...]
    loot: np.ndarray
    head_known: bool = True

    @property
    def name(self) -> str:
        """Of the providers."""
        return "+".join(self.providers)

    @cached_property
    def held(self) -> tuple[int, ...]:
        """Numbers of its parts."""
        return tuple(part.index for part in self.victim.design.parts if part.provider in self.providers)

    @cached_property
    def qubits(self) -> list[int]:
        """Its qubits."""
        return [qubit for part in self.held for qubit in self.victim.design.parts[part].qubits]

    @property
    def holds_all(self) -> bool:
        """Whether it holds the whole register."""
        return len(self.qubits) == self.victim.design.n_qubits

    @property
    def _span(self) -> tuple[float, float]:
        return self.victim.scenario.data.angle_range

    @cached_property
    def _engine(self) -> CutEngine:
        return CutEngine(self.victim.design, self.victim.scenario.data.axis)

    @cached_property
    def _tie(self) -> np.ndarray | None:
        head = self.victim.model.head
        if not self.head_known or self.victim.scenario.model.head == "linear":
            return None
        return head.logits(head.initial(np.random.default_rng(0)), np.eye(self.victim.design.n_qubits))

    # What it knows of the answer

    @cached_property
    def touched(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Numbers of the cuts that touch its parts, and how many sides of each it holds."""
        cuts = [cut for part in self.held for cut in self._engine.parts[part].cuts]
        numbers = tuple(sorted(set(cuts)))
        return numbers, tuple(cuts.count(cut) for cut in numbers)

    @property
    def truth(self) -> np.ndarray:
        """The angles ``[K, touched cuts]`` that it looks for; it does not know them."""
        cuts, sides = self.touched
        numbers = np.array(cut_angles(self.victim.design), int)[list(cuts)]
        return canonical(self.victim.trained.angles[:, numbers], sides)

    def error(self, angles: np.ndarray) -> np.ndarray:
        """Mean distance ``[K]`` in radians of ``angles`` ``[K, touched cuts]`` from the truth, around the circle."""
        distance = np.abs(canonical(angles - self.truth, [2] * angles.shape[1]))
        return distance.mean(axis=1)

    # What it asks

    def ask(self, queries: Queries, count: int, channel: Channel) -> Asked:
        """``count`` answers to random held-out rows, or to queries of its choice.

        Raises:
            QumosError: more passive queries than there are rows.
        """
        if queries == "passive":
            raw = self.victim.features[query_rows(self.victim, count)]
            return self._asked(raw, channel, f"{count} passive")
        if channel.labels and self.victim.n_classes == 2:
            return self._at_the_border(count, channel)
        # With several cuts, signs that are unknown for one input of the other side leave no equation over.
        n_blocks = min(2, len(self.touched[0]), count, len(self._own[0][0]))
        blocks = np.sort(np.arange(count) % n_blocks)
        raw = np.concatenate([self._informative_rows(block, int((blocks == block).sum())) for block in range(n_blocks)], axis=1)
        return self._asked(raw, channel, f"{count} chosen", blocks)

    def _informative_rows(self, block: int, count: int) -> np.ndarray:
        pool = self._moved(_POOL, f"block {block}", block)
        found = self._evidence(self._encode(pool))
        columns = [found.known.reshape(*found.known.shape[:2], -1), found.loose]
        regressors = np.concatenate([*columns, np.broadcast_to(found.bias, (len(pool), *found.bias.shape))], axis=-1)
        # With several contrasts, those of a query stand together: the first one's regressors choose for all.
        chosen = np.stack([informative(one[:: found.bias.shape[1]], count) for one in regressors])
        return np.take_along_axis(pool, chosen[..., None], axis=1)

    def _asked(self, raw: np.ndarray, channel: Channel, use: str, blocks: np.ndarray | None = None) -> Asked:
        encoded = self._encode(raw)
        return Asked(raw, encoded, channel(self.victim, encoded, f"cut angle: {use}"), np.ones(raw.shape[:2]), blocks)

    def _encode(self, raw: np.ndarray) -> np.ndarray:
        return np.stack([fitted.transform(rows) for fitted, rows in zip(self.victim.preprocessors, raw, strict=True)])

    @cached_property
    def _own(self) -> tuple[np.ndarray, np.ndarray]:
        """The thief's own rows, raw and as the service encodes them."""
        raw = self.victim.features[self.victim.together("thief")]
        return raw, self._encode(raw)

    def _moved(self, count: int, use: str, base: int = 0) -> np.ndarray:
        """``count`` raw queries per model that differ from row ``base`` on its own qubits alone, as far as it knows the encoding."""
        low, high = self._span
        own, encoded = self._own
        found = []
        for rows, angles, key in zip(own, encoded[..., self.qubits], self.victim.keys(f"cut angle: {use}"), strict=True):
            wanted = np.random.default_rng(key).uniform(low, high, (count, len(self.qubits)))
            found.append(rows[base] + (wanted - angles[base]) @ np.linalg.pinv(fit_affine(rows, angles, (low, high))[0]))
        return np.stack(found)

    def _at_the_border(self, count: int, channel: Channel) -> Asked:
        """Labels alone: pairs of differently labelled queries are bisected, for at the border of two classes the log-odds are 0."""
        interior = min(_INTERIOR, max(2, count // 2))
        first = self._asked(self._moved(interior, "interior"), channel, "interior")
        pairs = max(1, (count - interior) // _BISECTIONS)
        signs = first.log_odds[..., 0]
        ends = np.stack([opposite_pairs(sign, pairs) for sign in signs])  # [K, 2, pairs]
        below, above = (np.take_along_axis(first.raw, ends[:, side, :, None], axis=1) for side in (0, 1))
        for step in range((count - interior) // pairs):
            middle = (below + above) / 2
            up = self._asked(middle, channel, f"bisection {step}").log_odds[..., :1] > 0
            below, above = np.where(up, below, middle), np.where(up, middle, above)
        middle = (below + above) / 2
        ambiguous = np.stack([len(set(sign)) == 2 for sign in signs])[:, None]
        noise = np.where(ambiguous, _BORDER_NOISE, 1 / _BORDER_NOISE) * np.ones(pairs)
        return Asked(
            np.concatenate([first.raw, middle], axis=1),
            np.concatenate([first.encoded, self._encode(middle)], axis=1),
            np.concatenate([first.log_odds, np.zeros((*middle.shape[:2], 2))], axis=1),
            np.concatenate([_LABEL_NOISE * first.noise, noise], axis=1),
            np.zeros(interior + pairs, int),
        )

    # What it makes of it

    def _evidence(self, encoded: np.ndarray, blocks: np.ndarray | None = None) -> Evidence:
        return evidence(read_variants(self._engine, self.held, self.loot, encoded), self.victim.n_classes, self._tie, blocks)

    def infer(self, asked: Asked) -> np.ndarray:
        """The angles ``[K, touched cuts]``."""
        several = asked.blocks is not None and len(set(asked.blocks)) > 1 and not self.holds_all
        found = self._evidence(asked.encoded, asked.blocks if several else None)
        return fit_angles(found, contrasts(asked.log_odds), noise=asked.noise, kernels=self._kernels(asked, asked.raw))

    def rebuilt(self, asked: Asked, angles: np.ndarray) -> np.ndarray:
        """Accuracy ``[K]`` on the test rows of the service rebuilt around ``angles``: head and other sides fitted to the answers.

        Raises:
            QumosError: it does not hold everything, and what it asked says nothing about other inputs of the other sides.
        """
        if asked.blocks is not None and not self.holds_all:
            raise QumosError(f"holder {self.name}: rebuilding needs passive queries, which tell how other sides answer to other inputs")
        found = self._evidence(asked.encoded)
        fit = fit_head(found, contrasts(asked.log_odds), angles, noise=asked.noise, kernels=self._kernels(asked, asked.raw))
        raw = self.victim.features[self.victim.test]
        own, own_encoded = self._own
        rows, seen = np.concatenate([own, asked.raw], axis=1), np.concatenate([own_encoded, asked.encoded], axis=1)
        encoders = [fit_affine(*pair, self._span) for pair in zip(rows, seen, strict=True)]
        encoded = np.stack([rows @ slopes + offset for rows, (slopes, offset) in zip(raw, encoders, strict=True)])
        return self._accuracy(fit, found, self._evidence(np.clip(encoded, *self._span)), self._kernels(asked, raw))

    def without_loot(self, asked: Asked) -> np.ndarray:
        """Accuracy ``[K]`` of the same fit to the same answers on raw features alone, by the same kernels."""
        raw = self.victim.features[self.victim.test]

        def nothing(rows: int) -> Evidence:
            blank = self._evidence(asked.encoded[:, :1])
            each = np.eye(self.victim.n_classes - 1)
            size = rows * len(each)
            known = np.zeros((len(raw), size, *blank.known.shape[2:]))
            bias = np.tile(each, (rows, 1))
            return Evidence(blank.readings, known, np.broadcast_to(bias, (len(raw), *bias.shape)), bias, blank.tied)

        found, goal = nothing(asked.raw.shape[1]), contrasts(asked.log_odds)
        fit = fit_head(found, goal, self.truth * 0, noise=asked.noise, kernels=similarities(asked.raw, asked.raw))
        return self._accuracy(fit, found, nothing(raw.shape[1]), similarities(raw, asked.raw))

    def _accuracy(self, fit: CutFit, found: Evidence, targets: Evidence, cross: np.ndarray | None) -> np.ndarray:
        logits = predict(fit, found, targets, cross) @ helmert(self.victim.n_classes)
        right = logits.argmax(axis=-1) == self.victim.labels[self.victim.test]
        share: np.ndarray = right.mean(axis=1)
        return share

    def _kernels(self, asked: Asked, raw: np.ndarray) -> np.ndarray | None:
        """Similarities of ``raw`` to the questions in what its own qubits do not see: by the features, or by blocks."""
        if self.holds_all:
            return None
        if asked.blocks is not None:
            same = (asked.blocks[:, None] == asked.blocks).astype(float)
            return np.broadcast_to(same, (1, len(raw), *same.shape))
        rests = []
        for rows, seen, targets in zip(asked.raw, asked.encoded[..., self.qubits], raw, strict=True):
            slopes, _ = fit_affine(rows, seen, self._span)
            beyond = np.eye(len(slopes)) - slopes @ np.linalg.pinv(slopes)
            rests.append((targets @ beyond, rows @ beyond))
        return similarities(*(np.stack(one) for one in zip(*rests, strict=True)))


def holders(victim: Service) -> list[Holder]:
    """Every provider that a cut touches, and all of them together.

    Raises:
        QumosError: the design has no gate cut.
    """
    design = victim.design
    if not design.cut_gates:
        raise QumosError("design: no gate is cut, so there is no angle to infer")
    ends = {design.partition[qubit] for placed in design.cut_gates for qubit in placed.gate.qubits}
    names = [name for name in victim.scenario.provider_names if any(design.assignment[part] == name for part in ends)]
    groups = [(name,) for name in names] + ([tuple(names)] if len(names) > 1 else [])
    return [Holder(victim, group, victim.trained.angles) for group in groups]


def answer_counts(victim: Service, wanted: Sequence[int]) -> tuple[int, ...]:
    """``wanted`` numbers of answers, cut to the rows there are."""
    most = most_queries(victim)
    return tuple(sorted({min(count, most) for count in wanted}))

"""Cut angles are inferred from answers; oracle: a dense simulation of two parts and the gate between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from planted import gates, named

from qumos_env.attacks.confidentiality import cut_angle
from qumos_env.attacks.confidentiality.cut_angle import with_any_angles
from qumos_env.attacks.confidentiality.cut_defences import AWAY, Defence, defences_study
from qumos_env.attacks.confidentiality.cut_holder import Holder, holders
from qumos_env.attacks.confidentiality.cut_queries import Channel
from qumos_env.attacks.registry import ATTACKS
from qumos_env.attacks.results import Measurement
from qumos_env.audit.run import audit
from qumos_env.design import Design
from qumos_env.design.gate_cuts import cut_angles
from qumos_env.errors import QumosError
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.model.cutting.estimator import CutEngine
from qumos_env.model.cutting.inference import infer_angles
from qumos_env.model.cutting.readings import canonical, read_variants
from qumos_env.scenario import Scenario, load_scenario

SIDE = "ry {0}, ry {1}, cz {0} {1}, ry {0}, ry {1}, rx {0}, rx {1}"
LAYER = f"{SIDE.format(0, 1)}, {SIDE.format(2, 3)}"
CUTS = {1: "rzz 1 2", 2: "rzz 1 2, rzz 0 3"}
MODELS = 4
EXACT = Channel("exact")


def design_of(cuts: int, shots: int | None = None) -> Design:
    return Design((0, 0, 1, 1), ("aurora", "borealis"), gates(f"{LAYER}, {CUTS[cuts]}, {LAYER}"), shots)


# The oracle: matrices on all four qubits


def on(matrix: np.ndarray, qubit: int) -> np.ndarray:
    """``matrix`` of one qubit on the register."""
    return np.kron(np.kron(np.eye(2**qubit), matrix), np.eye(2 ** (3 - qubit)))


X, Y, Z = np.array([[0, 1], [1, 0]]), np.array([[0, -1j], [1j, 0]]), np.diag([1, -1])
PAULI = {"rx": X, "ry": Y}


def turn(generator: np.ndarray, angle: float) -> np.ndarray:
    return np.cos(angle / 2) * np.eye(16) - 1j * np.sin(angle / 2) * generator


def dense_z(design: Design, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """⟨Z⟩ ``[rows, 4]``: features by RY, then the gates in their order."""
    found = []
    for row in inputs:
        state, left = np.eye(16, dtype=complex)[0], iter(angles)
        for qubit, angle in enumerate(row):
            state = turn(on(Y, qubit), angle) @ state
        for gate in design.gates:
            if gate.name == "cz":
                first, second = ((np.eye(16) - on(Z, qubit)) / 2 for qubit in gate.qubits)
                state = (np.eye(16) - 2 * first @ second) @ state
            elif gate.name == "rzz":
                state = turn(on(Z, gate.qubits[0]) @ on(Z, gate.qubits[1]), next(left)) @ state
            else:
                state = turn(on(PAULI[gate.name], gate.qubits[0]), next(left)) @ state
        found.append([float((abs(state) ** 2) @ np.diag(on(Z, qubit)).real) for qubit in range(4)])
    return np.array(found)


def in_order(design: Design) -> None:
    assert [placed.gate for placed in design.placed_gates] == list(design.gates)


def answers_of(design: Design, angles: np.ndarray, inputs: np.ndarray, head: np.ndarray, bias: np.ndarray) -> np.ndarray:
    logits = np.stack([dense_z(design, *pair) for pair in zip(angles, inputs, strict=True)]) @ head + bias
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def tie(n_classes: int) -> np.ndarray:
    """Qubit i adds to class i mod C."""
    return (np.arange(4)[:, None] % n_classes == np.arange(n_classes)).astype(float)


def planted(cuts: int, rows: int, constant: list[int] | None = None) -> tuple[Design, np.ndarray, np.ndarray]:
    """Random angles and inputs; the inputs of the qubits ``constant`` are the same in all rows."""
    design, generator = design_of(cuts), np.random.default_rng(3)
    in_order(design)
    angles, inputs = generator.uniform(-np.pi, np.pi, (MODELS, design.n_trainable)), generator.uniform(0, np.pi, (MODELS, rows, 4))
    for qubit in constant or []:
        inputs[:, :, qubit] = inputs[:, :1, qubit]
    return design, angles, inputs


def distance(found: np.ndarray, design: Design, angles: np.ndarray, sides: int) -> np.ndarray:
    """Of every cut from the truth, around the circle."""
    truth = canonical(angles[:, list(cut_angles(design))], [sides] * found.shape[1])
    return np.abs(canonical(found - truth, [2] * found.shape[1]))


@pytest.mark.parametrize(("cuts", "n_classes", "tied", "rows"), [(1, 2, True, 6), (2, 2, True, 8), (2, 3, True, 8), (1, 2, False, 14)])
def test_both_sides_find_the_angle(cuts: int, n_classes: int, tied: bool, rows: int) -> None:
    """From a few answers, whatever scale, biases or, behind a linear head, weights the owner keeps; .01 is far above single precision.

    With the answers in another order it is lost, and with fresh angles in the place of the stolen ones.
    """
    design, angles, inputs = planted(cuts, rows)
    generator = np.random.default_rng(4)
    head = 5.0 * tie(n_classes) if tied else generator.normal(size=(4, n_classes))
    answers = answers_of(design, angles, inputs, head, generator.normal(size=n_classes))
    engine, known = CutEngine(design, "ry"), tie(n_classes) if tied else None
    secret = angles.copy()
    secret[:, list(cut_angles(design))] = np.nan  # not looked at
    assert distance(infer_angles(engine, [0, 1], known, np.nan_to_num(secret), inputs, answers), design, angles, 2).max() < 0.01
    shuffled = infer_angles(engine, [0, 1], known, angles, inputs, np.roll(answers, 1, axis=1))
    fresh = infer_angles(engine, [0, 1], known, generator.uniform(-np.pi, np.pi, angles.shape), inputs, answers)
    assert min(distance(one, design, angles, 2).mean() for one in (shuffled, fresh)) > 0.3


@pytest.mark.parametrize("side", [0, 1])
def test_one_side_finds_the_strength(side: int) -> None:
    """|θ| from twelve answers while the other side's input stays the same, and nothing from shuffled ones."""
    design, angles, inputs = planted(1, 12, constant=[2, 3] if side == 0 else [0, 1])
    answers = answers_of(design, angles, inputs, 4.0 * tie(2), np.array([0.3, -0.2]))
    engine = CutEngine(design, "ry")
    # Neither angles nor inputs of the other side play a part.
    loot, seen = angles.copy(), inputs.copy()
    own = [number for number, one in enumerate(p for p in design.placed_gates if p.gate.trainable) if one in design.parts[side].gates]
    loot[:, np.setdiff1d(np.arange(design.n_trainable), own)] = 0.7
    seen[:, :, [2, 3] if side == 0 else [0, 1]] = 0.1
    found = infer_angles(engine, [side], tie(2), loot, seen, answers)
    assert distance(found, design, angles, 1).max() < 0.02
    flipped = angles.copy()
    flipped[:, list(cut_angles(design))] *= -1
    other = infer_angles(engine, [side], tie(2), loot, seen, answers_of(design, flipped, inputs, 4.0 * tie(2), np.zeros(2)))
    np.testing.assert_allclose(other, found, atol=0.02)  # the sign cannot be told
    shuffled = infer_angles(engine, [side], tie(2), loot, seen, np.roll(answers, 5, axis=1))
    assert distance(shuffled, design, angles, 1).mean() > 0.2


def test_readings_and_factors_are_the_readout() -> None:
    """Σ readings · factors of who holds everything is ⟨Z⟩ of the dense simulation."""
    design, angles, inputs = planted(2, 3)
    readings = read_variants(CutEngine(design, "ry"), [0, 1], angles, inputs)
    assert (readings.sides, readings.loose.shape[-1], readings.signs.shape[-1]) == ((2, 2), 0, 0)
    factors = readings.factors(angles[:, list(cut_angles(design))])
    expected = np.stack([dense_z(design, *pair) for pair in zip(angles, inputs, strict=True)])
    np.testing.assert_allclose(np.einsum("mrqk,mk->mrq", readings.known, factors), expected, atol=1e-5)


def test_who_touches_no_cut_finds_nothing() -> None:
    design = Design((0, 0, 1, 1, 2), ("a", "b", "c"), gates("ry 0, rzz 1 2, ry 1, ry 4"))
    inputs = np.random.default_rng(0).uniform(0, np.pi, (1, 8, 5))
    answers = np.random.default_rng(1).dirichlet([1, 1], (1, 8))
    assert np.isnan(infer_angles(CutEngine(design, "ry"), [2], np.ones((5, 2)), np.zeros((1, 4)), inputs, answers)).all()


# The attack


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    whole = load_scenario("parity-cut")
    return whole.model_copy(
        update={
            "draws": whole.draws.model_copy(update={"count": MODELS, "train_rows": 200}),
            "model": whole.model.model_copy(update={"steps": 2}),
        }
    )


@pytest.fixture(scope="module")
def make_victim(scenario: Scenario) -> Callable[..., Service]:
    """Services with planted angles: what training makes of them plays no part."""

    def make(cuts: int = 1, shots: int | None = None) -> Service:
        design = design_of(cuts, shots)
        victim = Service.train(Workload(scenario), design, seed=3)
        angles = np.random.default_rng(8).uniform(-np.pi, np.pi, victim.trained.angles.shape)
        head = np.tile([6.0, 0.2, -0.1], (MODELS, 1))
        return replace(victim, trained=replace(victim.trained, angles=angles, head=head))

    return make


@pytest.fixture(scope="module")
def measured(make_victim: Callable[..., Service]) -> dict[str, Measurement]:
    return named(cut_angle.run(make_victim()).measurements)


def test_every_figure_stands_beside_its_control(measured: dict[str, Measurement]) -> None:
    for team, angle in (("aurora", "|θ|"), ("borealis", "|θ|"), ("aurora+borealis", "θ")):
        for case in (
            *(f"{count} {queries} answers" for count in (6, 10, 30, 100) for queries in ("passive", "chosen")),
            *(f"100 {queries} answers, {way}" for queries in ("passive", "chosen") for way in ("1000 shots", "100 shots", "labels")),
        ):
            assert measured[f"{team}, {case}: error of {angle} (rad)"].control is not None
            assert measured[f"{team}, {case}: accuracy"].control is not None
    assert all(np.isfinite(one.values).all() and one.values.shape == (MODELS,) for one in measured.values())
    for name, one in measured.items():
        assert one.control_interval.known, name


def test_holders_of_both_sides_have_the_service(measured: dict[str, Measurement], make_victim: Callable[..., Service]) -> None:
    """Exact answers or labels alone, ten answers or a hundred: θ, and with it the owner's accuracy; a guess has neither."""
    for case, most in (("10 chosen answers", 0.01), ("100 passive answers", 0.01), ("100 chosen answers, labels", 0.05)):
        one = measured[f"aurora+borealis, {case}: error of θ (rad)"]
        assert one.values.max() < most and one.gain.mean < -0.3
    victim = make_victim()
    accuracy = np.mean(victim.answer(victim.test, "x").argmax(axis=-1) == victim.labels[victim.test], axis=1)
    np.testing.assert_allclose(measured["aurora+borealis, 10 chosen answers: accuracy"].values, accuracy, atol=0.02)
    blind = measured["aurora+borealis, 100 chosen answers without the loot: error of θ (rad)"]
    assert blind.interval.mean > 0.3


def test_one_provider_has_the_strength_from_exact_answers(measured: dict[str, Measurement]) -> None:
    """And less of it from shots."""
    for name in ("aurora", "borealis"):
        exact, shots = (measured[f"{name}, 100 chosen answers{end}: error of |θ| (rad)"] for end in ("", ", 100 shots"))
        assert exact.values.max() < 0.05 and exact.gain.mean < -0.2
        assert shots.interval.mean > exact.interval.mean


def test_a_service_that_answers_from_shots_is_attacked_as_it_is(
    make_victim: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own shots, and exact answers beside them."""
    monkeypatch.setattr(cut_angle, "ANSWERS", (20,))
    names = set(named(cut_angle.run(make_victim(shots=100)).measurements))
    assert "aurora, 20 chosen answers, exact: accuracy" in names and "aurora, 20 chosen answers, 100 shots: accuracy" not in names


def test_chosen_queries_leave_the_other_side_alone(make_victim: Callable[..., Service]) -> None:
    alone = holders(make_victim())[0]
    asked = alone.ask("chosen", 20, EXACT)
    assert alone.qubits == [0, 1]
    np.testing.assert_allclose(np.ptp(asked.encoded[..., [2, 3]], axis=1), 0, atol=1e-6)
    assert np.ptp(asked.encoded[..., [0, 1]], axis=1).min() > 1


@pytest.mark.parametrize("count", [4, 40, 100])
def test_a_budget_is_kept(count: int, make_victim: Callable[..., Service]) -> None:
    """Bisection spends what it is given and no more; counted by the model itself."""
    victim = make_victim()
    spent = 0
    answers = victim.model.answers

    class Counting:
        def __call__(self, trained: object, encoded: np.ndarray, keys: object) -> np.ndarray:
            nonlocal spent
            spent += encoded.shape[1]
            return answers(trained, encoded, keys)  # type: ignore[arg-type]

    model = victim.model.with_shots(None)
    model.answers = Counting()  # type: ignore[method-assign, assignment]
    model.with_shots = lambda shots: model  # type: ignore[method-assign]
    for queries, channel in (("passive", EXACT), ("chosen", EXACT), ("chosen", Channel("labels", labels=True))):
        spent = 0
        holders(replace(victim, model=model))[0].ask(queries, count, channel)  # type: ignore[arg-type]
        assert 0.8 * count <= spent <= count


def test_angles_at_random_are_other_angles(make_victim: Callable[..., Service]) -> None:
    """Of the cuts alone."""
    holder = holders(make_victim(2))[-1]
    other = with_any_angles(holder).victim.trained.angles
    changed = np.flatnonzero((other != holder.victim.trained.angles).any(axis=0))
    assert list(changed) == sorted(cut_angles(holder.victim.design))


def test_without_a_cut_there_is_nothing_to_infer(scenario: Scenario) -> None:
    """An audit leaves the attack out, and says why where it is asked for."""
    design = Design((0, 0, 1, 1), ("aurora", "borealis"), gates(LAYER))
    with pytest.raises(QumosError, match="no gate is cut"):
        holders(Service.train(Workload(scenario), design, seed=3))
    (result,) = audit(design, scenario, seeds=1, attacks=["cut-angle"]).results.values()
    assert "no gate is cut" in result.measurements[0].note
    assert ATTACKS["cut-angle"].applies(design_of(1)) and not ATTACKS["cut-angle"].applies(design)


def test_counter_measures_are_measured_with_their_price(scenario: Scenario) -> None:
    """The owner's own accuracy through every channel; drawn angles stay where they are drawn, and are found where a guess fails."""
    tried = [Defence("none", EXACT), Defence("away", EXACT, away=True), Defence("10 shots", Channel("10 shots", shots=10))]
    found = {(one.defence, one.holder): one for one in defences_study(scenario, design_of(1), [3, 4], [30], tried)}
    assert set(found) == {(one.name, team) for one in tried for team in ("aurora", "borealis", "aurora+borealis")}
    assert all(one.owner.shape == (2 * MODELS,) for one in found.values())
    away = found["away", "aurora"]
    assert np.all((away.guess >= np.pi / 2 - AWAY[1] - 1e-9) & (away.guess <= np.pi / 2 - AWAY[0] + 1e-9))
    assert found["away", "aurora+borealis"].error.max() < 0.05 < found["away", "aurora+borealis"].guess.min()
    assert (found["10 shots", "aurora"].owner != found["none", "aurora"].owner).any()


def test_holders_know_what_they_may(make_victim: Callable[..., Service]) -> None:
    """No angle of the other part, and no cut angle, changes what one provider finds from the same answers."""
    victim = make_victim()
    alone = holders(victim)[0]
    asked = alone.ask("chosen", 10, EXACT)
    own = [placed in victim.design.parts[0].gates for placed in victim.design.placed_gates if placed.gate.trainable]
    other = Holder(victim, alone.providers, np.where(own, victim.trained.angles, 0.4))
    encoded = asked.encoded.copy()
    encoded[..., [2, 3]] = 0.3
    np.testing.assert_allclose(other.infer(replace(asked, encoded=encoded)), alone.infer(asked), atol=1e-9)


@pytest.mark.parametrize("side", [0, 1])
def test_one_side_of_two_cuts_finds_their_strengths(side: int, make_victim: Callable[..., Service]) -> None:
    """From two inputs of the other side. Single precision limits it to hundredths: the median is held against half of a guess's."""
    holder = holders(make_victim(2))[side]
    found = holder.infer(holder.ask("chosen", 100, EXACT))
    assert np.median(np.abs(found - holder.truth)) < 0.25 < 0.5 < np.median(np.abs(holder.truth - np.pi / 2))


def test_the_control_knows_products(make_victim: Callable[..., Service]) -> None:
    """From 20 values of the product of all features it has the parity of their signs: a control must not be weaker than its thief."""
    holder = holders(make_victim())[0]
    asked = holder.ask("passive", 20, EXACT)
    product = asked.raw.prod(axis=-1)
    assert holder.without_loot(replace(asked, log_odds=np.stack([product, -product], axis=-1))).mean() > 0.9

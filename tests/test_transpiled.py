"""Recovery from transpiled circuits, held against the circuits that were transpiled."""

from dataclasses import replace
from typing import Any

import cirq
import numpy as np
import pytest
from planted import gates, named

from qumos_env.attacks.confidentiality import transpiled_theft
from qumos_env.attacks.confidentiality.circuit_recovery import (
    GateList,
    angle_errors,
    circuit_unitary,
    distance,
    native_circuit,
    read_encoding,
)
from qumos_env.attacks.confidentiality.stealing import Scene
from qumos_env.attacks.confidentiality.transpiled_theft import BlackBoxThief, guess_ansatz, observe, resynthesise
from qumos_env.attacks.results import Measurement
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import contiguous, interleaved, ry_cz_ry
from qumos_env.design.circuits import Fragment, part_fragments
from qumos_env.design.encodings import AXES, Axis
from qumos_env.errors import QumosError
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.model.training import Parameters
from qumos_env.scenario import load_scenario, parse_scenario
from qumos_env.scenario.sections import ModelSection

WHOLE = (0, 0, 0)


def block_of(text: str, axis: str = "ry") -> Fragment:
    """Three qubits with these gates."""
    return part_fragments(Design(WHOLE, ("aurora",), gates(text)), axis)[0]


MIXED = "rx 0, ry 1, h 2, cx 0 1, rzz 1 2, rz 1, ry 2, cz 0 2, rx 2, ry 0"
N_MIXED = 7


def bound(fragment: Fragment, angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The unitary of the logical circuit, from Cirq alone."""
    values = {f"w{i}": angles[i] for i in fragment.weights} | {f"x{q}": inputs[q] for q in fragment.qubits}
    line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
    return cirq.resolve_parameters(fragment.circuit, values).unitary(qubit_order=line, qubits_that_should_be_present=line)


def draw(seed: int, count: int = N_MIXED) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(-np.pi, np.pi, count), generator.uniform(0.2, 2.9, (2, 3))


@pytest.mark.parametrize(("gateset", "native"), [("cz", cirq.CZ), ("sqrt-iswap", cirq.SQRT_ISWAP)])
def test_the_native_circuit_is_native_and_the_same(gateset: str, native: cirq.Gate) -> None:
    fragment = block_of(MIXED)
    angles, inputs = draw(0)
    circuit = native_circuit(fragment, angles, inputs[0], gateset)
    assert {type(op.gate) for op in circuit.all_operations() if len(op.qubits) == 1} <= {cirq.PhasedXZGate}
    two_qubit = [op.gate for op in circuit.all_operations() if len(op.qubits) == 2]
    assert two_qubit and all(gate in (native, native**-1) for gate in two_qubit)
    assert distance(circuit_unitary(circuit, fragment.qubits), bound(fragment, angles, inputs[0])) < 1e-6
    with pytest.raises(QumosError, match="unknown native gate set 'c'"):
        native_circuit(fragment, angles, inputs[0], "c")


def test_coarse_native_angles_are_off_by_their_resolution() -> None:
    fragment = block_of(MIXED)
    angles, inputs = draw(0)
    apart = [
        distance(
            circuit_unitary(native_circuit(fragment, angles, inputs[0], "cz", step), fragment.qubits), bound(fragment, angles, inputs[0])
        )
        for step in (1e-3, 1e-1)
    ]
    assert 1e-5 < apart[0] < 5e-3 < apart[1] < 0.3


@pytest.mark.parametrize("gateset", ["cz", "sqrt-iswap"])
def test_rounding_does_not_decide_which_coarse_circuit_is_seen(gateset: str) -> None:
    """The control electronics round the angles of the native circuit, so that must be one circuit on every processor."""
    for text in (MIXED, "cz 0 1, cz 1 2, h 0, cx 0 1, cx 0 1", "rzz 0 1, h 1, cx 1 0, rzz 0 1, cz 1 2, ry 2, cz 1 2"):
        fragment = block_of(text)
        angles, inputs = draw(0)
        seen = []
        for change in (0.0, 1e-12, -1e-12):
            circuit = native_circuit(fragment, angles + change, inputs[0] - change, gateset, 0.05)
            seen.append(circuit_unitary(circuit, fragment.qubits))
        assert distance(seen[0], bound(fragment, angles, inputs[0])) > 1e-3
        assert distance(seen[0], seen[1]) < 1e-6 and distance(seen[0], seen[2]) < 1e-6


def test_distance_by_hand() -> None:
    """No phase; orthogonal unitaries are 1 apart; a small rotation by its sine."""
    assert distance(np.eye(4), 1j * np.eye(4)) == 0
    assert distance(np.eye(2), np.diag([1, -1])) == 1
    assert distance(np.eye(2), cirq.unitary(cirq.rx(0.2))) == pytest.approx(np.sin(0.1))


@pytest.mark.parametrize(("axis", "seen"), [("rx", "XXX"), ("ry", "YYY"), ("rz", "XXX")])
def test_the_encoding_is_read_off_two_queries(axis: str, seen: str) -> None:
    """Axes and differences, whatever was trained; about Z behind H is about X."""
    fragment = block_of(MIXED, axis)
    angles, inputs = draw(1)
    natives = [circuit_unitary(native_circuit(fragment, angles, row), fragment.qubits) for row in inputs]
    encoding = read_encoding(*natives)
    assert encoding.local and encoding.axes == seen
    np.testing.assert_allclose(encoding.differences, inputs[1] - inputs[0], atol=1e-5)


@pytest.mark.parametrize("axis", ["ry", "rx"])
def test_inputs_at_both_ends_of_the_range_are_read(axis: str) -> None:
    """Half a turn apart, where the two queries' unitaries have no overlap at all."""
    fragment = block_of(MIXED, axis)
    angles, inputs = draw(6)
    inputs[:, :2] = [[0, np.pi], [np.pi, 0]]
    encoding = read_encoding(*(bound(fragment, angles, row) for row in inputs))
    assert encoding.local and encoding.axes == axis[1].upper() * 3
    np.testing.assert_allclose(np.abs(encoding.differences), np.abs(inputs[1] - inputs[0]), atol=1e-5)
    rest = bound(fragment, angles, inputs[0]) @ encoding.unitary(inputs[0]).conj().T
    row = np.array([0.4, 1.1, 2.0])
    assert distance(rest @ encoding.unitary(row), bound(fragment, angles, row)) < 1e-6


def test_an_input_that_does_not_change_or_enters_twice_is_noticed() -> None:
    angles, inputs = draw(2)
    inputs[1, 1] = inputs[0, 1]
    fragment = block_of(MIXED)
    assert read_encoding(*(bound(fragment, angles, row) for row in inputs)).axes == "Y?Y"
    twice = block_of(MIXED + ", reupload 0")
    assert not read_encoding(*(bound(twice, angles, row) for row in draw(2)[1])).local


def test_encoded_states_are_the_encoders() -> None:
    fragment = block_of("rz 0", "rx")
    _, inputs = draw(3)
    encoding = read_encoding(*(bound(fragment, np.zeros(1), row) for row in inputs))
    for row, state in zip(inputs, encoding.states(inputs), strict=True):
        np.testing.assert_allclose(state, bound(fragment, np.zeros(1), row)[:, 0], atol=1e-9)
        np.testing.assert_allclose(encoding.unitary(row), bound(fragment, np.zeros(1), row), atol=1e-9)


@pytest.mark.parametrize("text", [MIXED, MIXED + ", reupload 0, reupload 2, ry 0"])
def test_a_gate_list_is_its_circuit_and_its_derivatives_are_slopes(text: str) -> None:
    fragment = block_of(text)
    angles, inputs = draw(4, len(fragment.weights))
    listed = GateList(fragment)
    assert distance(listed.unitary(angles, inputs[0]), bound(fragment, angles, inputs[0])) < 1e-7
    slopes = listed.derivatives(angles, inputs[0])
    for k, slope in enumerate(slopes):
        step = np.eye(len(angles))[k] * 1e-5
        numeric = (listed.unitary(angles + step, inputs[0]) - listed.unitary(angles - step, inputs[0])) / 2e-5
        np.testing.assert_allclose(slope, numeric, atol=1e-8)


@pytest.mark.parametrize("gateset", ["cz", "sqrt-iswap"])
def test_angles_are_recovered_from_native_circuits(gateset: str) -> None:
    """Planted angles come back up to sign and half turns, and the circuit is the same."""
    fragment = block_of(MIXED)
    angles, inputs = draw(5)
    native = circuit_unitary(native_circuit(fragment, angles, inputs[0], gateset), fragment.qubits)
    fit = GateList(fragment).fit([native], [inputs[0]], 8, np.random.default_rng(0))
    assert fit.distance < 1e-5 and fit.identifiable.all()
    assert angle_errors(fit.angles, angles).max() < 1e-4
    assert distance(GateList(fragment).unitary(fit.angles, inputs[1]), bound(fragment, angles, inputs[1])) < 1e-5


def test_re_uploaded_inputs_are_no_obstacle_to_a_known_gate_list() -> None:
    fragment = block_of("ry 0, rzz 0 1, rx 1, cz 1 2, reupload 0, reupload 1, ry 1, rx 0")
    angles, inputs = draw(6, len(fragment.weights))
    natives = [circuit_unitary(native_circuit(fragment, angles, row), fragment.qubits) for row in inputs]
    fit = GateList(fragment).fit(natives, list(inputs), 8, np.random.default_rng(1))
    assert fit.distance < 1e-5
    other = np.array([1.0, 0.3, 2.0])
    assert distance(GateList(fragment).unitary(fit.angles, other), bound(fragment, angles, other)) < 1e-5


def test_the_wrong_gates_do_not_fit() -> None:
    """Control: a gate list without an entangler cannot give an entangling unitary."""
    fragment = block_of(MIXED)
    angles, inputs = draw(7)
    unentangled = GateList(block_of("ry 0, rx 0, ry 1, rx 1, ry 2, rx 2"))
    fit = unentangled.fit([bound(fragment, angles, inputs[0])], [inputs[0]], 3, np.random.default_rng(2))
    assert fit.distance > 0.3


def test_angles_that_the_unitary_does_not_determine_are_marked() -> None:
    """Of two rotations in a row only the sum shows; the one on another qubit is determined."""
    fragment = block_of("ry 0, rz 1, ry 1, rz 0, rz 0")
    angles, inputs = draw(8, 5)
    fit = GateList(fragment).fit([bound(fragment, angles, inputs[0])], [inputs[0]], 5, np.random.default_rng(3))
    assert fit.distance < 1e-5
    placed = Design(WHOLE, ("aurora",), gates("ry 0, rz 1, ry 1, rz 0, rz 0")).gates
    np.testing.assert_array_equal(fit.identifiable, [gate != Gate("rz", (0,)) for gate in placed])


def test_angle_errors_by_hand() -> None:
    found = np.array([0.3, -0.3, 0.3 + np.pi, np.pi - 0.3, 0.4, np.pi / 2])
    np.testing.assert_allclose(angle_errors(found, np.array([0.3] * 5 + [0.0])), [0, 0, 0, 0, 0.1, np.pi / 2], atol=1e-12)
    uniform = np.random.default_rng(0).uniform(-np.pi, np.pi, (2, 20000))
    assert angle_errors(*uniform).mean() == pytest.approx(np.pi / 6, abs=0.01)


def trained(design: Design, **sections: dict[str, Any]) -> Service:
    """A victim on wine, two draws."""
    data: dict[str, Any] = {
        "name": "planted",
        "title": "planted",
        "data": {"source": "wine"},
        "draws": {"count": 2, "train_rows": 40, "thief_rows_per_class": 4, "tuning_rows": 30},
        "design": {"qubits": 6, "max_parts": 3, "max_part_qubits": 6, "max_gates": 60, "vocabulary": "gates"},
        "model": {"steps": 20},
        "threat": {"steps": 20},
        "providers": [{"name": "aurora"}, {"name": "borealis"}],
    }
    for name, values in sections.items():
        data[name] = data[name] | values
    return Service.train(Workload(parse_scenario(data)), design, seed=3)


TEXTBOOK = ry_cz_ry(interleaved(6, 2), ["aurora", "borealis"], 1)


@pytest.fixture(scope="module")
def victim() -> Service:
    return trained(TEXTBOOK)


@pytest.fixture(scope="module")
def measurements(victim: Service) -> dict[str, Measurement]:
    return named(transpiled_theft.run(victim).measurements)


@pytest.mark.parametrize("provider", ["aurora", "borealis"])
def test_everything_is_recovered_without_noise(measurements: dict[str, Measurement], victim: Service, provider: str) -> None:
    """The textbook ansatz is guessed; black box and fitted angles do what the logical part does, and steal as much."""
    np.testing.assert_array_equal(measurements[f"{provider}: encoding axes recovered"].values, 1)
    for way in ("known gates", "guessed ansatz"):
        measurement = measurements[f"{provider}, {way}: unitary distance"]
        assert measurement.values.max() < 1e-5 and measurement.control_interval.mean > 0.5
    error = measurements[f"{provider}, known gates: angle error (rad)"]
    assert error.values.max() < 1e-3 and error.control_interval.mean > 0.2
    blind = measurements[f"{provider}, black box: readout error"]
    assert blind.values.max() < 1e-3 < 0.05 < blind.control_interval.mean
    assert "6 ry" in measurements[f"{provider}, guessed ansatz: unitary distance"].note
    scene = Scene(victim)
    logical = scene.steal(scene.thief(provider), "frozen-head", "labels", use=f"transpiled theft by {provider}")
    np.testing.assert_allclose(measurements[f"{provider}, black box, frozen-head: accuracy"].values, logical.test, atol=0.03)
    assert measurements[f"{provider}, known gates, fine-tune: accuracy"].control is not None


def test_the_recovered_angles_are_loot(victim: Service) -> None:
    """The circuit with the recovered angles reads what the victim's part reads, on rows that no query held."""
    (fragment, _) = part_fragments(TEXTBOOK, "ry")
    fits = resynthesise(fragment, observe(victim, fragment), 8, [0])
    angles = victim.trained.angles.copy()
    angles[:, list(fragment.weights)] = [fit.angles for fit in fits]
    inputs = victim.encode(victim.test)
    found, true = (victim.model.stack.readout(one, inputs) for one in (angles, victim.trained.angles))
    np.testing.assert_allclose(found, true, atol=1e-4)


def test_recovery_sees_its_own_part_only(victim: Service) -> None:
    """Other angles in the other part change nothing of what the provider observes."""
    (fragment, other) = part_fragments(TEXTBOOK, "ry")
    seen = observe(victim, fragment)
    angles = victim.trained.angles.copy()
    angles[:, list(other.weights)] += 0.5
    again = observe(replace(victim, trained=Parameters(angles, victim.trained.head)), fragment)
    for one, two in zip(seen, again, strict=True):
        np.testing.assert_array_equal(one.unitaries, two.unitaries)


def test_the_black_box_follows_the_part(victim: Service) -> None:
    """⟨Z⟩ of the held qubits as the victim's stack reads it, 0 elsewhere."""
    (fragment, _) = part_fragments(TEXTBOOK, "ry")
    thief = BlackBoxThief(Scene(victim), "aurora", [(fragment, observe(victim, fragment))])
    inputs = victim.encode(victim.together("score", 10))
    held = np.isin(np.arange(6), fragment.qubits)
    expected = np.where(held, victim.model.stack.readout(victim.trained.angles, inputs), 0)
    np.testing.assert_allclose(thief.readout(inputs), expected, atol=1e-4)


def test_a_guess_needs_the_right_family() -> None:
    """A design outside the families is not matched, and says so by its distance."""
    text = "h 0, cx 1 0, rz 0, cx 2 1, rx 1, h 2, cx 0 2, ry 2, h 1, rz 1, ry 3"
    strange = Design((0, 0, 0, 1, 1, 1), ("aurora", "borealis"), gates(text))
    stranger = trained(strange)
    (fragment, _) = part_fragments(strange, "ry")
    _, fits = guess_ansatz(strange, 0, observe(stranger, fragment), "ry", [0])
    assert min(fit.distance for fit in fits) > 1e-3


def test_what_cannot_be_recovered_says_why() -> None:
    """A part that is too wide; inputs that enter twice."""
    wide = named(transpiled_theft.run(trained(ry_cz_ry((0,) * 6, ["aurora"], 1))).measurements)
    assert all(not measurement.interval.known and "more than 5 qubits" in measurement.note for measurement in wide.values())
    twice = Design((0, 0, 1, 1, 1, 1), ("aurora", "borealis"), gates("ry 0, cz 0 1, reupload 0, reupload 1, ry 1, ry 2"))
    measurements = named(transpiled_theft.run(trained(twice)).measurements)
    assert set(wide) == {name for name in measurements if name.startswith("aurora")}
    missing = measurements["aurora, black box, frozen-head: accuracy"]
    assert not missing.interval.known and "more than once" in missing.note
    assert measurements["aurora, known gates: unitary distance"].values.max() < 1e-5
    assert measurements["borealis, black box: readout error"].values.max() < 1e-3


def test_an_axis_from_outside_says_how_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack has no list of axes of its own: what counts as recovered is what the axis's entry says."""
    monkeypatch.setitem(AXES, "swung", Axis("swung", lambda angle, qubit: cirq.rz(angle).on(qubit), prepared=True, seen="X"))
    small = Design((0, 0, 1, 1, 1, 1), ("aurora", "borealis"), gates("ry 0, cz 0 1, ry 2"))
    found = named(transpiled_theft.run(trained(small, data={"axis": "swung"})).measurements)
    assert found["aurora: encoding axes recovered"].values.tolist() == [1.0, 1.0]


def test_one_seed_one_result(victim: Service, measurements: dict[str, Measurement]) -> None:
    again = transpiled_theft.run(victim).measurements
    assert [measurement.name for measurement in again] == list(measurements)
    for measurement in again:
        np.testing.assert_array_equal(measurement.values, measurements[measurement.name].values)


def test_the_native_gates_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the provider's thief sees is what its device runs."""
    seen = []

    class Spy:
        def __init__(self, scene: object, provider: str, number: int, gateset: str, resolution: float) -> None:
            seen.append((provider, gateset))

        def measurements(self) -> list[object]:
            return []

    monkeypatch.setattr(transpiled_theft, "_ProviderAttack", Spy)
    scenario = load_scenario("digits-theft").on_devices(["rigetti-ankaa", "ionq-aria"])
    design = ry_cz_ry(contiguous(8, 2), ("aurora", "borealis"), 1)
    victim = Service.train(Workload(scenario.model_copy(update={"model": ModelSection(steps=1)})), design, 3)
    transpiled_theft.run(victim)
    assert seen == [("aurora", "sqrt-iswap"), ("borealis", "cz")]

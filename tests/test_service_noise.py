"""A service on the noisy hardware of its providers, against cirq's density matrices."""

import cirq
import numpy as np
import pytest
from planted import named

from qumos_env.attacks.integrity import service
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.design.circuits import input_symbol, part_fragments, weight_symbol
from qumos_env.errors import QumosError
from qumos_env.evaluation.evaluator import Evaluator
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.model.measured import MeasuredCircuits
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters
from qumos_env.scenario import Scenario, parse_scenario
from qumos_env.simulation.channels import NoiseSpec, ReadoutError

DESIGN = ry_cz_ry(contiguous(4, 2), ("aurora", "borealis"), 2)
NOISE = {
    "aurora": NoiseSpec(0.01, 0.05, amplitude_damping=0.02, readout=ReadoutError(0.02, 0.04)),
    "borealis": NoiseSpec(0.03, 0.0, phase_damping=0.05),
}


def oracle(angles: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """⟨Z⟩ of every part, run one after the other by cirq with its own provider's noise; readout errors shrink and shift ⟨Z⟩."""
    values = np.zeros(inputs.shape)
    simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
    for part, fragment in zip(DESIGN.parts, part_fragments(DESIGN, "ry"), strict=True):
        noise = NOISE[part.provider]
        circuit = noise.noisy(fragment.circuit)
        line = [cirq.LineQubit(qubit) for qubit in fragment.qubits]
        wrong = noise.readout
        for row, angle in enumerate(inputs):
            numbers = {input_symbol(q): angle[q] for q in fragment.qubits} | {weight_symbol(w): angles[w] for w in fragment.weights}
            exact = np.real(simulator.simulate_expectation_values(circuit, [cirq.Z(q) for q in line], numbers, qubit_order=line))
            values[row, list(fragment.qubits)] = (1 - wrong.zero_as_one - wrong.one_as_zero) * exact + wrong.one_as_zero - wrong.zero_as_one
    return values


def test_every_part_has_the_noise_of_its_provider() -> None:
    generator = np.random.default_rng(0)
    angles, inputs = generator.uniform(-3, 3, (2, DESIGN.n_trainable)), generator.uniform(0, 3, (2, 3, 4))
    found = MeasuredCircuits(DESIGN, "ry", NOISE).noisy.readout(angles, inputs)
    np.testing.assert_allclose(found, [oracle(*one) for one in zip(angles, inputs, strict=True)], atol=1e-5)
    sampled = MeasuredCircuits(DESIGN, "ry", NOISE).noisy.sampled_readout(angles, inputs, 200_000, [[1], [2]])
    assert 0 < np.abs(sampled - found).max() < 5 / np.sqrt(200_000)


def test_a_cut_gate_has_the_noise_of_one_qubit_gates_on_either_side() -> None:
    design = Design((0, 1), ("aurora", "borealis"), (Gate("ry", (0,)), Gate("rzz", (0, 1)), Gate("ry", (1,))))
    only = {"aurora": NoiseSpec(one_qubit=0.3, amplitude_damping=0.2, phase_damping=0.1)}
    found = MeasuredCircuits(design, "ry", only).readout(np.array([[0.4, 0.9, -0.2]]), np.array([[[0.3, 1.1]]]))[0, 0]
    a, b = cirq.LineQubit.range(2)
    turn = cirq.ZZPowGate(exponent=0.9 / np.pi, global_shift=-0.5)
    lost = [cirq.depolarize(0.3)(a), cirq.amplitude_damp(0.2)(a), cirq.phase_damp(0.1)(a)]
    circuit = cirq.Circuit(cirq.ry(0.3)(a), lost, cirq.ry(1.1)(b), cirq.ry(0.4)(a), lost, turn(a, b), lost, cirq.ry(-0.2)(b))
    state = cirq.DensityMatrixSimulator(dtype=np.complex128)
    np.testing.assert_allclose(found, np.real(state.simulate_expectation_values(circuit, [cirq.Z(a), cirq.Z(b)])), atol=1e-5)


def test_answers_are_noisy_and_training_is_not() -> None:
    generator = np.random.default_rng(1)
    inputs, labels = generator.uniform(0, 3, (1, 20, 4)), generator.integers(2, size=(1, 20))
    noisy, exact = (QNN(DESIGN, 2, noise=noise) for noise in (NOISE, None))
    trained = noisy.train_many(inputs, labels, [[3]])
    np.testing.assert_array_equal(trained.angles, exact.train_many(inputs, labels, [[3]]).angles)
    np.testing.assert_array_equal(noisy.probabilities(trained, inputs), exact.probabilities(trained, inputs))
    np.testing.assert_array_equal(exact.answers(trained, inputs, [[0]]), exact.probabilities(trained, inputs))
    values = np.stack([oracle(trained.angles[0], inputs[0])])
    expected = noisy.head.logits(trained.head, values)
    found = np.log(noisy.answers(trained, inputs, [[0]]))
    np.testing.assert_allclose(found - found[..., :1], expected - expected[..., :1], atol=1e-4)


def scenario(noise: bool, two_qubit: float = 0.3) -> Scenario:
    return parse_scenario(
        {
            "name": "noisy",
            "title": "noisy",
            "data": {"source": "iris", "reducer": "none"},
            "draws": {"count": 2, "train_rows": 20, "tuning_rows": 12},
            "design": {"qubits": 4},
            "model": {"steps": 20},
            "threat": {"steps": 5, "tiers": ["frozen-head"]},
            "service": {"noise": noise},
            "providers": [{"name": "aurora", "noise": {"two_qubit": two_qubit}}, {"name": "borealis"}],
        }
    )


def test_a_scenario_scores_the_noisy_service() -> None:
    """Noise on a provider whose part decides something changes what is scored; where nothing is noisy the option is refused."""
    exact, noisy = (Evaluator(scenario(noise)).evaluate(DESIGN) for noise in (False, True))
    assert exact.accuracy != noisy.accuracy or exact.membership_auc != noisy.membership_auc
    assert exact.thieves == noisy.thieves  # this thief learns from labels and runs its loot exactly
    assert scenario(False).hash != scenario(True).hash
    with pytest.raises(QumosError, match=r"service\.noise is true, but no provider has noise"):
        scenario(True, two_qubit=0.0)


def test_the_audit_reports_all_ways_to_run() -> None:
    """Exact, shots, noise and both, each beside exact; noise is that of the scenario's providers, or a typical one that is said to be."""
    ruinous = parse_scenario(scenario(True).model_dump(mode="json") | {"providers": [{"name": "aurora", "noise": {"one_qubit": 0.75}}] * 1})
    design = ry_cz_ry((0,) * 4, ("aurora",), 1)
    found = named(service.run(Service.train(Workload(ruinous), design, 1)).measurements)
    assert list(found) == ["exact: accuracy", "1,000 shots: accuracy", "noise: accuracy", "noise and 1,000 shots: accuracy"]
    assert found["exact: accuracy"].gain.mean == 0 and found["exact: accuracy"].interval.mean > 0.6
    # Complete depolarisation leaves a constant answer.
    assert found["noise: accuracy"].interval.mean == pytest.approx(1 / 3, abs=0.02)
    quiet = parse_scenario(ruinous.model_dump(mode="json") | {"service": {"noise": False}, "providers": [{"name": "aurora"}]})
    typical = named(service.run(Service.train(Workload(quiet), design, 1)).measurements)
    assert "assumed" in typical["noise: accuracy"].note
    assert typical["noise: accuracy"].interval.mean > 0.6


def test_a_stack_of_parameters() -> None:
    """Models do not see each other."""
    generator = np.random.default_rng(2)
    model = QNN(DESIGN, 2, noise=NOISE)
    heads = generator.normal(size=(3, *model.head.initial(generator).shape))
    trained = Parameters(generator.uniform(-3, 3, (3, DESIGN.n_trainable)), heads)
    inputs = generator.uniform(0, 3, (3, 2, 4))
    together = model.answers(trained, inputs, [[0]] * 3)
    one = Parameters.stack([trained[1]])
    np.testing.assert_allclose(model.answers(one, inputs[1:2], [[0]])[0], together[1], atol=1e-7)

"""QuantumLayer as a torch module; the oracle is ``cirq.Simulator`` in double precision."""

from __future__ import annotations

import copy
import io
import math
import pickle

import cirq
import numpy as np
import pytest
import sympy
import torch

from qumos_env.errors import QumosError
from qumos_env.simulation.channels import NoiseSpec, ReadoutError
from qumos_env.simulation.gradients import expectation_gradient, sampled_expectations
from qumos_env.simulation.layer import QuantumLayer

QUBITS = cirq.LineQubit.range(3)
OBSERVABLES = [cirq.Z(QUBITS[0]), cirq.X(QUBITS[1]) * cirq.Z(QUBITS[2]), 0.5 * cirq.Y(QUBITS[2]) - 1.0 * cirq.Z(QUBITS[1])]
INPUTS = ["x0", "x1"]


def circuit() -> cirq.Circuit:
    """Inputs at the start and once more in the middle, eleven weights."""
    w, x = [sympy.Symbol(f"w{i}") for i in range(11)], [sympy.Symbol(f"x{i}") for i in range(2)]
    a, b, c = QUBITS
    return cirq.Circuit(
        [cirq.ry(x[0])(a), cirq.rx(x[1])(b), cirq.rx(w[10])(a), cirq.ry(w[2])(b), cirq.rz(w[0])(c), cirq.ry(w[1])(c)],
        [cirq.CZ(a, b), cirq.CX(b, c), cirq.ry(2 * x[0] + 0.3)(b), cirq.ZZ(a, c) ** w[3]],
        [cirq.rx(w[4])(a), cirq.ry(w[5])(b), cirq.rx(w[6])(c), cirq.CZ(c, a)],
        [cirq.ry(w[7])(a), cirq.rx(w[8])(b), cirq.ry(w[9])(c)],
    )


def oracle(weights: np.ndarray, row: np.ndarray) -> np.ndarray:
    numbers = {f"w{i}": value for i, value in enumerate(weights)} | {f"x{i}": value for i, value in enumerate(row)}
    state = cirq.Simulator(dtype=np.complex128).simulate(circuit(), numbers, qubit_order=QUBITS).final_state_vector
    place = {qubit: index for index, qubit in enumerate(QUBITS)}
    return np.array([cirq.PauliSum.wrap(item).expectation_from_state_vector(state, place).real for item in OBSERVABLES])


def layer(**settings: object) -> QuantumLayer:
    return QuantumLayer(circuit(), OBSERVABLES, INPUTS, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("route", ["unitary", "states"])
def test_values_and_gradients(route: str) -> None:
    module = layer(route=route, seed=4)
    generator = np.random.default_rng(0)
    inputs = torch.tensor(generator.uniform(-3, 3, (5, 2)), dtype=torch.float64, requires_grad=True)
    cotangents = generator.normal(size=(5, 3))
    values = module(inputs)
    values.backward(torch.tensor(cotangents, dtype=values.dtype))

    weights, rows = module.weights.detach().double().numpy(), inputs.detach().numpy()
    np.testing.assert_allclose(values.detach(), [oracle(weights, row) for row in rows], atol=1e-5)

    def loss(weights: np.ndarray, rows: np.ndarray) -> float:
        return float(sum(cotangent @ oracle(weights, row) for cotangent, row in zip(cotangents, rows, strict=True)))

    step = 1e-4
    by_weight = [(loss(weights + s, rows) - loss(weights - s, rows)) / (2 * step) for s in step * np.eye(11)]
    np.testing.assert_allclose(module.weights.grad, by_weight, atol=1e-4)
    assert inputs.grad is not None and inputs.grad.dtype == torch.float64
    for index in np.ndindex(rows.shape):
        shift = np.zeros(rows.shape)
        shift[index] = step
        assert inputs.grad[index] == pytest.approx((loss(weights, rows + shift) - loss(weights, rows - shift)) / (2 * step), abs=1e-4)


def test_own_finite_differences() -> None:
    """The layer's gradient is that of what the layer itself computes (single precision, hence the coarse step)."""
    module = layer(seed=1)
    inputs = torch.linspace(-2, 2, 8).reshape(4, 2)
    (slope,) = torch.autograd.grad(module(inputs).square().sum(), module.weights)
    step = 1e-2
    with torch.no_grad():
        for index in range(len(module.weights)):
            value = module.weights[index].item()
            module.weights[index] = value + step
            above = module(inputs).square().sum().item()
            module.weights[index] = value - step
            below = module(inputs).square().sum().item()
            module.weights[index] = value
            assert slope[index].item() == pytest.approx((above - below) / (2 * step), abs=5e-3)


def test_weights_are_in_natural_order() -> None:
    assert layer().weight_symbols == tuple(f"w{i}" for i in range(11))
    start = np.arange(11.0)
    values = layer(initial_weights=start)(torch.zeros(1, 2))
    np.testing.assert_allclose(values.detach()[0], oracle(start, np.zeros(2)), atol=1e-5)


def test_weight_order_can_be_given() -> None:
    backwards = [f"w{i}" for i in reversed(range(11))]
    start = np.arange(11.0)
    values = layer(weight_symbols=backwards, initial_weights=start[::-1].tolist())(torch.zeros(1, 2))
    np.testing.assert_allclose(values.detach()[0], oracle(start, np.zeros(2)), atol=1e-5)


def test_symbols_may_be_sympys_or_names() -> None:
    x, w = sympy.symbols("x:2"), sympy.symbols("w:11")
    module = QuantumLayer(circuit(), OBSERVABLES, [x[0], "x1"], [*w[:5], *(symbol.name for symbol in w[5:])])
    assert module.input_symbols == ("x0", "x1")
    assert module.weight_symbols == tuple(f"w{i}" for i in range(11))
    assert all(type(name) is str for name in (*module.input_symbols, *module.weight_symbols))
    inputs = torch.rand(3, 2)
    torch.testing.assert_close(module(inputs), layer()(inputs))
    # Without weight symbols all others are weights.
    assert QuantumLayer(circuit(), OBSERVABLES, x).weight_symbols == module.weight_symbols
    assert QuantumLayer(circuit(), OBSERVABLES, x, noise=SPEC).weight_symbols == module.weight_symbols


@pytest.mark.parametrize("noise", [None, "spec"])
@pytest.mark.parametrize("argument", ["input_symbols", "weight_symbols"])
def test_symbols_that_are_none(argument: str, noise: str | None) -> None:
    x = sympy.Symbol("x0")
    mistakes = {
        r"needed, got 2\*x0 of type Mul at place 0": [2 * x],
        r"needed, got 1\.5 of type float at place 1": ["x0", 1.5],
        r"needed, got LineQubit\(0\) of type LineQubit at place 0|needed, got cirq.LineQubit\(0\) of type LineQubit at place 0": QUBITS[:1],
        "needed, got cirq.Circuit.* of type Circuit at place 0": [circuit()],
        r"a list of symbols or names is needed, such as \[x\] or \['x'\], got x0": x,
        "a list of symbols or names is needed, .* got 'x0'": "x0",
        "a list of symbols or names is needed, .* got 3": 3,
    }
    for message, symbols in mistakes.items():
        with pytest.raises(QumosError, match=f"{argument}: .*{message}") as caught:
            layer_of(argument, symbols, SPEC if noise else None)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def layer_of(argument: str, symbols: object, noise: NoiseSpec | None) -> QuantumLayer:
    return QuantumLayer(circuit(), OBSERVABLES, **({"input_symbols": INPUTS} | {argument: symbols}), noise=noise)  # type: ignore[arg-type]


def test_seed_decides_the_weights() -> None:
    assert torch.equal(layer(seed=3).weights, layer(seed=3).weights)
    assert not torch.equal(layer(seed=3).weights, layer(seed=4).weights)
    weights = layer(seed=3).weights
    assert weights.dtype == torch.float32 and weights.shape == (11,)
    assert weights.abs().max() <= math.pi


def test_trains_inside_sequential() -> None:
    """Two moons around the circle: a classical layer in front, a head behind, all three learn."""
    torch.manual_seed(0)
    inputs = torch.rand(64, 3) * 2 - 1
    labels = (inputs[:, 0] * inputs[:, 1] > 0).long()
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), layer(seed=0), torch.nn.Linear(3, 2))
    optimiser = torch.optim.Adam(model.parameters(), 0.1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_state_dict_round_trip() -> None:
    trained, fresh = layer(seed=1), layer(seed=2)
    inputs = torch.rand(3, 2)
    assert not torch.equal(trained(inputs), fresh(inputs))
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    assert torch.equal(trained(inputs), fresh(inputs))


def test_copies_after_use() -> None:
    module = layer(seed=1)
    inputs = torch.rand(3, 2)
    expected = module(inputs)
    assert torch.equal(copy.deepcopy(module)(inputs), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(inputs), expected)
    assert list(module.state_dict()) == ["weights"]


def rows_of(encoding: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = np.random.default_rng(2)
    rows = generator.integers(0, 2, (6, 3)) if encoding == "basis" else generator.normal(size=(6, 8 if encoding == "amplitude" else 2))
    return torch.tensor(rows, dtype=dtype)


def encoded_layer(encoding: str, **settings: object) -> QuantumLayer:
    if encoding == "angle":
        return layer(seed=5, **settings)
    if encoding == "basis":
        return bits_layer(seed=5, **settings)
    first, second = sympy.symbols("w0:2")
    made = cirq.Circuit(cirq.ry(first)(QUBITS[0]), cirq.CX(*QUBITS[:2]), cirq.rx(second)(QUBITS[1]))
    return QuantumLayer(made, OBSERVABLES, encoding="amplitude", qubits=QUBITS, seed=5, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [None, "spec"])
@pytest.mark.parametrize("encoding", ["angle", "amplitude", "basis"])
def test_results_do_not_depend_on_what_came_before(encoding: str, noise: str | None) -> None:
    """Inputs that are the same tensor with other numbers, the same numbers in another type or shape, and those before last."""
    settings = {"noise": SPEC if noise else None}
    used, inputs = encoded_layer(encoding, **settings), rows_of(encoding)
    first = inputs.clone()

    def answers(module: QuantumLayer, rows: torch.Tensor) -> list[np.ndarray]:
        module.weights.grad = None
        rows = rows.clone() if encoding == "basis" else rows.clone().requires_grad_()
        values = module(rows)
        values.square().sum().backward()
        return [values.detach().numpy(), module.weights.grad.numpy(), *([] if rows.grad is None else [rows.grad.numpy()])]

    def check(rows: torch.Tensor) -> None:
        fresh = encoded_layer(encoding, **settings)
        for found, expected in zip(answers(used, rows), answers(fresh, rows), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(used(rows).detach(), fresh(rows).detach(), rtol=0, atol=1e-6)

    check(inputs)
    inputs[2] = inputs[2].flip(0)  # in place, by torch
    check(inputs)
    inputs.numpy()[4] = first[0].numpy()  # and behind its back
    check(inputs)
    check(inputs[:3])
    check(inputs.float())
    check(first)
    check(inputs)
    check(inputs.T.contiguous().T)


@pytest.mark.parametrize("route", ["unitary", "states"])
def test_tensors_may_change_before_the_backward_pass(route: str) -> None:
    """The gradient is that at the values of the forward pass; in double precision the layer could share the caller's memory."""
    slopes = []
    for changed in (False, True):
        module, inputs = layer(seed=5, route=route).double(), rows_of("angle").requires_grad_()
        value = module(inputs).square().sum()
        if changed:
            with torch.no_grad():
                module.weights += 1
                inputs += 1
        value.backward()
        slopes.append([module.weights.grad, inputs.grad])
    for unchanged, after in zip(*slopes, strict=True):
        np.testing.assert_allclose(after, unchanged, rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoding", ["angle", "amplitude", "basis"])
def test_the_same_inputs_are_encoded_once(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, inputs = encoded_layer(encoding), rows_of(encoding)
    name = "encode_amplitudes" if encoding == "amplitude" else "encode"
    encode, seen = getattr(module.engine, name), []
    monkeypatch.setattr(module.engine, name, lambda rows: seen.append(rows) or encode(rows))
    for rows in (inputs, inputs, inputs.clone()):
        module(rows).sum().backward()
    assert len(seen) == 1
    module(inputs[:4])
    module(inputs)
    assert len(seen) == 3


def test_a_batch_in_chunks_is_not_kept() -> None:
    """It runs in chunks because its states do not fit, and nothing of it may be left behind."""
    module = layer(seed=1, memory_limit=2**13)
    inputs = torch.rand(64, 2)
    assert torch.allclose(module(inputs), layer(seed=1)(inputs), atol=1e-6)
    assert module.engine.encode(inputs.numpy()).chunks  # type: ignore[union-attr]
    assert module._last_batch._kept is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_inputs_of_any_type_of_number(dtype: torch.dtype) -> None:
    inputs = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    torch.testing.assert_close(layer()(inputs.to(dtype)), layer()(inputs))
    assert layer()(inputs.to(dtype)).dtype == torch.float32


@pytest.mark.parametrize(
    "curved",
    [True, False],
)
def test_second_derivatives_are_refused(curved: bool) -> None:
    """A penalty on the slope must fail, not count as a constant beside the other terms of a loss."""
    module = layer()
    inputs = torch.rand(2, 2, requires_grad=True)
    values = module(inputs)
    with pytest.raises(RuntimeError):
        (slope,) = torch.autograd.grad((values.square() if curved else values).sum(), inputs, create_graph=True)
        (slope.square().sum() + values.sum()).backward()


def test_no_gradient_where_none_is_asked_for() -> None:
    module = layer()
    module.weights.requires_grad_(False)
    inputs = torch.rand(2, 2, requires_grad=True)
    module(inputs).sum().backward()
    assert module.weights.grad is None
    assert inputs.grad is not None
    with torch.no_grad():
        assert not module(inputs).requires_grad


def test_without_inputs_and_without_weights() -> None:
    plain = QuantumLayer(cirq.Circuit(cirq.H(QUBITS[0])), [cirq.X(QUBITS[0])])
    assert plain.weights.shape == (0,)
    torch.testing.assert_close(plain(torch.zeros(3, 0)), torch.ones(3, 1))


def test_initial_weights_may_be_a_reversed_view() -> None:
    assert layer(initial_weights=np.arange(11.0)[::-1]).weights[0] == 10


def test_register_holds_the_observables_qubits() -> None:
    module = QuantumLayer(cirq.Circuit(cirq.X(QUBITS[0])), [cirq.Z(QUBITS[0]), cirq.Z(QUBITS[2])])
    torch.testing.assert_close(module(torch.zeros(1, 0)), torch.tensor([[-1.0, 1.0]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observables": []}, "observables: at least one"),
        ({"observables": [cirq.Z(cirq.LineQubit(9))], "qubits": QUBITS}, r"observables: .*q\(9\)"),
        ({"input_symbols": ["x0", "x9"]}, "'x9' occurs nowhere"),
        ({"weight_symbols": ["w0"]}, "neither an input nor a weight"),
        ({"initial_weights": [0.0]}, "initial_weights: 11 values"),
        ({"qubits": QUBITS[:2], "observables": [cirq.Z(QUBITS[0])]}, r"qubits: q\(2\)"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(QumosError, match=message):
        QuantumLayer(**({"circuit": circuit(), "observables": OBSERVABLES, "input_symbols": INPUTS} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "fill"), [((0, 2), 0.0), ((2, 3), 0.0), ((2,), 0.0), ((2, 2), math.nan), ((2, 2), math.inf)])
def test_batches_that_do_not_fit(shape: tuple[int, ...], fill: float) -> None:
    with pytest.raises(QumosError, match="inputs: "):
        layer()(torch.full(shape, fill))


def test_weights_that_are_not_finite() -> None:
    module = layer()
    with torch.no_grad():
        module.weights[3] = math.nan
    with pytest.raises(QumosError, match="weights: value 3"):
        module(torch.zeros(1, 2))


# Bits as inputs


def bits_layer(**settings: object) -> QuantumLayer:
    """A circuit without inputs of its own, whose first gate could be mistaken for an encoding."""
    w = sympy.symbols("w0:4")
    a, b, c = QUBITS
    made = cirq.Circuit(cirq.S(a), cirq.ry(w[0])(a), cirq.rx(w[1])(b), cirq.CX(a, b), cirq.ZZ(b, c) ** w[2], cirq.ry(w[3])(c))
    return QuantumLayer(made, OBSERVABLES, encoding="basis", qubits=QUBITS, **settings)  # type: ignore[arg-type]


ALL_BITS = np.array(list(np.ndindex(2, 2, 2)))
SPEC = NoiseSpec(0.02, 0.05, 0.03, 0.04, ReadoutError(0.02, 0.06))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
def test_bits_are_the_initial_basis_state(dtype: torch.dtype) -> None:
    module = bits_layer()
    made = bits_circuit(module)
    found = module(torch.tensor(ALL_BITS, dtype=dtype))
    assert found.dtype == torch.float32
    simulator = cirq.Simulator(dtype=np.complex128)
    for number, values in enumerate(found.detach()):
        expected = simulator.simulate_expectation_values(made, OBSERVABLES, qubit_order=QUBITS, initial_state=number)
        np.testing.assert_allclose(values, np.real(expected), atol=1e-5)


def bits_circuit(module: QuantumLayer) -> cirq.Circuit:
    w = module.weights.detach().double().numpy()
    a, b, c = QUBITS
    return cirq.Circuit(cirq.S(a), cirq.ry(w[0])(a), cirq.rx(w[1])(b), cirq.CX(a, b), cirq.ZZ(b, c) ** w[2], cirq.ry(w[3])(c))


def test_bits_of_a_noisy_circuit_are_prepared_without_noise() -> None:
    module = bits_layer(noise=SPEC, readout=ReadoutError())
    noisy = SPEC.noisy(bits_circuit(module))
    found = module(torch.tensor(ALL_BITS)).detach().numpy()
    simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
    place = {qubit: index for index, qubit in enumerate(QUBITS)}
    for number, values in enumerate(found):
        density = simulator.simulate(noisy, qubit_order=QUBITS, initial_state=number).final_density_matrix
        expected = [cirq.PauliSum.wrap(item).expectation_from_density_matrix(density, place).real for item in OBSERVABLES]
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("noise", [None, SPEC], ids=["exact", "noisy"])
def test_bits_that_do_not_fit(noise: NoiseSpec | None) -> None:
    module = bits_layer(noise=noise)
    with pytest.raises(QumosError, match=r"inputs: 0\.5 at row 1, column 2 is no bit"):
        module(torch.tensor([[0, 0, 0], [0, 1, 0.5]]))
    with pytest.raises(QumosError, match="inputs: bits have no gradient"):
        module(torch.zeros((2, 3), requires_grad=True))
    with pytest.raises(QumosError, match=r"inputs: shape \[batch, 3\]"):
        module(torch.zeros((2, 2)))
    with pytest.raises(QumosError, match="inputs: the batch is empty"):
        module(torch.zeros((0, 3)))
    with pytest.raises(QumosError, match="input_symbols: basis encoding"):
        layer(encoding="basis")
    with pytest.raises(QumosError, match="unknown encoding 'bassis'; did you mean basis"):
        layer(encoding="bassis")
    module(torch.zeros((2, 3))).sum().backward()
    assert module.weights.grad is not None and module.weights.grad.abs().max() > 0.01


# Noise


def noisy_oracle(weights: np.ndarray, row: np.ndarray, noisy: cirq.Circuit, readout: ReadoutError) -> np.ndarray:
    """Values by Cirq's density matrices, each string shrunk and shifted per qubit: a reported Z is Z·(1 - p - q) + q - p."""
    numbers = {f"w{i}": value for i, value in enumerate(weights)} | {f"x{i}": value for i, value in enumerate(row)}
    simulator = cirq.DensityMatrixSimulator(dtype=np.complex128)
    density = simulator.simulate(noisy, cirq.ParamResolver(numbers), qubit_order=QUBITS).final_density_matrix
    place = {qubit: index for index, qubit in enumerate(QUBITS)}
    shrink, shift = 1 - readout.zero_as_one - readout.one_as_zero, readout.one_as_zero - readout.zero_as_one
    values = []
    for item in OBSERVABLES:
        total = 0.0
        for string in cirq.PauliSum.wrap(item):
            reported = cirq.PauliSum.from_pauli_strings(cirq.PauliString(string.coefficient))
            for qubit, pauli in string.items():
                reported = reported * (shrink * pauli(qubit) + shift)
            total += reported.expectation_from_density_matrix(density, place).real
        values.append(total)
    return np.array(values)


@pytest.mark.parametrize("kind", ["spec", "model", "readout alone"])
def test_noisy_values_and_gradients(kind: str) -> None:
    """By weights and inputs, one of them re-uploaded, against central differences of Cirq in double precision."""
    model = cirq.ConstantQubitNoiseModel(cirq.amplitude_damp(0.05))
    noise = {"spec": SPEC, "model": model, "readout alone": None}[kind]
    readout = ReadoutError(0.03, 0.08)
    module = layer(seed=4, noise=noise, readout=None if kind == "spec" else readout)
    readout = SPEC.readout if kind == "spec" else readout
    noisy = SPEC.noisy(circuit()) if kind == "spec" else circuit().with_noise(model) if kind == "model" else circuit()
    generator = np.random.default_rng(0)
    inputs = torch.tensor(generator.uniform(-3, 3, (2, 2)), dtype=torch.float64, requires_grad=True)
    cotangents = generator.normal(size=(2, 3))
    values = module(inputs)
    values.backward(torch.tensor(cotangents, dtype=values.dtype))
    weights, rows = module.weights.detach().double().numpy(), inputs.detach().numpy()

    def loss(weights: np.ndarray, rows: np.ndarray) -> float:
        answers = [noisy_oracle(weights, row, noisy, readout) for row in rows]
        return float(np.sum(cotangents * answers))

    np.testing.assert_allclose(values.detach(), [noisy_oracle(weights, row, noisy, readout) for row in rows], atol=1e-5)
    step = 1e-4
    assert module.weights.grad is not None and inputs.grad is not None and inputs.grad.dtype == torch.float64
    for index in (0, 3, 10):
        shift = step * np.eye(11)[index]
        slope = (loss(weights + shift, rows) - loss(weights - shift, rows)) / (2 * step)
        assert module.weights.grad[index].item() == pytest.approx(slope, abs=1e-4)
    for index in np.ndindex(rows.shape):
        moved = np.zeros(rows.shape)
        moved[index] = step
        slope = (loss(weights, rows + moved) - loss(weights, rows - moved)) / (2 * step)
        assert inputs.grad[index].item() == pytest.approx(slope, abs=1e-4)


def test_amplitudes_with_noise() -> None:
    """Normalisation included: the gradient is that of the layer's own values."""
    line = QUBITS[:2]
    made = cirq.Circuit(cirq.ry(sympy.Symbol("w0"))(line[0]), cirq.CX(*line), cirq.rx(sympy.Symbol("w1"))(line[1]))
    module = QuantumLayer(made, [cirq.Z(line[0]), cirq.Y(line[1])], encoding="amplitude", noise=SPEC, initial_weights=[0.3, -0.8])
    inputs = torch.tensor(np.random.default_rng(0).normal(size=(3, 4)), requires_grad=True)
    (slope,) = torch.autograd.grad(module(inputs).sum(), inputs)
    step = 1e-2
    with torch.no_grad():
        for index in np.ndindex(3, 4):
            shift = torch.zeros(3, 4, dtype=torch.float64)
            shift[index] = step
            expected = (module(inputs + shift) - module(inputs - shift)).sum().item() / (2 * step)
            assert slope[index].item() == pytest.approx(expected, abs=1e-3)


def test_a_noisy_layer_is_a_module_like_the_others() -> None:
    """It learns, its weights travel, and copies of it work."""
    torch.manual_seed(0)
    inputs = torch.rand(16, 2) * 3
    targets = torch.cos(inputs[:, :1]) * 0.5
    module = layer(seed=1, noise=SPEC)
    optimiser = torch.optim.Adam(module.parameters(), 0.1)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = (module(inputs)[:, :1] - targets).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    exact = layer(seed=2)
    exact.load_state_dict(module.state_dict())
    assert torch.equal(exact.weights, module.weights)
    assert not torch.allclose(exact(inputs), module(inputs), atol=0.02)
    assert torch.equal(copy.deepcopy(module)(inputs), module(inputs))


@pytest.mark.parametrize("noise", [None, SPEC], ids=["exact", "noisy"])
@pytest.mark.parametrize("encoding", ["angle", "basis"])
def test_the_engine_takes_every_gradient_method(noise: NoiseSpec | None, encoding: str) -> None:
    """One function for exact, noisy and sampled values alike."""
    module = layer(seed=3, noise=noise) if encoding == "angle" else bits_layer(seed=3, noise=noise)
    inputs = np.array([[0.3, -0.8], [1.1, 0.4]]) if encoding == "angle" else ALL_BITS[[2, 5]].astype(float)
    module(torch.tensor(inputs)).sum().backward()
    weights, ones, generator = module.weights.detach().double().numpy(), np.ones((2, 3)), np.random.default_rng(0)
    assert module.weights.grad is not None
    for method in ("adjoint", "parameter-shift"):
        np.testing.assert_allclose(expectation_gradient(module.engine, weights, inputs, ones, method), module.weights.grad, atol=1e-4)
    many = expectation_gradient(module.engine, weights, inputs, ones, "parameter-shift", shots=100_000, generator=generator)
    np.testing.assert_allclose(many, module.weights.grad, atol=0.05)
    for method in ("finite-difference", "spsa"):
        for shots in (None, 100):
            found = expectation_gradient(module.engine, weights, inputs, ones, method, shots=shots, generator=generator)
            assert np.isfinite(found).all() and found.any()
    sampled = sampled_expectations(module.engine, weights, inputs, 100_000, generator)
    np.testing.assert_allclose(sampled, module(torch.tensor(inputs)).detach(), atol=0.03)


# What is refused, with and without noise


@pytest.mark.parametrize("noise", [None, SPEC], ids=["exact", "noisy"])
def test_one_clear_line_for_each_mistake(noise: NoiseSpec | None) -> None:
    good: dict[str, object] = {"circuit": circuit(), "observables": OBSERVABLES, "input_symbols": INPUTS, "noise": noise}
    stretched = cirq.Circuit(cirq.MatrixGate(np.diag([1.0, 2.0]), unitary_check=False)(QUBITS[0]))
    wide = cirq.LineQubit.range(40)
    mistakes: dict[str, dict[str, object]] = {
        "symbol 'x9' occurs nowhere": {"input_symbols": ["x0", "x1", "x9"]},
        "a symbol is listed twice": {"weight_symbols": ["w9", *(f"w{i}" for i in range(11))]},
        r"qubits: q\(2\) of the circuit is missing": {"qubits": QUBITS[:2], "observables": [cirq.Z(QUBITS[0])]},
        "gate .* is not unitary": {"circuit": stretched, "input_symbols": []},
        "qubits: a (noisy )?register of 40 needs [0-9,]+ MiB .*memory_limit is 1,024 MiB": {
            "circuit": cirq.Circuit(cirq.H.on_each(*wide)),
            "observables": [cirq.Z(wide[0])],
            "input_symbols": [],
        },
        "unknown route .*'statess'": {"route": "statess"},
        "gate .* is a measurement": {"circuit": cirq.Circuit(cirq.measure(QUBITS[0])), "input_symbols": []},
        "threads is 0": {"threads": 0},
    }
    for message, changes in mistakes.items():
        with pytest.raises(QumosError, match=message) as caught:
            QuantumLayer(**(good | changes))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    module = QuantumLayer(**good)  # type: ignore[arg-type]
    for message, inputs in {
        "inputs: the batch is empty": torch.zeros(0, 2),
        r"inputs: shape \[batch, 2\]": torch.zeros(3, 3),
        "inputs: value at row 1, column 0 is not finite": torch.tensor([[0.0, 0.0], [math.nan, 0.0]]),
        "inputs: value at row 0, column 1 is not finite": torch.tensor([[0.0, math.inf]]),
    }.items():
        with pytest.raises(QumosError, match=message):
            module(inputs)
    for bad in (math.nan, math.inf):
        with torch.no_grad():
            module.weights[3] = bad
        with pytest.raises(QumosError, match="weights: value 3 is not finite"):
            module(torch.zeros(1, 2))


@pytest.mark.parametrize("operation", [cirq.depolarize(0.1)(QUBITS[0]), cirq.R(QUBITS[0])], ids=["channel", "reset"])
def test_channels_of_the_circuit_itself(operation: cirq.Operation) -> None:
    made = cirq.Circuit(cirq.ry(0.4)(QUBITS[0]), operation)
    value = QuantumLayer(made, [cirq.Z(QUBITS[0])])(torch.zeros(1, 0)).item()
    density = cirq.DensityMatrixSimulator().simulate(made).final_density_matrix
    assert value == pytest.approx(np.real(density[0, 0] - density[1, 1]), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": 0.1}, "noise: a NoiseSpec or a cirq.NoiseModel is needed, got float"),
        ({"noise": SPEC, "readout": [ReadoutError()]}, "readout: 3 errors needed"),
        ({"noise": SPEC, "route": "observables"}, "route: inputs that are re-uploaded"),
    ],
)
def test_noise_that_does_not_fit(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(QumosError, match=message):
        layer(**arguments)

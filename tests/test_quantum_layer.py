"""QuantumLayer as a torch module; the oracle is ``cirq.Simulator`` in double precision."""

from __future__ import annotations

import copy
import io
import math

import cirq
import numpy as np
import pytest
import sympy
import torch

from qumos_env.errors import QumosError
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

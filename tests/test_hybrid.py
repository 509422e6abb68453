"""Amplitude inputs and hybrid models: against Cirq and finite differences, and that they learn."""

from __future__ import annotations

import cirq
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from qumos_env import QuantumLayer
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.model.hybrid import HybridQNN, basic_qnn, convolutional_hybrid_qnn, entangling_layers
from qumos_env.simulation.adjoint import CircuitEngine
from qumos_env.simulation.gradients import sampled_expectations


def amplitude_layer(n_qubits: int = 3, seed: int = 0) -> QuantumLayer:
    line = cirq.LineQubit.range(n_qubits)
    return QuantumLayer(entangling_layers(n_qubits, 2), [cirq.Z(q) for q in line], encoding="amplitude", qubits=line, seed=seed)


@pytest.mark.parametrize("batch", [3, 40])
def test_amplitudes_are_the_initial_state(batch: int) -> None:
    layer = amplitude_layer()
    inputs = np.random.default_rng(0).normal(size=(batch, 8))
    line = cirq.LineQubit.range(3)
    resolver = dict(zip(layer.weight_symbols, layer.weights.detach().double().tolist(), strict=True))
    values = layer(torch.tensor(inputs)).detach().numpy()
    for row in range(3):
        state = inputs[row] / np.linalg.norm(inputs[row])
        expected = cirq.Simulator(dtype=np.complex128).simulate_expectation_values(
            entangling_layers(3, 2), [cirq.Z(q) for q in line], resolver, qubit_order=line, initial_state=state.astype(complex)
        )
        np.testing.assert_allclose(values[row], np.real(expected), atol=1e-5)


@pytest.mark.parametrize("batch", [2, 40])
def test_gradients_reach_what_made_the_amplitudes(batch: int) -> None:
    """Normalisation included, for both routes."""
    layer = amplitude_layer()
    generator = np.random.default_rng(1)
    inputs = torch.tensor(generator.normal(size=(batch, 8)), requires_grad=True)
    slopes = torch.tensor(generator.normal(size=(batch, 3)), dtype=torch.float32)
    (layer(inputs) * slopes).sum().backward()
    shift = torch.zeros(batch, 8, dtype=torch.float64)
    shift[1, 5] = 1e-2
    with torch.no_grad():
        rise = ((layer(inputs + shift) - layer(inputs - shift)) * slopes).sum() / 2e-2
    assert inputs.grad is not None
    assert float(inputs.grad[1, 5]) == pytest.approx(float(rise), abs=2e-3)


def test_amplitudes_in_chunks_are_those_of_one_batch() -> None:
    circuit = entangling_layers(3, 1)
    whole, pieces = (QuantumLayer(circuit, [cirq.Z(cirq.LineQubit(1))], encoding="amplitude", memory_limit=size) for size in (2**30, 3000))
    generator = np.random.default_rng(3)
    amplitudes = generator.normal(size=(11, 8))
    found = []
    for layer in (whole, pieces):
        inputs = torch.tensor(amplitudes, requires_grad=True)
        values = layer(inputs)
        (values * torch.linspace(-1, 1, 11)[:, None]).sum().backward()
        assert inputs.grad is not None and layer.weights.grad is not None
        found.append([values.detach(), inputs.grad, layer.weights.grad])
    assert isinstance(pieces.engine, CircuitEngine)
    batch = pieces.engine.encode_amplitudes(amplitudes / np.linalg.norm(amplitudes, axis=1, keepdims=True))
    assert len(batch.chunks) > 1
    sampled = sampled_expectations(pieces.engine, pieces.weights.detach().numpy(), batch, 40000, generator)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    np.testing.assert_allclose(sampled, found[0][0], atol=0.03)


def test_amplitudes_that_do_not_fit() -> None:
    with pytest.raises(QumosError, match=r"amplitudes of shape \[batch, 8\]"):
        amplitude_layer()(torch.ones(2, 4))
    with pytest.raises(QumosError, match="length 1"):
        amplitude_layer()(torch.zeros(2, 8))
    with pytest.raises(QumosError, match="did you mean amplitude"):
        QuantumLayer(cirq.Circuit(cirq.X(cirq.q(0))), [cirq.Z(cirq.q(0))], encoding="amplitudes")  # type: ignore[arg-type]


def accuracy(model: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(inputs).argmax(dim=1) == labels).float().mean())


def train(model: torch.nn.Module, inputs: torch.Tensor, labels: torch.Tensor, optimiser: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def small_digits() -> tuple[torch.Tensor, torch.Tensor]:
    features, labels = load_digits(n_class=3, return_X_y=True)
    return torch.tensor(features[:90] / 16.0, dtype=torch.float32), torch.tensor(labels[:90])


def test_an_extractor_and_the_parts_learn_together() -> None:
    torch.manual_seed(0)
    inputs, labels = small_digits()
    extractor = torch.nn.Sequential(torch.nn.Linear(64, 4), torch.nn.Tanh())
    model = HybridQNN(extractor, ry_cz_ry(contiguous(4, 2), ("a", "b"), 1), 3)
    before = extractor[0].weight.detach().clone()
    losses = train(model, inputs, labels, torch.optim.Adam(model.parameters(), 0.05), 40)
    assert losses[-1] < 0.5 * losses[0] and accuracy(model, inputs, labels) > 0.9
    assert not torch.equal(before, extractor[0].weight)


def test_an_extractor_of_another_width_is_refused() -> None:
    model = HybridQNN(torch.nn.Identity(), ry_cz_ry(contiguous(4, 2), ("a", "b"), 1), 3)
    with pytest.raises(QumosError, match=r"extractor: gave shape \[2, 5\], \[batch, 4\]"):
        model(torch.zeros(2, 5))


def test_the_convolutional_hybrid_learns() -> None:
    torch.manual_seed(0)
    inputs, labels = small_digits()
    model = convolutional_hybrid_qnn(n_classes=3, layers=1, side=8)
    images = inputs.reshape(-1, 1, 8, 8)
    assert model(images[:2]).shape == (2, 3)
    losses = train(model, images, labels, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), 15)
    assert losses[-1] < 0.6 * losses[0]


def test_the_basic_qnn_takes_256_amplitudes() -> None:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    labels = torch.tensor(np.arange(20) % 2)
    inputs = torch.tensor(generator.normal(size=(20, 256)) + 2.0 * np.arange(20)[:, None] % 2, dtype=torch.float32)
    model = basic_qnn(n_classes=2, layers=1)
    losses = train(model, inputs, labels, torch.optim.Adam(model.parameters(), 0.1, amsgrad=True), 20)
    assert losses[-1] < 0.8 * losses[0]

"""Runs of parts and bundles through adapters: from bound circuits to ⟨Z⟩ and class probabilities estimated from shots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cirq
import numpy as np

from ...design.circuits import input_symbol
from ...errors import QumosError
from ...model.heads import softmax
from ...simulation.channels import NoiseSpec
from ...simulation.sampling import check_shots
from ..bundle import Bundle
from .adapter import READOUT, VendorAdapter
from .registry import vendor


@dataclass(frozen=True)
class Backend:
    """An adapter and the sampler that it runs on, which keeps the state of its random numbers."""

    adapter: VendorAdapter
    sampler: cirq.Sampler

    @classmethod
    def of(cls, adapter: VendorAdapter | str, generator: np.random.Generator, noise: NoiseSpec | None = None) -> Backend:
        """The backend of an adapter, or of the local engine of a vendor by its name; arguments as for ``VendorAdapter.sampler``."""
        adapter = vendor(adapter) if isinstance(adapter, str) else adapter
        return cls(adapter, adapter.sampler(generator, noise))


def run_part(
    circuit: cirq.AbstractCircuit, qubits: Sequence[int], shots: int, backend: Backend, inputs: np.ndarray | None = None
) -> np.ndarray:
    """⟨Z⟩ of the qubits of a part, estimated from ``shots`` measurements a row.

    Args:
        circuit: of the part, trained angles bound.
        qubits: numbers of its line qubits.
        shots: measurements of each row; one set serves all qubits.
        backend: where it runs.
        inputs: float ``[rows, len(qubits)]``: features, encoded, in radians. ``None`` for a circuit without open features.

    Returns:
        float64 ``[rows, len(qubits)]``, or ``[len(qubits)]`` without ``inputs``.

    Raises:
        QumosError: fewer than one shot, inputs of another shape or not finite, and as for ``VendorAdapter.native``.
    """
    check_shots(shots)
    line = [cirq.LineQubit(qubit) for qubit in qubits]
    if inputs is None:
        return _estimate([backend.adapter.native(circuit, line)], shots, backend)[0]
    inputs = np.asarray(inputs, float)
    if inputs.ndim != 2 or inputs.shape[1] != len(line) or not np.isfinite(inputs).all():
        raise QumosError(f"inputs: finite values of shape [rows, {len(line)}] needed, got {list(inputs.shape)}")
    names = [input_symbol(qubit) for qubit in qubits]
    # Compiled with numbers in place: symbols would keep neighbouring gates from merging, and vendors' gate sets do not take them.
    bound = [cirq.resolve_parameters(circuit, dict(zip(names, row.tolist(), strict=True))) for row in inputs]
    return _estimate([backend.adapter.native(each, line) for each in bound], shots, backend).reshape(inputs.shape)


def _estimate(circuits: Sequence[cirq.Circuit], shots: int, backend: Backend) -> np.ndarray:
    results = backend.sampler.run_batch(list(circuits), repetitions=shots) if circuits else []
    # The mean is over the outcomes that came back: a service that reports rounded frequencies can be one off.
    return np.array([1.0 - 2.0 * each.measurements[READOUT].mean(axis=0) for (each,) in results])


def bundle_values(bundle: Bundle, features: np.ndarray, backends: Mapping[str, Backend], shots: int) -> np.ndarray:
    """⟨Z⟩ of every qubit of a bundle, each part run at the backend of its provider.

    Args:
        bundle: the bundle.
        features: raw, ``[rows, features]``.
        backends: by the names of the bundle's providers.
        shots: measurements of each part for each row.

    Returns:
        float64 ``[rows, n_qubits]``.

    Raises:
        QumosError: a provider without a backend, and as for ``run_part``.
    """
    missing = sorted({part.provider for part in bundle.design.parts} - backends.keys())
    if missing:
        raise QumosError(f"backends: none for {', '.join(missing)}, which the bundle uses")
    inputs = bundle.preprocessor.transform(features)
    values = np.zeros((len(inputs), bundle.n_qubits))
    for part, (qubits, circuit) in zip(bundle.design.parts, bundle.circuits, strict=True):
        columns = list(qubits)
        values[:, columns] = run_part(circuit, qubits, shots, backends[part.provider], inputs[:, columns])
    return values


def bundle_probabilities(bundle: Bundle, features: np.ndarray, backends: Mapping[str, Backend], shots: int) -> np.ndarray:
    """Class probabilities ``[rows, classes]`` from ``bundle_values``; ``Bundle.predict_proba`` is their limit for many shots."""
    return softmax(bundle.head(bundle_values(bundle, features, backends, shots)))

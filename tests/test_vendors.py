"""Vendors: parts in their gates, on their devices, agree with the exact model; and what they cannot run is refused clearly."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cirq
import cirq_aqt
import cirq_google
import cirq_ionq
import cirq_pasqal
import numpy as np
import pytest
import sympy

from qumos_env.deployment.bundle import Bundle, read_bundle
from qumos_env.deployment.export import export_bundle
from qumos_env.deployment.vendors import READOUT, VENDORS, Backend, VendorAdapter, bundle_probabilities, bundle_values, run_part, vendor
from qumos_env.deployment.vendors.adapter import vendor_package
from qumos_env.deployment.vendors.aqt import AqtAdapter
from qumos_env.deployment.vendors.google import GoogleAdapter
from qumos_env.deployment.vendors.ionq import IonqAdapter
from qumos_env.deployment.vendors.pasqal import PasqalAdapter
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.workload import Workload
from qumos_env.model.heads import softmax
from qumos_env.scenario import parse_scenario
from qumos_env.simulation.channels import NoiseSpec, ReadoutError

PACKAGES = {"google": "cirq_google", "ionq": "cirq_ionq", "aqt": "cirq_aqt", "pasqal": "cirq_pasqal"}
SIGMAS = 5
PROVIDERS = ("aurora", "borealis")
PARTITION = (0, 1, 0, 1, 0)
DESIGN = Design(
    PARTITION,
    PROVIDERS,
    (*ry_cz_ry(PARTITION, PROVIDERS, 1).gates, Gate("cx", (4, 0)), Gate("rzz", (0, 2)), Gate("h", (3,)), Gate("reupload", (1,))),
)


@pytest.fixture(params=list(VENDORS))
def adapter(request: pytest.FixtureRequest) -> VendorAdapter:
    """Every vendor's adapter with its local engine."""
    return vendor(request.param)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, np.ndarray]:
    """A trained bundle of two parts whose qubits are not neighbours, and raw rows for it."""
    scenario = parse_scenario(
        {
            "name": "tiny",
            "title": "tiny",
            "data": {"source": "wine", "reducer": "pca"},
            "draws": {"count": 2, "train_rows": 30, "tuning_rows": 15},
            "design": {"qubits": 5, "max_parts": 2, "max_part_qubits": 3, "max_gates": 40},
            "model": {"steps": 20},
            "threat": {"steps": 5},
            "providers": [{"name": name} for name in PROVIDERS],
        }
    )
    workload = Workload(scenario)
    folder = export_bundle(DESIGN, scenario, tmp_path_factory.mktemp("vendors") / "bundle", workload=workload)
    return read_bundle(folder), workload.protocol.dataset.features[::45]


def exact_values(circuit: cirq.Circuit, qubits: Sequence[cirq.Qid]) -> np.ndarray:
    """⟨Z⟩ by Cirq's state-vector simulator."""
    state = cirq.final_state_vector(circuit, qubit_order=qubits, dtype=np.complex128)
    outcomes = (np.abs(state) ** 2).reshape((2,) * len(qubits))
    return np.array([np.moveaxis(outcomes, index, 0).reshape(2, -1).sum(axis=1) @ [1, -1] for index in range(len(qubits))])


def some_part(width: int, seed: int) -> tuple[cirq.Circuit, list[cirq.LineQubit]]:
    """A part on every second line qubit, with all gates of the registry, a ring, and a pair far apart."""
    draw = np.random.default_rng(seed)
    line = cirq.LineQubit.range(3, 3 + 2 * width, 2)
    ring = [(line[index], line[(index + 1) % width]) for index in range(width)] if width > 2 else []
    operations = [
        *(cirq.ry(angle)(qubit) for angle, qubit in zip(draw.normal(size=width), line, strict=True)),
        *(cirq.CZ(*pair) for pair in ring),
        *(cirq.rx(angle)(qubit) for angle, qubit in zip(draw.normal(size=width), line, strict=True)),
        *(cirq.rz(angle)(qubit) for angle, qubit in zip(draw.normal(size=width), line, strict=True)),
        cirq.ZZ(line[0], line[-1]) ** draw.normal(),
        cirq.H(line[0]),
        cirq.CX(line[-1], line[0]),
        cirq.ry(draw.normal())(line[-1]),
    ]
    return cirq.Circuit(operations), line


def assert_within_sampling_error(found: np.ndarray, exact: np.ndarray, shots: int) -> None:
    # Near ±1 a normal approximation says zero: one outcome of the other kind is always possible.
    np.testing.assert_array_less(np.abs(found - exact), SIGMAS * np.sqrt((1 - exact**2) / shots) + 2 * SIGMAS / shots)


def test_a_bundle_answers_as_its_exact_model(adapter: VendorAdapter, bundle: tuple[Bundle, np.ndarray]) -> None:
    """Both parts through the vendor's gates, device and engine; errors carried through the head by its slopes."""
    owned, rows = bundle
    shots = 20_000
    generator = np.random.default_rng(5)
    backends = {name: Backend.of(adapter, generator) for name in PROVIDERS}
    values = bundle_values(owned, rows, backends, shots)
    inputs = owned.preprocessor.transform(rows)
    exact = np.zeros_like(values)
    for qubits, circuit in owned.circuits:
        line = [cirq.LineQubit(qubit) for qubit in qubits]
        for row, angles in enumerate(inputs):
            exact[row, list(qubits)] = exact_values(cirq.resolve_parameters(circuit, {f"x{q}": angles[q] for q in qubits}), line)
    assert np.abs(exact).max() > 0.3  # else a backend that answers nothing would pass
    assert_within_sampling_error(values, exact, shots)

    answers = bundle_probabilities(owned, rows, {name: Backend.of(adapter, np.random.default_rng(6)) for name in PROVIDERS}, shots)
    expected = owned.predict_proba(rows)
    step = 1e-5
    slopes = np.stack([softmax(owned.head(exact + unit)) - softmax(owned.head(exact - unit)) for unit in step * np.eye(5)]) / (2 * step)
    # Outcomes of one part are correlated; the sum of standard deviations bounds theirs.
    bound = np.sum(np.abs(slopes) * np.sqrt((1 - exact**2) / shots).T[:, :, None], axis=0)
    np.testing.assert_array_less(np.abs(answers - expected), SIGMAS * bound + 1e-4)
    assert np.all(SIGMAS * bound < 0.3)


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_native_circuits_are_the_part(adapter: VendorAdapter, width: int) -> None:
    """Exactly, without shots; qubits come out in the order asked for, wherever routing left them."""
    circuit, line = some_part(width, seed=width) if width > 1 else (cirq.Circuit(cirq.ry(0.7)(cirq.LineQubit(3))), [cirq.LineQubit(3)])
    order = line[::-1]
    native = adapter.native(circuit, order)
    (readout,) = (op for op in native.all_operations() if cirq.is_measurement(op))
    assert cirq.measurement_key_name(readout) == READOUT
    body = cirq.Circuit(op for op in native.all_operations() if not cirq.is_measurement(op))
    everyone = sorted(native.all_qubits())
    values = dict(zip(everyone, exact_values(body, everyone), strict=True))
    np.testing.assert_allclose([values[qubit] for qubit in readout.qubits], exact_values(circuit, line)[::-1], atol=1e-6)


def test_the_same_seed_gives_the_same_outcomes(adapter: VendorAdapter) -> None:
    circuit, line = some_part(3, seed=0)
    numbers = [qubit.x for qubit in line]
    noise = NoiseSpec(one_qubit=0.01, readout=ReadoutError(0.02, 0.05))
    for spec in (None, noise):
        first, again, other = (
            run_part(circuit, numbers, 500, Backend.of(adapter, np.random.default_rng(seed), spec)) for seed in (1, 1, 2)
        )
        assert np.array_equal(first, again) and not np.array_equal(first, other)
    backend = Backend.of(adapter, np.random.default_rng(1))
    assert not np.array_equal(run_part(circuit, numbers, 500, backend), run_part(circuit, numbers, 500, backend))


def test_idle_qubits_and_rotations_by_nothing(adapter: VendorAdapter) -> None:
    """Qubits that compiling leaves without a gate are still measured, and do not shift the others."""
    a, b, c = line = cirq.LineQubit.range(3)
    circuit = cirq.Circuit(cirq.ry(0.0)(a), cirq.rx(np.pi)(c), cirq.I(b))
    backend = Backend.of(adapter, np.random.default_rng(0))
    assert np.array_equal(run_part(circuit, [0, 1, 2], 50, backend), [1, 1, -1])
    assert np.array_equal(run_part(cirq.Circuit(cirq.X(b)), [qubit.x for qubit in line], 50, backend), [1, -1, 1])
    assert np.array_equal(run_part(cirq.Circuit(), [0, 1], 50, backend), [1, 1])
    d = cirq.LineQubit(3)
    routed = cirq.Circuit(cirq.X(a), cirq.CX(a, d), cirq.CX(d, c), cirq.CX(a, c), cirq.CX(c, a))
    assert np.array_equal(run_part(routed, range(5), 50, backend), [-1, 1, 1, -1, 1])


def test_noise_of_the_local_engine(adapter: VendorAdapter) -> None:
    """A readout error alone acts as its confusion matrix says; gate errors pull ⟨Z⟩ towards 0."""
    circuit, numbers = cirq.Circuit(cirq.X(cirq.LineQubit(0)), cirq.I(cirq.LineQubit(1))), [0, 1]
    shots = 20_000
    readout = NoiseSpec(readout=ReadoutError(zero_as_one=0.1, one_as_zero=0.3))
    found = run_part(circuit, numbers, shots, Backend.of(adapter, np.random.default_rng(0), readout))
    assert_within_sampling_error(found, np.array([-0.4, 0.8]), shots)
    part, line = some_part(4, seed=4)
    noisy = run_part(part, [qubit.x for qubit in line], 4000, Backend.of(adapter, np.random.default_rng(0), NoiseSpec(one_qubit=0.2)))
    assert np.abs(noisy).mean() < 0.5 * np.abs(exact_values(part, line)).mean()


def test_noise_of_the_local_vendor_is_that_of_the_engine() -> None:
    """Against Cirq's density-matrix simulator with the channels written by hand."""
    a, b = line = cirq.LineQubit.range(2)
    gates = [cirq.ry(0.9)(a), cirq.rx(0.4)(b), cirq.CZ(a, b), cirq.ry(0.5)(b)]
    rates = {1: cirq.depolarize(0.05), 2: cirq.depolarize(0.1, n_qubits=2)}
    rho = cirq.DensityMatrixSimulator().simulate(cirq.Circuit([op, rates[len(op.qubits)](*op.qubits)] for op in gates)).final_density_matrix
    signs = np.array([[1, 1, -1, -1], [1, -1, 1, -1]])
    shots = 40_000
    found = run_part(cirq.Circuit(gates), [0, 1], shots, Backend.of("local", np.random.default_rng(3), NoiseSpec(0.05, 0.1)))
    assert_within_sampling_error(found, signs @ np.diag(rho).real, shots)
    assert len(line) == len(found)


def test_rows_of_a_part() -> None:
    """One row of inputs for every row of answers; no rows, no answers."""
    qubits = [2, 5]
    circuit = cirq.Circuit(cirq.ry(sympy.Symbol(f"x{qubit}"))(cirq.LineQubit(qubit)) for qubit in qubits)
    backend = Backend.of("local", np.random.default_rng(0))
    inputs = np.array([[0.3, 1.2], [np.pi, 0.0], [2.0, -1.0]])
    assert_within_sampling_error(run_part(circuit, qubits, 20_000, backend, inputs), np.cos(inputs), 20_000)
    assert run_part(circuit, qubits, 10, backend, inputs[:0]).shape == (0, 2)
    for wrong in (inputs[:, :1], inputs[0], np.full((1, 2), np.nan)):
        with pytest.raises(QumosError, match=r"shape \[rows, 2\]"):
            run_part(circuit, qubits, 10, backend, wrong)


def test_what_cannot_run_is_refused(adapter: VendorAdapter) -> None:
    qubit, *others = cirq.LineQubit.range(3)
    fine = cirq.Circuit(cirq.X(qubit))
    backend = Backend.of(adapter, np.random.default_rng(0))
    for shots in (0, -5, 1.5):
        with pytest.raises(QumosError, match="shots"):
            run_part(fine, [0], shots, backend)  # type: ignore[arg-type]
    with pytest.raises(QumosError, match=f"vendor {adapter.name}: the part has {adapter.width + 1} qubits, the device {adapter.width}"):
        run_part(fine, range(adapter.width + 1), 10, backend)
    with pytest.raises(QumosError, match=f"vendor {adapter.name}: the symbols x0 are open"):
        run_part(cirq.Circuit(cirq.ry(sympy.Symbol("x0"))(qubit)), [0], 10, backend)
    with pytest.raises(QumosError, match=f"vendor {adapter.name}: cannot run .*[Dd]epolariz"):
        run_part(cirq.Circuit(cirq.depolarize(0.1)(qubit)), [0], 10, backend)
    with pytest.raises(QumosError, match=f"vendor {adapter.name}: measurement"):
        run_part(cirq.Circuit(cirq.measure(qubit)), [0], 10, backend)
    for numbers in ([1], [0, 0], []):
        with pytest.raises(QumosError, match=f"vendor {adapter.name}: the qubits"):
            run_part(fine, numbers, 10, backend)
    with pytest.raises(QumosError, match=f"vendor {adapter.name}: cannot run .* on 3 qubits"):
        run_part(cirq.Circuit(cirq.CCX(qubit, *others)), [0, 1, 2], 10, backend)


def test_unknown_vendors() -> None:
    with pytest.raises(QumosError, match="unknown vendor 'googel'; did you mean google"):
        vendor("googel")
    with pytest.raises(QumosError, match=r"rigetti.*Cirq 1\.5.*choose from local, google"):
        vendor("rigetti")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    for module in [module for module in sys.modules if module.startswith(PACKAGES[name] + ".")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(QumosError, match=rf"cirq-{name} .*pip install 'qumos-env\[vendors\]'"):
        GoogleAdapter(processor="weber").device if name == "google" else vendor(name).native(cirq.Circuit(), cirq.LineQubit.range(1))


def test_vendors_are_imported_when_used() -> None:
    script = "import sys, qumos_env, qumos_env.cli, qumos_env.deployment.vendors; print([m for m in sys.modules if m in sys.argv[1:]])"
    found = subprocess.run([sys.executable, "-c", script, *PACKAGES.values()], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_service_brings_its_own_noise_and_a_bundle_needs_all_backends(bundle: tuple[Bundle, np.ndarray]) -> None:
    with pytest.raises(QumosError, match="a service has its own"):
        Backend.of(vendor("local", cirq.Simulator()), np.random.default_rng(0), NoiseSpec(0.1))
    owned, rows = bundle
    with pytest.raises(QumosError, match="none for borealis"):
        bundle_values(owned, rows, {"aurora": Backend.of("local", np.random.default_rng(0))}, 10)


def test_a_service_runs_instead_of_the_local_engine() -> None:
    class Flipped(cirq.Sampler):
        def run_sweep(self, program: cirq.AbstractCircuit, params: cirq.Sweepable, repetitions: int = 1) -> Sequence[cirq.Result]:
            drawn = cirq.Simulator().run_sweep(program, params, repetitions)
            return [cirq.ResultDict(measurements={READOUT: 1 - each.measurements[READOUT]}) for each in drawn]

    backend = Backend.of(vendor("local", Flipped()), np.random.default_rng(0))
    assert np.array_equal(run_part(cirq.Circuit(cirq.X(cirq.LineQubit(0))), [0, 1], 10, backend), [1, -1])


# Google


@pytest.mark.parametrize("processor", ["rainbow", "weber", "willow_pink"])
def test_google_processors(processor: str) -> None:
    circuit, line = some_part(5, seed=1)
    backend = Backend.of(GoogleAdapter(processor=processor), np.random.default_rng(0))
    found = run_part(circuit, [qubit.x for qubit in line], 10_000, backend)
    assert_within_sampling_error(found, exact_values(circuit, line), 10_000)


def test_google_refuses_what_the_engine_refuses() -> None:
    """The engine's limits hold at the virtual processor, and its device takes no other gates and qubits."""
    with pytest.raises(QumosError, match=r"unknown virtual processor .* did you mean willow_pink"):
        GoogleAdapter(processor="willow").native(cirq.Circuit(), cirq.LineQubit.range(1))
    backend = Backend.of("google", np.random.default_rng(0))
    with pytest.raises(ValueError, match="not"):
        backend.sampler.run(cirq.Circuit(cirq.measure(cirq.LineQubit(0), key=READOUT)))
    qubit = cirq.LineQubit(0)
    with pytest.raises(RuntimeError, match="repetitions"):
        run_part(cirq.Circuit(cirq.X(qubit)), [0], 5_000_001, backend)


def test_google_takes_the_device_of_its_service() -> None:
    rainbow = cirq_google.engine.create_noiseless_virtual_engine_from_latest_templates().get_sampler("rainbow")
    adapter = vendor("google", rainbow)
    assert adapter.width == 23
    circuit, line = some_part(3, seed=2)
    found = run_part(circuit, [qubit.x for qubit in line], 10_000, Backend.of(adapter, np.random.default_rng(0)))
    assert_within_sampling_error(found, exact_values(circuit, line), 10_000)
    with pytest.raises(QumosError, match="get_engine_sampler"):
        vendor("google", cirq.Simulator()).native(circuit, line)


# IonQ

IONQ_GATES = {
    "x": lambda: cirq.unitary(cirq.X),
    "y": lambda: cirq.unitary(cirq.Y),
    "z": lambda: cirq.unitary(cirq.Z),
    "h": lambda: cirq.unitary(cirq.H),
    "s": lambda: np.diag([1, 1j]),
    "si": lambda: np.diag([1, -1j]),
    "t": lambda: np.diag([1, np.exp(0.25j * np.pi)]),
    "ti": lambda: np.diag([1, np.exp(-0.25j * np.pi)]),
    "v": lambda: np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2,
    "vi": lambda: np.array([[1 - 1j, 1 + 1j], [1 + 1j, 1 - 1j]]) / 2,
    "rx": lambda angle: cirq.unitary(cirq.rx(angle)),
    "ry": lambda angle: cirq.unitary(cirq.ry(angle)),
    "rz": lambda angle: np.diag(np.exp([-0.5j * angle, 0.5j * angle])),
    "zz": lambda angle: np.diag(np.exp(-0.5j * angle * np.array([1, -1, -1, 1]))),
    "cnot": lambda: np.eye(4)[[0, 1, 3, 2]],
}


class OfflineIonqClient:
    """IonQ's service without HTTP: runs the JSON of a job with dense matrices, answers with frequencies, first target least significant."""

    def __init__(self) -> None:
        self.jobs: list[tuple[dict[str, Any], int]] = []

    def create_job(self, serialized_program: Any, repetitions: int, target: str, **_: Any) -> dict[str, Any]:
        text = json.dumps({"input": serialized_program.input, "metadata": serialized_program.metadata})
        self.jobs.append((json.loads(text), repetitions))
        return self.get_job(str(len(self.jobs) - 1)) | {"backend": target}

    def get_job(self, job_id: str) -> dict[str, Any]:
        program, repetitions = self.jobs[int(job_id)]
        metadata = program["metadata"] | {"shots": str(repetitions)}
        stats = {"qubits": str(program["input"]["qubits"])}
        return {"id": job_id, "status": "completed", "backend": "qpu", "stats": stats, "metadata": metadata}

    def get_results(self, job_id: str, **_: Any) -> dict[str, str]:
        program, repetitions = self.jobs[int(job_id)]
        width = program["input"]["qubits"]
        state = np.eye(1, 2**width, dtype=complex).reshape((2,) * width)
        for gate in program["input"]["circuit"]:
            targets = gate["targets"] if "targets" in gate else [gate["control"], gate["target"]]
            matrix = IONQ_GATES[gate["gate"]](*([gate["rotation"]] if "rotation" in gate else []))
            state = cirq.apply_matrix_to_slices(state, matrix, slices=list(_slices(targets, width)))
        outcomes = np.abs(state.transpose(range(width)[::-1]).ravel()) ** 2
        counts = np.random.default_rng(int(job_id)).multinomial(repetitions, outcomes / outcomes.sum())
        return {str(index): str(count / repetitions) for index, count in enumerate(counts) if count}


def _slices(targets: Sequence[int], width: int) -> list[tuple[Any, ...]]:
    """Index tuples of the blocks of a state that a gate on ``targets`` mixes."""
    found = []
    for index in range(2 ** len(targets)):
        bits = [(index >> (len(targets) - 1 - place)) & 1 for place in range(len(targets))]
        block: list[Any] = [slice(None)] * width
        for target, bit in zip(targets, bits, strict=True):
            block[target] = bit
        found.append(tuple(block))
    return found


def test_ionq_service_without_http() -> None:
    """Through the package's service, jobs and results: JSON out, little-endian frequencies back."""
    service = cirq_ionq.Service(remote_host="http://localhost", api_key="not-a-key")
    client = service._client = OfflineIonqClient()
    adapter = vendor("ionq", service.sampler("qpu"))
    circuit, line = some_part(4, seed=3)
    found = run_part(circuit, [qubit.x for qubit in line], 10_000, Backend.of(adapter, np.random.default_rng(0)))
    assert_within_sampling_error(found, exact_values(circuit, line), 10_000)
    assert len(client.jobs) == 1 and client.jobs[0][0]["input"]["gateset"] == "qis"


def test_ionq_needs_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package reads it from the environment; the adapter holds a sampler and nothing else."""
    for name in ("IONQ_API_KEY", "CIRQ_IONQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match="IONQ_API_KEY"):
        cirq_ionq.Service()
    monkeypatch.setenv("IONQ_API_KEY", "hush-hush")
    assert "hush-hush" not in repr(vendor("ionq", cirq_ionq.Service().sampler("simulator")))


def test_ionq_width_is_that_of_the_target() -> None:
    qubits = cirq.LineQubit.range(3)
    with pytest.raises(QumosError, match="3 qubits, the device 2"):
        IonqAdapter(width=2).native(cirq.Circuit(cirq.X.on_each(qubits)), qubits)


# AQT


@pytest.mark.parametrize("seed", range(4))
def test_aqt_sends_what_the_service_takes(seed: int) -> None:
    """Angles within the ranges of AQT's public API, one measurement at the end."""
    circuit, line = some_part(4, seed)
    native = AqtAdapter().native(circuit, line)
    body = cirq.Circuit(op for op in native.all_operations() if not cirq.is_measurement(op))
    sampler = cirq_aqt.AQTSampler("workspace", "resource", "not-a-token")
    *gates, last = sampler._parse_legacy_circuit_json(sampler._generate_json(body, {}))
    assert last == {"operation": "MEASURE"}
    assert {gate["operation"] for gate in gates} == {"R", "RZ", "RXX"}
    for gate in gates:
        if gate["operation"] == "R":
            assert 0 <= gate["theta"] <= 1 and 0 <= gate["phi"] <= 2
        elif gate["operation"] == "RXX":
            assert 0 <= gate["theta"] <= 0.5


@pytest.mark.parametrize("exponent", [0.8, -0.8, 0.3, -0.3, 1.0, 1.7])
def test_aqt_entangling_gates_of_any_angle(exponent: float) -> None:
    """A gate of the vendor's own kind passes its compiler as it is."""
    line = cirq.LineQubit.range(2)
    circuit = cirq.Circuit(cirq.ry(0.4)(line[0]), cirq.rx(0.7)(line[1]), cirq.rz(0.9)(line[1]), cirq.XX(*line) ** exponent)
    native = AqtAdapter().native(circuit, line)
    body = cirq.Circuit(op for op in native.all_operations() if not cirq.is_measurement(op))
    cirq.testing.assert_allclose_up_to_global_phase(cirq.unitary(body), cirq.unitary(circuit), atol=1e-6)
    assert all(0 <= op.gate.exponent <= 0.5 for op in body.all_operations() if isinstance(op.gate, cirq.XXPowGate))


def test_aqt_splits_large_runs() -> None:
    asked: list[int] = []

    class Counting(cirq_aqt.AQTSamplerLocalSimulator):  # type: ignore[misc, name-defined]
        def _send_json(self, *, json_str: str, id_str: str, repetitions: int = 1, num_qubits: int = 1) -> np.ndarray:
            asked.append(repetitions)
            return np.ones((repetitions, num_qubits), int)

    backend = Backend.of(vendor("aqt", Counting()), np.random.default_rng(0))
    result = backend.sampler.run(backend.adapter.native(cirq.Circuit(cirq.X(cirq.LineQubit(0))), cirq.LineQubit.range(1)), repetitions=4500)
    assert asked == [2000, 2000, 500]
    assert result.measurements[READOUT].shape == (4500, 1)


def test_aqt_own_simulator() -> None:
    """The package's simulator as it comes: exact where told so, else with AQT's noise."""
    circuit, line = some_part(3, seed=5)
    numbers, exact = [qubit.x for qubit in line], exact_values(circuit, line)
    ideal = Backend.of(vendor("aqt", cirq_aqt.AQTSamplerLocalSimulator(simulate_ideal=True)), np.random.default_rng(0))
    assert_within_sampling_error(run_part(circuit, numbers, 10_000, ideal), exact, 10_000)
    noisy = Backend.of(vendor("aqt", cirq_aqt.AQTSamplerLocalSimulator()), np.random.default_rng(0))
    assert np.abs(run_part(circuit, numbers, 10_000, noisy) - exact).max() > 0.02


# Pasqal


def test_pasqal_runs_one_gate_at_a_time_within_reach() -> None:
    adapter = PasqalAdapter(side=4)
    circuit, line = some_part(12, seed=0)
    native = adapter.native(circuit, line)
    pairs = [op.qubits for op in native.all_operations() if len(op.qubits) == 2]
    assert pairs and max(np.hypot(a.x - b.x, a.y - b.y) for a, b in pairs) <= 3
    assert all(len(moment) == 1 for moment in native)
    with pytest.raises(QumosError, match="from 1 to 10"):
        PasqalAdapter(side=11)


def test_pasqal_nine_atoms_need_no_swaps() -> None:
    line = cirq.LineQubit.range(9)
    circuit = cirq.Circuit(cirq.CZ(a, b) for index, a in enumerate(line) for b in line[:index])
    native = PasqalAdapter().native(circuit, line)
    assert sum(len(op.qubits) == 2 and not cirq.is_measurement(op) for op in native.all_operations()) <= 36


def test_pasqal_service_without_http() -> None:

    class Offline(cirq_pasqal.PasqalSampler):  # type: ignore[misc, name-defined]
        def _send_serialized_circuit(self, serialization_str: str, repetitions: int = 1) -> cirq.Result:
            drawn = cirq.Simulator(seed=0).run(cirq.read_json(json_text=serialization_str), repetitions=repetitions)
            return cirq.read_json(json_text=cirq.to_json(drawn))

    adapter = PasqalAdapter(Offline("http://localhost", "not-a-token", PasqalAdapter().device))
    circuit, line = some_part(4, seed=6)
    found = run_part(circuit, [qubit.x for qubit in line], 10_000, Backend.of(adapter, np.random.default_rng(0)))
    assert_within_sampling_error(found, exact_values(circuit, line), 10_000)


def test_missing_modules_of_a_package_are_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(QumosError, match=r"half-installed cannot be imported .*a_library_that_is_not_there"):
        vendor_package("half_installed")

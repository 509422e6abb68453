"""Device profiles, native circuits and estimates, held against Cirq's simulator, networkx, scipy and figures worked out by hand."""

import copy
import math
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import cirq
import networkx
import numpy as np
import pytest
import sympy
from native_circuits import part_circuit, random_design
from scipy.stats import lognorm

from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import contiguous, ry_cz_ry
from qumos_env.design.circuits import bind, part_fragments
from qumos_env.errors import QumosError
from qumos_env.hardware import profile as profile_module
from qumos_env.hardware.counting import exact_counts, quick_counts
from qumos_env.hardware.estimate import JobEstimate, Share, circuit_error, estimate_parts, inference_job, shot_seconds, training_job
from qumos_env.hardware.profile import DeviceProfile, Queue, list_profiles, load_profile, noise_spec, parse_profile
from qumos_env.hardware.topology import KINDS
from qumos_env.hardware.transpile import NativeCircuit, representative, route, transpile, transpile_part

PROFILES = list_profiles()
FOLDER = Path(profile_module.__file__).parent / "profiles"
SURVEY = "arXiv:2408.09562"


def plain(name: str = "iqm-radiance") -> dict[str, Any]:
    """The content of a profile file."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


def changed(path: str, value: object, name: str = "iqm-radiance") -> dict[str, Any]:
    """The content of a profile file with the field at ``path`` set, or taken out for ``None``."""
    data = copy.deepcopy(plain(name))
    *above, field = path.split("/")
    target = data
    for step in above:
        target = target[step]
    if value is None:
        del target[field]
    else:
        target[field] = value
    return data


def infidelity(native: NativeCircuit, logical: cirq.AbstractCircuit) -> float:
    """1 − |Tr(U†V)|/d of the logical unitary and the native one, read from where qubits start to where they end."""
    n = len(native.qubits)
    places = sorted(native.starts)
    assert sorted(native.ends) == places
    order = [cirq.LineQubit(place) for place in places]
    tensor = native.circuit.unitary(qubit_order=order, qubits_that_should_be_present=order).reshape((2,) * (2 * n))
    axes = [places.index(end) for end in native.ends] + [n + places.index(start) for start in native.starts]
    wanted = logical.unitary(qubit_order=[cirq.LineQubit(qubit) for qubit in native.qubits])
    return 1 - abs(np.vdot(wanted, tensor.transpose(axes).reshape(wanted.shape))) / 2**n


def assert_native(native: NativeCircuit, profile: DeviceProfile) -> None:
    two_qubit = {
        "cz": lambda gate: gate == cirq.CZ,
        "sqrt-iswap": lambda gate: cirq.equal_up_to_global_phase(gate, cirq.SQRT_ISWAP),
        "ms": lambda gate: isinstance(gate, cirq.MSGate),
    }[profile.native_gates]
    graph = profile.topology.graph()
    for operation in native.circuit.all_operations():
        if len(operation.qubits) == 1:
            assert isinstance(operation.gate, cirq.PhasedXZGate)
        else:
            assert two_qubit(operation.gate)
            assert graph.has_edge(*(qubit.x for qubit in operation.qubits))
    assert all(0 <= qubit.x < profile.n_qubits for qubit in native.circuit.all_qubits())


class TestTopology:
    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"kind": "all-to-all", "qubits": 6}, networkx.complete_graph(6)),
            ({"kind": "line", "qubits": 5}, networkx.path_graph(5)),
            ({"kind": "ring", "qubits": 7}, networkx.cycle_graph(7)),
            ({"kind": "grid", "rows": 3, "columns": 4}, networkx.grid_2d_graph(3, 4)),
            ({"kind": "custom", "qubits": 3, "edges": [[2, 0], [1, 0]]}, networkx.star_graph(2)),
        ],
    )
    def test_lattices(self, fields: dict[str, Any], expected: networkx.Graph):
        topology = KINDS[fields["kind"]].model_validate(fields)
        assert sorted(topology.graph()) == list(range(topology.size))
        assert networkx.is_isomorphic(topology.graph(), expected)
        assert topology.complete == (fields["kind"] == "all-to-all")

    def test_heavy_hex_is_that_of_156_qubits(self):
        graph = load_profile("ibm-heron").topology.graph()
        assert (graph.number_of_nodes(), graph.number_of_edges()) == (156, 176)
        assert max(dict(graph.degree).values()) == 3
        assert networkx.is_connected(graph)
        assert networkx.girth(graph) == 12


class TestProfiles:
    def test_every_profile_loads_under_its_name(self):
        assert {"ideal", "ibm-heron", "rigetti-ankaa", "oqc-toshiko", "iqm-radiance", "ionq-aria"} <= set(PROFILES)
        for name in PROFILES:
            profile = load_profile(name)
            assert profile.name == name
            assert hash(profile) == hash(parse_profile(plain(name)))

    def test_published_figures(self):
        figures = {name: load_profile(name) for name in PROFILES}
        assert figures["ionq-aria"].errors.two_qubit == pytest.approx(1 - 0.996)
        assert figures["oqc-toshiko"].errors.two_qubit == pytest.approx(1 - 0.96)
        assert figures["ibm-heron"].price.per_second == 1.60
        assert {name: profile.n_qubits for name, profile in figures.items()} == {
            "ideal": 20,
            "ibm-heron": 156,
            "rigetti-ankaa": 84,
            "oqc-toshiko": 32,
            "iqm-radiance": 20,
            "ionq-aria": 25,
        }
        for name, figure in (("ionq-aria", "errors.two_qubit"), ("oqc-toshiko", "errors.two_qubit"), ("ibm-heron", "price.per_second")):
            assert SURVEY in figures[name].source(figure)
            assert figure not in figures[name].assumed
        assert "times.t1" in figures["ionq-aria"].assumed
        assert set(figures["ideal"].assumed) == set(figures["ideal"].figures)

    def test_a_users_file(self, tmp_path: Path):
        path = tmp_path / "mine.toml"
        path.write_text((FOLDER / "ideal.toml").read_text().replace('name = "ideal"', 'name = "mine"'))
        assert load_profile(path).name == "mine"
        path.write_text("name =")
        with pytest.raises(QumosError, match=r"mine\.toml: malformed TOML"):
            load_profile(path)
        with pytest.raises(QumosError, match="cannot be read"):
            load_profile(tmp_path / "absent.toml")

    def test_names_that_are_none(self):
        with pytest.raises(QumosError, match="did you mean ionq-aria"):
            load_profile("ionq-arya")
        with pytest.raises(QumosError, match="runs no gate circuits"):
            load_profile("quera-aquila")

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("errors/one_qubit", None, "errors.one_qubit: Field required"),
            ("errors/zero_as_one", 1.2, "errors.zero_as_one: "),
            ("errors/two_qubits", 0.1, "errors.two_qubits: unknown field 'two_qubits'; did you mean two_qubit"),
            ("errors/two_qubit", 0.9, "errors.two_qubit is 0.9, more than complete depolarisation"),
            ("errors/one_qubit", 1e-5, "errors.one_qubit is 1e-05, but decay alone costs"),
            ("errors/two_qubit", 1e-4, "errors.two_qubit is 0.0001, but decay alone costs"),
            ("times/t2", 81e-6, "times.t2 is 8.1e-05 s, at most twice times.t1"),
            ("times/t1", math.nan, "times.t1: "),
            ("times/readout", 0.0, "times.readout: "),
            ("times/two_qubit", math.inf, "times.two_qubit: "),
            ("price/per_shot", -1.0, "price.per_shot: "),
            ("queue/spread", -0.1, "queue.spread: "),
            ("queue/spread", 5.1, "queue.spread: "),
            ("queue/median", 1e300, "queue.median: "),
            ("native_gates", "toffoli", "native_gates: "),
            ("topology/rows", 0, "topology.rows: "),
            ("topology/row", 2, "topology.row: unknown field 'row'; did you mean rows"),
            ("topology/kind", "torus", "topology: "),
            ("topology/kind", None, "topology: kind is missing; choose from all-to-all, line"),
            ("topology", {"kind": "custom", "qubits": 4, "edges": [[0, 1], [2, 3]]}, "topology: the couplings leave 2 separate pieces"),
            ("topology", {"kind": "custom", "qubits": 3, "edges": [[0, 1], [1, 3]]}, r"topology: edge \[1, 3\] does not join two"),
            ("topology", {"kind": "custom", "qubits": 2, "edges": [[0, 1], [1, 1]]}, r"topology: edge \[1, 1\] does not join two"),
            ("sources/queue", None, "sources: queue.median has none"),
            ("sources/errors.two_qubbit", "me", "sources: unknown field 'errors.two_qubbit'; did you mean errors.two_qubit"),
            ("sources/queue", " ", "sources: queue is empty"),
        ],
    )
    def test_what_is_refused(self, path: str, value: object, message: str):
        with pytest.raises(QumosError, match=f"somewhere: {message}") as raised:
            parse_profile(changed(path, value), where="somewhere")
        assert "\n" not in str(raised.value)

    def test_nested_sources_are_the_same(self):
        data = plain()
        errors = {"two_qubit": data["sources"].pop("errors.two_qubit")}
        general = data["sources"].pop("errors")
        data["sources"]["errors"] = errors | dict.fromkeys(("one_qubit", "zero_as_one", "one_as_zero"), general)
        assert [parse_profile(data).source(f) for f in ("errors.two_qubit", "errors.one_qubit")] == [errors["two_qubit"], general]


class TestNoise:
    @pytest.mark.parametrize("name", PROFILES)
    @pytest.mark.parametrize("qubits", [1, 2])
    def test_gates_have_the_stated_average_fidelity(self, name: str, qubits: int):
        profile = load_profile(name)
        line = cirq.LineQubit.range(2 * qubits)
        pairs = list(zip(line[:qubits], line[qubits:], strict=True))
        entangled = cirq.Circuit([cirq.H(a), cirq.CX(a, b)] for a, b in pairs)
        gate = noise_spec(profile).noisy(cirq.Circuit(cirq.IdentityGate(qubits).on(*line[:qubits])))
        start = cirq.final_state_vector(entangled, qubit_order=line, dtype=np.complex128)
        rho = cirq.final_density_matrix(entangled + gate, qubit_order=line, dtype=np.complex128)
        entanglement_fidelity = (start.conj() @ rho @ start).real
        average = (2**qubits * entanglement_fidelity + 1) / (2**qubits + 1)
        assert 1 - average == pytest.approx(profile.errors.one_qubit if qubits == 1 else profile.errors.two_qubit, abs=1e-9)

    def test_damping_is_decay_over_a_gate(self):
        profile = load_profile("iqm-radiance")
        spec, times = noise_spec(profile), profile.times
        assert spec.amplitude_damping == pytest.approx(1 - math.exp(-times.one_qubit / times.t1))
        coherence = math.sqrt((1 - spec.amplitude_damping) * (1 - spec.phase_damping))
        assert coherence == pytest.approx(math.exp(-times.one_qubit / times.t2))
        assert (spec.readout.zero_as_one, spec.readout.one_as_zero) == (profile.errors.zero_as_one, profile.errors.one_as_zero)
        assert noise_spec(load_profile("ideal")) == type(spec)()


class TestTranspile:
    @pytest.mark.parametrize("name", PROFILES)
    def test_same_unitary_in_native_gates_on_coupled_qubits(self, name: str):
        profile = load_profile(name)
        for width in range(1, 6):
            logical = representative(part_circuit(random_design(width, 18, seed=7)))
            native = transpile(logical, profile)
            assert native.qubits == tuple(range(width))
            assert infidelity(native, logical) < 1e-9
            assert_native(native, profile)
            sizes = [len(operation.qubits) for operation in native.circuit.all_operations()]
            assert (native.n_one_qubit, native.n_two_qubit) == (sizes.count(1), sizes.count(2))
            assert native.depth == len(native.circuit)

    def test_wider_than_the_search_for_a_placement(self):
        profile = load_profile("iqm-radiance")
        logical = representative(part_circuit(ry_cz_ry((0,) * 9, ["a"], 1)))
        native = transpile(logical, profile)
        assert infidelity(native, logical) < 1e-9
        assert_native(native, profile)

    def test_qubits_keep_their_numbers(self):
        design = ry_cz_ry(contiguous(8, 2), ["a", "b"], 1)
        logical = representative(part_fragments(design, "ry")[1].circuit.freeze())
        native = transpile(logical, load_profile("oqc-toshiko"))
        assert native.qubits == (4, 5, 6, 7)
        assert native.starts != native.ends  # a ring of four does not fit a ring of 32: something was swapped
        assert infidelity(native, logical) < 1e-9

    def test_no_swaps_where_the_couplings_allow(self):
        ring = part_circuit(ry_cz_ry((0,) * 4, ["a"], 3))
        for name in ("ideal", "ionq-aria", "iqm-radiance"):
            native = transpile_part(ring, load_profile(name))
            assert native.n_two_qubit == 12
            assert native.starts == native.ends
        assert transpile_part(ring, load_profile("rigetti-ankaa")).n_two_qubit == 24  # two roots of iSWAP each
        assert transpile_part(ring, load_profile("ibm-heron")).n_two_qubit > 12

    def test_inputs_can_be_filled_in_later(self):
        design = ry_cz_ry((0,) * 3, ["a"], 2)
        symbolic = part_circuit(design)
        weights = {name: 0.1 + 0.3 * index for index, name in enumerate(sorted(cirq.parameter_names(symbolic))) if name.startswith("w")}
        native = transpile(bind(symbolic, weights).freeze(), load_profile("rigetti-ankaa"))
        assert cirq.parameter_names(native.circuit) == {"x0", "x1", "x2"}
        inputs = {"x0": 0.4, "x1": -1.1, "x2": 2.0}
        filled = NativeCircuit(cirq.resolve_parameters(native.circuit, inputs), native.qubits, native.starts, native.ends, 0, 0, 0)
        assert infidelity(filled, cirq.resolve_parameters(symbolic, weights | inputs)) < 1e-9

    def test_what_is_refused(self):
        a, b = cirq.LineQubit.range(2)
        with pytest.raises(QumosError, match="ZZPowGate carries the symbol w0: bind it"):
            transpile(cirq.FrozenCircuit(cirq.ZZ(a, b) ** sympy.Symbol("w0")), load_profile("ideal"))
        with pytest.raises(QumosError, match="profile iqm-radiance: 20 qubits, the circuit has 21"):
            transpile(cirq.FrozenCircuit(cirq.X.on_each(*cirq.LineQubit.range(21))), load_profile("iqm-radiance"))
        with pytest.raises(QumosError, match="line qubits"):
            transpile(cirq.FrozenCircuit(cirq.X(cirq.GridQubit(0, 0))), load_profile("ideal"))

    def test_another_process_gives_the_same(self):
        call = (
            "import cirq\n"
            "from qumos_env.design.ansatz import ry_cz_ry\n"
            "from qumos_env.design.circuits import part_fragments\n"
            "from qumos_env.hardware.profile import load_profile\n"
            "from qumos_env.hardware.transpile import transpile_part\n"
            "circuit = part_fragments(ry_cz_ry((0,) * 5, ['a'], 2), 'ry')[0].circuit.freeze()\n"
            "print(repr(transpile_part(circuit, load_profile('ibm-heron'))))"
        )
        there = subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True).stdout.strip()
        here = transpile_part(part_circuit(ry_cz_ry((0,) * 5, ["a"], 2)), load_profile("ibm-heron"))
        assert there == repr(here)


class TestCounts:
    @pytest.mark.parametrize("name", PROFILES)
    def test_counting_agrees_with_transpiling(self, name: str):
        profile = load_profile(name)
        designs = [ry_cz_ry((0,) * 4, ["a"], 1), ry_cz_ry((0,) * 4, ["a"], 3), random_design(2, 18, seed=7), random_design(4, 24, seed=3)]
        for circuit in map(part_circuit, designs):
            exact, quick = exact_counts(transpile_part(circuit, profile), profile.times), quick_counts(circuit, profile)
            assert (quick.n_qubits, quick.n_two_qubit) == (exact.n_qubits, exact.n_two_qubit)
            assert quick.n_one_qubit == pytest.approx(exact.n_one_qubit, rel=0.3)
            assert quick.seconds == pytest.approx(exact.seconds, rel=0.15)
            assert circuit_error(quick, profile) == pytest.approx(circuit_error(exact, profile), abs=0.015)

    @pytest.mark.parametrize(
        ("gates", "two_qubit"),
        [
            ([("cz", 0, 1)], {"cz": 1, "sqrt-iswap": 2, "ms": 1}),
            ([("rzz", 0, 1)], {"cz": 2, "sqrt-iswap": 2, "ms": 1}),
            ([("cz", 0, 1), ("ry", 0), ("cx", 0, 1)], {"cz": 2, "sqrt-iswap": 2, "ms": 2}),
            ([("cz", 0, 1), ("rz", 0), ("rzz", 0, 1)], {"cz": 2, "sqrt-iswap": 2, "ms": 1}),
            ([("cz", 0, 1), ("cz", 0, 1)], {"cz": 0, "sqrt-iswap": 0, "ms": 0}),
            ([("cx", 0, 1), ("cx", 1, 0), ("cx", 0, 1)], {"cz": 3, "sqrt-iswap": 3, "ms": 3}),
        ],
    )
    def test_native_gates_of_a_pair(self, gates: list[tuple[Any, ...]], two_qubit: dict[str, int]):
        """The last is a swap, which takes three of any gate."""
        circuit = part_circuit(Design((0, 0), ("a",), tuple(Gate(name, qubits) for name, *qubits in gates)))
        for name in ("ideal", "rigetti-ankaa", "ionq-aria"):
            profile = load_profile(name)
            assert quick_counts(circuit, profile).n_two_qubit == two_qubit[profile.native_gates]
            assert transpile_part(circuit, profile).n_two_qubit == two_qubit[profile.native_gates]

    def test_seconds_are_those_of_the_longest_path(self):
        profile = load_profile("ionq-aria")
        a, b, c = cirq.LineQubit.range(3)
        turn = cirq.PhasedXZGate(x_exponent=0.3, z_exponent=0.1, axis_phase_exponent=0.2)
        circuit = cirq.FrozenCircuit(turn(a), turn(c), cirq.ms(0.4)(a, b), turn(b), turn(a))
        native = NativeCircuit(circuit, (0, 1, 2), (0, 1, 2), (0, 1, 2), 4, 1, 3)
        times = profile.times
        assert exact_counts(native, times).seconds == pytest.approx(2 * times.one_qubit + times.two_qubit)


DESIGN = Design((0, 0, 1, 1), ("fast", "slow"), (Gate("ry", (0,)), Gate("cz", (0, 1)), Gate("ry", (1,)), Gate("rx", (2,))))
PAIR = {"fast": load_profile("ibm-heron"), "slow": load_profile("ionq-aria")}


class TestEstimates:
    @pytest.mark.parametrize("quick", [False, True])
    def test_parts_by_hand(self, quick: bool):
        first, second = estimate_parts(DESIGN, PAIR, "ry", quick=quick)
        # First part: encoding (with RY merged) on both qubits, CZ, RY. Second: one rotation each.
        assert (first.counts.n_one_qubit, first.counts.n_two_qubit, first.angles) == (3, 1, 2)
        assert (second.counts.n_one_qubit, second.counts.n_two_qubit, second.angles) == (2, 0, 1)
        assert first.error == pytest.approx(1 - (1 - 3e-4) ** 3 * (1 - 6e-3) * (1 - 0.01) ** 2)
        assert first.shot_seconds == pytest.approx(2 * 32e-9 + 68e-9 + 1.5e-6 + 250e-6)
        assert second.error == pytest.approx(1 - (1 - 5e-4) ** 2 * (1 - 5e-3) ** 2)
        assert second.shot_seconds == pytest.approx(135e-6 + 300e-6 + 20e-6)

    def test_inference_by_hand(self):
        parts = estimate_parts(DESIGN, PAIR, "ry")
        job = inference_job(parts, rows=10, shots=1000)
        fast, slow = job.shares
        assert (fast.circuits, slow.circuits, job.circuits) == (10, 10, 20)
        assert fast.dollars == pytest.approx(1.60 * 10 * 1000 * parts[0].shot_seconds)
        assert slow.dollars == pytest.approx(10 * (0.30 + 1000 * 0.03))
        assert job.dollars == pytest.approx(fast.dollars + slow.dollars)
        assert job.run_seconds == pytest.approx(10 * 1000 * parts[1].shot_seconds)  # side by side: the slower decides

    def test_training_by_hand(self):
        parts = estimate_parts(DESIGN, PAIR, "ry")
        job = training_job(parts, rows=10, steps=5, shots=100)
        assert [share.circuits for share in job.shares] == [5 * 10 * (1 + 2 * 2), 5 * 10 * (1 + 2 * 1)]
        slowest = max(share.seconds for share in job.shares)
        assert job.waits == (slowest, slowest)  # every step waits for the slower
        assert job.run_seconds == slowest

    def test_parts_at_one_provider_add_up(self):
        together = Design(DESIGN.partition, ("slow", "slow"), DESIGN.gates)
        job = inference_job(estimate_parts(together, PAIR, "ry"), rows=10, shots=1000)
        seconds = [10 * 1000 * part.shot_seconds for part in estimate_parts(together, PAIR, "ry")]
        assert len(job.shares) == 1
        assert job.run_seconds == pytest.approx(sum(seconds))
        assert job.circuits == 20

    def test_gate_cuts_multiply_circuits(self):
        cut = Design((0, 0, 1, 1), ("fast", "slow"), (*DESIGN.gates, Gate("rzz", (1, 2))))
        job = inference_job(estimate_parts(cut, PAIR, "ry"), rows=2, shots=1)
        assert [share.circuits for share in job.shares] == [10, 10]

    def test_what_is_refused(self):
        with pytest.raises(QumosError, match="unknown provider without a profile 'slow'"):
            estimate_parts(DESIGN, {"fast": PAIR["fast"]}, "ry")
        with pytest.raises(QumosError, match="shots is 0"):
            inference_job(estimate_parts(DESIGN, PAIR, "ry"), rows=1, shots=0)

    def test_an_ideal_provider_costs_only_time(self):
        profiles = dict.fromkeys(("fast", "slow"), load_profile("ideal"))
        parts = estimate_parts(DESIGN, profiles, "ry")
        job = training_job(parts, rows=3, steps=2, shots=10)
        assert [part.error for part in parts] == [0.0, 0.0]
        assert job.dollars == 0
        assert job.mean_seconds == job.quantile(0.99) == job.run_seconds > 0

    def test_shot_seconds_include_readout_and_reset(self):
        part = estimate_parts(DESIGN, PAIR, "ry")[1]
        assert shot_seconds(part.counts, part.profile) == pytest.approx(part.counts.seconds + 320e-6)


class TestQueues:
    def test_one_queue(self):
        queue, oracle = Queue(median=300.0, spread=1.2), lognorm(s=1.2, scale=300.0)
        assert queue.mean == pytest.approx(oracle.mean())
        assert queue.quantile(0.95) == pytest.approx(oracle.ppf(0.95))
        assert queue.started(700.0) == pytest.approx(oracle.cdf(700.0))
        drawn = queue.sample(np.random.default_rng(0), 20_000)
        assert np.array_equal(drawn, queue.sample(np.random.default_rng(0), 20_000))
        assert np.median(drawn) == pytest.approx(300.0, rel=0.03)
        with pytest.raises(QumosError, match="share"):
            queue.quantile(1.0)

    def test_the_mean_holds_up_to_the_widest_spread(self):
        queue = parse_profile(changed("queue", {"median": 300.0, "spread": 5.0})).queue
        job = JobEstimate((Share("aurora", 1, 1.0, 1.0, queue),), (1.0,))
        assert job.mean_seconds == pytest.approx(lognorm(s=5.0, scale=300.0).mean(), rel=0.02)

    @pytest.mark.parametrize(("median", "spread"), [(0.0, 1.0), (50.0, 0.0)])
    def test_a_queue_of_fixed_length(self, median: float, spread: float):
        queue = Queue(median=median, spread=spread)
        assert queue.mean == queue.quantile(0.9) == median
        assert (queue.started(median), queue.started(median - 1e-6)) == (1.0, 0.0)
        assert set(queue.sample(np.random.default_rng(0), 5)) == {median}

    @pytest.mark.parametrize("profiles", [PAIR, PAIR | {"fast": load_profile("ideal")}])
    def test_the_slowest_of_several(self, profiles: dict[str, DeviceProfile]):
        parts = estimate_parts(DESIGN, profiles, "ry")
        job = inference_job(parts, rows=200, shots=2000)
        times = job.sample(np.random.default_rng(0), 400_000)
        assert job.mean_seconds == pytest.approx(times.mean(), rel=0.03)
        for share in (0.05, 0.5, 0.95):
            assert job.quantile(share) == pytest.approx(np.quantile(times, share), rel=0.02)
            assert job.done(job.quantile(share)) == pytest.approx(share)


@pytest.mark.parametrize("count", [7, 8, 13])
def test_gates_that_tie_as_far_as_the_router_looks(count: int) -> None:
    """Three qubits in a triangle of long runs of CZ: no swap is better than another for a long time."""
    a, b, c = cirq.LineQubit.range(3)
    circuit = cirq.Circuit([cirq.CZ(a, b)] * count, [cirq.CZ(b, c)] * count, [cirq.CZ(a, c)] * count, cirq.X.on_each(a, b, c)).freeze()
    profile = load_profile("ibm-heron")
    routed = route(circuit, profile)
    for operation in routed.circuit.all_operations():
        if len(operation.qubits) == 2:
            assert profile.topology.graph().has_edge(*(qubit.x for qubit in operation.qubits))

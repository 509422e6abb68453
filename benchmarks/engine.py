"""The engine against itself, against Cirq's noise, and against the machine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import cirq
import numpy as np

from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.model.qnn import QNN

from .gradient import LAYERS, SIZES
from .registry import Outcome, Row, Target, case
from .serving import Workload, elapsed
from .workers import ENGINE, Disagreement, Peer, Worker, take_turns

MODELS = 8
SCALING = Target(at_least=1.8)
NOISY = {4: Target(at_least=20), 6: None}
NOISY_ROWS = 16
NOISE = 0.01
MACHINE = {4: Target(below=4), 8: None, 12: Target(below=2), 16: None}
_SCALING_SECONDS = 3.0


def in_turns(actions: Mapping[str, Callable[[], object]], repeats: int, budget: float = 60.0) -> dict[str, np.ndarray]:
    """Seconds of processor time per action and repeat; fewer repeats (at least 3) where they would take longer than ``budget`` s."""
    once = sum(elapsed(action)[1] for action in actions.values())  # a warm-up as well
    repeats = max(min(repeats, round(budget / once)), min(repeats, 3))
    found: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats):
        order = list(actions)
        for name in order if repeat % 2 == 0 else reversed(order):
            found[name].append(elapsed(actions[name])[0])
    return {name: np.array(values) for name, values in found.items()}


@case(
    "many",
    f"{MODELS} trainings of one design (two parts of 4 qubits; RY, then twice a CZ ring and RY; linear head, default steps) on"
    f" {SIZES[4]} samples each, together by QNN.train_many and one after the other by train; processor time.",
)
def many(repeats: int) -> Outcome:
    """Both must train to the same classifiers."""
    generator = np.random.default_rng(0)
    model = QNN(ry_cz_ry((0, 0, 0, 0, 1, 1, 1, 1), ("alpha", "beta"), 2), 2)
    inputs, labels = generator.uniform(0, np.pi, (MODELS, SIZES[4], 8)), generator.integers(0, 2, (MODELS, SIZES[4]))
    keys = [[seed] for seed in range(MODELS)]

    def singles() -> list[np.ndarray]:
        return [model.train(inputs[k], labels[k], keys[k]).angles for k in range(MODELS)]

    worst = float(np.abs(model.train_many(inputs, labels, keys).angles - np.array(singles())).max())
    if worst > 1e-2:
        raise Disagreement(f"many: trained angles differ by {worst:.1e}")
    times = in_turns({"together": lambda: model.train_many(inputs, labels, keys), "singly": singles}, repeats)
    rows = [
        Row(f"{MODELS} trainings together", "ms", (1e3 * times["together"]).tolist()),
        Row(f"{MODELS} trainings singly", "ms", (1e3 * times["singly"]).tolist()),
        Row("singly / together", "x", (times["singly"] / times["together"]).tolist()),
    ]
    return Outcome(rows)


@case(
    "scaling",
    "search evaluations of one design (as in the case evaluation, nothing cached) by two processes at once against one alone, each"
    f" for {_SCALING_SECONDS:g} s, one thread a process.",
)
def scaling(repeats: int) -> Outcome:
    """By processor time, two processes that do not disturb each other give 2, however busy the machine is."""
    alone, together, by_clock, share = [], [], [], []
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(Peer("evaluation", "evaluation_worker"), pinned=False)) for _ in range(2)]
        for worker in workers:
            worker.ask("evaluate", seconds=0)  # warm-up
        for repeat in range(min(repeats, 10)):
            first = workers[repeat % 2].ask("evaluate", seconds=_SCALING_SECONDS)
            for worker in workers:
                worker.tell("evaluate", seconds=_SCALING_SECONDS)
            both = [worker.hear() for worker in workers]
            alone.append(first["designs"] / first["processor"])
            together.append(sum(one["designs"] / one["processor"] for one in both))
            by_clock.append(sum(one["designs"] / one["clock"] for one in both) / (first["designs"] / first["clock"]))
            share.append(sum(one["processor"] / one["clock"] for one in both))
    rows = [
        Row("one process, designs per second of processor time", "1/s", alone),
        Row("two / one, by processor time", "x", (np.array(together) / np.array(alone)).tolist(), SCALING),
        Row("two / one, by the clock", "x", by_clock, SCALING),
        Row("cores that the two processes got", "", share),
    ]
    return Outcome(rows, ["By the clock the figure needs two idle cores: less than 2 cores got means that other programs ran."])


def _noisy(n_qubits: int, repeats: int) -> Outcome:
    """The same expectation values, from a batched run and from one run per sample."""
    against = f"cirq.DensityMatrixSimulator, {NOISY_ROWS} runs"
    try:
        from qumos_env.simulation.noise import NoisyEngine
    except ImportError as error:
        return Outcome([Row(f"{against} / NoisyEngine", "x", [], NOISY[n_qubits], f"NoisyEngine not available: {error}")])
    from .qumos_worker import circuit

    work = Workload.make(n_qubits, LAYERS, NOISY_ROWS)
    made, inputs, names = circuit(work)
    line = cirq.LineQubit.range(n_qubits)
    noise = cirq.ConstantQubitNoiseModel(cirq.depolarize(NOISE))
    engine = NoisyEngine.from_circuit(made, line, [cirq.PauliString(cirq.Z(qubit)) for qubit in line], inputs, names, noise=noise)
    simulator = cirq.DensityMatrixSimulator(noise=noise)
    observables: list[Any] = [cirq.Z(qubit) for qubit in line]
    shared = dict(zip(names, work.weights.ravel().tolist(), strict=True))
    rows = [cirq.ParamResolver(shared | dict(zip(inputs, row, strict=True))) for row in work.inputs.tolist()]

    def theirs() -> np.ndarray:
        return np.real([simulator.simulate_expectation_values(made, observables, values) for values in rows])

    def ours() -> np.ndarray:
        return engine.forward(work.weights.ravel(), work.inputs)

    worst = float(np.abs(ours() - theirs()).max())
    if worst > 1e-5:
        raise Disagreement(f"noisy-{n_qubits}: expectation values differ by {worst:.1e}")
    # Our side repeated, so that its time is far above the clock's resolution.
    times = in_turns({"cirq": theirs, "ours": lambda: [ours() for _ in range(10)]}, repeats)
    times["ours"] /= 10
    return Outcome(
        [
            Row("NoisyEngine.forward", "ms", (1e3 * times["ours"]).tolist()),
            Row(against, "ms", (1e3 * times["cirq"]).tolist()),
            Row(f"{against} / NoisyEngine", "x", (times["cirq"] / times["ours"]).tolist(), NOISY[n_qubits]),
        ]
    )


for _qubits in NOISY:
    case(
        f"noisy-{_qubits}",
        f"Z on every qubit of {_qubits} qubits ({LAYERS} layers of RY, RZ and a CZ ring) on {NOISY_ROWS} samples, {NOISE:.0%}"
        " depolarising noise on every qubit after every moment, exact density matrices, compilation not counted; processor time.",
    )(functools.partial(_noisy, _qubits))


def copy_bandwidth() -> float:
    """GB/s, read and write together, of one core that copies an array far larger than its cache."""
    source = np.ones(2**25, np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    return 2 * source.nbytes / min(elapsed(lambda: np.copyto(target, source))[0] for _ in range(5)) / 1e9


def _machine(n_qubits: int, repeats: int) -> Outcome:
    """The engine's gradient step beside qsim runs of the same gates, which compute no gradient."""
    work = Workload.make(n_qubits, LAYERS, SIZES[n_qubits])
    sides = {"engine": ENGINE, "bare": Peer("qsim", "qumos_worker", "bare"), "fused": Peer("qsim", "qumos_worker", "bare-fused")}
    basis = 2**n_qubits <= SIZES[n_qubits]
    if basis:
        sides["basis"] = Peer("qsim", "qumos_worker", "bare-basis")
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(peer)) for name, peer in sides.items()}
        answers = {name: worker.ask("setup", workload=work.to_json(), what="gradient", check="forward") for name, worker in workers.items()}
        for name, answer in answers.items():
            if not np.allclose(answer["computed"], answers["engine"]["computed"], atol=1e-4):
                raise Disagreement(f"machine-{n_qubits}: {name} does not run the circuit of the engine")
        times = {name: found.processor for name, found in take_turns(workers, repeats).items()}
    log_rows = (SIZES[n_qubits] - 1).bit_length()
    updates = 3 * work.n_gates * 2 ** (n_qubits + log_rows)  # the inverse run has twice the amplitudes
    rows = [
        Row("engine, gradient step", "ms", (1e3 * times["engine"]).tolist()),
        Row("bare qsim, whole batch", "ms", (1e3 * times["bare"]).tolist()),
        Row("engine / bare qsim", "x", (times["engine"] / times["bare"]).tolist(), MACHINE[n_qubits]),
        Row(f"engine / bare qsim, {answers['fused']['chosen']}", "x", (times["engine"] / times["fused"]).tolist()),
    ]
    if basis:
        rows.append(Row("engine / bare qsim on the basis states only", "x", (times["engine"] / times["basis"]).tolist()))
    rows += [
        Row("bare qsim, amplitude updates", "10⁹/s", (updates / times["bare"] / 1e9).tolist()),
        Row("engine, the same updates per its own time", "10⁹/s", (updates / times["engine"] / 1e9).tolist()),
        Row("one core copying memory, read and write", "GB/s", [copy_bandwidth() for _ in range(3)]),
    ]
    size = 2 ** (n_qubits + log_rows + 1) * 8 / 1e6
    return Outcome(
        rows,
        [
            f"An update is one gate on one amplitude: {work.n_gates} gates on 2^{n_qubits + log_rows} amplitudes forward and on twice as"
            f" many ({size:.3g} MB) backward. Unfused, each update would read and write 8 bytes; a fused gate serves several updates."
        ],
    )


for _qubits in MACHINE:
    case(
        f"machine-{_qubits}",
        f"the gradient step of gradient-{_qubits} against bare qsim runs of the same gates: one forward over the batch (padded to a power"
        " of two) and one inverse of twice that register, as an adjoint needs; calls only, circuits made before; processor time.",
    )(functools.partial(_machine, _qubits))

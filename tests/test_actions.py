"""The action space: every rule of the phases, over random scenarios."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qumos_env.design import Gate
from qumos_env.design.blocks import Block
from qumos_env.env.actions import Action, ActionTable, DesignState, action_table
from qumos_env.env.random_designs import random_design, uniform_actions
from qumos_env.errors import QumosError
from qumos_env.scenario import Scenario, list_scenarios, load_scenario, parse_scenario

NAMES = ("rx", "ry", "rz", "h", "cz", "cx", "rzz", "reupload")
ROTATIONS = ("rx", "ry", "rz")
TRAINABLE = (*ROTATIONS, "rzz")
SYMMETRIC = ("cz", "rzz")


def make(design: dict[str, Any], providers: list[dict[str, Any]] | None = None) -> Scenario:
    """A scenario with these limits."""
    return parse_scenario(
        {
            "name": "tiny",
            "title": "tiny",
            "data": {"source": "iris", "reducer": "none"},
            "design": design,
            "providers": providers or [{"name": "aurora"}, {"name": "borealis"}],
        }
    )


def spans(state: DesignState, gate: Gate) -> bool:
    return len({state.partition[qubit] for qubit in gate.qubits}) > 1


@st.composite
def scenarios(draw: st.DrawFn, vocabularies: tuple[str, ...] = ("gates", "blocks", "both")) -> Scenario:
    """Valid limits over providers of every width, capacity and gate set."""
    rotation = draw(st.sampled_from(ROTATIONS))
    gates = tuple(name for name in NAMES if name == rotation or draw(st.booleans()))
    providers: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 3))):
        providers.append(
            {
                "name": f"provider-{index}",
                "max_qubits": draw(st.integers(1, 5)),
                "max_parts": draw(st.integers(1, 3)),
                "gates": [name for name in NAMES if name == rotation or draw(st.booleans())],
            }
        )
    max_parts, widest = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    slots = sorted((min(widest, p["max_qubits"]) for p in providers for _ in range(p["max_parts"])), reverse=True)[:max_parts]
    qubits = draw(st.integers(1, min(5, sum(slots))))
    vocabulary = draw(st.sampled_from(vocabularies))
    least = min(widest, qubits) if vocabulary == "blocks" else 1
    return make(
        {
            "qubits": qubits,
            "max_parts": max_parts,
            "max_part_qubits": widest,
            "max_gates": draw(st.integers(least, least + 8)),
            "max_gate_cuts": draw(st.integers(0, 2)),
            "gates": gates,
            "vocabulary": vocabulary,
            "shots": draw(st.sampled_from([(), (100,), (100, 1000)])),
        },
        providers,
    )


def snapshot(state: DesignState) -> tuple[object, ...]:
    """Everything that an action may change."""
    return (
        tuple(state.partition),
        tuple(state.assignment),
        tuple(state.gates),
        state.shots,
        tuple(state.history),
        state.counts.tobytes(),
        state.cuts,
        state.trainable,
        state.done,
        state.mask().tobytes(),
    )


def check_rules(scenario: Scenario, state: DesignState) -> None:
    """The rules of a finished episode, restated from the documentation rather than from the code."""
    rules, design = scenario.design, state.design()
    providers = {provider.name: provider for provider in scenario.providers}
    sizes = np.bincount(design.partition)
    assert len(sizes) <= rules.max_parts and sizes.max() <= rules.max_part_qubits
    for part, name in enumerate(design.assignment):
        assert sizes[part] <= providers[name].max_qubits
    for name, provider in providers.items():
        assert design.assignment.count(name) <= provider.max_parts
    cuts, touching = 0, np.zeros(len(sizes), int)
    for gate in design.gates:
        assert gate.name in rules.gates
        homes = {design.partition[qubit] for qubit in gate.qubits}
        runs = [providers[design.assignment[home]] for home in homes]
        if len(homes) > 1:
            cuts += 1
            assert gate.name == "rzz"
            for home in homes:
                touching[home] += 1
        else:
            assert gate.name in runs[0].gates
    assert cuts == state.cuts <= rules.max_gate_cuts
    for part, name in enumerate(design.assignment):
        assert not touching[part] or sizes[part] + touching[part] <= providers[name].max_qubits
    assert len(design.gates) <= rules.max_gates
    assert any(gate.name in TRAINABLE for gate in design.gates)
    assert design.shots is None or design.shots in rules.shots


@given(scenarios(), st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=150)
def test_every_masked_episode_ends_in_a_valid_design(scenario: Scenario, seed: int, eager: bool) -> None:
    """No reachable mask is empty, every episode finishes within its bound, and the design keeps every limit.

    Lazy episodes avoid `finish` while anything else is valid, so they fill the budget to the last slot.
    """
    generator = np.random.default_rng(seed)
    state = DesignState(scenario)
    rules = scenario.design
    bound = rules.qubits + rules.max_parts + rules.max_gates + 2
    assert bound <= state.table.step_limit
    steps, phases = 0, []
    while not state.done:
        phases.append(state.phase)
        valid = np.flatnonzero(state.mask())
        assert len(valid) > 0
        others = valid[valid != state.table.finish]
        chosen = int(generator.choice(valid if eager or len(others) == 0 else others))
        before = snapshot(state)
        for masked in generator.permutation(np.flatnonzero(state.mask() == 0))[:3]:
            assert not state.apply(int(masked))
            assert snapshot(state) == before
        assert state.apply(chosen)
        assert len(state.gates) <= rules.max_gates
        steps += 1
        assert steps <= bound
    assert phases == sorted(phases, key=("cut", "assign", "gates").index)
    assert np.flatnonzero(state.mask()).tolist() == [state.table.finish] and not state.apply(state.table.finish)
    scenario.check_design(state.design())
    check_rules(scenario, state)
    replayed = DesignState(scenario).replay(state.history)
    assert snapshot(replayed) == snapshot(state)


@given(scenarios(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_the_mask_says_exactly_what_would_be_allowed(scenario: Scenario, seed: int) -> None:
    """Every action of the gate phase, valid or not, agrees with a check written from the rules."""
    generator = np.random.default_rng(seed)
    state = DesignState(scenario)
    rules = scenario.design
    while state.phase != "gates":
        state.apply(int(generator.choice(np.flatnonzero(state.mask()))))
    for _ in range(int(generator.integers(0, rules.max_gates))):
        others = np.flatnonzero(state.mask()[:-1])
        if len(others):
            state.apply(int(generator.choice(others)))
    runs = [scenario.providers[index] for index in state.assignment]
    members = [[q for q, part in enumerate(state.partition) if part == index] for index in range(len(runs))]
    cheapest = min(1 if rules.vocabulary != "blocks" else len(part) for part in members)
    for number, action in enumerate(state.table.actions):
        if action.kind in ("part", "assign"):
            expected = False
        elif action.kind == "finish":
            expected = any(gate.name in TRAINABLE for gate in state.gates)
        elif action.kind == "shots":
            expected = state.shots is None and any(gate.name in TRAINABLE for gate in state.gates)
        else:
            if action.kind == "gate":
                homes = {state.partition[qubit] for qubit in action.targets}
                cost = 1
                if len(homes) == 1:
                    expected = action.gate in runs[homes.pop()].gates and rules.vocabulary != "blocks"
                else:
                    expected = action.gate == "rzz" and state.cuts < rules.max_gate_cuts
                    for home in homes:
                        cuts = [{state.partition[qubit] for qubit in gate.qubits} for gate in state.gates if spans(state, gate)]
                        expected = expected and len(members[home]) + sum(home in ends for ends in cuts) < runs[home].max_qubits
            else:
                width = len(members[action.targets[0]]) if action.targets[0] < len(members) else 0
                cost = {"layer": width, "chain": max(0, width - 1), "ring": width if width > 2 else 0}[action.kind]
                expected = cost > 0 and action.gate in runs[action.targets[0]].gates
            left = rules.max_gates - len(state.gates)
            expected = expected and cost <= left
            if expected and not any(gate.name in TRAINABLE for gate in state.gates) and action.gate not in TRAINABLE:
                # An rzz chain on two qubits is the only block cheaper than a layer; both count as room to become trainable.
                pairs = [part for part, run in zip(members, runs, strict=True) if len(part) > 1 and "rzz" in run.gates]
                chain = min((len(part) - 1 for part in pairs), default=99) if "rzz" in rules.gates else 99
                expected = cost + min(cheapest, chain) <= left
            expected = expected and state.shots is None
        assert bool(state.mask()[number]) == expected, str(action)


def partitions(qubits: int, max_parts: int, widest: int) -> set[tuple[int, ...]]:
    """Brute force: all labellings, renumbered by first use, that keep the limits."""
    found = set()
    for labels in itertools.product(range(max_parts), repeat=qubits):
        order = list(dict.fromkeys(labels))
        if max(labels.count(label) for label in order) <= widest:
            found.add(tuple(order.index(label) for label in labels))
    return found


def openings(scenario: Scenario) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(partition, assignment) at the start of the gate phase for every sequence of valid actions."""
    results = []
    stack: list[tuple[int, ...]] = [()]
    while stack:
        actions = stack.pop()
        state = DesignState(scenario).replay(actions)
        if state.phase == "gates":
            results.append((tuple(state.partition), tuple(state.assignment)))
            continue
        stack.extend((*actions, int(action)) for action in np.flatnonzero(state.mask()))
    return results


@pytest.mark.parametrize(("qubits", "bell"), [(1, 1), (2, 2), (3, 5), (4, 15), (5, 52)])
def test_every_partition_is_reached_in_exactly_one_way(qubits: int, bell: int) -> None:
    """With room for everything there are Bell-number many; with one provider, one assignment each."""
    scenario = make({"qubits": qubits, "max_parts": qubits, "max_part_qubits": qubits, "max_gates": 9}, [{"name": "aurora"}])
    reached = [partition for partition, _ in openings(scenario)]
    assert len(reached) == len(set(reached)) == bell
    assert set(reached) == partitions(qubits, qubits, qubits)


@pytest.mark.parametrize(("qubits", "max_parts", "widest"), [(4, 2, 3), (5, 3, 2), (5, 2, 4), (4, 4, 1)])
def test_limits_of_the_partition(qubits: int, max_parts: int, widest: int) -> None:
    """Stirling-type counts with a bound on the size of a part."""
    scenario = make({"qubits": qubits, "max_parts": max_parts, "max_part_qubits": widest, "max_gates": 9}, [{"name": "aurora"}])
    reached = [partition for partition, _ in openings(scenario)]
    assert len(reached) == len(set(reached))
    assert set(reached) == partitions(qubits, max_parts, widest)


@given(scenarios())
@settings(deadline=None, max_examples=30)
def test_exactly_the_feasible_openings_are_reached(scenario: Scenario) -> None:
    """Every partition with every assignment that the providers can hold, each once, and nothing else."""
    rules = scenario.design
    feasible = set()
    for partition in partitions(rules.qubits, rules.max_parts, rules.max_part_qubits):
        sizes = np.bincount(partition)
        for assignment in itertools.product(range(len(scenario.providers)), repeat=len(sizes)):
            wide = all(size <= scenario.providers[p].max_qubits for size, p in zip(sizes, assignment, strict=True))
            if wide and all(assignment.count(index) <= provider.max_parts for index, provider in enumerate(scenario.providers)):
                feasible.add((partition, assignment))
    reached = openings(scenario)
    assert len(reached) == len(set(reached))
    assert set(reached) == feasible


def start(scenario: Scenario, partition: tuple[int, ...], providers: tuple[int, ...]) -> DesignState:
    """A state at the start of its gate phase."""
    table = action_table(scenario)
    state = DesignState(scenario).replay(table.opening(partition, providers))
    assert state.phase == "gates"
    return state


def valid_names(state: DesignState) -> set[str]:
    return {str(state.table.actions[index]) for index in np.flatnonzero(state.mask())}


def test_the_last_slot_admits_only_trainable_gates() -> None:
    """Otherwise the episode could never finish."""
    scenario = make({"qubits": 3, "max_part_qubits": 2, "max_gates": 2, "gates": ["ry", "h", "cz", "rzz"], "vocabulary": "gates"})
    state = start(scenario, (0, 0, 1), (0, 1))
    assert "h(2)" in valid_names(state) and "cz(0, 1)" in valid_names(state) and "finish" not in valid_names(state)
    state.apply(state.table.index(Action("gate", "h", (2,))))
    assert valid_names(state) == {"ry(0)", "ry(1)", "ry(2)", "rzz(0, 1)"}
    state.apply(state.table.index(Action("gate", "ry", (0,))))
    assert valid_names(state) == {"finish"}


def test_only_rzz_spans_parts_and_only_while_cuts_are_left() -> None:
    """The rule of gate cuts, in gates and in blocks; a cut does not need rzz at the provider, but a qubit for its ancilla."""
    for vocabulary in ("gates", "blocks", "both"):
        limits = {"qubits": 4, "max_part_qubits": 2, "max_gates": 20, "max_gate_cuts": 2, "vocabulary": vocabulary}
        state = start(make(limits), (0, 1, 0, 1), (0, 1))
        across = {"rzz(0, 1)", "rzz(0, 3)", "rzz(1, 2)", "rzz(2, 3)"}
        gates = [state.table.actions[index] for index in np.flatnonzero(state.mask()) if state.table.actions[index].kind == "gate"]
        spanning = {str(action) for action in gates if len({state.partition[qubit] for qubit in action.targets}) > 1}
        assert spanning == across
        for taken in (1, 2):
            assert state.apply(state.table.index(Action("gate", "rzz", (0, 1))))
            assert state.cuts == taken
        assert not across & valid_names(state)
        if vocabulary != "blocks":
            assert "rzz(0, 2)" in valid_names(state)
        narrow: list[dict[str, Any]] = [{"name": "aurora"}, {"name": "borealis", "max_qubits": 3}]
        state = start(make(limits, narrow), (0, 1, 0, 1), (0, 1))
        assert across <= valid_names(state) and state.apply(state.table.index(Action("gate", "rzz", (0, 1))))
        assert not across & valid_names(state)  # the ancilla took borealis's last qubit
        state = start(make(limits, narrow), (0, 1, 0, 1), (0, 0))
        assert state.apply(state.table.index(Action("gate", "rzz", (0, 1)))) and across <= valid_names(state)
        plain: list[dict[str, Any]] = [{"name": "aurora"}, {"name": "borealis", "gates": ["ry"]}]
        assert across <= valid_names(start(make(limits, plain), (0, 1, 0, 1), (0, 1)))


def test_cuts_are_masked_where_none_are_allowed() -> None:
    """The actions exist, so that scenarios with and without cuts look alike, but are never valid."""
    scenario = make({"qubits": 4, "max_part_qubits": 2, "vocabulary": "blocks"})
    table = action_table(scenario)
    cuts = [table.index(action) for action in table.actions if action.kind == "gate"]
    assert {table.actions[number].gate for number in cuts} == {"rzz"} and len(cuts) == 6
    state = DesignState(scenario).replay(table.opening((0, 0, 1, 1), (0, 0)))
    assert state.phase == "gates" and not state.mask()[cuts].any()


def test_symmetric_gates_have_ascending_qubits() -> None:
    """cz(a, b) and rzz(a, b) only with a < b; cx both ways; nothing twice."""
    table = action_table(make({"qubits": 4, "max_part_qubits": 4, "vocabulary": "both", "shots": [10, 20]}))
    assert len(set(table.actions)) == len(table) == len(set(map(str, table.actions)))
    for name, pairs in (("cz", 6), ("rzz", 6), ("cx", 12)):
        found = [action.targets for action in table.actions if action.kind == "gate" and action.gate == name]
        assert len(found) == pairs
        assert name == "cx" or all(a < b for a, b in found)
    assert table.actions[table.finish] == Action("finish") and table.finish == len(table) - 1
    assert [str(action) for action in table.actions[-3:]] == ["shots(0)", "shots(1)", "finish"]


def test_blocks_place_their_gates() -> None:
    """Layers, chains and rings over the qubits of a part, which need not be neighbours."""
    qubits = (1, 4, 6)
    assert Block("layer", "ry").gates(qubits) == (Gate("ry", (1,)), Gate("ry", (4,)), Gate("ry", (6,)))
    assert Block("chain", "cz").gates(qubits) == (Gate("cz", (1, 4)), Gate("cz", (4, 6)))
    assert Block("ring", "rzz").gates(qubits) == (Gate("rzz", (1, 4)), Gate("rzz", (4, 6)), Gate("rzz", (1, 6)))
    assert Block("chain", "cz").gates((3,)) == ()
    assert Block("ring", "cz").gates((3, 5)) == ()


def test_blocks_and_gates_reach_the_same_design() -> None:
    """A design stores plain gates, whatever placed them; a block costs its gates."""
    limits = {"qubits": 4, "max_part_qubits": 3, "max_gates": 12}
    designs = []
    for vocabulary in ("gates", "blocks", "both"):
        state = start(make(limits | {"vocabulary": vocabulary}), (0, 1, 0, 0), (1, 0))
        for block, part in ((Block("layer", "ry"), 0), (Block("ring", "cz"), 0), (Block("layer", "rx"), 1)):
            for action in state.table.placing(block, part, ((0, 2, 3), (1,))[part]):
                assert state.apply(action)
        assert state.gates_left == 5
        designs.append(state.design())
    assert designs[0] == designs[1] == designs[2]
    assert designs[0].assignment == ("borealis", "aurora")


def test_shots_are_chosen_at_most_once() -> None:
    """And only from the ladder."""
    state = start(make({"qubits": 2, "max_part_qubits": 2, "max_gates": 4, "vocabulary": "gates", "shots": [100, 1000]}), (0, 1), (0, 1))
    state.apply(state.table.index(Action("gate", "ry", (0,))))
    assert state.design().shots is None
    assert state.apply(state.table.index(Action("shots", targets=(1,))))
    assert state.design().shots == 1000
    assert not {"shots(0)", "shots(1)"} & valid_names(state)
    assert state.apply(state.table.finish)
    plain = action_table(make({"qubits": 2, "max_part_qubits": 2, "max_gates": 4}))
    assert not [action for action in plain.actions if action.kind == "shots"]


def test_counts_of_gates_per_qubit() -> None:
    """What the observation and autoregressive policies read."""
    state = start(make({"qubits": 3, "max_part_qubits": 3, "max_gates": 9, "vocabulary": "both"}), (0, 0, 0), (0,))
    for action in (Action("layer", "ry", (0,)), Action("gate", "cx", (2, 0)), Action("gate", "ry", (1,))):
        assert state.apply(state.table.index(action))
    expected = np.zeros((8, 3), int)
    expected[NAMES.index("ry")] = [1, 2, 1]
    expected[NAMES.index("cx")] = [1, 0, 1]
    np.testing.assert_array_equal(state.counts, expected)


def test_no_design_before_its_gates() -> None:
    """Asking too early is an error, not half a design."""
    state = DesignState(make({"qubits": 2, "max_part_qubits": 2, "max_gates": 4}))
    with pytest.raises(QumosError, match="still in its cut phase"):
        state.design()
    state.replay([0, 0])
    with pytest.raises(QumosError, match="still in its assign phase"):
        state.design()


@pytest.mark.parametrize("action", [-1, 10**6])
def test_numbers_that_are_no_actions_change_nothing(action: int) -> None:
    """Negative numbers do not count from the end."""
    state = DesignState(make({"qubits": 2, "max_part_qubits": 2, "max_gates": 4}))
    before = snapshot(state)
    assert not state.apply(action)
    assert snapshot(state) == before


def test_actions_that_a_vocabulary_lacks_are_named() -> None:
    """The error of a look-up."""
    table = action_table(make({"qubits": 2, "max_part_qubits": 2, "max_gates": 4, "vocabulary": "blocks"}))
    with pytest.raises(QumosError, match=r"scenario tiny has no action ry\(0\)"):
        table.index(Action("gate", "ry", (0,)))


def test_max_steps_sets_the_step_limit() -> None:
    """Left at 0 it is twice what the longest masked episode needs."""
    limits = {"qubits": 3, "max_parts": 2, "max_part_qubits": 2, "max_gates": 5}
    assert action_table(make(limits)).step_limit == 2 * (3 + 2 + 5 + 2)
    assert action_table(make(limits | {"max_steps": 7})).step_limit == 7


PRINT_TABLES = """
from qumos_env.env.actions import ActionTable
from qumos_env.scenario import list_scenarios, load_scenario
for name in list_scenarios():
    print(name)
    print(ActionTable(load_scenario(name)))
"""


def test_action_tables_are_printable_and_equal_in_every_process() -> None:
    """Trained agents and traces store action numbers, so these must not depend on hash randomisation."""
    printed = "".join(f"{name}\n{ActionTable(load_scenario(name))}\n" for name in list_scenarios())
    root = Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", PRINT_TABLES], cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == printed
    lines = str(action_table(load_scenario("iris-smoke"))).splitlines()
    assert lines[0].split(maxsplit=1) == ["0", "part(0)"]
    assert lines[-1].split() == [str(len(lines) - 1), "finish"]


@given(scenarios(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_random_designs_are_valid_and_repeatable(scenario: Scenario, seed: int) -> None:
    """The plainest search obeys the same rules."""
    design = random_design(scenario, np.random.default_rng(seed))
    scenario.check_design(design)
    assert random_design(scenario, np.random.default_rng(seed)) == design
    actions = uniform_actions(scenario, np.random.default_rng(seed))
    assert actions[-1] == action_table(scenario).finish
    assert DesignState(scenario).replay(actions).history == actions

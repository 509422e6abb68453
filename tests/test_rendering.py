"""Designs as text and pictures."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from qumos_env.design import Design, Gate
from qumos_env.design.rendering import design_figure, design_text, figure_png, save_design_image
from qumos_env.env.actions import DesignState
from qumos_env.env.random_designs import random_design, uniform_actions
from qumos_env.env.rendering import state_image, state_text
from qumos_env.scenario import list_scenarios, load_scenario

DESIGN = Design(
    (0, 1, 0, 1),
    ("aurora", "borealis"),
    (
        Gate("ry", (0,)),
        Gate("cz", (0, 2)),
        Gate("cx", (3, 1)),
        Gate("rzz", (2, 3)),
        Gate("h", (1,)),
        Gate("reupload", (2,)),
        Gate("rz", (3,)),
        Gate("rx", (3,)),
    ),
    shots=100,
)


def test_text_names_parts_providers_and_gates() -> None:
    """A header per part and a wire per qubit with its own gates."""
    lines = design_text(DESIGN).splitlines()
    assert lines[0] == "part 0 on aurora: qubits 0, 2"
    assert lines[1] == "part 1 on borealis: qubits 1, 3"
    wires = {line.split()[0]: line for line in lines if line.startswith("q")}
    assert list(wires) == ["q0", "q1", "q2", "q3"]
    expected = {"q0": ["ry", "●"], "q1": ["⊕", "H"], "q2": ["●", "ZZ", "↻"], "q3": ["●", "ZZ", "rz", "rx"]}
    for name, marks in expected.items():
        assert f"x{name[1]}─" in wires[name] and wires[name].endswith("─Z")
        found = [mark for mark in wires[name].split("─")[1:-1] if mark]
        assert sorted(found) == sorted(marks), name
    assert lines[-1] == "shots: 100"
    assert len({len(wire) for wire in wires.values()}) == 1


def test_text_keeps_the_order_of_gates_on_a_wire() -> None:
    """ry before H is not H before ry."""
    first = design_text(Design((0,), ("aurora",), (Gate("ry", (0,)), Gate("h", (0,)))))
    second = design_text(Design((0,), ("aurora",), (Gate("h", (0,)), Gate("ry", (0,)))))
    assert first.index("ry") < first.index("H") and second.index("H") < second.index("ry")


def test_pictures_differ_with_provider_and_gates(tmp_path: Path) -> None:
    """The colour is the provider's, and the file is what its ending says."""
    pictures = [
        design_figure(DESIGN),
        design_figure(Design(DESIGN.partition, ("aurora", "aurora"), DESIGN.gates, 100)),
        design_figure(Design(DESIGN.partition, DESIGN.assignment, DESIGN.gates[:-1], 100)),
        design_figure(DESIGN, "a title"),
    ]
    drawn = [figure_png(picture) for picture in pictures]
    assert len(set(drawn)) == 4
    assert all(png.startswith(b"\x89PNG") for png in drawn)
    assert figure_png(design_figure(DESIGN)) == drawn[0]
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = tmp_path / f"design{suffix}"
        save_design_image(DESIGN, path)
        assert path.read_bytes().startswith(start)
    image = imread(tmp_path / "design.png")
    assert image.ndim == 3 and image[..., :3].std() > 0.05


def test_every_phase_can_be_drawn() -> None:
    """Text and picture at every step of an episode."""
    scenario = load_scenario("iris-smoke")
    state = DesignState(scenario)
    seen = set()
    for action in uniform_actions(scenario, np.random.default_rng(1)):
        image = state_image(state)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.std() > 0
        assert state_text(state).startswith(f"phase {state.phase}")
        seen.add(state.phase)
        state.apply(action)
    assert seen == {"cut", "assign", "gates"}
    assert state_text(state).startswith("phase done")
    assert design_text(state.design()) in state_text(state)
    assert state_image(state).std() > 0


def test_text_of_the_first_phases() -> None:
    """What has been decided so far."""
    state = DesignState(load_scenario("iris-smoke"))
    assert state_text(state).splitlines() == ["phase cut", "partition: -", "assignment: -"]
    state.replay([0, 1, 1, 0])
    assert state_text(state).splitlines() == ["phase assign", "partition: 0 1 1 0", "assignment: -"]
    state.apply(state.table.opening([], [1])[0])
    assert state_text(state).splitlines() == ["phase assign", "partition: 0 1 1 0", "assignment: borealis"]


@pytest.mark.parametrize("name", list_scenarios())
def test_random_designs_of_every_scenario_can_be_drawn(name: str) -> None:
    """No gate or width is missing from the drawing."""
    design = random_design(load_scenario(name), np.random.default_rng(0))
    assert len(design_text(design).splitlines()) == design.n_parts + design.n_qubits + (design.shots is not None)
    assert figure_png(design_figure(design)).startswith(b"\x89PNG")

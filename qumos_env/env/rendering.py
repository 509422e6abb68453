"""The state of an episode as text and as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..design.rendering import _DPI, _INK, design_figure, design_text
from .actions import DesignState


def state_text(state: DesignState) -> str:
    """An episode's state as text."""
    if state.phase in ("cut", "assign"):
        names = state.scenario.provider_names
        cut = " ".join(map(str, state.partition)) or "-"
        assigned = " ".join(names[provider] for provider in state.assignment) or "-"
        return f"phase {state.phase}\npartition: {cut}\nassignment: {assigned}"
    return f"phase {state.phase}, {state.gates_left} gates left\n{design_text(state.design())}"


def state_image(state: DesignState) -> np.ndarray:
    """An episode's state as uint8 ``[height, width, 3]``; before the gates, the partition so far as text."""
    if state.phase in ("cut", "assign"):
        figure = Figure(figsize=(6, 2), dpi=_DPI)
        figure.text(0.04, 0.5, state_text(state), va="center", family="monospace", fontsize=10, color=_INK)
    else:
        figure = design_figure(state.design(), f"{state.scenario.name}: {state.phase}, {state.gates_left} gates left")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

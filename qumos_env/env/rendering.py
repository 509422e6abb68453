"""The state of an episode as text and as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..design.rendering import DPI, INK, design_figure, design_text
from .actions import DesignState

FRAME = (1280, 720)
"""Width and height of an image of a state, pixels."""


def state_text(state: DesignState) -> str:
    """An episode's state as text."""
    if state.phase in ("cut", "assign"):
        names = state.scenario.provider_names
        cut = " ".join(map(str, state.partition)) or "-"
        assigned = " ".join(names[provider] for provider in state.assignment) or "-"
        return f"phase {state.phase}\npartition: {cut}\nassignment: {assigned}"
    return f"phase {state.phase}, {state.gates_left} gates left\n{design_text(state.design())}"


def state_image(state: DesignState) -> np.ndarray:
    """An episode's state as uint8 ``[height, width, 3]``; before the gates, the partition so far as text.

    All states have the same shape, as films need it; a drawing that is larger is scaled down.
    """
    if state.phase in ("cut", "assign"):
        figure = Figure(figsize=(6, 2), dpi=DPI)
        figure.text(0.04, 0.5, state_text(state), va="center", family="monospace", fontsize=10, color=INK)
    else:
        figure = design_figure(state.design(), f"{state.scenario.name}: {state.phase}, {state.gates_left} gates left")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawing = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    drawing.thumbnail(FRAME)
    frame = Image.new("RGB", FRAME, "white")
    frame.paste(drawing, ((FRAME[0] - drawing.width) // 2, (FRAME[1] - drawing.height) // 2))
    return np.asarray(frame).copy()

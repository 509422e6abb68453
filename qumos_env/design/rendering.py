"""Designs as pictures, coloured by provider; as text, see ``text_drawing``."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import write_bytes
from .design import Design
from .gates import gate_spec
from .text_drawing import columns, design_text

__all__ = ["design_figure", "design_text", "figure_png", "save_design_image"]
DPI = 100
_COLUMN = 0.46  # inches
_ROW = 0.52
INK = "#22303c"


def design_figure(design: Design, title: str = "") -> Figure:
    """A drawing of the circuit; wires and gates take the colour of the provider that runs them, cut gates are dashed."""
    layers = columns(design)
    order = [qubit for part in design.parts for qubit in part.qubits]
    height = {qubit: -row - 0.6 * design.partition[qubit] for row, qubit in enumerate(order)}
    providers = list(dict.fromkeys(design.assignment))
    palette = matplotlib.colormaps["tab10"]
    colour = {provider: palette(index % 10) for index, provider in enumerate(providers)}
    right = len(layers) + 1.5
    rows = design.n_qubits + 0.6 * design.n_parts
    figure = Figure(figsize=(2.0 + _COLUMN * right, 1.0 + _ROW * rows), dpi=DPI)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.9 if title else 0.96))
    axes.set_axis_off()
    axes.set_xlim(-3.0, right + 0.6)
    axes.set_ylim(-rows + 0.2, 0.9)
    for part in design.parts:
        shade = colour[part.provider]
        top, bottom = height[part.qubits[0]] + 0.45, height[part.qubits[-1]] - 0.45
        axes.axhspan(bottom, top, xmin=0.0, xmax=1.0, color=shade, alpha=0.10, lw=0)
        name = f"part {part.index}\n{part.provider}"
        axes.text(-2.9, (top + bottom) / 2, name, va="center", ha="left", fontsize=8, color=shade, weight="bold")
        for qubit in part.qubits:
            axes.plot([-0.4, right], [height[qubit]] * 2, color=shade, lw=1.2, zorder=1)
            _box(axes, -0.4, height[qubit], f"x{qubit}", "white", shade)
            _box(axes, right, height[qubit], "⟨Z⟩", "white", shade)
    for column, placed_gates in enumerate(layers):
        for placed in placed_gates:
            gate, x = placed.gate, column + 0.8
            shade = colour[design.assignment[design.partition[gate.qubits[0]]]]
            if len(gate.qubits) == 1:
                _box(axes, x, height[gate.qubits[0]], gate_spec(gate.name).drawing[0], shade if gate.trainable else "white", shade)
                continue
            cut = len({design.partition[qubit] for qubit in gate.qubits}) > 1
            ends = [height[qubit] for qubit in gate.qubits]
            axes.plot([x, x], ends, color=INK if cut else shade, lw=1.6, ls="--" if cut else "-", zorder=2)
            for end, qubit, marker in zip(ends, gate.qubits, gate_spec(gate.name).drawing, strict=True):
                own = colour[design.assignment[design.partition[qubit]]]
                axes.plot(x, end, marker=marker, color=own, ms=10 if marker.startswith("$") else 6, zorder=3)
            if gate.trainable:
                axes.text(x + 0.08, sum(ends) / 2, gate_spec(gate.name).text[0], fontsize=6, color=INK, zorder=4)
    if title:
        figure.suptitle(title, fontsize=9, color=INK)
    return figure


def figure_png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def save_design_image(design: Design, path: Path, title: str = "") -> None:
    """Writes the drawing to ``path`` in one step; the ending chooses the format (png, svg, pdf)."""
    buffer = io.BytesIO()
    design_figure(design, title).savefig(buffer, format=path.suffix.removeprefix("."))
    write_bytes(path, buffer.getvalue())


def _box(axes: matplotlib.axes.Axes, x: float, y: float, text: str, fill: object, edge: object) -> None:
    dark = fill != "white"
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=7,
        color="white" if dark else INK,
        zorder=5,
        bbox={"boxstyle": "square,pad=0.25", "facecolor": fill, "edgecolor": edge, "linewidth": 1.0},
    )

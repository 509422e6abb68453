"""Designs as text: what a terminal and a web page show without a library for pictures."""

from __future__ import annotations

from .design import Design, PlacedGate
from .gates import gate_spec


def design_text(design: Design) -> str:
    """The design as lines of text: parts and providers, then one line per qubit with a column per layer."""
    lines = [f"part {part.index} on {part.provider}: qubits {', '.join(map(str, part.qubits))}" for part in design.parts]
    layers = columns(design)
    cells = [["" for _ in layers] for _ in range(design.n_qubits)]
    for column, placed_gates in enumerate(layers):
        for placed in placed_gates:
            gate = placed.gate
            for position, qubit in enumerate(gate.qubits):
                cells[qubit][column] = gate_spec(gate.name).text[position]
    widths = [max(2, *(len(row[column]) for row in cells)) for column in range(len(layers))]
    for qubit, row in enumerate(cells):
        wire = "─".join(cell.center(width, "─") for cell, width in zip(row, widths, strict=True))
        lines.append(f"q{qubit:<2d} [{design.partition[qubit]}] x{qubit}─{wire}─Z")
    if design.shots is not None:
        lines.append(f"shots: {design.shots}")
    return "\n".join(lines)


def columns(design: Design) -> list[list[PlacedGate]]:
    """Gates packed left to right so that nothing overlaps in the drawing."""
    order = [qubit for part in design.parts for qubit in part.qubits]
    row = {qubit: index for index, qubit in enumerate(order)}
    free = [0] * design.n_qubits
    columns: list[list[PlacedGate]] = []
    for placed in design.placed_gates:
        rows = [row[qubit] for qubit in placed.gate.qubits]
        span = range(min(rows), max(rows) + 1)
        column = max(free[index] for index in span)
        while column >= len(columns):
            columns.append([])
        columns[column].append(placed)
        for index in span:
            free[index] = column + 1
    return columns

"""What a design is: its gates and blocks, the circuits that it stands for, reference designs, gate cuts, drawing."""

from .design import SCHEMA_VERSION, Design, Gate, Part, PlacedGate, canonical_order

__all__ = ["SCHEMA_VERSION", "Design", "Gate", "Part", "PlacedGate", "canonical_order"]

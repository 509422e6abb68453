"""Which qubits of a device are coupled: regular lattices by their parameters, any other graph by its edges."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Literal

import networkx
from pydantic import BaseModel, ConfigDict, Field, model_validator

Size = Annotated[int, Field(ge=1)]
Coupling = tuple[int, int]


class _Lattice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def size(self) -> int:
        """Number of qubits; they are numbered from 0."""
        raise NotImplementedError

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        """The coupled pairs."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        """Whether every pair is coupled."""
        return False

    def graph(self) -> networkx.Graph:
        """The coupling graph; nodes and edges in ascending order."""
        graph = networkx.Graph()
        graph.add_nodes_from(range(self.size))
        graph.add_edges_from(sorted(self.couplings))
        return graph


class AllToAll(_Lattice):
    """Every pair of ``qubits`` is coupled, as in a chain of trapped ions."""

    kind: Literal["all-to-all"]
    qubits: Size

    @property
    def size(self) -> int:
        return self.qubits

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        return tuple(combinations(range(self.qubits), 2))

    @property
    def complete(self) -> bool:
        return True


class Line(_Lattice):
    """Each of ``qubits`` is coupled to the next."""

    kind: Literal["line"]
    qubits: Size

    @property
    def size(self) -> int:
        return self.qubits

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        return tuple((qubit, qubit + 1) for qubit in range(self.qubits - 1))


class Ring(_Lattice):
    """A line whose last qubit is coupled to the first."""

    kind: Literal["ring"]
    qubits: Annotated[int, Field(ge=3)]

    @property
    def size(self) -> int:
        return self.qubits

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        return (*((qubit, qubit + 1) for qubit in range(self.qubits - 1)), (0, self.qubits - 1))


class Grid(_Lattice):
    """A square lattice, numbered row by row."""

    kind: Literal["grid"]
    rows: Size
    columns: Size

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        numbers = range(self.size)
        across = [(qubit, qubit + 1) for qubit in numbers if (qubit + 1) % self.columns]
        down = [(qubit, qubit + self.columns) for qubit in numbers if qubit + self.columns < self.size]
        return (*across, *down)


class HeavyHex(_Lattice):
    """Hexagons with a qubit on every corner and every side: ``rows`` lines of ``columns`` qubits, joined by single qubits.

    The joining qubits of a gap between two lines are numbered after all lines. They stand at every fourth column, from column 0 in even
    gaps and from column 2 in odd ones.
    """

    kind: Literal["heavy-hex"]
    rows: Size
    columns: Annotated[int, Field(ge=3)]

    @property
    def _joints(self) -> list[tuple[int, int]]:
        return [(gap, column) for gap in range(self.rows - 1) for column in range(2 * (gap % 2), self.columns, 4)]

    @property
    def size(self) -> int:
        return self.rows * self.columns + len(self._joints)

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        width = self.columns
        lines = [(row * width + column, row * width + column + 1) for row in range(self.rows) for column in range(width - 1)]
        joints = []
        for joint, (gap, column) in enumerate(self._joints, start=self.rows * width):
            joints += [(gap * width + column, joint), ((gap + 1) * width + column, joint)]
        return (*lines, *joints)


class Custom(_Lattice):
    """``qubits`` and the ``edges`` between them, each once."""

    kind: Literal["custom"]
    qubits: Size
    edges: tuple[Coupling, ...]

    @property
    def size(self) -> int:
        return self.qubits

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        return tuple((min(edge), max(edge)) for edge in self.edges)

    @model_validator(mode="after")
    def _one_piece(self) -> Custom:
        for edge in self.edges:
            if edge[0] == edge[1] or not all(0 <= qubit < self.qubits for qubit in edge):
                raise ValueError(f"edge {list(edge)} does not join two of the qubits 0 to {self.qubits - 1}")
        pieces = list(networkx.connected_components(self.graph()))
        if len(pieces) > 1:
            raise ValueError(f"the couplings leave {len(pieces)} separate pieces; qubit {min(pieces[1])} is not reached from qubit 0")
        return self


Topology = Annotated[AllToAll | Line | Ring | Grid | HeavyHex | Custom, Field(discriminator="kind")]
KINDS: dict[str, type[_Lattice]] = {
    "all-to-all": AllToAll,
    "line": Line,
    "ring": Ring,
    "grid": Grid,
    "heavy-hex": HeavyHex,
    "custom": Custom,
}

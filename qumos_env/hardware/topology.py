"""Which qubits of a device are coupled: regular lattices by their parameters, any other graph by its edges."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import networkx
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import shown

MOST_QUBITS = 10_000
"""Of a device; the largest have some thousand."""
_MOST_ALL_TO_ALL = 1000  # half a million couplings
_MOST_EDGES = 100_000
Size = Annotated[int, Field(ge=1, le=MOST_QUBITS)]
Coupling = tuple[int, int]


class _Lattice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of qubits; they are numbered from 0."""

    @property
    @abstractmethod
    def couplings(self) -> tuple[Coupling, ...]:
        """The coupled pairs."""

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
    """Every pair of ``qubits``, at most 1,000, is coupled, as in a chain of trapped ions."""

    kind: Literal["all-to-all"]
    qubits: Annotated[int, Field(ge=1, le=_MOST_ALL_TO_ALL)]

    @property
    def size(self) -> int:
        return self.qubits

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        return tuple(networkx.complete_graph(self.qubits).edges)

    @property
    def complete(self) -> bool:
        return True


class Line(_Lattice):
    """Each of ``qubits``, at most 10,000, is coupled to the next."""

    kind: Literal["line"]
    qubits: Size

    @property
    def size(self) -> int:
        return self.qubits

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        return tuple(networkx.path_graph(self.qubits).edges)


class Ring(_Lattice):
    """A line whose last qubit is coupled to the first."""

    kind: Literal["ring"]
    qubits: Annotated[int, Field(ge=3, le=MOST_QUBITS)]

    @property
    def size(self) -> int:
        return self.qubits

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        return tuple(networkx.cycle_graph(self.qubits).edges)


class Grid(_Lattice):
    """A square lattice of at most 10,000 qubits, numbered row by row."""

    kind: Literal["grid"]
    rows: Size
    columns: Size

    @model_validator(mode="after")
    def _bounded(self) -> Grid:
        _check_lattice(self.rows, self.columns)
        return self

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def couplings(self) -> tuple[Coupling, ...]:
        lattice = networkx.grid_2d_graph(self.rows, self.columns)
        return tuple(networkx.convert_node_labels_to_integers(lattice, ordering="sorted").edges)


class HeavyHex(_Lattice):
    """Hexagons with a qubit on every corner and every side: ``rows`` lines of ``columns`` qubits (at most 10,000), joined by single qubits.

    The joining qubits of a gap between two lines are numbered after all lines. They stand at every fourth column, from column 0 in even
    gaps and from column 2 in odd ones.
    """

    kind: Literal["heavy-hex"]
    rows: Size
    columns: Annotated[int, Field(ge=3, le=MOST_QUBITS)]

    @model_validator(mode="after")
    def _bounded(self) -> HeavyHex:
        _check_lattice(self.rows, self.columns)
        return self

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
    """``qubits``, at most 10,000, and the ``edges`` between them, at most 100,000, each once."""

    kind: Literal["custom"]
    qubits: Size
    edges: Annotated[tuple[Coupling, ...], Field(max_length=_MOST_EDGES)]

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
                raise ValueError(f"edge {shown(edge)} does not join two of the qubits 0 to {self.qubits - 1}")
        pieces = list(networkx.connected_components(self.graph()))
        if len(pieces) > 1:
            raise ValueError(f"the couplings leave {len(pieces)} separate pieces; qubit {min(pieces[1])} is not reached from qubit 0")
        return self


def _check_lattice(rows: int, columns: int) -> None:
    if rows * columns > MOST_QUBITS:
        raise ValueError(f"rows × columns is {rows * columns:,}, at most {MOST_QUBITS:,} qubits are possible")


Topology = Annotated[AllToAll | Line | Ring | Grid | HeavyHex | Custom, Field(discriminator="kind")]
KINDS: dict[str, type[_Lattice]] = {
    "all-to-all": AllToAll,
    "line": Line,
    "ring": Ring,
    "grid": Grid,
    "heavy-hex": HeavyHex,
    "custom": Custom,
}

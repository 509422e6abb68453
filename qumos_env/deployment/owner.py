"""The owner's half of a bundle: all that turns raw features into queries and the providers' results into answers.

It holds no circuit, needs neither Cirq nor torch, and is what the gateway runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.preprocessing import Preprocessor
from ..design import Design
from ..design.cut_terms import LABELS, coefficients, cuts_of_parts
from ..errors import QumosError
from ..model.cutting.contraction import recombined
from ..model.heads import make_head
from .folder import SignedFolder
from .schema import OWNER_FILES, Assembly, HeadFile, Manifest, PreprocessingFile, parsed


@dataclass(frozen=True)
class Seat:
    """A part, and who runs it.

    Attributes:
        index, provider, qubits: as in the design's part.
        cuts: numbers of the gate cuts that touch it.
    """

    index: int
    provider: str
    qubits: tuple[int, ...]
    cuts: tuple[int, ...]


@dataclass(frozen=True)
class OwnerModel:
    """What the owner holds of a model.

    Attributes:
        manifest: the manifest.
        classes: class names in the order of probabilities.
        preprocessor: raw features to encoded angles.
        parts: in the design's order.
        cut_angles: of the gate cuts, in radians, in the order of ``design.cut_gates``.
        head: ⟨Z⟩ ``[rows, n_qubits]`` to logits.
        head_kind, head_parameters: of the head; the parameters are flat.
        n_qubits: width of the register.
        design: the design.
        axis: rotation that encodes a feature.
        fallback: mean ⟨Z⟩ of every qubit for answers without a part, or ``None`` where the owner allows none.
    """

    manifest: dict[str, Any]
    classes: tuple[str, ...]
    preprocessor: Preprocessor
    parts: tuple[Seat, ...]
    cut_angles: tuple[float, ...]
    head: Callable[[np.ndarray], np.ndarray]
    head_kind: str
    head_parameters: np.ndarray
    n_qubits: int
    design: Design
    axis: str
    fallback: np.ndarray | None

    def reconstruct(self, results: Sequence[np.ndarray]) -> np.ndarray:
        """⟨Z⟩ ``[rows, n_qubits]`` from the results of every part, exact or estimated.

        Args:
            results: of every part ``[rows, variants, 1 + qubits of the part]``: the mean sign of the M, then that sign times Z of every
                qubit.

        Estimates need the same number of shots for every variant: shots allotted by coefficient would show the angles of the cuts.
        """
        tables = [
            result.reshape(1, len(result), *(len(LABELS) for _ in part.cuts), -1) for part, result in zip(self.parts, results, strict=True)
        ]
        matrices = [coefficients(np.array([angle])) for angle in self.cut_angles]
        return recombined([part.qubits for part in self.parts], [part.cuts for part in self.parts], tables, matrices)[0]


def read_owner(files: SignedFolder[Manifest], folder: Path) -> OwnerModel:
    """The owner's half of the bundle with these ``files``, in ``folder``.

    Raises:
        QumosError: a file that is missing, changed, not of its kind, or at odds with the design.
    """
    where = {name: folder / name for name in OWNER_FILES}
    assembly_name, design_name, head_name, preprocessing_name = OWNER_FILES
    try:
        text = files.read(design_name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise QumosError(f"{where[design_name]}: not UTF-8") from error
    design = Design.from_json(text)
    if design.hash != files.manifest.design_hash:
        raise QumosError(f"{folder}: the manifest names another design than {design_name}")
    assembly = parsed(Assembly, files.read(assembly_name), where[assembly_name])
    difference = assembly.differs_from(design)
    if difference is not None:
        raise QumosError(f"{where[assembly_name]}: {difference}")
    head_file = parsed(HeadFile, files.read(head_name), where[head_name])
    head, parameters = make_head(head_file.kind, design.n_qubits, len(assembly.classes)), np.array(head_file.parameters, float)
    expected = head.initial(np.random.default_rng(0)).shape
    if parameters.shape != expected:
        raise QumosError(f"{where[head_name]}: {len(parameters)} parameters, a {head_file.kind} head has {expected[0]} here")
    preprocessing = parsed(PreprocessingFile, files.read(preprocessing_name), where[preprocessing_name])
    try:
        preprocessor = Preprocessor.from_dict(preprocessing.model_dump())
    except QumosError as error:
        raise QumosError(f"{where[preprocessing_name]}: {error}") from error
    if preprocessor.matrix.shape[1] != design.n_qubits:
        angles = preprocessor.matrix.shape[1]
        raise QumosError(f"{where[preprocessing_name]}: gives {angles} angles, the design has {design.n_qubits} qubits")
    seats = zip(design.parts, cuts_of_parts(design), strict=True)
    return OwnerModel(
        manifest=files.manifest.model_dump(exclude_unset=True),
        classes=tuple(assembly.classes),
        preprocessor=preprocessor,
        parts=tuple(Seat(part.index, part.provider, part.qubits, cuts) for part, cuts in seats),
        cut_angles=tuple(cut.angle for cut in assembly.cuts),
        head=lambda values: head.logits(parameters, values),
        head_kind=head_file.kind,
        head_parameters=parameters,
        n_qubits=design.n_qubits,
        design=design,
        axis=assembly.axis,
        fallback=np.array(assembly.fallback, float) if files.manifest.fallback and assembly.fallback is not None else None,
    )

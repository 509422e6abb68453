"""The bundle of a design, as it is read: one folder per provider with nothing but its own part, and the owner's secret folder.

    manifest.json           what this is, figures, and a checksum of every other file
    providers/<name>/       part-<i>.json (Cirq), part-<i>.qasm (OpenQASM 3): trained angles bound, features x<qubit> open
    owner/                  design.json, preprocessing.json, head.json, assembly.json

A part that gate cuts touch is one circuit per variant, part-<i>-<labels>: its labels in the order of the cuts, an M as a CX to an
ancilla. The providers' files hold no trace of the angles of the cuts; these are in assembly.json, with what the owner needs to combine
the results.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cirq
import numpy as np

from ..data import Preprocessor
from ..design import Design
from ..design.circuits import input_symbol
from ..design.gate_cuts import LABELS, Variant, coefficients, cut_angles, cut_parts, cuts_of_parts
from ..errors import QumosError
from ..files import read_bytes
from ..model.cutting.contraction import recombined
from ..model.heads import make_head, softmax
from ..model.training import Parameters
from .circuit_files import read_circuit
from .schema import MANIFEST, OWNER_FILES, Assembly, HeadFile, Manifest, PreprocessingFile, parsed

_MOST_BYTES = 256 * 2**20  # of all files together; those of a design with three cuts at one part have some megabytes


@dataclass(frozen=True)
class BundlePart:
    """What the provider of one part runs.

    Attributes:
        index, provider, qubits: as in the design's part.
        cuts: numbers of the gate cuts that touch it.
        variants: trained angles bound, features open; by labels in the order of ``product(LABELS, repeat=len(cuts))``, so just one circuit
            where no cut touches the part.
    """

    index: int
    provider: str
    qubits: tuple[int, ...]
    cuts: tuple[int, ...]
    variants: tuple[Variant, ...]

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """Exact results of all variants for encoded ``inputs`` ``[rows, n_qubits]`` of the register, on Cirq's own simulator.

        Returns:
            ``[rows, variants, 1 + qubits of the part]``: the mean sign of the M, then that sign times Z of every qubit.
        """
        simulator = cirq.Simulator(dtype=np.complex128)
        queries = [{input_symbol(qubit): float(row[qubit]) for qubit in self.qubits} for row in inputs]
        results = []
        for variant in self.variants:
            line, ancillas = variant.qubits[: len(self.qubits)], variant.qubits[len(self.qubits) :]
            sign: cirq.PauliString[cirq.LineQubit] = cirq.PauliString(dict.fromkeys(ancillas, cirq.Z))
            readout = [sign, *(sign * cirq.Z(qubit) for qubit in line)]
            results.append(simulator.simulate_expectation_values_sweep(variant.circuit, readout, queries, qubit_order=variant.qubits))
        return np.real(results).transpose(1, 0, 2)


@dataclass(frozen=True)
class Bundle:
    """A bundle read back: what the owner and the providers together need to answer a query.

    Attributes:
        manifest: the manifest.
        classes: class names in the order of probabilities.
        preprocessor: raw features to encoded angles.
        parts: what the providers run, in the design's order.
        cut_angles: of the gate cuts, in radians, in the order of ``design.cut_gates``.
        head: ⟨Z⟩ ``[rows, n_qubits]`` to logits.
        head_parameters: of the head, flat.
        n_qubits: width of the register.
        design: the design.
    """

    manifest: dict[str, Any]
    classes: tuple[str, ...]
    preprocessor: Preprocessor
    parts: tuple[BundlePart, ...]
    cut_angles: tuple[float, ...]
    head: Callable[[np.ndarray], np.ndarray]
    head_parameters: np.ndarray
    n_qubits: int
    design: Design

    @property
    def circuits(self) -> tuple[tuple[tuple[int, ...], cirq.Circuit], ...]:
        """Per part, in the design's order, its qubits and its circuit with open features.

        Raises:
            QumosError: gate cuts, since a part is more than one circuit then.
        """
        if self.cut_angles:
            raise QumosError(f"bundle of design {self.design.hash[:12]}: parts with gate cuts are run variant by variant, see Bundle.parts")
        return tuple((part.qubits, part.variants[0].circuit) for part in self.parts)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities ``[rows, classes]`` for raw ``features``, every part run on Cirq's own simulator."""
        inputs = self.preprocessor.transform(features)
        return softmax(self.head(self.reconstruct([part.run(inputs) for part in self.parts])))

    def reconstruct(self, results: Sequence[np.ndarray]) -> np.ndarray:
        """⟨Z⟩ ``[rows, n_qubits]`` from the results of every part, exact or estimated, of the form of ``BundlePart.run``.

        Estimates need the same number of shots for every variant: shots allotted by coefficient would show the angles of the cuts.
        """
        tables = [
            result.reshape(1, len(result), *(len(LABELS) for _ in part.cuts), -1) for part, result in zip(self.parts, results, strict=True)
        ]
        matrices = [coefficients(np.array([angle])) for angle in self.cut_angles]
        return recombined([part.qubits for part in self.parts], [part.cuts for part in self.parts], tables, matrices)[0]

    def parameters(self, axis: str) -> Parameters:
        """Angles in the design's canonical gate order, those of cuts among them, and head; ``axis`` is that of the encoding.

        Raises:
            QumosError: the circuits or the cuts are not those of the design with this encoding.
        """
        angles = np.full(self.design.n_trainable, np.nan)
        parts, cuts = cut_parts(self.design, axis), cut_angles(self.design)
        if len(parts) != len(self.parts) or len(cuts) != len(self.cut_angles):
            held = f"{len(self.parts)} part(s) and {len(self.cut_angles)} gate cut(s)"
            raise QumosError(f"the bundle has {held}, its design {len(parts)} and {len(cuts)}")
        angles[list(cuts)] = self.cut_angles
        for part, held_part in zip(parts, self.parts, strict=True):
            found = _part_angles(part.variants, held_part.variants)
            if found is None:
                raise QumosError(f"part {part.index} of the bundle is not the circuit of its design with {axis} encoding")
            for name, value in found.items():
                angles[int(name.removeprefix("w"))] = value
        return Parameters(angles, self.head_parameters)


class _Files:
    """The files of a bundle: read once, whole, and only what the manifest lists with its checksum.

    Args:
        folder: of the bundle.

    Raises:
        QumosError: no manifest, or one that is not of a bundle.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, bytes] = {}
        try:
            content = read_bytes(folder / MANIFEST, _MOST_BYTES)
        except QumosError as error:
            raise QumosError(f"{folder}: no readable {MANIFEST} ({error})") from error
        self.manifest = parsed(Manifest, content, folder / MANIFEST)
        missing = set(OWNER_FILES) - self.manifest.files.keys()
        if missing:
            raise QumosError(f"{folder / MANIFEST}: does not list {min(missing)}")

    def read(self, name: str) -> bytes:
        """The content of the file that bundles call ``name``; raises QumosError where it is not as it was written, or not in the folder."""
        if name in self._kept:
            return self._kept[name]
        if name not in self.manifest.files:
            raise QumosError(f"{self._folder}: {MANIFEST} does not list {name}")
        path = self._folder
        for step in name.split("/"):
            path = path / step
            try:
                kind = path.lstat().st_mode
            except OSError as error:
                raise QumosError(f"{self._folder}: {name} is missing") from error
            if stat.S_ISLNK(kind):
                raise QumosError(f"{self._folder}: {name} is reached by a link; a bundle holds its own files")
        content = read_bytes(path, _MOST_BYTES - sum(map(len, self._kept.values())))
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise QumosError(f"{self._folder}: {name} fails its checksum")
        self._kept[name] = content
        return content


def read_bundle(path: str | Path) -> Bundle:
    """The bundle in the folder ``path``.

    Everything that is read is listed in the manifest, lies inside the folder, has the checksum that is listed, and holds what a bundle of
    its design holds. Nothing in it is run or unpickled.

    Raises:
        QumosError: no bundle, another schema version, or a file that is missing, changed, not of its kind, or at odds with the design.
    """
    folder = Path(path)
    files = _Files(folder)
    for name in files.manifest.files:
        files.read(name)  # those that only others need are the bundle's too
    where = {name: folder / name for name in OWNER_FILES}
    assembly_name, design_name, head_name, preprocessing_name = OWNER_FILES
    design = Design.from_json(_text(files.read(design_name), where[design_name]))
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
    return Bundle(
        manifest=files.manifest.model_dump(),
        classes=tuple(assembly.classes),
        preprocessor=preprocessor,
        parts=tuple(_read_part(files, folder, design, index) for index in range(design.n_parts)),
        cut_angles=tuple(cut.angle for cut in assembly.cuts),
        head=lambda values: head.logits(parameters, values),
        head_parameters=parameters,
        n_qubits=design.n_qubits,
        design=design,
    )


def files_of_bundle(folder: Path) -> Collection[str] | None:
    """Names of the files that make the bundle in ``folder``, or ``None`` where there is no bundle."""
    try:
        return (MANIFEST, *_Files(folder).manifest.files)
    except QumosError:
        return None


def contents_of_bundle(folder: Path) -> dict[str, bytes]:
    """What the files hold that the manifest in ``folder`` lists, by their names; raises QumosError where one is not as it was written."""
    files = _Files(folder)
    return {name: files.read(name) for name in files.manifest.files}


def circuit_name(part: int, labels: Sequence[str]) -> str:
    """Of the files of one circuit of a part, without their ending."""
    return "-".join(("part", str(part), *labels))


def _read_part(files: _Files, folder: Path, design: Design, index: int) -> BundlePart:
    part, touching = design.parts[index], cuts_of_parts(design)[index]
    inputs = {input_symbol(qubit) for qubit in part.qubits}
    variants = []
    for labels in product(LABELS, repeat=len(touching)):
        measured = [design.n_qubits + number for number, label in zip(touching, labels, strict=True) if label == "M"]
        qubits, name = (*part.qubits, *measured), f"providers/{part.provider}/{circuit_name(index, labels)}.json"
        circuit = read_circuit(files.read(name), qubits, inputs, str(folder / name))
        variants.append(Variant(labels, circuit, tuple(map(cirq.LineQubit, qubits))))
    return BundlePart(index, part.provider, part.qubits, touching, tuple(variants))


def _text(content: bytes, where: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise QumosError(f"{where}: not UTF-8") from error


def _part_angles(templates: Sequence[Variant], bound: Sequence[Variant]) -> dict[str, float] | None:
    """As ``_angles``, from all variants of a part; None too where they do not agree."""
    if [template.labels for template in templates] != [variant.labels for variant in bound]:
        return None
    angles: dict[str, float] = {}
    for template, variant in zip(templates, bound, strict=True):
        found = _angles(template.circuit, variant.circuit)
        if found is None or any(angles.setdefault(name, value) != value for name, value in found.items()):
            return None
    return angles


def _angles(template: cirq.Circuit, bound: cirq.Circuit) -> dict[str, float] | None:
    """The angles in radians that fill the weight symbols of ``template`` in ``bound``; None where the circuits do not match."""
    angles: dict[str, float] = {}
    open_operations, operations = list(template.all_operations()), list(bound.all_operations())
    for open_operation, operation in zip(open_operations, operations, strict=False):
        names = [name for name in cirq.parameter_names(open_operation) if name.startswith("w")]
        if names and type(operation.gate) is type(open_operation.gate) and not cirq.is_parameterized(operation):
            exponent = operation.gate.exponent  # type: ignore[union-attr]
            angles[names[0]] = getattr(operation.gate, "_rads", exponent * np.pi)
            open_operation = cirq.resolve_parameters(open_operation, {names[0]: angles[names[0]]})
        # An angle that was written in half turns comes back with a rounding error.
        if open_operation != operation and not cirq.approx_eq(open_operation, operation):
            return None
    return angles if len(open_operations) == len(operations) else None

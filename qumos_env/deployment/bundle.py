"""The bundle of a design, as it is read: one folder per provider with nothing but its own part, and the owner's secret folder.

    manifest.json           what this is, figures, a checksum of every other file, and the owner's signature
    providers/<name>/       part-<i>.json (Cirq), part-<i>.qasm (OpenQASM 3): trained angles bound, features x<qubit> open;
                            manifest.json: its files and parts, signed, and nothing of others
    owner/                  design.json, preprocessing.json, head.json, assembly.json

Beside these lie the tokens by which gateway and providers know each other (``tokens``): secrets of a deployment, not of the model, so
they are neither listed nor signed, and can be renewed.

A part that gate cuts touch is one circuit per variant, part-<i>-<labels>: its labels in the order of the cuts, an M as a CX to an
ancilla. The providers' files hold no trace of the angles of the cuts; these are in assembly.json, with what the owner needs to combine
the results.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

import cirq
import numpy as np

from ..design import Design
from ..design.circuits import input_symbol
from ..design.gate_cuts import LABELS, Variant, cut_angles, cut_parts, cuts_of_parts
from ..errors import QumosError
from ..model.estimator import DistributedQNN
from ..model.heads import softmax
from ..model.training import Parameters
from .circuit_files import read_circuit
from .folder import SignedFolder, bundle_folder
from .owner import OwnerModel, Seat, read_owner
from .schema import MANIFEST, Manifest, ProviderManifest
from .tokens import token_files


@dataclass(frozen=True)
class BundlePart(Seat):
    """A part with what its provider runs.

    Attributes:
        variants: trained angles bound, features open; by labels in the order of ``product(LABELS, repeat=len(cuts))``, so just one circuit
            where no cut touches the part.
    """

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
class Bundle(OwnerModel):
    """A bundle read back: what the owner and the providers together need to answer a query; ``parts`` have their circuits."""

    parts: tuple[BundlePart, ...]

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

    def estimator(self) -> DistributedQNN:
        """The model as a scikit-learn classifier of encoded angles (``preprocessor.transform`` of raw features), fitted.

        Its classes are the numbers of ``classes``.

        Raises:
            QumosError: the circuits are not those of the design.
        """
        found = DistributedQNN(self.design, len(self.classes), head=self.head_kind, axis=self.axis)
        found.classes_ = np.arange(len(self.classes))
        found.n_features_in_ = self.n_qubits
        found.parameters_ = self.parameters(self.axis)
        return found

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


def read_bundle(path: str | Path, public_key: str | None = None) -> Bundle:
    """The bundle in the folder ``path``.

    Everything that is read is listed in the signed manifest, lies inside the folder, has the checksum that is listed, and holds what a
    bundle of its design holds. Nothing in it is run or unpickled.

    Args:
        path: the folder.
        public_key: the owner's, hexadecimal; default any key whose signature holds.

    Raises:
        QumosError: no bundle, another schema version, a signature by another key or of something else, or a file that is missing, changed,
            not of its kind, or at odds with the design.
    """
    folder = Path(path)
    files = bundle_folder(folder, public_key)
    files.read_all()  # what only others need is the bundle's too
    owner = read_owner(files, folder)
    parts = []
    for index, seat in enumerate(owner.parts):
        _check_provider(files, folder, seat)
        parts.append(_read_part(files, folder, owner.design, index))
    return Bundle(**{field.name: getattr(owner, field.name) for field in fields(owner)} | {"parts": tuple(parts)})


def files_of_bundle(folder: Path) -> Collection[str] | None:
    """Names of the files that make the bundle in ``folder``, or ``None`` where there is no bundle."""
    try:
        files = bundle_folder(folder)
    except QumosError:
        return None
    return (MANIFEST, *files.manifest.files, *token_files(files.manifest))


def contents_of_bundle(folder: Path) -> dict[str, bytes]:
    """What the files hold that the manifest in ``folder`` lists, by their names; raises QumosError where one is not as it was written."""
    return bundle_folder(folder).read_all()


def circuit_name(part: int, labels: Sequence[str]) -> str:
    """Of the files of one circuit of a part, without their ending."""
    return "-".join(("part", str(part), *labels))


def _read_part(files: SignedFolder[Manifest], folder: Path, design: Design, index: int) -> BundlePart:
    part, touching = design.parts[index], cuts_of_parts(design)[index]
    inputs = {input_symbol(qubit) for qubit in part.qubits}
    variants = []
    for labels in product(LABELS, repeat=len(touching)):
        measured = [design.n_qubits + number for number, label in zip(touching, labels, strict=True) if label == "M"]
        qubits, name = (*part.qubits, *measured), f"providers/{part.provider}/{circuit_name(index, labels)}.json"
        circuit = read_circuit(files.read(name), qubits, inputs, str(folder / name))
        variants.append(Variant(labels, circuit, tuple(map(cirq.LineQubit, qubits))))
    return BundlePart(index, part.provider, part.qubits, touching, tuple(variants))


def _check_provider(files: SignedFolder[Manifest], folder: Path, seat: Seat) -> None:
    """Raises QumosError where the provider's manifest is not of this bundle."""
    home = f"providers/{seat.provider}/"
    contents = {name.removeprefix(home): files.read(name) for name in files.manifest.files if name.startswith(home)}
    held = SignedFolder(ProviderManifest, folder / home, files.manifest.signature.public_key, contents)
    held.read_all()
    theirs, ours = held.manifest, files.manifest
    if (theirs.name, theirs.version, theirs.created, theirs.provider) != (ours.name, ours.version, ours.created, seat.provider):
        raise QumosError(f"{folder / home / MANIFEST}: of another bundle ({theirs.name}, version {theirs.version}, {theirs.created})")


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

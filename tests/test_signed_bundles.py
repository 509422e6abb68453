"""Bundles that can be trusted: signatures, what providers are told, cards, and the way back into an estimator."""

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from qiskit import qasm3
from qiskit.quantum_info import SparsePauliOp, Statevector
from test_bundle import CUT, DESIGN, provider_files, tiny, trained_model

from qumos_env.cli import app, run
from qumos_env.deployment.bundle import read_bundle
from qumos_env.deployment.card import model_card
from qumos_env.deployment.export import Release, earlier_release, export_bundle
from qumos_env.deployment.schema import json_schemas
from qumos_env.deployment.signing import new_key, owner_key, public_hex, signed
from qumos_env.deployment.tokens import read_token, read_tokens
from qumos_env.errors import QumosError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(CUT, tiny(), tmp_path_factory.mktemp("signed") / "bundle", seed=3, fallback=True)


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path / "copy")
    return tmp_path / "copy"


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any], key: Ed25519PrivateKey | None = None) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data if key is None else signed(data, key)), encoding="utf-8")


@pytest.mark.parametrize("field", ["name", "version", "created", "seed", "test_accuracy", "fallback", "software"])
def test_no_field_changes_without_the_key(copied: Path, field: str) -> None:
    other = {
        "name": "other",
        "version": 7,
        "created": "2031-01-01T00:00:00Z",
        "seed": 4,
        "test_accuracy": 1.0,
        "fallback": False,
        "software": {},
    }
    rewritten(copied / "manifest.json", lambda data: data.update({field: other[field]}))
    with pytest.raises(QumosError, match="the signature is not of this content"):
        read_bundle(copied)


def test_another_key_is_noticed_by_who_pins(exported: Path, copied: Path) -> None:
    """Whoever signs anew makes a bundle that holds together, and that is not the owner's."""
    thief = Ed25519PrivateKey.generate()
    owner = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))["signature"]["public_key"]
    assert read_bundle(exported, owner).manifest["signature"]["public_key"] == owner == public_hex(owner_key())
    for home in (copied / "providers").iterdir():
        rewritten(home / "manifest.json", lambda data: None, thief)
        name = f"providers/{home.name}/manifest.json"
        digest = hashlib.sha256((copied / name).read_bytes()).hexdigest()
        rewritten(copied / "manifest.json", lambda data, name=name, digest=digest: data["files"].update({name: digest}), thief)
    assert read_bundle(copied).manifest["name"] == "tiny"
    with pytest.raises(QumosError, match="not with the expected"):
        read_bundle(copied, owner)


def test_a_providers_manifest_of_another_release_is_refused(exported: Path, copied: Path) -> None:
    """Both are signed by the owner; together they are nothing that it released."""
    path = copied / "providers" / "aurora" / "manifest.json"
    rewritten(path, lambda data: data.update(version=2), owner_key())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    change = {"providers/aurora/manifest.json": digest}
    rewritten(copied / "manifest.json", lambda data: data["files"].update(change), owner_key())
    with pytest.raises(QumosError, match="of another bundle"):
        read_bundle(copied)


def test_providers_are_told_nothing_of_the_owners(exported: Path) -> None:
    """No digest of an owner's file or of another provider's, and no token but its own."""
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    tokens = read_tokens(exported / "owner" / "tokens.json")
    assert len(set(tokens.values())) == 2
    for name in ("aurora", "borealis"):
        home = exported / "providers" / name
        held = b"".join(path.read_bytes() for path in home.iterdir())
        for file, digest in manifest["files"].items():
            assert (digest.encode() in held) == (file.startswith(f"providers/{name}/") and not file.endswith("manifest.json"))
        assert read_token(home / "token") == tokens[name]
        assert all(token.encode() not in held for other, token in tokens.items() if other != name)
        for word in ("scenario", "design_hash", "accuracy", "owner/", "classes", "seed"):
            assert word.encode() not in held


def test_versions_follow_each_other(tmp_path: Path) -> None:
    """The next export over a bundle is its next version, with the same tokens; the first is 1."""
    folder = export_bundle(DESIGN, tiny(), tmp_path / "bundle")
    tokens = read_tokens(folder / "owner" / "tokens.json")
    assert (first := read_bundle(folder).manifest)["version"] == 1 and first["name"] == "tiny"
    export_bundle(DESIGN, tiny(), folder, force=True)
    assert read_bundle(folder).manifest["version"] == 2
    assert read_tokens(folder / "owner" / "tokens.json") == tokens
    assert earlier_release(folder).number == 3 and earlier_release(folder, "other").number == 1
    export_bundle(DESIGN, tiny(), folder, force=True, release=Release("other", 9, created=datetime(2030, 1, 2, tzinfo=UTC)))
    manifest = read_bundle(folder).manifest
    assert (manifest["name"], manifest["version"], manifest["created"]) == ("other", 9, "2030-01-02T00:00:00Z")


def test_keys(tmp_path: Path) -> None:
    """Made once, for the owner alone; what is no key is refused with one line."""
    key = new_key(tmp_path / "key.pem")
    assert public_hex(owner_key(tmp_path / "key.pem")) == public_hex(key)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(QumosError, match="exists already"):
        new_key(tmp_path / "key.pem")
    (tmp_path / "other.pem").write_text("no key")
    with pytest.raises(QumosError, match="holds no private key"):
        owner_key(tmp_path / "other.pem")
    with pytest.raises(QumosError, match="cannot be read"):
        owner_key(tmp_path / "missing.pem")


def test_schemas_are_those_that_are_written_down(exported: Path) -> None:
    """docs/schemas is what the models say, and every file of a bundle fits."""
    schemas = json_schemas()
    for name, schema in schemas.items():
        assert json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8")) == schema
    files = {"manifest": "manifest.json", "provider-manifest": "providers/aurora/manifest.json"}
    files |= {name: f"owner/{name}.json" for name in ("assembly", "head", "preprocessing")}
    for name, file in files.items():
        jsonschema.validate(json.loads((exported / file).read_text(encoding="utf-8")), schemas[name])


def test_a_bundle_becomes_an_estimator(exported: Path) -> None:
    """Its answers are the trained model's."""
    model, trained, workload = trained_model(tiny(), CUT, 3)
    rows = workload.protocol.dataset.features[:7]
    bundle = read_bundle(exported)
    inputs = bundle.preprocessor.transform(rows)
    estimator = bundle.estimator()
    np.testing.assert_allclose(estimator.predict_proba(inputs), model.probabilities(trained, inputs), atol=1e-5)
    np.testing.assert_array_equal(estimator.predict(inputs), model.probabilities(trained, inputs).argmax(axis=1))


def test_qiskit_runs_the_whole_bundle(exported: Path) -> None:
    """Qiskit's own reader of OpenQASM 3 loads every program, variants of cuts among them; recombined, they are the bundle to 1e-6."""
    bundle = read_bundle(exported)
    inputs = bundle.preprocessor.transform(np.random.default_rng(0).uniform(0, 3, (2, len(bundle.preprocessor.matrix))))
    results = []
    for part in bundle.parts:
        found = np.empty((len(inputs), len(part.variants), 1 + len(part.qubits)))
        for number, variant in enumerate(part.variants):
            name = "-".join(("part", str(part.index), *variant.labels)) + ".qasm"
            program = qasm3.loads((exported / "providers" / part.provider / name).read_text(encoding="utf-8"))
            program.remove_final_measurements()
            width = program.num_qubits
            for row, angles in enumerate(inputs):
                bound = program.assign_parameters({symbol: angles[int(symbol.name[1:])] for symbol in program.parameters})
                state = Statevector(bound)
                for column in range(1 + len(part.qubits)):
                    places = list(range(len(part.qubits), width)) + ([column - 1] if column else [])
                    observable = SparsePauliOp.from_sparse_list([("Z" * len(places), places, 1.0)], width)
                    found[row, number, column] = np.real(state.expectation_value(observable))
        results.append(found)
    np.testing.assert_allclose(bundle.reconstruct(results), bundle.reconstruct([part.run(inputs) for part in bundle.parts]), atol=1e-6)


def test_the_card_and_the_commands(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: object) -> tuple[int, str]:
        code = run(app, ["bundle", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    public = public_hex(owner_key())
    assert said("verify", exported, "--key", public) == (0, said("verify", exported, "--key", public)[1])
    assert "whole" in said("verify", exported)[1]
    code, text = said("verify", exported, "--key", "0" * 64)
    assert code == 2 and text.count("\n") == 1 and "expected" in text
    assert said("verify", exported, "--key", "12")[0] == 2
    code, text = said("inspect", exported)
    assert code == 0 and "borealis" in text and "allowed" in text
    assert json.loads(said("inspect", exported, "--json")[1])["name"] == "tiny"
    card = tmp_path / "card.md"
    assert said("card", exported, "--out", card)[0] == 0
    assert card.read_text(encoding="utf-8") == model_card(read_bundle(exported))
    assert all(word in card.read_text(encoding="utf-8") for word in ("# tiny, version 1", "aurora and borealis", public, "q0"))
    assert json.loads(said("schema", "head")[1])["title"] == "HeadFile"
    before = read_tokens(exported / "owner" / "tokens.json")
    try:
        assert said("tokens", exported)[0] == 0
        assert read_tokens(exported / "owner" / "tokens.json").keys() == before.keys()
        assert set(read_tokens(exported / "owner" / "tokens.json").values()).isdisjoint(before.values())
    finally:
        assert provider_files(exported)

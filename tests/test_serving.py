"""Providers and a gateway as processes of their own: answers, isolation, faults, keys, limits, versions."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from serving import MAIN, Between, Deployment, deployed, until
from test_bundle import tiny

from qumos_env.data import Preprocessor
from qumos_env.deployment.bundle import Bundle, read_bundle
from qumos_env.deployment.export import export_bundle, write_bundle
from qumos_env.deployment.serving.batching import Batcher, Overloaded
from qumos_env.deployment.serving.canaries import Checks, Inspector
from qumos_env.deployment.serving.engines import make_engine, readings
from qumos_env.deployment.serving.part_files import read_provider
from qumos_env.deployment.serving.provider import RUN
from qumos_env.deployment.serving.seal import HEADER, Seal
from qumos_env.deployment.serving.served import read_served
from qumos_env.deployment.serving.state import State, match_key
from qumos_env.deployment.tokens import read_token
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.workload import Workload
from qumos_env.scenario import Scenario, parse_scenario
from qumos_env.simulation.channels import NoiseSpec

PARTITION, ASSIGNMENT = (0, 1, 0, 2, 1), ("aurora", "borealis", "corona")
DESIGN = Design(
    PARTITION,
    ASSIGNMENT,
    (*ry_cz_ry(PARTITION, ASSIGNMENT, 1).gates, Gate("reupload", (4,)), Gate("rx", (0,)), Gate("rzz", (0, 1)), Gate("ry", (1,))),
)
"""Three providers; a gate cut joins the first two."""


def three(**data: Any) -> Scenario:
    """Wine on three providers."""
    raw = tiny(**data).model_dump(mode="json", exclude_none=True, exclude={"calibration"})
    return parse_scenario(raw | {"providers": [{"name": name} for name in ASSIGNMENT]})


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload(three())


@pytest.fixture(scope="module")
def folder(workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(DESIGN, workload.scenario, tmp_path_factory.mktemp("serving") / "bundle", seed=3, workload=workload)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return read_bundle(folder)


@pytest.fixture(scope="module")
def live(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(folder, tmp_path_factory.mktemp("live"), "--check-rate", 1) as found:
        yield found


def rows_of(workload: Workload, count: int) -> np.ndarray:
    return workload.protocol.dataset.features[:count]


# Engines


def test_the_providers_engine_is_cirqs_simulator(folder: Path, bundle: Bundle) -> None:
    """Values of every variant, exact ones to single precision and shots within five standard errors; counts add up."""
    inputs = np.random.default_rng(0).uniform(0, np.pi, (6, 5))
    for part in bundle.parts:
        held = read_provider(folder / "providers" / part.provider).parts[part.index]
        engine = make_engine(held, np.random.default_rng(1))
        expected = part.run(inputs)
        mine = inputs[:, list(part.qubits)]
        np.testing.assert_allclose(readings(held, engine.outcomes(mine, None)), expected, atol=1e-5)
        drawn = readings(held, engine.outcomes(mine, 4000))
        assert np.abs(drawn - expected).max() < 5 / np.sqrt(4000)
        assert all(np.allclose(one.sum(axis=1), 1) for one in engine.outcomes(mine, 7))


def test_noise_and_vendors_run_the_same_circuits(folder: Path, bundle: Bundle) -> None:
    """No noise is the exact engine; noise shrinks values; a sampler agrees within its shots."""
    from qumos_env.deployment.vendors import Backend

    inputs = np.random.default_rng(0).uniform(0, np.pi, (2, 5))
    part = bundle.parts[0]
    held, mine = read_provider(folder / "providers" / part.provider).parts[0], inputs[:, list(part.qubits)]
    exact = readings(held, make_engine(held, np.random.default_rng(0)).outcomes(mine, None))
    clean = readings(held, make_engine(held, np.random.default_rng(0), NoiseSpec()).outcomes(mine, None))
    np.testing.assert_allclose(clean, exact, atol=1e-5)
    noisy = readings(held, make_engine(held, np.random.default_rng(0), NoiseSpec(two_qubit=0.3, one_qubit=0.1)).outcomes(mine, None))
    assert np.abs(noisy[:, 0, 1:]).sum() < np.abs(exact[:, 0, 1:]).sum()
    sampled = make_engine(held, np.random.default_rng(0), backend=Backend.of("local", np.random.default_rng(0)))
    assert np.abs(readings(held, sampled.outcomes(mine, 3000)) - exact).max() < 5 / np.sqrt(3000)
    with pytest.raises(QumosError, match="has no exact expectation values"):
        sampled.outcomes(mine, None)


# Seals and keys


def test_seals() -> None:
    """Neither a change, nor a replay, nor an old one, nor an answer to something else passes."""
    now = [1e9]
    mine, other = Seal("a" * 40, lambda: now[0]), Seal("b" * 40, lambda: now[0])
    header, once = mine.request("POST /v1/run", b"body")
    theirs = Seal("a" * 40, lambda: now[0])
    assert theirs.check_request("POST /v1/run", header, b"bodx") is None
    assert theirs.check_request("POST /v1/other", header, b"body") is None
    assert other.check_request("POST /v1/run", header, b"body") is None
    assert theirs.check_request("POST /v1/run", header, b"body") == once
    assert theirs.check_request("POST /v1/run", header, b"body") is None
    old, _ = mine.request("POST /v1/run", b"body")
    now[0] += 100
    assert theirs.check_request("POST /v1/run", old, b"body") is None
    assert theirs.check_request("POST /v1/run", "nonsense", b"") is None
    answer = theirs.response(once, 200, b"answer")
    assert mine.check_response(once, 200, answer, b"answer")
    assert not mine.check_response(once, 200, answer, b"other") and not mine.check_response(once, 500, answer, b"answer")
    assert not mine.check_response("0" * 32, 200, answer, b"answer") and not other.check_response(once, 200, answer, b"answer")


def test_keys_are_kept_as_digests(tmp_path: Path) -> None:
    """The secret is nowhere on the disk; a wrong or unknown key is none, a revoked one says so."""
    state = State(tmp_path / "state")
    text = state.add_key("me", quota=5, rate=2.0)
    identity, secret = text.split("_", 2)[1:]
    key = match_key(state.keys(), text)
    assert key is not None and (key.id, key.name, key.quota, key.rate, key.admin) == (identity, "me", 5, 2.0, False)
    for wrong in (text + "x", text[:-1], f"qk_000000000000_{secret}", "", "qk__", secret, "Bearer", "\ud800"):
        assert match_key(state.keys(), wrong) is None
    state.add_usage("2030-01-01", {identity: 3})
    state.add_usage("2030-01-01", {identity: 4})
    state.revoke_key("me")
    with pytest.raises(QumosError, match="no key"):
        state.revoke_key(identity)
    state.close()
    again = State(tmp_path / "state")
    assert again.usage("2030-01-01") == {identity: 7} and again.keys()[identity].revoked is not None
    assert [event["event"] for event in again.events()] == ["key-revoked", "key-added"]
    again.close()
    assert all(secret.encode() not in path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    with pytest.raises(QumosError, match="no state"):
        (tmp_path / "file").write_text("x")
        State(tmp_path / "file")


# Answers


def test_answers_are_the_models(live: Deployment, bundle: Bundle, workload: Workload) -> None:
    """Through three providers and a gate cut, in both APIs, to 1e-5."""
    rows = rows_of(workload, 20)
    expected = bundle.predict_proba(rows)
    with live.client() as client:
        many = client.post("/v1/predict", json={"rows": rows.tolist()}).json()
        np.testing.assert_allclose(many["probabilities"], expected, atol=1e-5)
        assert many["labels"] == [bundle.classes[index] for index in expected.argmax(axis=1)]
        assert (many["classes"], many["version"], many["fallback"]) == (list(bundle.classes), 1, None)
        one = client.post("/v1/predict", json={"row": rows[3].tolist()}, headers={"x-request-id": "mine-7"})
        assert one.headers["x-request-id"] == one.json()["request_id"] == "mine-7"
        np.testing.assert_allclose(list(one.json()["probabilities"].values()), expected[3], atol=1e-5)
        for data in (rows[:4].tolist(), rows[:4].ravel().tolist()):
            tensor = {"name": "features", "shape": [4, rows.shape[1]], "datatype": "FP64", "data": data}
            for place in ("/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer"):
                found = client.post(place, json={"id": "x", "inputs": [tensor]}).json()
                assert (found["model_name"], found["model_version"], found["id"]) == ("tiny", "1", "x")
                outputs = {output["name"]: output for output in found["outputs"]}
                assert outputs["probabilities"]["shape"] == [4, 3] and outputs["label"]["data"] == many["labels"][:4]
                np.testing.assert_allclose(np.reshape(outputs["probabilities"]["data"], (4, 3)), expected[:4], atol=1e-5)
        wanted = client.post("/v2/models/tiny/infer", json={"inputs": [tensor], "outputs": [{"name": "label"}]}).json()
        assert [output["name"] for output in wanted["outputs"]] == ["label"]
    provider = live.providers["aurora"].lines()
    until(lambda: any(line.get("id") == "mine-7" for line in live.providers["aurora"].lines()))
    assert provider[0]["event"] == "listening"
    until(lambda: any(line.get("id") == "mine-7" and line["status"] == 200 for line in live.gateway.lines()))  # type: ignore[union-attr]


def test_health_and_metadata(live: Deployment, workload: Workload) -> None:
    """The calls of a KServe, Seldon or Triton client, without a key."""
    with httpx.Client(base_url=live.url, trust_env=False) as client:
        assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
        assert client.get("/v2/models/tiny/versions/1/ready").status_code == 200
        assert client.get("/v2").json()["name"] == "qumos"
        data = client.get("/v2/models/tiny").json()
        features = rows_of(workload, 1).shape[1]
        assert data["versions"] == ["1"] and data["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, features]}]
        for place in ("/v2/models/other", "/v2/models/tiny/versions/9", "/v2/models/tiny/versions/x/ready", "/nowhere"):
            assert client.get(place).status_code == 404 and list(client.get(place).json()) == ["error"]
        assert client.get("/v2/models/tiny?version=9").status_code == 200  # a version stands in the path, or nowhere
        assert client.get("/v1/predict").status_code == 405


def test_many_at_once_are_batched_and_none_gets_anothers_answer(live: Deployment, bundle: Bundle, workload: Workload) -> None:
    rows = rows_of(workload, 120)
    expected = bundle.predict_proba(rows)
    wrong: list[int] = []

    def ask(start: int) -> None:
        with live.client() as client:
            for index in range(start, 120, 8):
                size = 1 + index % 3
                found = client.post("/v1/predict", json={"rows": rows[index : index + size].tolist()}).json()
                if not np.allclose(found["probabilities"], expected[index : index + size], atol=1e-5):
                    wrong.append(index)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    with live.client() as client:
        text = client.get("/metrics").text
    rows_seen = float(next(line for line in text.splitlines() if line.startswith('qumos_rows_total{version="1"}')).split()[1])
    assert rows_seen >= 120 and "qumos_batch_rows_bucket" in text and 'qumos_canaries_total{outcome="good",provider="aurora"}' in text


BAD_REQUESTS: list[tuple[bytes, str]] = [
    (b"", "Invalid JSON"),
    (b"{", "Invalid JSON"),
    (b"[]", ""),
    (b"{}", "row"),
    (b'{"row": [1, 2]}', "row"),
    (b'{"rows": []}', "rows"),
    (b'{"row": "x"}', "row"),
    (b'{"row": [' + b",".join([b"NaN"] * 13) + b"]}", ""),
    (b'{"row": [' + b",".join([b"1e400"] * 13) + b"]}", ""),
    (b'{"row": [' + b",".join([b"1e300"] * 13) + b"]}", ""),
    (b'{"row": [' + b",".join([b"true"] * 13) + b"]}", ""),
    (b'{"row": [' + b",".join([b'"1"'] * 13) + b"]}", ""),
    (b'{"row": [' + b",".join([b"1"] * 13) + b'], "more": 1}', "more"),
    (b'{"rows": [[1,2,3],[1]]}', "rows.0"),
    (b"[" * 100_000, ""),
    (b'{"row": ' + b"9" * 6000 + b"}", ""),
    (b"\xff\xfe", ""),
]


@pytest.mark.parametrize("body", [body for body, _ in BAD_REQUESTS], ids=range(len(BAD_REQUESTS)))
def test_bad_requests_are_refused_with_a_line(live: Deployment, body: bytes) -> None:
    words = dict(BAD_REQUESTS)[body]
    with live.client() as client:
        for place in ("/v1/predict", "/v2/models/tiny/infer"):
            found = client.post(place, content=body)
            assert found.status_code == 400, found.text
            error = found.json()["error"]
            assert "\n" not in error and len(error) < 400 and (words in error or place != "/v1/predict")


def test_shapes_that_do_not_fit_are_refused(live: Deployment) -> None:
    tensor = {"name": "features", "shape": [2, 13], "datatype": "FP64", "data": [0.0] * 13}
    cases = [
        {},
        {"shape": [13, 1]},
        {"shape": [1, 12]},
        {"datatype": "INT8"},
        {"name": "x"},
        {"data": [[0.0] * 13, [0.0]]},
        {"shape": [-1, 13]},
    ]
    with live.client() as client:
        for change in cases:
            found = client.post("/v2/models/tiny/infer", json={"inputs": [tensor | change]})
            assert found.status_code == 400 and list(found.json()) == ["error"], found.text
        assert client.post("/v2/models/tiny/infer", json={"inputs": [tensor, tensor]}).status_code == 400
        large = client.post("/v1/predict", content=b'{"rows": [' + b" " * 2**20 + b"]}")
        assert large.status_code == 413
        assert client.post("/v1/predict", json={"rows": [[0.0] * 13] * 257}).status_code == 400

        def endless() -> Iterator[bytes]:
            for _ in range(40):
                yield b" " * 2**16

        assert client.post("/v1/predict", content=endless()).status_code == 413


def test_without_a_key_nothing_is_answered(live: Deployment) -> None:
    """Absent, wrong, of another scheme, without rights, and revoked while the gateway runs."""
    row = {"row": [0.0] * 13}
    for header in ({}, {"authorization": "Bearer qk_a_b"}, {"authorization": f"Basic {live.key}"}, {"authorization": "Bearer"}):
        for place in ("/v1/predict", "/v2/models/tiny/infer", "/v1/deploy", "/v1/rollback", "/v1/trust"):
            assert httpx.post(live.url + place, json=row, headers=header, trust_env=False).status_code == 401
        for place in ("/metrics", "/v1/status", "/v1/events"):
            assert httpx.get(live.url + place, headers=header, trust_env=False).status_code == 401
    with live.client() as client:
        for place in ("/v1/deploy", "/v1/rollback", "/v1/trust"):
            assert client.post(place, json={}).status_code == 403
    state = State(live.state)
    key = state.add_key("short-lived")
    until(lambda: httpx.post(live.url + "/v1/predict", json=row, headers={"authorization": f"Bearer {key}"}).status_code == 200)
    state.revoke_key("short-lived")
    until(lambda: httpx.post(live.url + "/v1/predict", json=row, headers={"authorization": f"Bearer {key}"}).status_code == 401)
    state.close()
    assert sum(event["event"] == "key-refused" for event in live.events()) > 10


def test_rates_and_quotas(live: Deployment) -> None:
    """Beyond them a request is refused with the time to wait; what is refused does not count."""
    state = State(live.state)
    slow, small = state.add_key("slow", rate=1), state.add_key("small", quota=5)
    state.close()
    headers = {"authorization": f"Bearer {slow}"}
    until(lambda: httpx.post(live.url + "/v1/predict", json={"row": [0.0] * 13}, headers=headers).status_code == 200)
    codes = [httpx.post(live.url + "/v1/predict", json={"row": [0.0] * 13}, headers=headers) for _ in range(6)]
    refused = [one for one in codes if one.status_code == 429]
    assert refused and int(refused[0].headers["retry-after"]) >= 1 and "requests a second" in refused[0].json()["error"]
    with live.client(small) as client:
        assert client.post("/v1/predict", json={"rows": [[0.0] * 13] * 3}).status_code == 200
        assert client.post("/v1/predict", json={"rows": [[0.0] * 12] * 3}).status_code == 400
        over = client.post("/v1/predict", json={"rows": [[0.0] * 13] * 3})
        assert over.status_code == 429 and "2 left" in over.json()["error"]
        assert client.post("/v1/predict", json={"rows": [[0.0] * 13] * 2}).status_code == 200
        assert client.post("/v1/predict", json={"row": [0.0] * 13}).status_code == 429


def test_logs_hold_neither_inputs_nor_secrets(live: Deployment) -> None:
    marked = 0.123456789012
    with live.client() as client:
        client.post("/v1/predict", json={"row": [marked] * 13})
    until(lambda: any(line.get("route") == "predict" for line in live.gateway.lines()))  # type: ignore[union-attr]
    tokens = json.loads((live.bundle / "owner" / "tokens.json").read_text(encoding="utf-8"))
    for server in (live.gateway, *live.providers.values()):
        assert server is not None
        text = server.log.read_text(encoding="utf-8")
        assert "0.1234567" not in text and live.key not in text and "Traceback" not in text
        assert all(token not in text for token in tokens.values())


# Providers alone


def test_a_provider_answers_its_gateway_alone(live: Deployment) -> None:
    """Without a seal, with another's, and with one that was used, nothing is said; who is sealed may ask for its own parts only."""
    url, token = live.providers["aurora"].url, read_token(live.bundle / "providers" / "aurora" / "token")
    seal = Seal(token)
    body = json.dumps({"model": "tiny", "version": 1, "parts": [{"part": 0, "inputs": [[0.1, 0.2]]}]}).encode()

    def ask(body: bytes, seal: Seal | None = seal, path: str = RUN, method: str = "POST") -> httpx.Response:
        headers = {} if seal is None else {HEADER: seal.request(f"{method} {path}", body)[0]}
        return httpx.request(method, url + path, content=body, headers=headers, trust_env=False)

    assert httpx.get(url + "/health", trust_env=False).json() == {"status": "ok"}
    assert ask(body, None).status_code == ask(body, Seal("x" * 40)).status_code == 401
    other = read_token(live.bundle / "providers" / "borealis" / "token")
    assert ask(body, Seal(other)).status_code == 401
    assert ask(body).status_code == 200
    header = {HEADER: seal.request(f"POST {RUN}", body)[0]}
    assert [httpx.post(url + RUN, content=body, headers=header, trust_env=False).status_code for _ in range(2)] == [200, 401]
    data = json.loads(body)
    for change, status in (
        ({"model": "other"}, 404),
        ({"version": 2}, 404),
        ({"parts": [{"part": 1, "inputs": [[0.1, 0.2]]}]}, 404),
        ({"parts": [{"part": 0, "inputs": [[0.1]]}]}, 422),
        ({"parts": []}, 422),
        ({"parts": [{"part": 0, "inputs": [[0.1, None]]}]}, 422),
        ({"shots": 0}, 422),
        ({"readout": "counts"}, 422),
        ({"more": 1}, 422),
    ):
        found = ask(json.dumps(data | change).encode())
        assert found.status_code == status and list(found.json()) == ["error"]
    counts = ask(json.dumps(data | {"readout": "counts", "shots": 100}).encode()).json()["results"][0]["counts"]
    assert len(counts) == 5 and all(sum(one.values()) == 100 for rows in counts for one in rows)
    assert {len(key) for key in counts[0][0]} == {2} and {len(key) for key in counts[4][0]} == {3}
    assert ask(b"", path="/v1/versions", method="GET").json()["versions"][0]["version"] == 1
    for path in ("/docs", "/openapi.json", "/../owner/head.json", "/v1/run/.."):
        assert httpx.get(url + path, trust_env=False).status_code in (404, 405)


def test_servers_need_neither_torch_nor_ray(folder: Path, tmp_path: Path) -> None:
    """Both start and answer where these cannot be imported, and have loaded neither them, nor Cirq, nor scikit-learn."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'ray', 'cirq', 'qsimcirq', 'sklearn', 'matplotlib'])); "
    with deployed(folder, tmp_path / "blocked", gateway=False) as found:
        for name in found.ports:
            found.providers[name].kill()
            found.start_provider(name, before=blocked)
        from serving import start

        port = found.ports["aurora"] + 1
        words: list[object] = ["serve", folder, "--port", port, "--state", found.state]
        for name, one in found.ports.items():
            words += ["-p", f"{name}=http://127.0.0.1:{one}"]
        found.gateway = start(words, tmp_path / "gateway.log", port, blocked)
        with found.client() as client:
            assert client.post("/v1/predict", json={"row": [0.0] * 13}).status_code == 200
    code = "import sys, qumos_env, qumos_env.cli; print([name for name in ('fastapi', 'torch', 'ray', 'cirq') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# Isolation


def secrets_of(bundle: Bundle, provider: str, workload: Workload) -> np.ndarray:
    """All that ``provider`` must not see: parameters of others, cut angles, head, preprocessing, rows."""
    parameters = bundle.parameters("ry")
    from qumos_env.design.circuits import part_fragments

    mine = {
        index
        for part, held in zip(bundle.parts, part_fragments(bundle.design, "ry"), strict=True)
        if part.provider == provider
        for index in held.weights
    }
    theirs = [angle for index, angle in enumerate(parameters.angles) if index not in mine]
    rows = workload.protocol.dataset.features[workload.protocol.draws(3)[0].train]
    inner = [bundle.preprocessor.matrix.ravel(), bundle.preprocessor.offset, rows[:, [0, 6, 12]].ravel()]
    found = np.concatenate([theirs, bundle.cut_angles, bundle.head_parameters, *inner])
    # Zeros, and short numbers that stand anywhere by chance, are nobody's secret.
    return found[(np.abs(found) > 1e-6) & (np.abs(found * 1000 - np.rint(found * 1000)) > 1e-9)]


def numbers_in(content: bytes) -> np.ndarray:
    import re

    found = [float(one) for one in re.findall(rb"-?\d+\.\d+(?:[eE][-+]?\d+)?", content)]
    return np.array(found) if found else np.zeros(1)


def assert_free_of(content: bytes, secret: np.ndarray, where: str) -> None:
    written = numbers_in(content)
    seen = np.concatenate([written, written * np.pi, -written, -written * np.pi, written / np.pi])
    seen.sort()
    places = np.clip(np.searchsorted(seen, secret), 1, len(seen) - 1)
    nearest = np.minimum(np.abs(seen[places] - secret), np.abs(seen[places - 1] - secret))
    assert nearest.min() > 1e-9, where
    for value in secret:
        for packed in (np.float64(value).tobytes(), repr(float(value)).encode()):
            assert packed not in content, where
        assert len(np.float32(value).tobytes()) == 4


def test_folders_and_traffic_hold_no_secret(folder: Path, bundle: Bundle, workload: Workload, tmp_path: Path) -> None:
    """Every byte and every number that a provider holds or sees: nothing of another part, of a cut, of the head, of training rows."""
    with deployed(folder, tmp_path / "watched", gateway=False) as found:
        watched = {name: Between(found.providers[name].url, folder / "providers" / name / "token") for name in found.ports}
        found.start_gateway("--check-rate", 1, urls={name: one.url for name, one in watched.items()})
        rows = np.random.default_rng(5).uniform(0.5, 3, (40, 13)) + rows_of(workload, 40).mean(axis=0)
        with found.client() as client:
            assert client.post("/v1/predict", json={"rows": rows.tolist()}).status_code == 200
        for name, one in watched.items():
            held = b"\n".join(path.read_bytes() for path in sorted((folder / "providers" / name).iterdir()))
            secret = secrets_of(bundle, name, workload)
            assert len(secret) > 50
            assert_free_of(held, secret, f"folder of {name}")
            assert len(one.traffic) >= 3
            assert_free_of(b"\n".join(one.traffic), secret, f"traffic of {name}")
            seats = [part for part in bundle.parts if part.provider == name]
            for request in one.requests:
                data = json.loads(request)
                assert set(data) == {"model", "version", "parts", "shots"}
                assert [part["part"] for part in data["parts"]] == [seat.index for seat in seats]
                assert all(len(row) == len(seat.qubits) for part, seat in zip(data["parts"], seats, strict=True) for row in part["inputs"])
            for word in (b"head", b"probabilities", *(name.encode() for name in found.ports if name not in held.decode())):
                assert word not in b"\n".join(one.traffic)
            one.close()


# Batching


def test_rows_that_wait_go_together_and_not_forever() -> None:
    """The first goes at once; those that come meanwhile go in one batch, each gets its own rows; too many, or too long, is refused."""
    sizes: list[int] = []

    async def work(rows: np.ndarray, request: str) -> np.ndarray:
        sizes.append(len(rows))
        await asyncio.sleep(0.05)
        return rows * 2

    async def ask(batcher: Batcher[np.ndarray], value: float, count: int = 2) -> None:
        rows = np.full((count, 1), value)
        found, mine = await batcher.submit(rows, "x")
        np.testing.assert_array_equal(found[mine], rows * 2)

    async def all_of_it() -> None:
        batcher = Batcher(work, most_rows=6, most_waiting=12, parallel=1)
        await asyncio.gather(*(ask(batcher, value) for value in range(6)))
        assert sizes == [2, 6, 4]
        found = await asyncio.gather(*(ask(batcher, value) for value in range(9)), return_exceptions=True)
        assert [type(one) for one in found].count(Overloaded) == 2
        late = Batcher(work, parallel=1, seconds=0.01)
        found = await asyncio.gather(ask(late, 1), ask(late, 2), return_exceptions=True)
        assert [type(one) for one in found] == [type(None), Overloaded]

    asyncio.run(all_of_it())


# Faults of providers


def garbage(data: dict[str, Any]) -> Any:
    return b"<html>"


def too_few(data: dict[str, Any]) -> None:
    data["results"][0]["values"].pop()


def too_many(data: dict[str, Any]) -> None:
    data["results"][0]["values"].append(data["results"][0]["values"][0])


def no_number(data: dict[str, Any]) -> None:
    data["results"][0]["values"][0][0][1] = None


def infinite(data: dict[str, Any]) -> Any:
    data["results"][0]["values"][0][0][1] = float("nan")


def beyond(data: dict[str, Any]) -> None:
    data["results"][0]["values"][0][0][1] = 1.5


def other_part(data: dict[str, Any]) -> None:
    data["results"][0]["part"] = 1


def nothing(data: dict[str, Any]) -> Any:
    return {}


def nested(data: dict[str, Any]) -> Any:
    return b"[" * 50_000


FAULTS = (garbage, too_few, too_many, no_number, infinite, beyond, other_part, nothing, nested)


@pytest.fixture(scope="module")
def attacked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Between]]:
    with deployed(folder, tmp_path_factory.mktemp("attacked"), "--patience", 1, gateway=False) as found:
        between = Between(found.providers["corona"].url, folder / "providers" / "corona" / "token")
        found.start_gateway("--check-rate", 0, urls={"corona": between.url})
        yield found, between
        between.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_garbage_never_becomes_an_answer(attacked: tuple[Deployment, Between], bundle: Bundle, fault: Any) -> None:
    """A clear 503 within the time-out, and recovery without a restart."""
    found, between = attacked
    row = [1.0] * 13
    with found.client() as client:
        until(lambda: client.post("/v1/predict", json={"row": row}).status_code == 200)
        between.change = fault
        began = time.monotonic()
        answer = client.post("/v1/predict", json={"row": row})
        assert answer.status_code == 503 and "corona" in answer.json()["error"] and answer.headers["retry-after"]
        assert time.monotonic() - began < 30
        between.change = None
        until(lambda: client.post("/v1/predict", json={"row": row}).status_code == 200)
        good = client.post("/v1/predict", json={"row": row}).json()
    np.testing.assert_allclose(list(good["probabilities"].values()), bundle.predict_proba(np.array([row]))[0], atol=1e-5)


@pytest.mark.slow
def test_a_late_or_unsealed_answer_is_none(attacked: tuple[Deployment, Between], folder: Path, tmp_path: Path) -> None:
    found, between = attacked
    with found.client() as client:
        until(lambda: client.post("/v1/predict", json={"row": [1.0] * 13}).status_code == 200)
        between.delay = 3.0
        answer = client.post("/v1/predict", json={"row": [1.0] * 13})
        assert answer.status_code == 503 and "late" in answer.json()["error"]
        between.delay = 0.0
        until(lambda: client.get("/v2/health/ready").status_code == 200)
    stranger = Between(found.providers["corona"].url, folder / "providers" / "aurora" / "token")
    stranger.change = lambda data: None
    with deployed(folder, tmp_path / "stranger", gateway=False) as other:
        stranger_of = Between(other.providers["corona"].url, folder / "providers" / "aurora" / "token")
        stranger_of.change = lambda data: None
        other.start_gateway(urls={"corona": stranger_of.url})
        with other.client() as client:
            assert client.post("/v1/predict", json={"row": [1.0] * 13}).status_code == 503
        stranger_of.close()
    stranger.close()


@pytest.mark.slow
def test_a_provider_that_is_killed_comes_back(folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    """503 while it is away, no wrong answer at any time, and recovery with the same gateway; a restart keeps keys and quotas."""
    row = [1.0] * 13
    expected = bundle.predict_proba(np.array([row]))[0]
    with deployed(folder, tmp_path / "killed") as found:
        with found.client() as client:
            assert client.post("/v1/predict", json={"row": row}).status_code == 200
            found.providers["borealis"].kill()
            seen = [client.post("/v1/predict", json={"row": row}) for _ in range(8)]
            assert {one.status_code for one in seen} == {503} and all("borealis" in one.json()["error"] for one in seen)
            assert client.get("/v2/health/ready").status_code == 503
            assert client.get("/v1/status").json()["providers"][1]["state"] == "open"
            found.start_provider("borealis")
            until(lambda: client.get("/v2/health/ready").status_code == 200)
            good = client.post("/v1/predict", json={"row": row}).json()
            np.testing.assert_allclose(list(good["probabilities"].values()), expected, atol=1e-5)
        used = State(found.state)
        customer = next(key.id for key in used.keys().values() if key.name == "customer")
        assert found.gateway is not None and found.gateway.stop() in (0, -signal.SIGTERM)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        assert used.usage(day)[customer] == 2  # what was refused is not counted
        used.close()
        found.start_gateway()
        with found.client() as client:
            assert client.post("/v1/predict", json={"row": row}).status_code == 200


@pytest.mark.slow
def test_a_provider_that_tampers_is_caught(folder: Path, tmp_path: Path) -> None:
    """Canaries that are queries: the tampered answer is refused, the provider stays out until its owner trusts it again."""
    with deployed(folder, tmp_path / "tampered", gateway=False) as found:
        between = Between(found.providers["aurora"].url, folder / "providers" / "aurora" / "token")
        found.start_gateway("--check-rate", 1, urls={"aurora": between.url})

        def flip(data: dict[str, Any]) -> None:
            for row in data["results"][0]["values"]:
                row[0][1] = -row[0][1]

        with found.client() as client:
            assert client.post("/v1/predict", json={"row": [1.0] * 13}).status_code == 200
            between.change = flip
            answer = client.post("/v1/predict", json={"row": [1.0] * 13})
            assert answer.status_code == 503 and "distrusted" in answer.json()["error"]
            between.change = None
            assert client.post("/v1/predict", json={"row": [1.0] * 13}).status_code == 503
        assert any(event["event"] == "provider-caught" and event["provider"] == "aurora" for event in found.events())
        with found.client(found.admin) as client:
            assert client.post("/v1/trust", json={"provider": "aurora"}).status_code == 200
            assert client.post("/v1/trust", json={"provider": "nobody"}).status_code == 404
            assert client.post("/v1/predict", json={"row": [1.0] * 13}).status_code == 200
        between.close()


def test_checks_of_shots_tell_honest_from_dishonest(folder: Path) -> None:
    """From 500 shots honest answers are not suspicious, and a flipped qubit is."""
    served = read_served(folder)
    inspector = Inspector(Checks(), np.random.default_rng(0))
    inputs = np.random.default_rng(1).uniform(0.3, 1.2, (3, 5))
    generator = np.random.default_rng(2)
    for seat in served.owner.parts:
        honest = [served.simulated(seat.index, inputs, 500, generator) for _ in range(20)]
        suspicious = [inspector.suspicious(served, seat, inputs, one, 500) for one in honest]
        assert sum(suspicious) <= 1
        flipped = honest[0].copy()
        flipped[:, :, 1] *= -1
        assert inspector.suspicious(served, seat, inputs, flipped, 500)
    assert not inspector.alarm(True, 500) and inspector.alarm(True, 500)


@pytest.mark.slow
def test_answers_from_shots_are_within_their_error(folder: Path, bundle: Bundle, tmp_path: Path, workload: Workload) -> None:
    """Of ⟨Z⟩ recombined from shots; the logits' error is bounded by the head."""
    rows = rows_of(workload, 4)
    expected = bundle.predict_proba(rows)
    options = ("--shots", 20_000, "--check-rate", 0.5)
    with deployed(folder, tmp_path / "shots", *options, provider_options=("--seed", 1)) as found, found.client() as client:
        seen = np.array([client.post("/v1/predict", json={"rows": rows.tolist()}).json()["probabilities"] for _ in range(6)])
    assert np.abs(seen[0] - seen[1]).max() > 1e-6
    error = seen.std(axis=0, ddof=1) / np.sqrt(len(seen))
    assert (np.abs(seen.mean(axis=0) - expected) < 6 * error + 0.01).all()


@pytest.mark.slow
def test_fallbacks_are_said(workload: Workload, tmp_path: Path) -> None:
    """Only where the bundle allows it: an answer without the parts of one provider, and of those that cuts join to it."""
    allowed = export_bundle(DESIGN, workload.scenario, tmp_path / "bundle", seed=3, workload=workload, fallback=True)
    served = read_served(allowed)
    rows = rows_of(workload, 5)
    inputs = served.owner.preprocessor.transform(rows)
    results = {seat.index: served.simulated(seat.index, inputs) for seat in served.owner.parts}
    values = served.owner.reconstruct([results[index] for index in range(3)])
    assert served.owner.fallback is not None
    values[:, [0, 1, 2, 4]] = served.owner.fallback[[0, 1, 2, 4]]
    from qumos_env.model.heads import softmax

    without = served.probabilities({1: results[1], 2: results[2]})
    np.testing.assert_allclose(without, softmax(served.owner.head(values)), atol=1e-9)
    with deployed(allowed, tmp_path / "fallback", gateway=False) as found:
        found.providers["aurora"].kill()
        found.start_gateway()
        with found.client() as client:
            answer = client.post("/v1/predict", json={"rows": rows.tolist()}).json()
            assert answer["fallback"] == {"missing": ["aurora"]}
            np.testing.assert_allclose(answer["probabilities"], without, atol=1e-5)
            tensor = {"name": "features", "shape": [1, 13], "datatype": "FP64", "data": rows[0].tolist()}
            assert client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).json()["parameters"] == {"fallback": "aurora"}
            for name in ("borealis", "corona"):
                found.providers[name].kill()
            assert client.post("/v1/predict", json={"row": rows[0].tolist()}).status_code == 503


# Versions


def second(folder: Path, out: Path, workload: Workload, change: float = 0.4) -> Path:
    """The next version of a bundle: other angles."""
    from qumos_env.deployment.export import earlier_release

    held = read_bundle(folder)
    parameters = held.parameters("ry")
    moved = replace(parameters, angles=parameters.angles + change)
    preprocessor: Preprocessor = held.preprocessor
    return write_bundle(out, held.design, workload, moved, preprocessor, {}, release=earlier_release(folder))


@pytest.mark.slow
def test_versions_replace_each_other_without_a_lost_request(folder: Path, workload: Workload, tmp_path: Path) -> None:
    """Deployed twice and rolled back under load: every answer is of one version, none fails; old ones can be asked for by number."""
    v2 = second(folder, tmp_path / "two", workload)
    v3 = second(v2, tmp_path / "three", workload)
    rows = rows_of(workload, 3)
    expected = {number: read_bundle(one).predict_proba(rows) for number, one in ((1, folder), (2, v2), (3, v3))}
    with deployed(folder, tmp_path / "versions") as found:
        problems: list[Any] = []
        seen: set[int] = set()
        over = threading.Event()

        def load() -> None:
            with found.client() as client:
                while not over.is_set():
                    answer = client.post("/v1/predict", json={"rows": rows.tolist()})
                    data = answer.json()
                    if answer.status_code != 200 or not np.allclose(data["probabilities"], expected[data["version"]], atol=1e-5):
                        problems.append(data)
                    else:
                        seen.add(data["version"])

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        key = tmp_path / "admin-key"
        key.write_text(found.admin)

        def command(*words: object) -> tuple[int, str]:
            done = subprocess.run(
                [sys.executable, "-c", MAIN, "deploy", *map(str, words), "--url", found.url, "--key-file", str(key)],
                capture_output=True,
                text=True,
            )
            return done.returncode, done.stdout + done.stderr

        try:
            for one, number in ((v2, 2), (v3, 3)):
                code, text = command(one)
                assert code == 0 and f"version {number}" in text, text
                until(lambda number=number: number in seen)  # type: ignore[misc]
            assert command("--rollback", 1)[0] == 0
            seen.discard(1)
            until(lambda: 1 in seen)
            assert command("--rollback", 9)[0] == 2
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not problems, problems[:2]
        with found.client() as client:
            assert client.get("/v2/models/tiny").json()["versions"] == ["1", "2", "3"]
            for number, answers in expected.items():
                tensor = {"name": "features", "shape": [3, 13], "datatype": "FP64", "data": rows.ravel().tolist()}
                output = client.post(f"/v2/models/tiny/versions/{number}/infer", json={"inputs": [tensor]}).json()["outputs"][0]
                np.testing.assert_allclose(np.reshape(output["data"], (3, 3)), answers, atol=1e-5)
        # A provider that starts anew from its first folder is handed what it lacks, and so is a gateway.
        found.providers["aurora"].kill()
        found.start_provider("aurora")
        assert found.gateway is not None and found.gateway.stop() in (0, -signal.SIGTERM)
        found.start_gateway()
        with found.client() as client:
            until(lambda: client.get("/v2/health/ready").status_code == 200)
            assert client.post("/v1/predict", json={"rows": rows.tolist()}).json()["version"] == 1
            tensor = {"name": "features", "shape": [3, 13], "datatype": "FP64", "data": rows.ravel().tolist()}
            assert client.post("/v2/models/tiny/versions/3/infer", json={"inputs": [tensor]}).status_code == 200
        refuse_bad_bundles(found, folder, v2, tmp_path, workload)


def refuse_bad_bundles(found: Deployment, first: Path, v2: Path, tmp_path: Path, workload: Workload) -> None:
    """Forged, replayed, of others, with paths that lead out: refused and logged, and what runs goes on."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from qumos_env.deployment.serving.served import contents_of
    from qumos_env.deployment.signing import owner_key, signed

    def texts(folder: Path) -> dict[str, str]:
        return {name: content.decode() for name, content in contents_of(folder).items()}

    def changed(given: dict[str, str], key: Ed25519PrivateKey | None, **fields: Any) -> dict[str, str]:
        manifest = json.loads(given["manifest.json"]) | fields
        return given | {"manifest.json": json.dumps(manifest if key is None else signed(manifest, key))}

    good = texts(v2)
    cases = {
        "changed": changed(good, None, version=7),
        "another key": changed(good, Ed25519PrivateKey.generate(), version=7),
        "another content under an old number": changed(good, owner_key(), version=2, seed=99),
        "manifests of different releases": changed(good, owner_key(), version=7),
        "another model": changed(good, owner_key(), version=7, name="other"),
        "a path": changed(good, owner_key(), version=7, files={"../../outside": "0" * 64}),
        "no manifest": {name: text for name, text in good.items() if name != "manifest.json"},
        "a file less": {name: text for name, text in good.items() if name != "owner/head.json"},
        "nothing": {},
    }
    with found.client(found.admin) as client:
        for name, files in cases.items():
            answer = client.post("/v1/deploy", json={"files": files})
            assert answer.status_code in (400, 409), (name, answer.text)
        assert client.post("/v1/predict", json={"row": [0.0] * 13}).json()["version"] == 1
    assert sum(event["event"] == "deploy-refused" for event in found.events()) >= 6
    assert {path.name for path in (found.state / "models" / "tiny").iterdir()} == {"1", "2", "3"}


def test_a_gateway_takes_no_old_or_foreign_bundle(folder: Path, workload: Workload, tmp_path: Path) -> None:
    """Started with a bundle that is older than what was deployed, or of another owner, or without a provider's address: one line."""
    from qumos_env.cli import app, run

    state = State(tmp_path / "state")
    v2 = second(folder, tmp_path / "two", workload)
    served = read_served(v2)
    state.keep({"manifest.json": b""}, "tiny", 2, served.digest, served.public_key)
    state.close()
    where = ["--port", "0", "--state", str(tmp_path / "state")]
    urls = [word for name in ASSIGNMENT for word in ("-p", f"{name}=http://127.0.0.1:1")]
    assert run(app, ["serve", str(folder), *where, *urls]) == 2
    assert run(app, ["serve", str(v2), *where, *urls[:4]]) == 2
    assert run(app, ["serve", str(v2), *where, "-p", "aurora", *urls]) == 2
    assert run(app, ["serve", str(v2), *where, *urls, "--key", "0" * 64]) == 2
    assert run(app, ["serve", str(tmp_path / "nothing"), *where, *urls]) == 2
    assert run(app, ["provider", str(v2 / "providers" / "aurora"), "--key", "0" * 64]) == 2
    assert run(app, ["provider", str(v2), "--port", "0"]) == 2
    bad = shutil.copytree(v2 / "providers" / "aurora", tmp_path / "bad")
    (bad / "token").write_text("short")
    assert run(app, ["provider", str(bad), "--port", "0"]) == 2


def test_damaged_state_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gateway.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(QumosError, match="no state"):
        State(tmp_path)
    with sqlite3.connect(tmp_path / "other.sqlite") as connection:
        connection.execute("CREATE TABLE x (y)")

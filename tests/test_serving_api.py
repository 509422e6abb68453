"""The gateway's API from its own OpenAPI page, fuzzed; its page in a browser; files that put it to work elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from serving import PATIENCE, Deployment, deployed
from test_bundle import DESIGN, tiny

from qumos_env.audit.live import LIVE_ATTACKS, Api, LiveAudit, audit_live
from qumos_env.cli import app, run
from qumos_env.deployment.bundle import read_bundle
from qumos_env.deployment.export import export_bundle, write_bundle
from qumos_env.deployment.owner import Seat
from qumos_env.deployment.serving.calls import Patience, ProviderClient, Unavailable
from qumos_env.deployment.serving.logs import Log
from qumos_env.deployment.serving.metrics import Metrics
from qumos_env.deployment.serving.page import PageName, page
from qumos_env.deployment.serving.seal import HEADER, Seal
from qumos_env.errors import QumosError
from qumos_env.evaluation.workload import Workload

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("api")
    bundle = export_bundle(DESIGN, tiny(), folder / "bundle", seed=3)
    with deployed(bundle, folder / "live") as found:
        yield found


def test_the_openapi_page_says_shapes_bounds_and_finiteness(live: Deployment) -> None:
    with live.client() as client:
        data = client.get("/openapi.json").json()
    row = data["components"]["schemas"]["PredictOne"]["properties"]["row"]
    assert (row["minItems"], row["maxItems"]) == (13, 13)
    assert row["items"]["minimum"] == -row["items"]["maximum"] == -1e12 and row["items"]["type"] == "number"
    assert data["components"]["schemas"]["PredictMany"]["properties"]["rows"]["maxItems"] == 256
    for path in ("/v1/predict", "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        operation = data["paths"][path]["post"]
        named = [(one["name"], one["in"], one["schema"]["enum"]) for one in operation["parameters"]]
        assert named == [(name, "path", [one]) for name, one in (("model", "tiny"), ("version", "1")) if f"{{{name}}}" in path]
        assert operation["security"] == [{"key": []}] and {"200", "400", "401", "413", "429", "503"} <= operation["responses"].keys()
    assert "/v2/health/ready" in data["paths"] and "/v1/deploy" not in data["paths"]


WIDTH, LIMIT, MOST = 13, 1e12, 256


def are_numbers(value: Any, low: int, high: int) -> bool:
    """Whether ``value`` is a list of ``low`` to ``high`` features."""
    return (
        isinstance(value, list) and low <= len(value) <= high and all(type(one) in (int, float) and -LIMIT <= one <= LIMIT for one in value)
    )


def are_rows(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= MOST and all(are_numbers(row, WIDTH, WIDTH) for row in value)


def is_optional(value: Any, kind: type) -> bool:
    return value is None or isinstance(value, kind)


def tensor_rows(data: dict[str, Any]) -> Any:
    """The rows that a request of the Open Inference Protocol asks for, or ``None`` where it does not fit the API."""
    inputs, outputs = data.get("inputs"), data.get("outputs")
    if not (is_optional(data.get("id"), str) and len(data.get("id") or "") <= 200 and is_optional(data.get("parameters"), dict)):
        return None
    for one in outputs if isinstance(outputs, list) else ():
        good = isinstance(one, dict) and one.get("name") in ("probabilities", "label") and is_optional(one.get("parameters"), dict)
        if not good:
            return None
    if not is_optional(outputs, list) or len(outputs or ()) > 2:
        return None
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        return None
    tensor = inputs[0]
    shape, values = tensor.get("shape"), tensor.get("data")
    named = tensor.get("name") == "features" and tensor.get("datatype") in ("FP32", "FP64") and is_optional(tensor.get("parameters"), dict)
    if not (named and isinstance(shape, list) and [type(one) for one in shape] == [int, int]):
        return None
    if are_numbers(values, WIDTH, WIDTH * MOST):
        values = [values[start : start + WIDTH] for start in range(0, len(values), WIDTH)]
    return values if are_rows(values) and shape == [len(values), WIDTH] else None


def asked_rows(path: str, body: bytes) -> list[list[float]] | None:
    """The rows that a body asks for, told by hand and not by the gateway's models; ``None`` where it does not fit the API."""
    try:
        data = json.loads(body.decode("utf-8"))
        json.dumps(data, ensure_ascii=False).encode("utf-8")  # half of a pair of surrogates is no text
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    if path != "/v1/predict":
        return tensor_rows(data)
    if data.keys() == {"row"} and are_numbers(data["row"], WIDTH, WIDTH):
        return [data["row"]]
    return data["rows"] if data.keys() == {"rows"} and are_rows(data["rows"]) else None


def fit_shape(body: Any) -> None:
    """Says in the tensor of a request, if it has one, how many rows its data are: no schema can tie the one to the other."""
    try:
        values = body["inputs"][0]["data"]
        body["inputs"][0]["shape"] = [len(values) if isinstance(values[0], list) else len(values) // WIDTH, WIDTH]
    except (IndexError, KeyError, TypeError):
        pass


def answered(data: dict[str, Any]) -> np.ndarray | None:
    """The probabilities ``[rows, classes]`` in an answer; of the Open Inference Protocol they may not be asked for."""
    if "outputs" not in data:
        found = data["probabilities"]
        return np.array([list(found.values())] if isinstance(found, dict) else found)
    return next((np.reshape(one["data"], one["shape"]) for one in data["outputs"] if one["name"] == "probabilities"), None)


@dataclass
class Fuzz:
    """Requests from the OpenAPI page, valid and not, with and without a key, and what was wrong with the answers.

    Attributes:
        statuses: of all answers.
        answers: rows that were classified, and their probabilities.
        problems: a line each.
    """

    live: Deployment
    statuses: Counter[int] = field(default_factory=Counter)
    answers: list[tuple[list[list[float]], np.ndarray]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(self.statuses.values())

    @property
    def refused(self) -> int:
        return sum(count for status, count in self.statuses.items() if 400 <= status < 500)

    def run(self, examples: int) -> None:
        """So many requests to each operation that takes a body, which has the most ways to go wrong; to others a few."""
        for one in schemathesis.openapi.from_url(f"{self.live.url}/openapi.json").get_all_operations():
            end = self.count + examples
            self._run(one.ok(), examples if one.ok().method == "post" else max(3, examples // 20), 0)
            number = 1
            while one.ok().method == "post" and self.count < end:  # Hypothesis stops early where it thinks that it has seen enough
                self._run(one.ok(), end - self.count, number)
                number += 1

    def _run(self, operation: Any, examples: int, number: int) -> None:
        @seed(number)
        @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
        def run(case: Any) -> None:
            keyed = self.count % 5 != 0
            key = f"Bearer {self.live.key}"
            if self.count % 2:
                fit_shape(case.body)
            response = case.call(headers={"authorization": key} if keyed else {}, timeout=PATIENCE)
            self.statuses[response.status_code] += 1
            # A bad request may bring a header of its own.
            problem = self._problem(response, response.request.headers.get("authorization") == key)
            if problem:
                sent = response.request
                said = f"{sent.method} {sent.url} {sent.body!r:.300}: {response.status_code} {response.content[:200]!r}"
                self.problems.append(f"{problem}: {said}")

        run()

    def _problem(self, response: Any, keyed: bool) -> str:
        sent, status = response.request, response.status_code
        path = urlsplit(sent.url).path
        if status >= 500:
            return "a fault"
        refused = 400 <= status < 500
        if refused and sent.method != "HEAD" and list(json.loads(response.content)) != ["error"]:
            return "a refusal of another form"
        if path not in PREDICTING or sent.method != "POST":
            return "" if refused or path not in PREDICTING else "an answer to nothing"
        body = sent.body or b""
        rows = asked_rows(path, body.encode() if isinstance(body, str) else body)
        if not keyed or rows is None:
            return "" if status == (400 if keyed else 401) else "not refused as it should be"
        if status != 200:
            return "a good request is refused"
        found = answered(json.loads(response.content))
        if found is not None:
            self.answers.append((rows, found))
        return ""


PREDICTING = ("/v1/predict", "/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer")


def refusals(live: Deployment) -> tuple[int, int]:
    """How many were logged so far, and how many counted."""
    with live.client() as client:
        lines = client.get("/metrics").text.splitlines()
    counted = sum(float(line.split()[-1]) for line in lines if line.startswith("qumos_refused_total"))
    assert live.gateway is not None
    return sum("reason" in line for line in live.gateway.lines()), int(counted)


def fuzzed(live: Deployment, examples: int) -> Fuzz:
    """Every answer is right or a refusal of a bad request, all refusals are logged and counted, and nothing breaks."""
    before = refusals(live)
    found = Fuzz(live)
    found.run(examples)
    assert not found.problems, (len(found.problems), found.problems[:5])
    after = refusals(live)
    assert [new - old for old, new in zip(before, after, strict=True)] == [found.refused] * 2
    log = live.gateway.log.read_text(encoding="utf-8")  # type: ignore[union-attr]
    assert "Traceback" not in log and '"event":"failed"' not in log
    asked = np.concatenate([np.array(rows, float) for rows, _ in found.answers])
    expected = read_bundle(live.bundle).predict_proba(asked)
    np.testing.assert_allclose(np.concatenate([one for _, one in found.answers]), expected, atol=1e-5)
    return found


def test_fuzzed_requests_are_answered_or_refused(live: Deployment) -> None:
    assert fuzzed(live, 30).count >= 90


@pytest.mark.slow
def test_thousands_of_fuzzed_requests(live: Deployment) -> None:
    """At least 5,000, good and bad ones among them, and the model answers as before."""
    found = fuzzed(live, 1700)
    assert found.count >= 5000 and min(found.statuses[200], found.statuses[400], found.statuses[401]) >= 300, found.statuses
    with live.client() as client:
        answer = client.post("/v1/predict", json={"row": [1.5] * 13}).json()["probabilities"]
    np.testing.assert_allclose(list(answer.values()), read_bundle(live.bundle).predict_proba(np.full((1, 13), 1.5))[0], atol=1e-5)


def test_what_is_no_http_is_logged_and_counted(live: Deployment) -> None:
    """It never reaches the application."""
    logged, counted = refusals(live)
    address = urlsplit(live.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as sock:  # type: ignore[arg-type]
        sock.sendall(b"nonsense\r\n\r\n")
        assert b" 400 " in sock.recv(1000)
    assert refusals(live) == (logged, counted + 1)
    assert live.gateway is not None and any(line["event"] == "server" and "HTTP" in line["message"] for line in live.gateway.lines())


# Attacked as it runs


def live_audit(live: Deployment, attacks: tuple[str, ...], url: str | None = None) -> LiveAudit:
    return audit_live(read_bundle(live.bundle), Workload(tiny()), Api(url or live.url, live.key), attacks=attacks, repeats=2)


def test_an_audit_through_the_api_finds_what_simulation_finds(live: Deployment) -> None:
    """Membership and canaries; a wrong key, a wrong place and an attack that needs more are one line."""
    found = live_audit(live, ("membership", "canaries"))
    assert found.rows > 100 and {one.attack for one in found.pairs} == {"membership", "canaries"}
    assert all(one.agree for one in found.pairs)
    bundle, workload = read_bundle(live.bundle), Workload(tiny())
    with pytest.raises(QumosError, match="refused after 0 rows"):
        audit_live(bundle, workload, Api(live.url, "qk_a_b"), attacks=("canaries",))
    with pytest.raises(QumosError, match="no answer"):
        audit_live(bundle, workload, Api("http://127.0.0.1:9", live.key), attacks=("canaries",))
    with pytest.raises(QumosError, match="needs more than answers"):
        audit_live(bundle, workload, Api(live.url, live.key), attacks=("theft",))
    with pytest.raises(QumosError, match="an address such as"):
        Api("file:///etc/passwd", "")


TINY = """
name = "tiny"
title = "tiny"
providers = [{name = "aurora"}, {name = "borealis"}]
data = {source = "wine", reducer = "pca"}
draws = {count = 2, train_rows = 30, tuning_rows = 15}
design = {qubits = 5, max_parts = 3, max_part_qubits = 3, max_gates = 40, max_gate_cuts = 2}
model = {steps = 20}
threat = {steps = 5}
"""


def test_the_command_puts_the_deployment_beside_the_simulation(
    live: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`qumos audit --live`, with a customer's key from a file or the variable; what is missing or does not fit is one line."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    Path("key").write_text(live.key + "\n")
    words = ["audit", "--live", live.url, "--bundle", str(live.bundle), "-a", "canaries", "--seeds", "1"]
    assert run(app, [*words, "-s", "tiny.toml", "--key-file", "key", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["rows"] > 20 and len(data["pairs"]) == 3 and all(one["agree"] for one in data["pairs"])
    monkeypatch.setenv("QUMOS_KEY", live.key)
    assert run(app, [*words, "-s", "tiny.toml"]) == 0
    text = capsys.readouterr().out
    assert "simulated" in text and "agree" in text and "DIFFER" not in text
    monkeypatch.delenv("QUMOS_KEY")
    for options, said in (
        (["-s", "tiny.toml"], "an API key is needed"),
        (["-s", "iris-smoke", "--key-file", "key"], "and not from this 'iris-smoke'"),
        (["--key-file", "key"], "tiny"),  # no scenario that is built in
        (["-s", "tiny.toml", "--key-file", "key", "--reference"], "goes with --bundle"),
    ):
        assert run(app, [*words, *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and said in captured.err and captured.err.count("\n") == 1, captured.err


@pytest.mark.slow
def test_all_query_attacks_agree_and_a_forged_service_does_not(live: Deployment, tmp_path: Path) -> None:
    found = live_audit(live, ())
    assert {one.attack for one in found.pairs} == {*LIVE_ATTACKS, "canaries"}
    assert all(one.agree for one in found.pairs), [one.to_dict() for one in found.pairs if not one.agree]
    bundle = read_bundle(live.bundle)
    parameters = bundle.parameters("ry")
    workload = Workload(tiny())
    other = write_bundle(
        tmp_path / "other", bundle.design, workload, replace(parameters, angles=parameters.angles + 0.5), bundle.preprocessor, {"seed": 3}
    )
    with deployed(other, tmp_path / "live") as swapped:
        apart = audit_live(bundle, workload, Api(swapped.url, swapped.key), attacks=("canaries",))
    assert not all(one.agree for one in apart.pairs)


# The page


class Outline(HTMLParser):
    """Elements with their attributes, and whatever would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: dict[str, str] = {}
        self.fetched: list[str] = []
        self.labelled: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if identity := named.get("id"):
            self.ids[identity] = tag
        if tag == "label" and named.get("for"):
            self.labelled.add(named["for"] or "")
        if named.get("aria-label") and named.get("id"):
            self.labelled.add(named["id"] or "")
        for name in ("src", "href", "action", "data"):
            if named.get(name):
                self.fetched.append(named[name] or "")


@pytest.mark.parametrize(("place", "name", "links"), [("/", "page", ["/docs"]), ("/docs", "operations", ["/", "/openapi.json"])])
def test_the_pages_need_nothing_from_elsewhere(live: Deployment, place: str, name: PageName, links: list[str]) -> None:
    """One file each, no outside resource, nothing of the model in it, and a policy that holds it to its own script."""
    response = httpx.get(live.url + place, trust_env=False)
    text = page(name)
    assert response.text == text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "http" not in policy and "unsafe" not in policy
    outline = Outline()
    outline.feed(text)
    assert outline.fetched == ["data:,", *links] and "@import" not in text and not re.search(r"url\(|https?://|innerHTML", text)
    used = set(re.findall(r'\$\("([a-z]+)"\)', text))
    assert used and used <= outline.ids.keys()
    assert {name for name, tag in outline.ids.items() if tag in ("input", "textarea", "canvas")} <= outline.labelled
    assert "width=device-width" in text and live.key not in text and "aurora" not in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_of_the_api_in_a_browser(live: Deployment, width: int) -> None:
    """Every operation and message of the description is there, and nothing is asked of anybody else; on a phone's width, too."""
    sync_api = pytest.importorskip("playwright.sync_api")
    data = httpx.get(live.url + "/openapi.json", trust_env=False).json()
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        problems: list[str] = []
        requests: list[str] = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(live.url + "/")
        tab.click("text=API")
        tab.wait_for_selector("#state", state="hidden")
        listed = {f"{method.upper()} {path}" for path, item in data["paths"].items() for method in item}
        assert set(tab.locator("summary").all_inner_texts()) == listed and len(listed) > 8
        assert set(tab.locator("h3").all_inner_texts()) == data["components"]["schemas"].keys()
        tab.click("summary:text-is('POST /v1/predict')")
        shown = tab.inner_text("details[open]")
        assert "Authorization: Bearer" in shown and "PredictOne or PredictMany" in shown and "429" in shown
        assert "array of 13 × (number, -1000000000000 to 1000000000000)" in tab.inner_text("#PredictOne")
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert not problems and all(url.startswith((live.url, "data:")) for url in requests)
        browser.close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_in_a_browser(live: Deployment, width: int, tmp_path: Path) -> None:
    """A wrong key is refused, a good one shows health, card and drawing, and a sample is classified; on a phone's width, too."""
    sync_api = pytest.importorskip("playwright.sync_api")
    row = [1.5] * 13
    expected = read_bundle(live.bundle).predict_proba(np.array([row]))[0]
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": width, "height": 800})
        problems: list[str] = []
        requests: list[str] = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda line: problems.append(line.text) if "Content Security Policy" in line.text else None)
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(live.url + "/")
        tab.fill("#key", "qk_wrong_key")
        tab.click("#login button")
        tab.wait_for_function("document.getElementById('state').textContent.includes('API key')")
        assert tab.is_hidden("#main")
        tab.fill("#key", live.key)
        tab.click("#login button")
        tab.wait_for_selector("#main:not([hidden])")
        assert "tiny, version 1" in tab.inner_text("#title") and tab.inner_text("#state") == "ready"
        assert "aurora" in tab.inner_text("#providers") and "up" in tab.inner_text("#providers")
        assert "q0" in tab.inner_text("#drawing") and "tiny" in tab.inner_text("#card")
        tab.fill("#features", "1 2 3")
        tab.click("#form button")
        assert "13 numbers are needed, not 3" in tab.inner_text("#answer")
        tab.fill("#features", ", ".join(map(str, row)))
        tab.click("#form button")
        tab.wait_for_selector("#bars td")
        shares = [float(cells[-5:]) for cells in tab.locator("#bars tr").all_inner_texts()]
        np.testing.assert_allclose(shares, expected, atol=1e-3)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert not problems and all(url.startswith((live.url, "data:")) for url in requests)
        browser.close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_digit_is_drawn_with_the_mouse(tmp_path: Path) -> None:
    """Of a model of 64 pixels the page has a canvas; what is drawn on it becomes numbers, and is classified."""
    sync_api = pytest.importorskip("playwright.sync_api")
    scenario = tiny(source="digits", classes=[0, 1, 3])
    with deployed(export_bundle(DESIGN, scenario, tmp_path / "bundle"), tmp_path / "live") as found, sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 360, "height": 800})
        tab.goto(found.url + "/")
        tab.fill("#key", found.key)
        tab.click("#login button")
        tab.wait_for_selector("#canvas:visible")
        tab.locator("#canvas").scroll_into_view_if_needed()
        box = tab.locator("#canvas").bounding_box()
        assert box is not None
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
        tab.mouse.down()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 20, steps=8)
        tab.mouse.up()
        pixels = [float(value) for value in tab.input_value("#features").split()]
        assert (
            len(pixels) == 64 and max(pixels) > 8 and sum(pixels[row * 8 + 3] + pixels[row * 8 + 4] for row in range(8)) > 0.6 * sum(pixels)
        )
        tab.click("#form button:text('Classify')")
        tab.wait_for_selector("#bars td")
        expected = read_bundle(found.bundle).predict_proba(np.array([pixels]))[0]
        shares = [float(cells[-5:]) for cells in tab.locator("#bars tr").all_inner_texts()]
        np.testing.assert_allclose(shares, expected, atol=1e-3)
        tab.click("#clear")
        assert set(tab.input_value("#features").split()) == {"0"}
        browser.close()


# Files that put it to work elsewhere


def option_names(command: str) -> set[str]:
    """Of a `qumos` command, from its help."""
    environment = os.environ | {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
    code = "import sys; from qumos_env.cli import app, run; sys.exit(run(app))"
    text = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=True, env=environment
    ).stdout
    return set(re.findall(r"--[a-z-]+", text))


def assert_command(words: list[str]) -> None:
    """A command that there is, with options that it has."""
    assert words[0] in ("provider", "serve")
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= option_names(words[0])


def test_the_compose_file_keeps_providers_apart() -> None:
    """One container each, in an internal network of its own with the gateway alone, with its own folder and nothing else."""
    data = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    services, networks = data["services"], data["networks"]
    providers = [name for name, one in services.items() if one["command"][0] == "provider"]
    assert sorted([*providers, "gateway"]) == sorted(services)
    for one in services.values():
        assert_command([str(word) for word in one["command"]])
        assert one["read_only"] and one["cap_drop"] == ["ALL"]
        assert set(one["networks"]) <= networks.keys()
    for name in providers:
        assert services[name]["networks"] == [name] and networks[name]["internal"] and "ports" not in services[name]
        (volume,) = services[name]["volumes"]
        assert volume.endswith(f"/providers/{name}:/part:ro")
        assert f"--provider={name}=http://{name}:9001" in services["gateway"]["command"]
        others = [other for other, one in services.items() if other != name and name in one["networks"]]
        assert others == ["gateway"]


def test_the_kubernetes_manifest_keeps_providers_apart() -> None:
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8")))
    by_kind: dict[str, list[Any]] = {}
    for one in documents:
        assert {"apiVersion", "kind", "metadata"} <= one.keys()
        by_kind.setdefault(one["kind"], []).append(one)
    assert {kind: len(found) for kind, found in by_kind.items()} == {
        "Deployment": 3,
        "Service": 3,
        "NetworkPolicy": 1,
        "PersistentVolumeClaim": 1,
    }
    (policy,) = by_kind["NetworkPolicy"]
    assert policy["spec"]["egress"] == [] and policy["spec"]["podSelector"]["matchLabels"]["role"] == "provider"
    for one in by_kind["Deployment"]:
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert_command([str(word) for word in container["args"]])
        assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]
        assert one["spec"]["selector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}
        if container["name"] == "provider":
            name = one["metadata"]["labels"]["provider"]
            assert pod["volumes"] == [{"name": "part", "secret": {"secretName": f"qumos-{name}", "defaultMode": 0o440}}]
    ports = {one["metadata"]["name"]: one["spec"]["ports"][0]["port"] for one in by_kind["Service"]}
    assert ports == {"aurora": 9001, "borealis": 9001, "qumos": 8080}


def test_units_and_image_run_commands_that_there_are() -> None:
    for name in ("qumos-provider@.service", "qumos-gateway.service"):
        text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
        (line,) = re.findall(r"^ExecStart=/opt/qumos/bin/qumos (.*)$", text, re.M)
        assert_command([word for word in line.split() if not word.startswith("$")])
        assert re.findall(r"^\[(\w+)\]$", text, re.M) == ["Unit", "Service", "Install"]
        assert all(setting in text for setting in ("ProtectSystem=strict", "NoNewPrivileges=yes", "Restart=on-failure"))
    image = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    for line in image.splitlines():
        if line.startswith("COPY") and "--from" not in line:
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources)
    assert image.index("USER qumos") < image.index("ENTRYPOINT") and '".[serve]"' in image


def test_the_adapter_of_ray_is_a_few_lines() -> None:
    """Compiled, and made of names that there are; Ray Serve itself is no dependency of tests."""
    import ast

    tree = ast.parse((ROOT / "deploy" / "ray_serve.py").read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qumos_env")]
    for node in imported:
        module = __import__(node.module or "", fromlist=["*"])
        assert all(hasattr(module, name.name) for name in node.names)
    assert len(imported) == 2 and sum(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in tree.body) == 2


def test_sealed_nonsense_opens_the_breaker() -> None:
    """An answer that is authentic and says nothing is a failure like any other: retried, counted, and in the end the provider rests."""
    seal, asked = Seal("token"), []

    def answered(request: httpx.Request) -> httpx.Response:
        once = seal.check_request(f"POST {request.url.path}", request.headers[HEADER], request.content)
        assert once is not None
        asked.append(once)
        return httpx.Response(200, content=b"{}", headers={HEADER: seal.response(once, 200, b"{}")})

    patience = Patience(pause=0.001, rest=60.0, attempts=3, failures=4)
    client = ProviderClient("aurora", "http://aurora", "token", httpx.MockTransport(answered), patience, Metrics(), Log("gateway"))

    async def ask() -> None:
        await client.run("model", 1, [Seat(0, "aurora", (0, 1), ())], np.zeros((1, 2)), None, "id", {0: 1})

    for calls, state in ((3, "closed"), (4, "open"), (4, "open")):
        with pytest.raises(Unavailable):
            asyncio.run(ask())
        assert len(asked) == calls and client.breaker.state == state

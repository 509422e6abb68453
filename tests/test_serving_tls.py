"""TLS between customers, gateway and providers, as processes of their own: who shows the right certificate, who does not, and bad files."""

from __future__ import annotations

import ipaddress
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from serving import MAIN, Deployment, deployed
from test_bundle import DESIGN, tiny

from qumos_env.audit.live import Api
from qumos_env.cli import app, run
from qumos_env.deployment.bundle import read_bundle
from qumos_env.deployment.export import export_bundle
from qumos_env.deployment.serving.provider import RUN
from qumos_env.deployment.serving.seal import HEADER, Seal
from qumos_env.deployment.tokens import read_token
from qumos_env.errors import QumosError

ROW = [1.5] * 13


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        extensions = [(x509.BasicConstraints(True, 0), True), (usage, True)]
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(self._signed(self._name, self._key, extensions))

    def issue(self, name: str, passphrase: bytes | None = None) -> Issued:
        """A certificate for ``name`` at 127.0.0.1, for servers and clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        found = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        found.certificate.write_bytes(self._signed(subject, key, [(x509.BasicConstraints(False, None), True), (place, False)]))
        how = serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
        found.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
        return found

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list[tuple[x509.ExtensionType, bool]]) -> bytes:
        now = datetime.now(UTC)
        mine, theirs = self._key.public_key(), key.public_key()
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(theirs)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=1))
        names = [
            (x509.SubjectKeyIdentifier.from_public_key(theirs), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(mine), False),
        ]
        for extension, critical in [*extensions, *names]:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Encrypted:
    """A deployment whose messages are all encrypted, and the certificates around it."""

    live: Deployment
    authority: Authority
    gateway: Issued
    stranger: Issued

    @property
    def towards(self) -> tuple[object, ...]:
        """Options of a gateway that shows its certificate to the providers and knows theirs."""
        shown = ("--client-cert", self.gateway.certificate, "--client-key", self.gateway.key)
        return ("--providers-ca", self.authority.certificate, *shown)

    def urls(self) -> dict[str, str]:
        return {name: server.url for name, server in self.live.providers.items()}

    def context(self, shown: Issued | None = None) -> ssl.SSLContext:
        """Of a client that trusts the authority, and shows a certificate if there is one."""
        found = ssl.create_default_context(cafile=self.authority.certificate)
        if shown is not None:
            found.load_cert_chain(shown.certificate, shown.key)
        return found


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = Authority(folder, "authority"), Authority(folder, "other")
    gateway, stranger, provider = authority.issue("gateway"), other.issue("stranger"), authority.issue("provider")
    bundle = export_bundle(DESIGN, tiny(), folder / "bundle", seed=3)
    server = ("--tls-cert", provider.certificate, "--tls-key", provider.key, "--tls-client-ca", authority.certificate)
    with deployed(bundle, folder / "live", provider_options=server, gateway=False) as live:
        found = Encrypted(live, authority, gateway, stranger)
        live.start_gateway("--tls-cert", gateway.certificate, "--tls-key", gateway.key, *found.towards, urls=found.urls())
        yield found


def test_an_answer_that_was_encrypted_all_the_way(encrypted: Encrypted) -> None:
    """From customer to gateway and from there to the providers; that of the model, and nothing without encryption."""
    live = encrypted.live
    expected = read_bundle(live.bundle).predict_proba(np.array([ROW]))[0]
    servers = [live.gateway, *live.providers.values()]
    assert all(server is not None and server.url.startswith("https://") for server in servers)
    with live.client(verify=encrypted.context()) as client:
        answer = client.post("/v1/predict", json={"row": ROW})
    assert answer.status_code == 200
    np.testing.assert_allclose(list(answer.json()["probabilities"].values()), expected, atol=1e-5)
    for server in servers:
        assert server is not None and server.lines()[0]["tls"] is True
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url.replace("https", "http") + "/", trust_env=False)
    with pytest.raises(httpx.ConnectError, match="certificate"):
        httpx.get(live.url, trust_env=False)  # of an authority that nobody else knows


def test_a_provider_lets_only_known_certificates_in(encrypted: Encrypted) -> None:
    """None, and one of another authority, are refused before a word is said; the right one still needs the seal."""
    live = encrypted.live
    url = live.providers["aurora"].url
    for shown in (None, encrypted.stranger):
        with pytest.raises(httpx.TransportError):
            httpx.get(url + "/health", verify=encrypted.context(shown), trust_env=False)
    known = encrypted.context(encrypted.gateway)
    assert httpx.get(url + "/health", verify=known, trust_env=False).json() == {"status": "ok"}
    body = b'{"model": "tiny", "version": 1, "parts": []}'
    assert httpx.post(url + RUN, content=body, verify=known, trust_env=False).status_code == 401
    seal = Seal(read_token(live.bundle / "providers" / "aurora" / "token"))
    headers = {HEADER: seal.request(f"POST {RUN}", body)[0]}
    assert httpx.post(url + RUN, content=body, headers=headers, verify=known, trust_env=False).status_code == 422
    assert "Traceback" not in live.providers["aurora"].log.read_text(encoding="utf-8")


def test_a_gateway_without_the_right_certificates_gives_no_answer(encrypted: Encrypted, tmp_path: Path) -> None:
    """It shows none, or a stranger's, or meets a provider whose authority it does not know: a 503, and no answer."""
    live, authority = encrypted.live, encrypted.authority.certificate
    other = authority.with_name("other.pem")
    mine = ("--client-cert", encrypted.gateway.certificate, "--client-key", encrypted.gateway.key)
    theirs = ("--client-cert", encrypted.stranger.certificate, "--client-key", encrypted.stranger.key)
    cases = (("--providers-ca", authority), ("--providers-ca", authority, *theirs), ("--providers-ca", other, *mine))
    for number, options in enumerate(cases):
        refused = Deployment(live.bundle, tmp_path / str(number), live.ports, key=live.key)
        refused.folder.mkdir()
        refused.start_gateway("--state", live.state, *options, urls=encrypted.urls())
        assert refused.gateway is not None
        try:
            with refused.client() as client:
                answer = client.post("/v1/predict", json={"row": ROW})
            assert answer.status_code == 503 and "unreachable" in answer.json()["error"]
        finally:
            refused.gateway.kill()


def test_the_commands_of_customer_and_owner_know_the_authority(
    encrypted: Encrypted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that OpenSSL reads; without it one line."""
    live = encrypted.live
    (tmp_path / "key").write_text(live.admin)
    words = ["deploy", "--rollback", "1", "--url", live.url, "--key-file", str(tmp_path / "key")]
    for variables, code, said in (({"SSL_CERT_FILE": str(encrypted.authority.certificate)}, 0, "version 1"), ({}, 2, "certificate")):
        done = subprocess.run([sys.executable, "-c", MAIN, *words], capture_output=True, text=True, env=os.environ | variables)
        text = done.stdout + done.stderr
        assert (done.returncode, said in text.lower(), text.count("\n")) == (code, True, 1), text
    with pytest.raises(QumosError, match="certificate"):
        Api(live.url, live.key).probabilities(np.array([ROW]))
    monkeypatch.setenv("SSL_CERT_FILE", str(encrypted.authority.certificate))
    found = Api(live.url, live.key).probabilities(np.array([ROW]))
    np.testing.assert_allclose(found, read_bundle(live.bundle).predict_proba(np.array([ROW])), atol=1e-5)


def test_bad_files_are_one_line(encrypted: Encrypted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, half, garbage, of another pair, with a passphrase, or given where nothing is encrypted."""
    live, good = encrypted.live, encrypted.gateway
    garbage, empty = tmp_path / "garbage.pem", tmp_path / "empty.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    empty.write_bytes(b"\xff")
    locked = encrypted.authority.issue("locked", b"secret")
    pair = ["--tls-cert", good.certificate, "--tls-key", good.key]
    cases: list[tuple[list[object], str]] = [
        (["--tls-cert", tmp_path / "none.pem", "--tls-key", good.key], "none.pem"),
        (["--tls-cert", good.certificate], "come together"),
        (["--tls-key", good.key], "come together"),
        (["--tls-cert", garbage, "--tls-key", good.key], "garbage.pem"),
        (["--tls-cert", good.certificate, "--tls-key", empty], "empty.pem: no private key"),
        (["--tls-cert", good.key, "--tls-key", good.certificate], "gateway.key: no certificate"),
        (["--tls-cert", good.certificate, "--tls-key", encrypted.stranger.key], "stranger.key"),
        (["--tls-cert", locked.certificate, "--tls-key", locked.key], "locked.key"),
    ]
    provider: list[tuple[list[object], str]] = [
        ([*pair, "--tls-client-ca", tmp_path / "none.pem"], "none.pem"),
        ([*pair, "--tls-client-ca", garbage], "garbage.pem"),
        (["--tls-client-ca", encrypted.authority.certificate], "give it a certificate"),
    ]
    gateway: list[tuple[list[object], str]] = [
        (["--providers-ca", empty], "empty.pem: no certificate"),
        (["--client-cert", good.certificate], "come together"),
        (["--providers-ca", encrypted.authority.certificate, "-p", "aurora=http://127.0.0.1:1"], "no provider with an https address"),
        (["-p", "aurora=https://[::1"], "provider aurora: an address such as"),
    ]
    serve: list[object] = ["serve", live.bundle, "--port", 0, "--state", tmp_path / "state", "-p", "borealis=http://127.0.0.1:1"]
    commands = [(["provider", live.bundle / "providers" / "aurora", "--port", 0, *options], said) for options, said in [*cases, *provider]]
    commands += [([*serve, "-p", "aurora=https://127.0.0.1:1", *options], said) for options, said in [*cases, *gateway[:2]]]
    commands += [([*serve, *options], said) for options, said in gateway[2:]]
    for words, said in commands:
        assert run(app, [str(word) for word in words]) == 2, words
        captured = capsys.readouterr()
        assert captured.out == "" and said in captured.err and captured.err.count("\n") == 1, captured.err

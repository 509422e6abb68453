"""Starting a provider or a gateway as a process of its own."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from fastapi import FastAPI

from ...errors import QumosError, one_line, shown
from ...files import read_bytes
from ..tokens import OWNER_FILE, PROVIDER_FILE, read_token, read_tokens
from .api import gateway_app
from .gateway import Gateway, GatewaySettings
from .logs import LibraryLog, Log
from .provider import Provider, Settings, provider_app
from .state import State, default_state

if TYPE_CHECKING:
    import cirq


@dataclass(frozen=True)
class Tls:
    """Files of TLS, in PEM.

    Attributes:
        certificate, key: of this server, or of this client.
        authority: who must have signed the other side's certificate.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def check(self) -> None:
        """Raises QumosError where a file cannot be used, is half of a pair, or does not fit the other half."""
        if (self.certificate is None) != (self.key is None):
            raise QumosError("TLS: a certificate and its key come together")
        for path, what in ((self.certificate, "CERTIFICATE"), (self.key, "PRIVATE KEY"), (self.authority, "CERTIFICATE")):
            if path is not None and f"{what}-----".encode() not in read_bytes(path):
                raise QumosError(f"{path}: no {what.lower()} in PEM")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.certificate is not None and self.key is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password="")  # a server has nobody to ask for a passphrase
            except ssl.SSLError as error:
                raise QumosError(f"{self.certificate} and {self.key}: no certificate and its key ({one_line(error)})") from error
        if self.authority is not None:
            try:
                context.load_verify_locations(self.authority)
            except ssl.SSLError as error:
                raise QumosError(f"{self.authority}: no certificates in PEM ({one_line(error)})") from error


@dataclass(frozen=True)
class Address:
    """Where a server listens; port 0 is any that is free."""

    host: str
    port: int
    tls: Tls


def serve(app: FastAPI, address: Address, log: Log) -> None:
    """Serves ``app`` until the process is told to end; requests under way are answered first.

    ``app.state.malformed``, if there is one, is called for each request that is no HTTP and so never reaches ``app``.

    Raises:
        QumosError: the address is taken, or not of this machine.
    """
    address.tls.check()
    if address.tls.authority is not None and address.tls.certificate is None:
        raise QumosError("TLS: clients show certificates only to a server that has one; give it a certificate and a key")
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.set_inheritable(True)
    except (OSError, OverflowError) as error:
        raise QumosError(f"cannot listen on {address.host} port {address.port} ({one_line(error)})") from error
    tls: dict[str, Any] = {}
    if address.tls.certificate is not None:
        tls = {"ssl_certfile": str(address.tls.certificate), "ssl_keyfile": str(address.tls.key)}
        if address.tls.authority is not None:
            tls |= {"ssl_ca_certs": str(address.tls.authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=10, timeout_keep_alive=65, **tls
    )
    if not tls and not _private(address.host):
        log.event("warning", message="listening beyond this machine without TLS: inputs and answers can be read on the way")
    log.event("listening", host=address.host, port=listening.getsockname()[1], tls=bool(tls))
    logging.getLogger().addHandler(LibraryLog(log, getattr(app.state, "malformed", lambda: None)))
    uvicorn.Server(config).run(sockets=[listening])
    sys.stderr.flush()


def _private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_provider(folder: Path, address: Address, settings: Settings, token: Path | None, quiet: bool) -> None:
    """Serves the provider's ``folder``; raises QumosError where it or its token cannot be used."""
    provider = Provider(folder, settings)
    log = Log(f"provider {provider.name}", quiet=quiet)
    serve(provider_app(provider, read_token(token or folder / PROVIDER_FILE), log), address, log)


def make_gateway(
    bundle: Path,
    urls: Mapping[str, str],
    settings: GatewaySettings,
    *,
    state: Path | None = None,
    tokens: Path | None = None,
    tls: Tls | None = None,
    public_key: str | None = None,
    log: Log | None = None,
) -> FastAPI:
    """The gateway's application for the bundle in a folder.

    Args:
        bundle: the folder.
        urls: of the providers, by name.
        settings: how it serves.
        state: folder of what survives a restart; default ``default_state()``.
        tokens: the owner's file of tokens; default that of the bundle.
        tls: towards the providers.
        public_key: the owner's, hexadecimal.
        log: default one on standard error.

    Raises:
        QumosError: a bundle, state, token or address that cannot be used.
    """
    schemes = {_scheme(name, url) for name, url in urls.items()}
    chosen = tls or Tls()
    chosen.check()
    verify: ssl.SSLContext | bool = False  # nothing to verify, and loading the system's certificates takes time
    if "https" in schemes:
        verify = ssl.create_default_context(cafile=chosen.authority)
        if chosen.certificate is not None:
            verify.load_cert_chain(chosen.certificate, chosen.key)
    elif chosen != Tls():
        raise QumosError("TLS: there are certificates for calls of providers, and no provider with an https address")
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=60)
    transport = httpx.AsyncHTTPTransport(verify=verify, limits=limits, trust_env=False)
    kept = State(state or default_state())
    writer = log or Log("gateway")
    held = read_tokens(tokens or bundle / OWNER_FILE)
    gateway = Gateway(bundle, urls, held, kept, transport, settings, writer, public_key)

    async def end() -> None:
        await transport.aclose()
        await asyncio.to_thread(kept.close)

    return gateway_app(gateway, end)


def _scheme(name: str, url: str) -> str:
    """Of the address of a provider; raises QumosError where it is none."""
    try:
        parsed = httpx.URL(url)
        if parsed.scheme in ("http", "https") and parsed.host:
            return parsed.scheme
    except httpx.InvalidURL:
        pass
    raise QumosError(f"provider {name}: an address such as http://127.0.0.1:9001 is needed, got {shown(url)}")


def named_sampler(name: str) -> cirq.Sampler:
    """The ``cirq.Sampler`` that ``module:attribute`` names, or makes where it is a function; the owner of the machine chose to run it.

    Raises:
        QumosError: there is none.
    """
    import cirq

    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise QumosError(f"--sampler {name}: {one_line(error)}; module:attribute is needed") from error
    sampler = found() if callable(found) and not isinstance(found, cirq.Sampler) else found
    if not isinstance(sampler, cirq.Sampler):
        raise QumosError(f"--sampler {name}: is no cirq.Sampler, and makes none")
    return sampler

"""`qumos provider`, `qumos serve`, `qumos keys`, `qumos deploy`: what runs a bundle."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..errors import QumosError, one_line
from ..files import read_text
from .app import JsonOption, app, console
from .bundles import KeyOption, expected_key

if TYPE_CHECKING:
    from ..deployment.serving.state import State
    from ..deployment.vendors import Backend
    from ..simulation.channels import NoiseSpec

keys_app = typer.Typer(help="Customers' API keys of a gateway.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
_EXTRA = "pip install 'qumos-env[serve]'"

HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
CertificateOption = Annotated[Path | None, typer.Option("--tls-cert", help="PEM certificate of this server.")]
CertificateKeyOption = Annotated[Path | None, typer.Option("--tls-key", help="PEM key of the certificate.")]
StateOption = Annotated[Path | None, typer.Option("--state", help="Folder of keys, quotas, events and versions.")]
UrlOption = Annotated[str, typer.Option("--url", help="Address of the gateway.")]
KeyFileOption = Annotated[Path | None, typer.Option("--key-file", help="File with an API key; default the variable QUMOS_KEY.")]


@app.command()
def provider(
    folder: Annotated[Path, typer.Argument(help="The provider's folder of a bundle: DIR/providers/NAME.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one and logs it.")] = 9001,
    host: HostOption = "127.0.0.1",
    token: Annotated[Path | None, typer.Option(help="File with the token; default `token` in the folder.")] = None,
    key: KeyOption = None,
    backend: Annotated[str, typer.Option(help="qsim, or an adapter: local, google, ionq, aqt, pasqal.")] = "qsim",
    sampler: Annotated[str | None, typer.Option(help="module:attribute of a cirq.Sampler for the adapter.")] = None,
    noise: Annotated[str | None, typer.Option(help="Rates such as one_qubit=0.001,two_qubit=0.01 of the local simulator.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of shots; default from the system.")] = None,
    tls_cert: CertificateOption = None,
    tls_key: CertificateKeyOption = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM certificates: only clients signed by one of them may connect.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log events, not every request.")] = False,
) -> None:
    """Run one provider: answer the gateway that holds the same token, from the circuits in the folder."""
    _needs_extra()
    from ..deployment.serving.provider import Settings
    from ..deployment.serving.run import Address, Tls, run_provider

    rates = None if noise is None else _noise(noise)
    chosen = _backend(backend, sampler, seed, rates)
    settings = Settings(seed, rates if chosen is None else None, chosen, expected_key(key))
    run_provider(folder, Address(host, port, Tls(tls_cert, tls_key, tls_client_ca)), settings, token, quiet)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    provider: Annotated[
        list[str] | None, typer.Option("--provider", "-p", help="NAME=URL of a provider, such as aurora=http://127.0.0.1:9001; repeated.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one and logs it.")] = 8080,
    host: HostOption = "127.0.0.1",
    state: StateOption = None,
    tokens: Annotated[Path | None, typer.Option(help="The owner's file of tokens; default owner/tokens.json of the bundle.")] = None,
    key: KeyOption = None,
    shots: Annotated[int | None, typer.Option(min=1, max=10**6, help="Of every circuit; default the design's.")] = None,
    check_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of batches in which a provider's answers are checked.")] = 0.05,
    allowance: Annotated[float, typer.Option(min=0, max=2, help="What an honest provider's values may be off, besides shots.")] = 1e-4,
    patience: Annotated[float, typer.Option(min=0.05, max=600, help="Seconds in which providers must have answered.")] = 2.0,
    tls_cert: CertificateOption = None,
    tls_key: CertificateKeyOption = None,
    providers_ca: Annotated[Path | None, typer.Option(help="PEM certificates that sign the providers'.")] = None,
    client_cert: Annotated[Path | None, typer.Option(help="PEM certificate that the gateway shows to providers.")] = None,
    client_key: Annotated[Path | None, typer.Option(help="PEM key of it.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log events, not every request.")] = False,
) -> None:
    """Run the gateway: the owner's half of a bundle behind a standard API, in front of the providers."""
    _needs_extra()
    from ..deployment.serving.calls import Patience
    from ..deployment.serving.canaries import Checks
    from ..deployment.serving.gateway import GatewaySettings
    from ..deployment.serving.logs import Log
    from ..deployment.serving.run import Address, Tls, make_gateway
    from ..deployment.serving.run import serve as serve_app

    urls = {}
    for text in provider or ():
        name, equals, url = text.partition("=")
        if not equals:
            raise QumosError(f"--provider {text}: NAME=URL is needed")
        urls[name] = url
    settings = GatewaySettings(
        patience=Patience(total=patience, attempt=patience / 2), checks=Checks(rate=check_rate, allowance=allowance), shots=shots
    )
    log = Log("gateway", quiet=quiet)
    gateway = make_gateway(
        bundle,
        urls,
        settings,
        state=state,
        tokens=tokens,
        tls=Tls(client_cert, client_key, providers_ca),
        public_key=expected_key(key),
        log=log,
    )
    serve_app(gateway, Address(host, port, Tls(tls_cert, tls_key)), log)


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Of the customer.")],
    state: StateOption = None,
    quota: Annotated[int | None, typer.Option(min=0, help="Rows a day (UTC).")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Requests a second, on average.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May deploy, roll back, and read events.")] = False,
) -> None:
    """Make a key and print it, once; a running gateway knows it within a second."""
    typer.echo(_state(state).add_key(name, admin=admin, quota=quota, rate=rate))


@keys_app.command("list")
def list_keys(state: StateOption = None, as_json: JsonOption = False) -> None:
    """The keys, what they may and what they used today."""
    kept = _state(state)
    used = kept.usage(time.strftime("%Y-%m-%d", time.gmtime()))
    found: list[dict[str, Any]] = [
        {
            "id": key.id,
            "name": key.name,
            "admin": key.admin,
            "quota": key.quota,
            "rate": key.rate,
            "used_today": used.get(key.id, 0),
            "revoked": key.revoked is not None,
        }
        for key in kept.keys().values()
    ]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(title="Keys", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("id", "name", "admin", "quota", "rate", "used today", "revoked"):
        table.add_column(heading)
    for one in found:
        table.add_row(*("-" if value is None else {True: "yes", False: "no"}.get(value, str(value)) for value in one.values()))
    console().print(table)


@keys_app.command("revoke")
def revoke_key(key: Annotated[str, typer.Argument(help="Id of the key, or name of who has it.")], state: StateOption = None) -> None:
    """End a key, or all of a customer's; a running gateway refuses it within a second."""
    _state(state).revoke_key(key)
    typer.echo(f"revoked {key}")


@app.command()
def deploy(
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle that replaces the running version.")] = None,
    url: UrlOption = "http://127.0.0.1:8080",
    key_file: KeyFileOption = None,
    rollback: Annotated[int | None, typer.Option(min=1, help="Go back to this version in place of a bundle.")] = None,
    trust: Annotated[str | None, typer.Option(help="Let this provider, which was caught, take part again.")] = None,
) -> None:
    """Replace the version that a gateway serves, without a request lost; or go back to an earlier one."""
    _needs_extra()
    import httpx

    from ..deployment.serving.served import contents_of

    if sum(one is not None for one in (bundle, rollback, trust)) != 1:
        raise QumosError("one of these is needed: the folder of a bundle, --rollback VERSION, or --trust PROVIDER")
    body: dict[str, Any]
    if bundle is not None:
        path, body = "/v1/deploy", {"files": {name: content.decode("utf-8") for name, content in contents_of(bundle).items()}}
    elif rollback is not None:
        path, body = "/v1/rollback", {"version": rollback}
    else:
        path, body = "/v1/trust", {"provider": trust}
    try:
        response = httpx.post(url.rstrip("/") + path, json=body, headers={"authorization": f"Bearer {read_key(key_file)}"}, timeout=120)
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise QumosError(f"{url}: {one_line(error)}") from error
    if response.status_code != 200:
        raise QumosError(f"{url}: {answer.get('error', response.status_code)}")
    typer.echo(f"{url}: {', '.join(f'{name} {value}' for name, value in answer.items())}")


def read_key(path: Path | None) -> str:
    """The API key in the file, or in the variable QUMOS_KEY; raises QumosError where there is none."""
    import os

    key = os.environ.get("QUMOS_KEY", "") if path is None else read_text(path)
    if not key.strip():
        raise QumosError("an API key is needed: --key-file FILE, or the variable QUMOS_KEY")
    return key.strip()


def _state(path: Path | None) -> State:
    _needs_extra()
    from ..deployment.serving.state import State, default_state

    return State(path or default_state())


def _needs_extra() -> None:
    """Raises QumosError where what serves is not installed."""
    from importlib.util import find_spec

    for package in ("fastapi", "httpx", "orjson", "prometheus_client", "uvicorn"):
        if find_spec(package) is None:
            raise QumosError(f"package {package} is missing; {_EXTRA}")


def _noise(text: str) -> NoiseSpec:
    from dataclasses import fields

    from ..errors import unknown
    from ..simulation.channels import NoiseSpec, ReadoutError

    names = [field.name for field in fields(NoiseSpec) if field.name != "readout"]
    rates: dict[str, float] = {}
    for piece in text.split(","):
        name, _, value = piece.strip().partition("=")
        if name not in (*names, "readout"):
            raise unknown("rate of noise", name, (*names, "readout"))
        try:
            rates[name] = float(value)
        except ValueError as error:
            raise QumosError(f"--noise {piece}: a number is needed") from error
    readout = rates.pop("readout", 0.0)
    return NoiseSpec(**rates, readout=ReadoutError(readout, readout))


def _backend(name: str, sampler: str | None, seed: int | None, noise: NoiseSpec | None) -> Backend | None:
    if name == "qsim" and sampler is None:
        return None
    import numpy as np

    from ..deployment.serving.run import named_sampler
    from ..deployment.vendors import Backend, vendor

    adapter = vendor("local" if name == "qsim" else name, None if sampler is None else named_sampler(sampler))
    return Backend.of(adapter, np.random.default_rng(seed), noise)

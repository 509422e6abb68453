"""`qumos bundle`: check a bundle, look into it, and print what describes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import QumosError, unknown
from ..files import write_text
from .app import JsonOption, app, console

bundle_app = typer.Typer(help="Check, inspect and describe bundles.", no_args_is_help=True)
app.add_typer(bundle_app, name="bundle")

BundleArgument = Annotated[Path, typer.Argument(help="Folder of a bundle.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="The owner's public key, 64 hexadecimal digits, or a file that holds it.")]


@bundle_app.command()
def verify(bundle: BundleArgument, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Check everything: the signature, every file, and that the circuits are those of the design.

    Without --key any signature that holds is accepted, so that only a change is noticed; with it, a forgery is too.
    """
    from ..deployment.bundle import read_bundle

    found = read_bundle(bundle, expected_key(key))
    found.parameters(found.axis)  # every circuit is that of the design
    manifest = found.manifest
    if as_json:
        facts = {name: manifest[name] for name in ("name", "version", "created")}
        typer.echo(json.dumps(facts | {"key": manifest["signature"]["public_key"]}))
        return
    pinned = "the expected key" if key else "key " + manifest["signature"]["public_key"]
    what = f"{manifest['name']} version {manifest['version']} of {manifest['created']}"
    typer.echo(f"{bundle}: {what}, {len(manifest['files'])} files, whole")
    typer.echo(f"signed with {pinned}")


@bundle_app.command()
def inspect(bundle: BundleArgument, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """What a bundle holds, and who gets which file."""
    from ..deployment.folder import bundle_folder
    from ..deployment.owner import read_owner

    files = bundle_folder(bundle, expected_key(key))
    model = read_owner(files, bundle)
    manifest = model.manifest
    if as_json:
        typer.echo(json.dumps(manifest, indent=2))
        return
    table = Table(title=f"{manifest['name']}, version {manifest['version']}", title_justify="left", show_header=False, box=None)
    table.add_row("created", manifest["created"])
    table.add_row("scenario", manifest["scenario"])
    table.add_row("signed with", manifest["signature"]["public_key"])
    table.add_row("features", f"{len(model.preprocessor.matrix)} -> {model.n_qubits} qubits -> {len(model.classes)} classes")
    table.add_row("gate cuts", str(len(model.cut_angles)))
    table.add_row("fallback", "allowed" if model.fallback is not None else "no")
    for name in ("test_accuracy", "test_rows", "train_rows", "seed"):
        if name in manifest:
            table.add_row(name.replace("_", " "), str(manifest[name]))
    console().print(table)
    table = Table(title="Parts", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("part", "provider", "qubits", "circuits"):
        table.add_column(heading)
    for part in model.parts:
        table.add_row(str(part.index), part.provider, " ".join(map(str, part.qubits)), str(5 ** len(part.cuts)))
    console().print(table)
    places = [name.rpartition("/")[0] for name in sorted(manifest["files"])]
    for place in dict.fromkeys(places):
        console().print(f"{place}: {places.count(place)} files")


@bundle_app.command()
def card(
    bundle: BundleArgument,
    key: KeyOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Markdown file; default standard output.")] = None,
) -> None:
    """The model card: what the model is, its drawing, figures and audit, in Markdown."""
    from ..deployment.card import model_card
    from ..deployment.folder import bundle_folder
    from ..deployment.owner import read_owner

    text = model_card(read_owner(bundle_folder(bundle, expected_key(key)), bundle))
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.suffix != ".md":
        raise QumosError(f"{out}: the ending must be .md")
    write_text(out, text)
    typer.echo(f"wrote {out}")


@bundle_app.command()
def schema(
    kind: Annotated[str | None, typer.Argument(help="manifest, provider-manifest, assembly, head or preprocessing.")] = None,
) -> None:
    """The JSON Schema of a file of bundles, or of all."""
    from ..deployment.schema import json_schemas

    every = json_schemas()
    if kind is not None and kind not in every:
        raise unknown("kind of file", kind, every)
    typer.echo(json.dumps(every if kind is None else every[kind], indent=2))


@bundle_app.command()
def key(path: Annotated[Path | None, typer.Option("--key", help="PEM file of the signing key; made where it is missing.")] = None) -> None:
    """Print the public half of the owner's signing key, which others pin."""
    from ..deployment.signing import new_key, owner_key, public_hex

    typer.echo(public_hex(new_key(path) if path is not None and not path.exists() else owner_key(path)))


@bundle_app.command()
def tokens(bundle: BundleArgument) -> None:
    """New tokens for gateway and providers, in their folders; the old ones end with the next start."""
    from ..deployment.folder import bundle_folder
    from ..deployment.tokens import providers_of, write_tokens

    manifest = bundle_folder(bundle).manifest
    write_tokens(bundle, manifest)
    typer.echo(f"wrote new tokens for {', '.join(providers_of(manifest))}")


def expected_key(text: str | None) -> str | None:
    """The public key that ``--key`` gives, itself or in a file."""
    from ..files import read_text

    if text is None:
        return None
    digits = text if len(text) == 64 and not Path(text).exists() else read_text(Path(text)).strip()
    if len(digits) != 64 or set(digits.lower()) - set("0123456789abcdef"):
        raise QumosError("--key: a public key of 64 hexadecimal digits is needed, see `qumos bundle key`")
    return digits.lower()

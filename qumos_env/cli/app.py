"""The `qumos` app: what its commands share, and how errors end it."""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import EvaluationFailure, QumosError, one_line

if TYPE_CHECKING:
    from ..scenario import Scenario

app = typer.Typer(
    name="qumos",
    help="Design, evaluate, audit and export distributed quantum machine-learning models.",
    no_args_is_help=True,
    add_completion=False,
)

ScenarioOption = Annotated[str, typer.Option("--scenario", "-s", help="Name of a built-in scenario or path of a TOML file.")]
SeedOption = Annotated[int | None, typer.Option(help="Evaluation seed; default the scenario's.", min=0)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
_SECONDS_BETWEEN_LINES = 10.0  # of progress, where nobody watches a bar
DesignArgument = Annotated[Path, typer.Argument(help="JSON file of a design.")]


def console() -> Console:
    """Standard output; square brackets in what is printed are text, since names and titles are a user's."""
    return Console(markup=False, emoji=False)


def load_scenario(name: str) -> Scenario:
    """As ``qumos_env.scenario.load_scenario``, which loads Cirq: help and what serves start without it."""
    from ..scenario import load_scenario as load

    return load(name)


class Move(Protocol):
    """Moves a progress bar: steps done, steps in all, and what is being done."""

    def __call__(self, done: int, total: int, what: str = "") -> None: ...


@contextmanager
def progress_bar(description: str) -> Iterator[Move]:
    """A progress bar on standard error, or in a log a line now and then; yields the function that moves it."""
    output = Console(stderr=True)
    if not output.is_terminal:
        yield _lines(description)
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=output,
        transient=True,
    ) as progress:
        task = progress.add_task(description, total=None)

        def move(done: int, total: int, what: str = "") -> None:
            progress.update(task, completed=done, total=total, description=f"{description} {what}".rstrip())

        yield move


def _lines(description: str) -> Move:
    told = time.monotonic()

    def move(done: int, total: int, what: str = "") -> None:
        nonlocal told
        if time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            typer.echo(f"{description} {what} {done}/{total}".replace("  ", " "), err=True)

    return move


_PLAIN = "qumos.plain"
_SPELT = {"\N{NO-BREAK SPACE}": " ", "\N{PLUS-MINUS SIGN}": "+-"}


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for characters that a terminal cannot show: the signs of intervals as they are typed, others as their numbers."""
    if isinstance(error, UnicodeEncodeError) and (spelt := _SPELT.get(error.object[error.start])):
        return spelt, error.start + 1
    return codecs.backslashreplace_errors(error)


codecs.register_error(_PLAIN, _plain)

# Newer typer ships its own copy of click: its errors are not those of the installed click.
_CommandError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def run(command: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Runs a typer app; errors that a user can act on become one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)  # a terminal that cannot show θ is no reason to fail
    try:
        outcome: Any = command(args=arguments, standalone_mode=False)
    except (QumosError, EvaluationFailure) as error:
        typer.echo(f"error: {one_line(error)}", err=True)
        return 2
    except _CommandError as error:
        message = one_line(error.format_message())  # type: ignore[attr-defined]
        if message:  # empty where the help was printed in place of a command
            typer.echo(f"error: {message}", err=True)
        return 2
    except OSError as error:
        where = error.filename or "file"
        typer.echo(f"error: {one_line(f'{where}: {error.strerror or error}')}", err=True)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted", err=True)
        return 130
    return outcome if isinstance(outcome, int) else 0


def main() -> None:
    """Entry point of `qumos`."""
    sys.exit(run(app))

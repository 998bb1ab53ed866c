"""What commands share: the typer app, common options, the state of one call, and loading a file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from pipeline.config import secret_values
from pipeline.errors import ConfigError
from pipeline.runs.wall_time import WallTime
from pipeline.worker.atomic_write import write_errors

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.config.user_functions import Functions
    from pipeline.report.progress import Counts


__all__ = ["AsJson", "Debug", "File", "Params", "Root", "Runs", "Session", "Sets", "Workers", "app", "emit", "loaded",
           "seconds", "showing_metadata", "tell_warnings", "write_file"]  # fmt: skip


@dataclass
class Session:
    """The state of one call of the program, from which its messages are made; filled in as the command proceeds.

    Parameters
    ----------
    options : options that the file was loaded with, for commands to try
    locations : step instance or writer -> its place, such as ``sweep.yaml:6``
    events : where JSON events are written; None without ``--json``
    secrets : those that were read so far, to be masked in everything that is shown
    wall_time : the clock of the whole program
    commits : whether the command writes outputs
    """

    json: bool = False
    debug: bool = False
    file: str = ""
    options: list[str] = field(default_factory=list)
    locations: dict[str, str] = field(default_factory=dict)
    counts: Counts | None = None
    events: IO[str] | None = None
    secrets: set[str] = field(default_factory=set)
    wall_time: WallTime = field(default_factory=WallTime)
    commits: bool = False

    def masked(self, message: Any) -> Any:
        """Return texts, at any depth, with the secrets masked."""
        return secret_values.masked(message, self.secrets)


app = typer.Typer(
    name="pipeline",
    help="Parallel array, dataframe and Python pipelines from one YAML file.",
    add_completion=False,
    rich_markup_mode=None,  # plain help, without loading rich
    pretty_exceptions_enable=False,
)

File = Annotated[str, typer.Argument(metavar="FILE", help="The YAML file.", show_default=False)]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="A.B=VALUE", help="Set a param (read as YAML); repeatable.")
]  # fmt: skip
Params = Annotated[list[str], typer.Option("--params", metavar="FILE", help="A YAML map of params; repeatable.")]
Root = Annotated[str | None, typer.Option(metavar="DIR", help="Base folder of input paths.  [the folder of FILE]")]
Workers = Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of workers.  [number of cores]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON event per line; the last is the result.")]
Debug = Annotated[bool, typer.Option("--debug", help="Print tracebacks.")]
Runs = Annotated[str, typer.Option(metavar="DIR", help="Folder of the run folders.")]


def _show_version(asked: bool) -> None:
    if asked:
        from pipeline import __version__

        print(f"pipeline {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Parallel array, dataframe and Python pipelines from one YAML file."""


def emit(session: Session, event: str, **fields: Any) -> None:
    """Write one JSON event."""
    from pipeline.report.progress import JsonLines

    JsonLines(session.events or sys.stdout).emit(event, **fields)


def loaded(
    context: typer.Context,
    file: str,
    sets: Sequence[str],
    params: Sequence[str],
    root: str | None,
    *,
    imports: bool = False,
) -> Config:
    """Load a file, print its warnings, and store the places of its steps in the session.

    Parameters
    ----------
    imports : whether to import its modules in another process, to see which functions they have
    """
    session: Session = context.obj
    session.file = file
    options = [*(("--set", text) for text in sets), *(("--params", path) for path in params)]
    options += [("--root", root)] if root is not None else []
    session.options = [text for option in options for text in option]
    for path in (file, *params):
        if not Path(path).is_file():
            from pipeline.report.failures import no_such_file

            raise no_such_file(path)
    from pipeline.config.loader import load

    def load_with(functions: Functions | None) -> Config:
        return load(file, sets=_assignments(sets), params_files=tuple(params), root=root, functions=functions)

    functions, notes = _imported(load_with) if imports else (None, [])
    config = load_with(functions)
    places = {name: step.location for name, step in config.all_steps.items()}
    places |= {output.writer: output.location for output in config.outputs}
    session.locations |= {name: f"{place.file}:{place.line}" for name, place in places.items() if place.line}
    tell_warnings(session, (*config.warnings, *notes))
    return config


@contextlib.contextmanager
def showing_metadata(session: Session) -> Iterator[None]:
    """Show how many files' metadata were read, if a Graph is built inside the block and that takes long."""
    from pipeline.ops.metadata_progress import reported
    from pipeline.report.metadata_line import MetadataLine

    shown: Any = MetadataLine(sys.stderr)
    if session.json:
        from pipeline.report.progress import JsonLines

        shown = JsonLines(session.events or sys.stdout)
    with shown as listener, reported(listener):
        yield


def tell_warnings(session: Session, warnings: Iterable[str]) -> None:
    """Print warnings, or write them as JSON events."""
    for warning in warnings:
        if session.json:
            emit(session, "warning", message=warning)
        else:
            print(f"pipeline: warning: {warning}", file=sys.stderr)


def _imported(load: Callable[[Functions], Config]) -> tuple[Functions, list[str]]:
    """Return what importing the modules of a file has shown, and warnings about what could not be imported in time."""
    from pipeline.config.user_functions import Functions
    from pipeline.worker.import_probe import look_at

    functions = Functions()
    with contextlib.suppress(ConfigError):  # raised when the file is loaded again, with what importing adds
        load(functions)
    imported, notes = look_at(list(functions.unknown), functions.folders)
    return Functions(imported), notes


def _assignments(sets: Sequence[str]) -> Mapping[str, str]:
    pairs = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {text}: write the name of a param, '=' and its value: --set smooth=12")
        pairs[name.strip()] = value
    return pairs


def write_file(path: str, text: str) -> None:
    """Write a file that the user named, which may be a device such as ``/dev/stdout``.

    Raises
    ------
    WriteError : the file can't be written
    """
    with write_errors(path):
        Path(path).write_text(text, encoding="utf-8")


def seconds(text: str, option: str = "--budget") -> float:
    """Return the seconds of a text such as ``2min``, ``90s``, ``1.5h`` or ``90``.

    >>> seconds("2min"), seconds("90")
    (120.0, 90.0)
    """
    import re

    units = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    if match is None or match[2] not in units:
        raise ConfigError(f"{option} {text}: write a number with s, min or h: 2min, 90s")
    return float(match[1]) * units[match[2]]

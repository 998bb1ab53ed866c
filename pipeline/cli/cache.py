"""``pipeline cache``: look at the values that runs have kept, and remove some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.session import AsJson, Debug, Runs, app, emit, loaded
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.model import Cache
    from pipeline.worker.cache_entries import Store

__all__ = ["info", "ls", "rm"]

cache = typer.Typer(name="cache", rich_markup_mode=None)


@cache.callback()
def about() -> None:
    """Look at the values that runs have kept, and remove some."""


app.add_typer(cache)

Where = Annotated[
    str | None,
    typer.Argument(metavar="[FILE|DIR]", help="A pipeline file with a cache, or its folder.  [.cache in the runs]"),
]


@cache.command()
def ls(
    context: typer.Context, where: Where = None, runs: Runs = "runs", as_json: AsJson = False, debug: Debug = False
) -> int:
    """List what is kept of each step: values, bytes, what computing them took, when they were last used."""
    from pipeline.runs.kept_values import contents

    found = contents(_store(context, where, runs)[0])
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, **found.to_dict())
    else:
        from pipeline.report.cache_text import contents_text

        print(contents_text(found))
    return 0


@cache.command()
def info(
    context: typer.Context, where: Where = None, runs: Runs = "runs", as_json: AsJson = False, debug: Debug = False
) -> int:
    """Print the folder, its values and bytes, its limits, and the space that is free."""
    from pipeline.runs.kept_values import contents

    store, limits = _store(context, where, runs)
    found = contents(store)
    if as_json:
        fields = found.to_dict()
        del fields["steps"]
        about = None if limits is None else {"bytes": limits.bytes, "entries": limits.entries, "age": limits.age}
        emit(context.obj, "result", ok=True, exit_code=0, **fields, limits=about)
    else:
        from pipeline.report.cache_text import info_text

        print(info_text(found, limits))
    return 0


@cache.command()
def rm(
    context: typer.Context,
    where: Where = None,
    step: Annotated[list[str], typer.Option("--step", metavar="NAME", help="Of this step; repeatable.")] = [],  # noqa: B006
    pipeline: Annotated[str | None, typer.Option(metavar="NAME", help="Of this pipeline.")] = None,
    older: Annotated[str | None, typer.Option(metavar="AGE", help="Not used for this long: 30d, 12h.")] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="What can't be used.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    runs: Runs = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Remove values; they are computed again when a run needs them. Of several options all must hold."""
    from pipeline.config.scalars import duration
    from pipeline.runs.kept_values import remove

    named = bool(step or pipeline or older or damaged)
    if named == everything:
        raise ConfigError("cache rm: what? Write --step NAME, --pipeline NAME, --older 30d, --damaged or --all")
    unused_for = None if older is None else duration(older)
    if older is not None and unused_for is None:
        raise ConfigError(f"--older {older}: write a number with s, min, h or d: 30d, 12h")
    store, _ = _store(context, where, runs)
    removed = remove(store, steps=step, pipeline=pipeline, unused_for=unused_for, damaged=damaged)
    if as_json:
        fields = {"folder": store.folder, "entries": removed.n, "bytes": removed.nbytes}
        emit(context.obj, "result", ok=True, exit_code=0, **fields)
    else:
        from pipeline.units import bytes_text, count_text

        print(f"removed {count_text(removed.n, 'value')}, {bytes_text(removed.nbytes)}, from {store.folder}")
    return 0


def _store(context: typer.Context, where: str | None, runs: str) -> tuple[Store, Cache | None]:
    """Return the cache that is meant, and the limits that a file has for it.

    Raises
    ------
    ConfigError : there is no such file or folder; or the file can't be read
    """
    from pipeline.runs.kept_values import cache_store
    from pipeline.worker.cache_entries import Store

    if where is None:
        return cache_store(None, runs), None
    if Path(where).is_dir():
        return Store(str(Path(where).absolute())), None
    config = loaded(context, where, [], [], None)
    return cache_store(config.cache, runs), config.cache

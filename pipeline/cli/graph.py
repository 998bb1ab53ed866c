"""The command ``graph``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.session import (
    AsJson,
    Debug,
    File,
    Params,
    Root,
    Sets,
    app,
    emit,
    loaded,
    showing_metadata,
    write_file,
)
from pipeline.errors import ConfigError

__all__ = ["graph"]


@app.command()
def graph(
    context: typer.Context,
    file: File,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE.svg", help="Write to this file.  [print it]")
    ] = None,
    no_data: Annotated[bool, typer.Option("--no-data", help="Read no input files: show kinds without sizes.")] = False,
    sets: Sets = [],  # noqa: B006  (typer copies it)
    params: Params = [],  # noqa: B006
    root: Root = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Draw the steps of FILE, the values between them, and the outputs, as an SVG."""
    if output is not None and Path(output).suffix.lower() != ".svg":
        raise ConfigError(f"--output {output}: the drawing is an SVG; give a file name that ends in .svg")
    config = loaded(context, file, sets, params, root)
    from pipeline.api import Pipeline

    with showing_metadata(context.obj):
        text = Pipeline(config).to_svg(data=not no_data)
    if output is not None:
        write_file(output, text)
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, **({"svg": text} if output is None else {"file": output}))
    elif output is None:
        print(text, end="")
    return 0

"""The commands ``ops`` and ``schema``, which describe the language of the files."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline.cli.session import AsJson, Debug, app, emit, write_file

__all__ = ["json_schema", "ops"]


@app.command()
def ops(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An op whose parameters to list.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """List the ops, or the parameters of one."""
    from pipeline.config.schema import listing

    for warning in listing.ops_unusable():
        if as_json:
            emit(context.obj, "warning", message=warning)
        else:
            print(f"pipeline: warning: {warning}", file=sys.stderr)
    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, ops=listing.ops(name))
    else:
        print(listing.ops_text(name))
    return 0


@app.command("schema")
def json_schema(
    report: Annotated[bool, typer.Option("--report", help="Print the schema of report.json instead.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file.  [print it]")
    ] = None,
) -> int:
    """Print the JSON Schema of the YAML files, for editors."""
    import json

    if report:
        from pipeline.runs import report_schema

        text = json.dumps(report_schema.json_schema(), indent=2)
    else:
        from pipeline.config.schema import document

        text = json.dumps(document.json_schema(), indent=1)
    if output is None:
        print(text)
    else:
        write_file(output, f"{text}\n")
    return 0

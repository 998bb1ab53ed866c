"""``pipeline ops`` and ``schema``: what the language has."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.session import AsJson, Debug, app, emit

__all__ = ["json_schema", "ops"]


@app.command()
def ops(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An op, to see its parameters.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """List the ops, or the parameters of one."""
    from pipeline import schema

    if as_json:
        emit(context.obj, "result", ok=True, exit_code=0, ops=schema.ops(name))
    else:
        print(schema.ops_text(name))
    return 0


@app.command("schema")
def json_schema(
    report: Annotated[bool, typer.Option("--report", help="That of report.json, which runs leave.")] = False,
) -> int:
    """Print the JSON Schema of the YAML files."""
    import json

    if report:
        from pipeline.report.document import SCHEMA

        print(json.dumps(SCHEMA, indent=2))
        return 0
    from pipeline import schema

    print(json.dumps(schema.json_schema(), indent=2))
    return 0

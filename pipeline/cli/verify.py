"""``pipeline verify``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline.cli.session import AsJson, Debug, app, emit
from pipeline.errors import DataError
from pipeline.units import count_text

__all__ = ["verify"]


@app.command()
def verify(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Outputs, or folders with outputs.", show_default=False)
    ],
    accept: Annotated[
        bool, typer.Option("--accept", help="Take outputs that were changed on purpose as they are now.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compare outputs with what their runs committed: files, sizes and hashes. Exit code 3 if one differs."""
    from pipeline.outputs import audit
    from pipeline.report.audit_text import audit_text

    found = []
    for each in audit.verify(paths, accept=accept):
        found.append(each)
        if not as_json:
            print(audit_text(each), flush=True)
    n_bad = sum(not each.ok for each in found)
    code = DataError.exit_code if n_bad else 0
    if as_json:
        emit(context.obj, "result", ok=not n_bad, exit_code=code, outputs=[each.to_dict() for each in found])
    if n_bad:
        print(
            f"pipeline: error: {n_bad} of {count_text(len(found), 'output')} {'is' if n_bad == 1 else 'are'} not as "
            "committed, listed above. Run the pipeline that writes it again, or take it as it is: pipeline verify "
            "--accept PATH.",
            file=sys.stderr,
        )
    return code

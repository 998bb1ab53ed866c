"""``pipeline tour``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from pipeline.cli.session import AsJson, Debug, Runs, app, emit, seconds

__all__ = ["tour"]


@app.command()
def tour(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="The claims to try.  [all]", show_default=False)
    ] = None,
    names_only: Annotated[bool, typer.Option("--list", help="Print the claims; try none.")] = False,
    within: Annotated[str, typer.Option(metavar="TIME", help="What all of them may take: 3min, 90s.")] = "3min",
    runs: Runs = "runs",
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Try what is said about threads and processes on this machine: each claim, what was measured, the verdict."""
    most = seconds(within, "--within")
    from pipeline.config.loader import load
    from pipeline.experiments.tour import claims, machine
    from pipeline.experiments.tour import tour as tried
    from pipeline.report.tour_text import stop_dict, stop_text, summary_text

    if names_only:
        listed = {name: load(str(path)).description for name, path in claims().items()}
        if as_json:
            emit(context.obj, "result", ok=True, exit_code=0, claims=listed)
        else:
            print("\n".join(f"{name:<20} {claim}" for name, claim in listed.items()))
        return 0
    began = time.perf_counter()
    trials = tried(names or (), seconds=most, runs=runs)
    if not as_json:
        print(f"{machine()}\n", flush=True)
    stops = []
    for stop in trials:
        stops.append(stop)
        if as_json:
            emit(context.obj, "claim", **stop_dict(stop))
        else:
            print(f"{stop_text(stop)}\n", flush=True)
    code = 0 if all(stop.ran for stop in stops) else 1
    if as_json:
        verdicts = {stop.name: stop.verdict for stop in stops}
        emit(context.obj, "result", ok=not code, exit_code=code, machine=machine(), claims=verdicts)
    else:
        print(summary_text(stops, time.perf_counter() - began))
    return code

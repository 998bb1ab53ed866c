"""``pipeline worker``."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.session import Debug, Workers, app, seconds

__all__ = ["worker"]


@app.command()
def worker(
    join: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the run listens.", show_default=False)],
    authkey_file: Annotated[
        str, typer.Option(metavar="FILE", help="The key that the run was given.", show_default=False)
    ],
    workers: Workers = None,
    wait: Annotated[str, typer.Option(metavar="TIME", help="How long to wait for a run at that address.")] = "60s",
    debug: Debug = False,
) -> int:
    """Join a run of back end 'manager' with workers of this machine; leave when it is over.

    The run is started with --backend 'manager[listen=HOST:PORT,authkey_file=FILE]'. Anyone who has the key runs code as
    the user of either side.
    """
    patience = seconds(wait, "--wait")
    from pipeline.backends.local.child_processes import count_cores
    from pipeline.backends.manager.authkey import read_authkey
    from pipeline.backends.manager.connections import to_address
    from pipeline.backends.manager.member import join as join_run
    from pipeline.units import count_text

    address, key = to_address(join, "--join"), read_authkey(authkey_file, "--authkey-file")

    def report(line: str) -> None:
        print(f"pipeline: {line}", flush=True)

    n = workers or count_cores()
    done = join_run(address, key, workers=n, wait=patience, report=report)
    report(f"the run is over; {count_text(done, 'segment')} ran here")
    return 0

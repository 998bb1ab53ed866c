"""What moved between the workers of a run: bytes and seconds through pipes, and through shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.graph.late_pandas import numbers_of
from pipeline.trace.trace import Trace

__all__ = ["Transfers", "transfers"]


@dataclass(frozen=True)
class Transfers:
    """What was handed to and from workers.

    Parameters
    ----------
    pickled, pickling : bytes in messages; seconds in which workers pickled, moved and unpickled them
    shared, sharing : bytes that workers wrote to shared memory or mapped; seconds of that
    """

    pickled: int
    pickling: float
    shared: int
    sharing: float


def transfers(trace: Trace) -> Transfers | None:
    """Return what moved in a run; None if nothing went through shared memory."""
    columns = ("bytes_in", "bytes_sent", "shared_in", "shared_sent", "sharing")
    instants = ("received", "loaded", "opened", "start", "stop", "sent")
    total = {name: int(numbers_of(trace.tasks[name]).sum()) for name in (*columns, *instants)}
    shared = total["shared_in"] + total["shared_sent"]
    if not shared:
        return None
    around = total["loaded"] - total["received"] + total["start"] - total["opened"] + total["sent"] - total["stop"]
    return Transfers(
        pickled=total["bytes_in"] + total["bytes_sent"],
        pickling=max(0, around - total["sharing"]) / 1e9,
        shared=shared,
        sharing=total["sharing"] / 1e9,
    )

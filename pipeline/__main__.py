"""``python -m pipeline`` and the console script ``pipeline``."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]


def main() -> int:
    """Run the program and return its exit code; Ctrl-C is one line from its first moment to its last."""
    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, as in the background
    if handled:
        signal.signal(signal.SIGINT, _ended_while_importing)
    from pipeline.cli import main as program  # takes most of the start; an exception in it would be a traceback

    try:
        return program()
    finally:
        if handled:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # nor one in the interpreter's end


def _ended_while_importing(number: int, frame: FrameType | None) -> None:
    os.write(2, b"pipeline: error: ended by Ctrl-C. Nothing was begun.\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())

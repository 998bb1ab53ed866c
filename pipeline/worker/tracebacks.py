"""An exception as text for the user: type, message, place in the user's code, traceback."""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback as tracebacks
from types import TracebackType

from pipeline.errors import PipelineError, shortened

__all__ = ["describe", "is_users", "one_line", "traceback_of"]

_MESSAGE_LIMIT = 1_000_000  # characters kept of a message
_TRACEBACK_LIMIT = 100_000  # characters kept of a traceback: a recursion error has thousands of lines


def describe(error: BaseException) -> str:
    """Return ``Type: message (file:line, in function)``; the place is the deepest one in the user's code.

    Of a :class:`PipelineError` return the message alone.
    """
    if isinstance(error, PipelineError):
        return str(error)
    place = _place(error.__traceback__)
    return f"{one_line(error)} ({place})" if place else one_line(error)


def one_line(error: BaseException) -> str:
    """Return ``Type: message``, or the type alone where there is no message."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the __str__ of a user's exception may raise anything
        message = "(its message can't be made)"
    return f"{type(error).__name__}: {shortened(message, _MESSAGE_LIMIT)}" if message else type(error).__name__


def traceback_of(error: BaseException) -> str:
    """Return the traceback, cut to its end where it is very long; empty where it can't be made."""
    try:
        text = "".join(tracebacks.format_exception(error))
    except Exception:  # noqa: BLE001 - as above
        return ""
    return text[-_TRACEBACK_LIMIT:]


def _place(trace: TracebackType | None) -> str:
    """Return ``file:line, in function`` of the deepest frame in the user's code; empty if there is none."""
    frames = [f for f in tracebacks.extract_tb(trace) if is_users(f.filename)]
    if not frames:
        return ""
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}, in {frames[-1].name}"


def is_users(filename: str) -> bool:
    """Whether a source file is the user's: not this package's, not Python's, not an installed package's."""
    if filename.startswith(
        "<"
    ):  # generated code, as in dataclasses, is not the user's; what is typed into a notebook is
        return filename.startswith(("<ipython", "<stdin"))
    return not filename.startswith((_package(), *_installed()))


@functools.cache
def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return ("<frozen", *(paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")))

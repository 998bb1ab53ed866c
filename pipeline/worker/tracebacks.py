"""An exception as text, as users are told it: what, where in their own code, and the traceback."""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback as tracebacks
from types import TracebackType

from pipeline.errors import PipelineError

__all__ = ["describe", "is_users", "traceback_of"]

_TRACEBACK_LIMIT = 100_000  # characters kept of a traceback: a recursion error has thousands of lines


def describe(error: BaseException) -> str:
    """An exception as ``Type: message (file:line, in function)``; the place is the deepest one in the user's code.

    Of an error of ours it is the message alone, which says all there is to say.
    """
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the __str__ of a user's exception may break in any way
        message = "(its message can't be made)"
    if isinstance(error, PipelineError):
        return message
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = _place(error.__traceback__)
    return f"{text} ({place})" if place else text


def traceback_of(error: BaseException) -> str:
    """The whole traceback, of a very long one the end; empty where it can't be made."""
    try:
        text = "".join(tracebacks.format_exception(error))
    except Exception:  # noqa: BLE001 - see describe
        return ""
    return text[-_TRACEBACK_LIMIT:]


def _place(trace: TracebackType | None) -> str:
    """``file:line, in function`` of the deepest frame in the user's code; empty if there is none."""
    theirs = [f for f in tracebacks.extract_tb(trace) if is_users(f.filename)]
    if not theirs:
        return ""
    return f"{os.path.basename(theirs[-1].filename)}:{theirs[-1].lineno}, in {theirs[-1].name}"


def is_users(filename: str) -> bool:
    """Whether a code's file is the user's own: neither ours, nor Python's, nor an installed package's."""
    if filename.startswith("<"):  # what dataclasses generate is nobody's; what is typed into a notebook is theirs
        return filename.startswith(("<ipython", "<stdin"))
    return not filename.startswith((_package(), *_installed()))


@functools.cache
def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return ("<frozen", *(paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")))

"""Debug a task with pdb: in the user's frame where it failed, or from the first line of the user's function."""

from __future__ import annotations

import pdb
import sys
from bdb import BdbQuit
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any

from pipeline.worker.tracebacks import is_users

__all__ = ["post_mortem", "step_in"]


class _Debugger(pdb.Pdb):
    """Pdb that first stops at a chosen frame, and that shows the user's frame of a traceback first.

    Parameters
    ----------
    awaited : returns whether to stop first at a frame that was just called
    """

    def __init__(self, awaited: Callable[[FrameType], bool] | None = None) -> None:
        super().__init__(nosigint=True)
        self._awaited = awaited
        self._entered: FrameType | None = None

    @property
    def stopped(self) -> bool:
        """Whether the awaited frame was reached."""
        return self._awaited is None

    def stop_here(self, frame: FrameType) -> bool:
        if self._awaited is not None:
            if not self._awaited(frame):
                return False
            self._awaited, self._entered = None, frame
        return bool(super().stop_here(frame))

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        if frame is not self._entered:  # its first line comes next, where its arguments are set
            super().user_call(frame, argument_list)

    def get_stack(self, f: FrameType | None, t: TracebackType | None) -> tuple[list[tuple[FrameType, int]], int]:
        stack, at = super().get_stack(f, t)
        if f is None:
            at = next((i for i in reversed(range(len(stack))) if is_users(stack[i][0].f_code.co_filename)), at)
        return stack, at


def post_mortem(error: BaseException) -> None:
    """Debug an exception, first in the deepest frame of the user's code; frames of libraries are below it."""
    debugger = _Debugger()
    debugger.reset()
    debugger.interaction(None, error.__traceback__)


def step_in(run: Callable[[], Any], function: Any) -> Any:
    """Call ``run``, and stop at the first line of the user's code.

    Parameters
    ----------
    function : where to stop if no code of the user runs; ``run`` is then called again

    Returns
    -------
    The result of ``run``; None if the user has quit.

    Raises
    ------
    Exception : whatever ``run`` raises
    """
    debugger = _Debugger(_is_users_call)
    try:
        result = debugger.runcall(run)
        code = _code_of(function)
        if debugger.stopped or code is None:
            return result
        print(f"No code of yours runs; stopping in {code.co_name}.", file=sys.stderr)
        return _Debugger(lambda frame: frame.f_code is code).runcall(run)
    except BdbQuit:
        return None
    finally:
        sys.settrace(None)


def _is_users_call(frame: FrameType) -> bool:
    """Return whether a frame is a call of a user's function, outside of imports."""
    if not is_users(frame.f_code.co_filename):
        return False
    above: FrameType | None = frame
    while above is not None and not above.f_code.co_filename.startswith("<frozen importlib"):
        above = above.f_back
    return above is None


def _code_of(function: Any) -> CodeType | None:
    """Return the code of a function below partials and decorators; None if it is not written in Python."""
    while True:
        inner = getattr(function, "func", None) or getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None

"""Whether the libraries of an extra are installed."""

from __future__ import annotations

from importlib.util import find_spec

from pipeline.errors import OpError

__all__ = ["require"]


def require(op: str, extra: str, *names: str) -> None:
    """Refuse an op whose libraries are missing, when a file is checked.

    Raises
    ------
    OpError : naming the first that is missing, and the extra that installs it
    """
    missing = next((name for name in names if find_spec(name) is None), None)
    if missing is not None:
        raise OpError("op", f"{op!r} needs {missing}, which is not installed: pip install 'pipeline[{extra}]'")

"""Import modules in another process, and see which functions they have: ``pipeline check --import``.

The process has a time limit, its output is thrown away, and it can't harm the one that asks.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.config.module_source import Parameter
from pipeline.config.user_functions import Imported
from pipeline.errors import nearest

__all__ = ["look_at"]

SECONDS = 10.0
"""Time for all modules of a file."""

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "both",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def look_at(
    names: Sequence[str], folders: Iterable[str], *, limit: float = SECONDS
) -> tuple[dict[str, Imported], list[str]]:
    """Return what importing shows of each ``module:function``, or module, and notes on those that took too long.

    Parameters
    ----------
    folders : where modules of the user are
    limit : seconds for all of them
    """
    if not names:
        return {}, []
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    given = json.dumps({"names": list(names), "folders": list(dict.fromkeys(folders))}).encode()
    is_late = False
    try:
        output, _ = child.communicate(given, timeout=limit)
    except subprocess.TimeoutExpired:
        is_late = True
        _end(child)
        output, _ = child.communicate()
    except BaseException:
        _end(child)
        child.wait()
        raise
    found = {name: _imported(result) for name, result in map(json.loads, output.splitlines())}
    left = [name for name in names if name not in found]
    if not left:
        return found, []
    why = f"importing took longer than {limit:g} s" if is_late else f"importing ended the process ({child.returncode})"
    return found, [f"{left[0]!r} could not be looked at: {why}", *(f"{name!r} was not looked at" for name in left[1:])]


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # and what the modules have started


def _imported(result: Mapping[str, Any]) -> Imported:
    parameters = result["parameters"]
    return Imported(result["problem"], parameters and tuple(Parameter(*one) for one in parameters))


# ---------------------------------------------------------------------------------------------------------------------
# In the other process
# ---------------------------------------------------------------------------------------------------------------------


def _main() -> None:
    """Read names from stdin, and write a line of JSON for each as soon as it is known."""
    given = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what modules print is no answer
        sys.path[:0] = given["folders"]
        for name in given["names"]:
            problem, parameters = _look(name)
            print(json.dumps([name, {"problem": problem, "parameters": parameters}]), file=answers, flush=True)
    os._exit(0)  # threads of the modules may go on for ever


def _look(text: str) -> tuple[str, list[Parameter] | None]:
    module, _, path = text.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            names = [one.name for one in pkgutil.iter_modules()]
            return f"module {error.name!r} was not found; install it{nearest(error.name, names)}", None
        return f"{module!r} can't be imported: {error}", None
    except BaseException as error:  # noqa: BLE001 - a module may raise anything
        return f"{module!r} can't be imported: {type(error).__name__}: {error}", None
    for name in filter(None, path.split(".")):
        if not hasattr(found, name):
            return f"{module!r} has no function {path!r}{nearest(name, dir(found))}", None
        found = getattr(found, name)
    if not path:
        return "", None
    if not callable(found):
        return f"{text!r} is no function, but {type(found).__name__}", None
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # of C code
        return "", None
    required = inspect.Parameter.empty
    parameters = signature.parameters.values()
    return "", [Parameter(p.name, _KINDS[p.kind], p.default is required and p.kind in _NEEDED) for p in parameters]


_NEEDED = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)

if __name__ == "__main__":
    _main()

"""The functions that a file names: whether they exist, and take the arguments that they get.

Modules of the user (``./my.py``) are read, not run. Of other modules, and where reading can't tell, nothing is known,
unless they were imported in another process (``pipeline check --import``). What is not known is no error.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.module_source import ModuleNames, Parameter, names_of
from pipeline.errors import Location, nearest

__all__ = ["Functions", "GivenArguments", "Imported", "check_function", "parameters_of", "require_module"]


@dataclass(frozen=True)
class Imported:
    """What importing a module and looking for a function in it has shown.

    Parameters
    ----------
    problem : why it can't be called; empty if it can
    parameters : None if they are unknown
    """

    problem: str = ""
    parameters: tuple[Parameter, ...] | None = None


@dataclass
class Functions:
    """What is known of functions; one object for one file.

    Parameters
    ----------
    imported : ``module:function``, or the name of a module alone -> what importing it has shown
    unknown : collects those of which reading showed nothing
    folders : collects those of modules of the user
    objects : name -> a function that was given as an object; its module is ``__main__``
    """

    imported: Mapping[str, Imported] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)
    folders: dict[str, None] = field(default_factory=dict)
    objects: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def parameters(self, function: str, shipped: Sequence[str]) -> tuple[Parameter, ...] | None:
        """Return the parameters of ``module:function``; None where they are not known.

        Raises
        ------
        LookupError : if there is no such module or function
        """
        if function in self.objects:
            return parameters_of(self.objects[function])
        module, _, path = function.partition(":")
        found = _read(module, shipped)
        if found is not None:
            first, _, rest = path.partition(".")
            if not (first in found.names or found.is_open or _is_module(f"{module}.{first}", shipped)):
                raise LookupError(f"{module!r} has no function {path!r}{nearest(path, _public(found))}")
            parameters = found.names.get(first)
            if parameters is not None and not rest:
                return parameters
        self.unknown[function] = None
        self.folders |= dict.fromkeys(map(os.path.dirname, shipped))
        seen = self.imported.get(function, Imported())
        if seen.problem:
            raise LookupError(seen.problem)
        return seen.parameters

    def problem_of_module(self, module: str) -> str:
        """Return why an installed module can't be imported; empty if it can, or nobody has tried."""
        self.unknown[module] = None
        return self.imported.get(module, Imported()).problem


_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "both",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


def parameters_of(function: Callable[..., Any]) -> tuple[Parameter, ...] | None:
    """Return the parameters of a function; None where Python does not know them."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    required = {one.name: one.default is one.empty and not _KINDS[one.kind].startswith("*") for one in found}
    return tuple(Parameter(one.name, _KINDS[one.kind], required[one.name]) for one in found)


def _is_module(module: str, shipped: Sequence[str]) -> bool:
    try:
        return _shipped_file(module, shipped) is not None
    except LookupError:
        return False


def _public(found: ModuleNames) -> list[str]:
    return [name for name in found.names if not name.startswith("_")]


def _shipped_file(module: str, shipped: Sequence[str]) -> str | None:
    """Return the path of the file of a module of the user; None for other modules, and where there is no such file.

    Raises
    ------
    LookupError : if a folder of the user has no such module
    """
    first, *rest = module.split(".")
    path = next((path for path in shipped if os.path.basename(path).removesuffix(".py") == first), None)
    if path is None:
        return None
    for name in rest:
        if not os.path.isdir(path):
            file = os.path.basename(path).removesuffix(".py")
            raise LookupError(f"{file!r} is a file, which has no module {name!r}")
        entries = sorted(os.listdir(path))
        if not any(entry.split(".")[0] == name for entry in entries):
            known = [entry.removesuffix(".py") for entry in entries if not entry.startswith(("_", "."))]
            raise LookupError(f"there is no module {module!r}{nearest(name, known)}")
        path = os.path.join(path, name)
    for file in (path, f"{path}.py", os.path.join(path, "__init__.py")):
        if os.path.isfile(file):
            return file
    return None


def _read(module: str, shipped: Sequence[str]) -> ModuleNames | None:
    """Return the names of a module of the user; None where they can't be read.

    Raises
    ------
    LookupError : if there is no such module, or it is no Python
    """
    path = _shipped_file(module, shipped)
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return names_of(file.read())
    except OSError:
        return None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        place = f"{path}:{line}" if line else path
        raise LookupError(f"{place}: this is no Python: {getattr(error, 'msg', error)}") from None


@dataclass(frozen=True)
class GivenArguments:
    """The arguments that a function gets.

    Parameters
    ----------
    n_positional : number of those without a name
    keywords : name -> the place where it is given, and the keys that lead there
    is_all : False if more keywords may come, which are not known before the run
    """

    n_positional: int = 0
    keywords: Mapping[str, tuple[Location, str]] = field(default_factory=dict)
    is_all: bool = True


def check_function(
    function: str,
    given: GivenArguments | None,
    shipped: Sequence[str],
    functions: Functions,
    faults: FaultCollector,
    *,
    at: tuple[Location, str],
) -> None:
    """Note it if there is no such function, or it does not take its arguments.

    Parameters
    ----------
    given : None where its arguments are not known
    at : the place of its name, and the keys that lead there
    """
    try:
        parameters = functions.parameters(function, shipped)
    except LookupError as error:
        faults.add(*at, str(error))
        return
    if parameters is not None and given is not None:
        for location, path, message in _misfits(function, parameters, given, at):
            faults.add(location, path, message)


def _misfits(
    function: str, parameters: Sequence[Parameter], given: GivenArguments, at: tuple[Location, str]
) -> list[tuple[Location, str, str]]:
    by_place = [one for one in parameters if one.kind in ("positional", "both")]
    by_name = [one.name for one in parameters if one.kind in ("both", "keyword")]
    kinds = {one.kind for one in parameters}
    found: list[tuple[Location, str, str]] = []
    if given.n_positional > len(by_place) and "*" not in kinds:
        takes = f"{len(by_place) or 'no'} positional argument{'s' if len(by_place) != 1 else ''}"
        found.append((*at, f"{function} takes {takes}, and gets {given.n_positional}: its input"))
    filled = [one.name for one in by_place[: given.n_positional]]
    for name, place in given.keywords.items():
        if name in filled and name in by_name:
            found.append((*place, f"{function} gets {name!r} already: its input is passed first; rename one of them"))
        elif name not in by_name and "**" not in kinds:
            takes = f"it takes {', '.join(by_name)}" if by_name else "it takes none by name"
            found.append((*place, f"{function} takes no argument {name!r}; {takes}{nearest(name, by_name)}"))
    known = {*filled, *given.keywords}
    missing = [one.name for one in parameters if one.is_required and one.name not in known]
    if missing and given.is_all and not found:  # a misspelt name is lacking under its right one
        names = ", ".join(map(repr, missing))
        found.append((*at, f"{function} needs {names}, which {'is' if len(missing) == 1 else 'are'} not given"))
    return found


def require_module(module: str, functions: Functions, location: Location, path: str) -> None:
    """Raise a ConfigFault if importing an installed module has failed."""
    if problem := functions.problem_of_module(module):
        raise ConfigFault(location, path, problem)

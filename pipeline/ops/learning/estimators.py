"""Estimators by their import paths, with parameters; what is wrong with them, before the run.

Estimators of scikit-learn are imported while the Graph is built, so that ``check`` knows their parameters. Those of the
user's modules are imported by the tasks alone: ``check`` runs no code of the user.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import all_estimators, get_tags

from pipeline.errors import DataError, OpError, nearest
from pipeline.graph.importing import resolve
from pipeline.ops.calls.calls import derived_seed
from pipeline.worker.isolation import fresh

__all__ = ["Recipe", "checked", "estimator_of", "last_step", "takes"]


@dataclass(frozen=True)
class Recipe:
    """How the estimators of a step are made.

    Parameters
    ----------
    steps : name and import path of each step of a Pipeline; a single one without a name: the estimator itself
    seed : root of each ``random_state`` that is not given
    is_list : whether the steps got their names from their classes
    """

    steps: tuple[tuple[str, str], ...]
    seed: int
    is_list: bool = False

    @classmethod
    def of(cls, spec: str | Sequence[str] | Mapping[str, str], seed: int) -> Recipe:
        """Return the recipe of what a step of the file has as ``estimator``."""
        if isinstance(spec, str):
            return cls((("", spec),), seed)
        if isinstance(spec, Mapping):
            return cls(tuple(spec.items()), seed)
        names = [path.replace(":", ".").rpartition(".")[2].lower() for path in spec]
        numbered = [
            f"{name}-{names[: i + 1].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)
        ]
        return cls(tuple(zip(numbered, spec, strict=True)), seed, is_list=True)

    def field(self, number: int) -> str:
        """Return the key of a step of the file that names one of the ``steps``."""
        name = number if self.is_list else self.steps[number][0]
        return "estimator" if name == "" else f"estimator.{name}"

    @property
    def is_known(self) -> bool:
        """Whether all of it is of scikit-learn, and may be imported before the run."""
        return all(path.startswith("sklearn.") for _, path in self.steps)


def estimator_of(recipe: Recipe, args: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    """Return a new estimator, not trained, with ``args``, then ``params`` set.

    Raises
    ------
    LookupError : there is no such estimator
    ValueError, TypeError : it does not take a parameter
    DataError : a function of the user gives no estimator
    """
    made = [_instance(path, f"{name}__" if name else "", args) for name, path in recipe.steps]
    found = made[0] if not recipe.steps[0][0] else _pipeline(recipe, made)
    for values in (args, params):
        if values:
            found.set_params(**{name: _value(fresh(value)) for name, value in values.items()})
    unset = {
        name: derived_seed(recipe.seed, "", name) >> 32  # 31 bits, which every random_state takes
        for name, value in sorted(found.get_params().items())
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    }
    return found.set_params(**unset) if unset else found


def last_step(estimator: Any) -> Any:
    """Return the last step of a Pipeline; of any other estimator, itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def takes(estimator: Any, what: str) -> bool:
    """Return whether the first step takes ``missing`` values, or ``text``; what is not known counts as yes."""
    first = estimator.steps[0][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(first, BaseEstimator):  # 'passthrough'
        return True
    tags = get_tags(first).input_tags
    own = not type(first).__module__.startswith("sklearn.")
    return own or bool(tags.allow_nan if what == "missing" else tags.categorical or tags.string)


def _pipeline(recipe: Recipe, instances: Sequence[Any]) -> Pipeline:
    return Pipeline([(name, instance) for (name, _), instance in zip(recipe.steps, instances, strict=True)])


def _instance(path: str, prefix: str, args: Mapping[str, Any]) -> Any:
    """Return an estimator with those of ``args`` that its class needs at once."""
    if not path.startswith("sklearn."):
        made = resolve(path if ":" in path else ":".join(path.rsplit(".", 1)))()
        if not (hasattr(made, "fit") and hasattr(made, "get_params") and hasattr(made, "set_params")):
            raise DataError(f"{path} gives a {type(made).__name__}, which is no estimator: it needs fit and get_params")
        return made
    made = _imported(path)
    if not (inspect.isclass(made) and issubclass(made, BaseEstimator)):
        raise LookupError(f"{path} is no estimator")
    needed = [
        name
        for name, one in inspect.signature(made).parameters.items()
        if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    missing = [name for name in needed if prefix + name not in args]
    if missing:
        raise TypeError(f"{path} needs {', '.join(missing)}: args: {{{prefix}{missing[0]}: …}}")
    return made(**{name: _value(args[prefix + name]) for name in needed})


def _value(value: Any) -> Any:
    """Return a parameter's value with each text ``sklearn.…`` in it replaced by that estimator or function."""
    if isinstance(value, list | tuple):
        return type(value)(_value(one) for one in value)
    if not isinstance(value, str) or not value.startswith("sklearn."):
        return value
    found = _imported(value)
    if inspect.isfunction(found) and found.__module__.startswith("sklearn."):
        return found
    return _instance(value, "", {})


def _imported(path: str) -> Any:
    """Return what an import path of scikit-learn names.

    Raises
    ------
    LookupError : there is nothing; with what is nearest
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    if found is None or name.startswith("_"):
        raise LookupError(f"scikit-learn has no {path}{_near(module, name)}")
    return found


def _near(module: str, name: str) -> str:
    """Return the nearest estimator of the module; else of all, which takes seconds, as all of them are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = vars(importlib.import_module(module))
        except ImportError:
            found = {}
        beside = [n for n, one in found.items() if inspect.isclass(one) and issubclass(one, BaseEstimator)]
        if near := nearest(name, sorted(beside)):
            return near.replace("mean '", f"mean '{module}.")
        known = [f"{_public(cls.__module__)}.{name}" for name, cls in all_estimators()]
    same = [path for path in known if path.rpartition(".")[2].casefold() == name.casefold()]
    return f"; did you mean {same[0]!r}?" if same else nearest(f"{module}.{name}", known)


def _public(module: str) -> str:
    return ".".join(part for part in module.split(".") if not part.startswith("_"))


# ---------------------------------------------------------------------------------------------------------------------
# Before the run
# ---------------------------------------------------------------------------------------------------------------------


def checked(recipe: Recipe, args: Mapping[str, Any], grids: Sequence[Mapping[str, Sequence[Any]]]) -> Any:
    """Return the estimator with its fixed parameters, after each parameter and value was checked by itself.

    Parameters
    ----------
    grids : parameter -> the values to try

    Raises
    ------
    OpError : there is no such estimator, or it does not take a parameter or its value
    """
    instances = [_checked_step(recipe, i, args) for i in range(len(recipe.steps))]
    for number, instance in enumerate(instances[:-1]):
        if not hasattr(instance, "transform"):
            last = recipe.steps[-1][1].rpartition(".")[2]
            why = "steps before the last one need a method transform"
            raise OpError(recipe.field(number), f"{type(instance).__name__} comes before {last}; {why}")
    found = instances[0] if not recipe.steps[0][0] else _pipeline(recipe, instances)
    for name in sorted(args, key=_depth):
        _require_parameter(found, recipe, name, [args[name]], "args")
        try:
            found.set_params(**{name: _value(fresh(args[name]))})
            _require_valid(found)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise OpError(f"args.{name}", _cause(args[name], error)) from error
    for number, grid in enumerate(grids):
        _check_grid(recipe, args, grid, "grid" if len(grids) == 1 else f"grid.{number}")
    return estimator_of(recipe, args, {})


def _check_grid(recipe: Recipe, args: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], field: str) -> None:
    first = {name: values[0] for name, values in grid.items()}
    known: dict[str, Any] = {}
    for name in sorted(grid, key=_depth):
        found = estimator_of(recipe, args, known)
        _require_parameter(found, recipe, name, grid[name], field)
        known[name] = first[name]
        for value in grid[name]:
            try:
                _require_valid(estimator_of(recipe, args, {**known, name: value}))
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise OpError(f"{field}.{name}", _cause(value, error)) from error


def _checked_step(recipe: Recipe, number: int, args: Mapping[str, Any]) -> Any:
    name, path = recipe.steps[number]
    if "__" in name:
        raise OpError(recipe.field(number), f"got the name {name!r}; '__' separates a step from its parameter")
    if name in inspect.signature(Pipeline).parameters:
        raise OpError(recipe.field(number), f"{name!r} is a parameter of sklearn's Pipeline; choose another name")
    try:
        return _instance(path, f"{name}__" if name else "", args)
    except (LookupError, TypeError, ValueError) as error:
        raise OpError(recipe.field(number), str(error.args[0] if error.args else error)) from error


def _require_parameter(found: Any, recipe: Recipe, name: str, values: Sequence[Any], field: str) -> None:
    if name.rpartition("__")[2] == "n_jobs" and any(value not in (None, 1) for value in values):
        raise OpError(f"{field}.{name}", "each fit is a task, and tasks run in parallel; leave n_jobs out")
    known = sorted(found.get_params())
    if name not in known:
        owner = type(found).__name__ if len(recipe.steps) == 1 else "the Pipeline"
        has = f"; it has {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
        raise OpError(f"{field}.{name}", f"{owner} has no parameter {name!r}{nearest(name, known) or has}")


def _require_valid(estimator: Any) -> None:
    """Raise a ValueError for a value that an estimator, or a step of a Pipeline, does not allow."""
    for one in (estimator, *(step for _, step in getattr(estimator, "steps", ()))):
        validate = getattr(one, "_validate_params", None)  # of every estimator of scikit-learn; else fit does it
        if validate is not None:
            validate()


def _cause(value: Any, error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, LookupError) and error.args else error)
    return text if "Got " in text or isinstance(error, LookupError) else f"got {value!r}: {text}"


def _depth(name: str) -> int:
    return name.count("__")

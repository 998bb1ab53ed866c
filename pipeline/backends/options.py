"""Back ends as users name them, with options in brackets, and the options that a file has for them.

Apart from the registry, since measured runs must not wait for the models of files to be imported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.backends.registry import base_name, class_of, require_known
from pipeline.config.model import Config
from pipeline.config.sections.keys import Cluster
from pipeline.config.signatures.descriptions import describe_parameter
from pipeline.config.yaml_nodes import scalar
from pipeline.errors import ConfigError, Fault, nearest

__all__ = ["keeps_resources", "parse", "refuse_resources", "split_names", "with_options"]

_WITH_RESOURCES = ("dask", "serial")
_NAME = re.compile(r"\s*([^\[\]]*?)\s*(?:\[(.*)\])?\s*")  # an address may have brackets of its own


def split_names(text: str) -> list[str]:
    """Return the back ends of a list with commas.

    >>> split_names("threads, pool[chunksize=4,ordered=false]")
    ['threads', 'pool[chunksize=4,ordered=false]']
    """
    return [name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip()]


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a back end and its options.

    >>> parse("pool[start_method=fork,maxtasksperchild=10]")
    ('pool', {'start_method': 'fork', 'maxtasksperchild': 10})
    >>> parse("dask[address=tcp://10.0.0.1:8786]")
    ('dask', {'address': 'tcp://10.0.0.1:8786'})

    Raises
    ------
    ConfigError : if there is no such back end, or no such option, or it takes another value
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ConfigError(f"back end: got {text!r}; write a name, or a name with options: pool[start_method=fork]")
    name, written = match.groups()
    require_known(name)
    options: dict[str, Any] = {}
    parts = (written or "").split(",") if written is not None else []
    for part in parts:
        if (reason := Cluster.REFUSED.get(part.partition("=")[0].strip())) is not None:
            raise ConfigError(f"back end {name!r}: {reason}")  # without what was written
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        allowed = _options(class_of(name), in_brackets=True)
        if key not in allowed:
            known = f"allowed: {', '.join(allowed)}{nearest(key, allowed)}" if allowed else "it has none"
            raise ConfigError(f"back end {text!r}: unknown option {key!r}; {known}")
        if not equals or key in options:
            raise ConfigError(f"back end {text!r}: write each option once, with its value: {name}[{key}=…]")
        options[key] = _checked(text, key, scalar(value))
    return name, options


def _checked(text: str, key: str, value: Any) -> Any:
    """Return the value of an option, which is checked like that key of ``cluster``."""
    try:
        return getattr(Cluster.model_validate({key: value}), key)
    except ValidationError as error:
        own = [fault["msg"].removeprefix("Value error, ") for fault in error.errors() if fault["type"] == "value_error"]
        message = own[0] if own else f"got {value!r}; {key} takes {describe_parameter(Cluster, key)}"
        raise ConfigError(f"back end {text!r}: {message}") from error


def keeps_resources(text: str, config: Config) -> bool:
    """Return whether a back end keeps to the ``resources`` of steps; ``serial`` does, with one task at a time."""
    return base_name(text) in _WITH_RESOURCES or not any(step.resources for step in config.steps.values())


def refuse_resources(text: str, config: Config) -> None:
    """Refuse a back end that does not keep to the ``resources`` of steps.

    Raises
    ------
    ConfigError : naming each step
    """
    if keeps_resources(text, config):
        return
    steps = {step.step: step for step in config.steps.values() if step.resources}  # the last instance of each
    message = (
        f"back end {base_name(text)!r} does not know what a worker has; use --backend dask, or let at most so many "
        "tasks run at once: limits: {name: 1} at the top of the file, and uses: name in place of resources"
    )
    raise ConfigError(
        [
            Fault(step.locations.get("resources", step.location), f"steps.{name}.resources", message)
            for name, step in steps.items()
        ]
    )


def with_options(text: str, cluster: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a back end and its options: those of the section ``cluster`` of a file, and those of its own.

    Raises
    ------
    ConfigError : as :func:`parse` does
    """
    name, own = parse(text)
    options = {key: cluster[key] for key in _options(class_of(name)) if key in cluster}
    if name == "dask":
        options["cluster"] = {key: value for key, value in cluster.items() if key not in Cluster.OPTIONS} or None
    return name, options | own


def _options(backend_class: Any, *, in_brackets: bool = False) -> list[str]:
    """Return the options of a back end that a file can set, or those that its name can have in brackets."""
    known = Cluster.OPTIONS | {"address"} if in_brackets else Cluster.OPTIONS
    return [name for name in inspect.signature(backend_class).parameters if name in known]

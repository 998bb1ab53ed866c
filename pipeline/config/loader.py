"""Load a Config from a file, a text or a tree: the order in which the sections are read, and of the steps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.config import files_read, secret_values, yaml_nodes
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.includes import changed_params, merge_includes, read
from pipeline.config.interpolation import Params, Scope, interpolate
from pipeline.config.kinds import StepInfo
from pipeline.config.matrix import guessed_instance
from pipeline.config.model import Config, Step
from pipeline.config.scalars import name_error
from pipeline.config.sections.cache import read_cache
from pipeline.config.sections.checks import checks
from pipeline.config.sections.keys import File
from pipeline.config.sections.modules import importable_names, modules
from pipeline.config.sections.outputs import outputs
from pipeline.config.sections.step_references import keep
from pipeline.config.sections.validation import read as read_section
from pipeline.config.step_context import Context
from pipeline.config.step_resolution import resolve_step
from pipeline.config.step_syntax import ParsedStep, parse_step, resembles_deciding
from pipeline.config.user_functions import Functions, GivenArguments, check_function
from pipeline.config.yaml_nodes import Node
from pipeline.errors import ConfigError, Location

__all__ = ["TOP_LEVEL", "from_tree", "load", "loads"]

TOP_LEVEL = tuple(File.model_fields)
MOST_STEPS = 1000
MOST_INSTANCES = 20_000


def load(
    path: str | os.PathLike[str],
    *,
    sets: Mapping[str, str | Node] | None = None,
    params_files: Iterable[str | os.PathLike[str]] = (),
    root: str | os.PathLike[str] | None = None,
    functions: Functions | None = None,
) -> Config:
    """Load the Config of a file.

    Parameters
    ----------
    sets : dotted name of a param -> its value as YAML, ``{"a.b": "3"}``, or as a tree
    params_files : YAML files with maps of params; later files win over earlier ones, and ``sets`` over all
    root : the folder that input paths are relative to; default: the folder of the file that has the path
    functions : what is known of the functions of modules, beyond what their source shows

    Raises
    ------
    ConfigError : with every error of the file
    """
    named = os.fspath(path)
    folder = os.path.abspath(os.fspath(root)) if root is not None else None
    files = [os.fspath(p) for p in params_files]
    return _load(lambda: read(named, folder=folder), named, folder, sets or {}, files, functions)


def loads(
    text: str,
    *,
    name: str = "pipeline",
    root: str | os.PathLike[str] = ".",
    sets: Mapping[str, str | Node] | None = None,
    params_files: Iterable[str | os.PathLike[str]] = (),
) -> Config:
    """Load the Config of a text; messages call it ``<name>.yaml``, and paths are relative to ``root``."""
    folder = os.path.abspath(os.fspath(root))
    file = f"{name}.yaml"
    files = [os.fspath(p) for p in params_files]
    return _load(lambda: yaml_nodes.parse(text, file, folder), file, folder, sets or {}, files)


def from_tree(tree: Node, functions: Mapping[str, Callable[..., Any]] | None = None) -> Config:
    """Load the Config of a tree that comes from no file; paths are relative to the tree's folder.

    Parameters
    ----------
    functions : those that steps call and no module has, by the names that they have in the tree

    Raises
    ------
    ConfigError : with every error
    """
    return _load(lambda: tree, tree.location.file, None, {}, [], Functions(objects=functions or {}))


def _load(
    get: Any,
    named: str,
    folder: str | None,
    sets: Mapping[str, str | Node],
    files: list[str],
    functions: Functions | None = None,
) -> Config:
    faults, warnings = FaultCollector(), list[str]()
    with files_read.recorded() as files_seen, secret_values.recorded() as secrets:
        try:
            config = _loaded(get, named, folder, sets, files, functions or Functions(), faults, warnings)
            faults.raise_if_any()
        except ConfigError as error:
            messages = secret_values.masked([fault.message for fault in error.faults], secrets)
            masked = [replace(fault, message=text) for fault, text in zip(error.faults, messages, strict=True)]
            raise ConfigError(masked) from None
    return replace(config, files=tuple(files_seen), secrets=frozenset(secrets - {""}))


def _loaded(
    get: Any,
    named: str,
    folder: str | None,
    sets: Mapping[str, str | Node],
    files: list[str],
    functions: Functions,
    faults: FaultCollector,
    warnings: list[str],
) -> Config:
    try:
        main = get()
        if not main.is_map:
            raise ConfigFault(main.location, "", f"got {main.shown}; a file is a map with version and steps")
        tree = merge_includes(main, folder=folder, faults=faults, warnings=warnings)
    except ConfigFault as error:
        raise ConfigError([error.fault]) from None
    return _read(tree, main, named, sets, files, functions, faults, warnings)


def _read(
    tree: Node,
    main: Node,
    named: str,
    sets: Mapping[str, str | Node],
    files: list[str],
    functions: Functions,
    faults: FaultCollector,
    warnings: list[str],
) -> Config:
    params = _params(tree, sets, files, faults)
    keys = read_section(File, tree, "", Scope(params), faults)
    _check_version(tree, faults)
    n_faults = len(faults)
    importable, shipped = modules(tree.value.get("modules"), params, functions, faults)
    modules_known = len(faults) == n_faults
    nodes = _steps(tree, params, faults)
    limits = _limits(tree, keys, faults)
    cache = read_cache(tree.value.get("cache"), Scope(params), faults)
    context = Context(
        params,
        frozenset(nodes),
        faults,
        importable_names(importable, shipped),
        matrix_keys=_matrix_keys(nodes),
        shipped=shipped,
        modules_known=modules_known,
        functions=functions,
        limits=frozenset(limits) if limits is not None else None,
    )
    if keys is not None and keys.compare is not None and keys.compare.reference is not None:
        _check_reference(tree.value["compare"].at("reference", "call"), keys.compare.reference.call, context)
    steps = _resolve_steps(nodes, tree, context, warnings)
    warnings += _unused_limits(tree, main, steps)
    made: dict[str, Any] = {}
    for key, reader in (("outputs", outputs), ("checks", checks), ("keep", keep)):
        with faults.caught():
            made[key] = reader(tree.value.get(key), context)
    absent = {name: why for info in context.resolved.values() for name, why in info.instances.absent.items()}
    stem = os.path.splitext(os.path.basename(named))[0]
    own = {name for name, _ in main.value["steps"].items()} if "steps" in main.value else set()
    config = Config(
        name=_text(tree, "name", stem, faults),
        root=main.folder,
        steps=steps,
        all_steps=steps,
        included=frozenset(step.step for step in steps.values() if step.step not in own),
        params={name: params[name] for name in params} if not faults else {},
        modules=importable,
        shipped=shipped,
        seed=keys.seed if keys is not None else 0,
        limits=limits or {},
        cache=cache,
        **(_settings(tree, params) if keys is not None else {}),
        description=_text(tree, "description", "", faults),
        source=named,
        text=main.text,
        absent=absent,
        warnings=tuple(warnings),
        functions=functions.objects,
        tree=_merged_tree(tree, params),
        **made,
    )
    return config if faults else config.used()


def _check_reference(node: Node, function: str, context: Context) -> None:
    """Note errors in ``compare.reference``, a function that gets the params."""
    at = (node.location, "compare.reference.call")
    given = GivenArguments(0, dict.fromkeys(context.params, at))
    check_function(function, given, context.shipped, context.functions, context.faults, at=at)


def _limits(tree: Node, keys: File | None, faults: FaultCollector) -> dict[str, int] | None:
    """Return the limits of the file; None if they have an error, which is noted."""
    node = tree.value.get("limits")
    if node is None:
        return {}
    wrong = {name: message for name, _ in node.items() if (message := name_error(name))}
    for name, message in wrong.items():
        faults.add(node.keys[name], f"limits.{name}", message)
    return None if wrong or keys is None else dict(keys.limits)


def _unused_limits(tree: Node, main: Node, steps: Mapping[str, Step]) -> list[str]:
    """Return a warning for each limit that no step uses; those of included files may be meant for other files."""
    node = tree.value.get("limits")
    used = {name for step in steps.values() for name in step.uses}
    own = [name for name, _ in main.value["limits"].items()] if "limits" in main.value else []
    return [
        f"{node.keys[name]}: limits.{name}: no step uses it; write uses: {name} on a step, or leave it out"
        for name in own
        if node is not None and name not in used
    ]


def _merged_tree(tree: Node, params: Params) -> Node:
    """Return the tree without ``include``, whose files are merged into it, and with the params as they were changed."""
    values = {key: node for key, node in tree.value.items() if key != "include"}
    if params.nodes:
        given = values.get("params", Node(tree.location, {}, folder=tree.folder))
        values["params"] = replace(given, value=dict(params.nodes), keys=given.keys)
    return replace(tree, value=values)


def _check_version(tree: Node, faults: FaultCollector) -> None:
    node = tree.value.get("version")
    if node is not None and (node.value != 1 or node.value is True):
        cure = "write 1 without quotes" if node.value == "1" else "this version of Pipeline reads version 1"
        faults.add(node.location, "version", f"got {node.shown}; {cure}")


def _settings(tree: Node, params: Params) -> dict[str, Any]:
    """Return the sections that go to libraries as they are; a pydantic model would make plain text of a Secret."""
    sections = [key for key in ("storage", "cluster", "compare") if key in tree.value]
    found = {key: interpolate(tree.value[key], key, Scope(params)) for key in sections}
    path = found["cluster"].get("authkey_file") if isinstance(found.get("cluster"), dict) else None
    if isinstance(path, str):
        folder = tree.value["cluster"].at("authkey_file").folder
        found["cluster"]["authkey_file"] = os.path.join(folder, path)
    return found


def _params(tree: Node, sets: Mapping[str, str | Node], files: list[str], faults: FaultCollector) -> Params:
    node = tree.value.get("params")
    nodes = changed_params(node, sets=sets, files=files, faults=faults)
    for name in nodes:
        if message := name_error(name):
            place = node.keys.get(name, Location()) if node is not None else Location()
            faults.add(place, f"params.{name}", message)
    params = Params(nodes)
    for name in nodes:
        with faults.caught():
            _ = params[name]
    return params


def _steps(tree: Node, params: Params, faults: FaultCollector) -> dict[str, Node]:
    node = tree.value.get("steps")
    if node is None:  # noted already
        return {}
    if not node.is_map or not node.value:
        faults.add(node.location, "steps", f"got {node.shown}; write a map with at least one step")
        return {}
    for name in node.value:
        if message := name_error(name):
            faults.add(node.keys[name], f"steps.{name}", message)
        if name in ("nan", "missing"):
            faults.add(node.keys[name], f"steps.{name}", f"{name!r} is a value in expressions; choose another name")
        if name in params:
            faults.add(node.keys[name], f"steps.{name}", f"a param is named {name!r}, too; names are shared")
    if len(node.value) > MOST_STEPS:
        faults.add(node.location, "steps", f"got {len(node.value):,} steps; at most {MOST_STEPS:,}; use matrix or over")
        return {}
    return dict(node.value)


def _matrix_keys(nodes: Mapping[str, Node]) -> frozenset[str]:
    """Return the matrix keys that any step has, or would have if a key of it were not misspelt."""
    maps = [
        value for node in nodes.values() for key, value in node.items() if key == "matrix" or resembles_deciding(key)
    ]
    return frozenset(key for node in maps for key, _ in node.items())


def _resolve_steps(nodes: Mapping[str, Node], tree: Node, context: Context, warnings: list[str]) -> dict[str, Step]:
    """Return the instances of all steps, in an order in which each comes after what it refers to."""
    parsed: dict[str, ParsedStep] = {}
    for name, node in nodes.items():
        with context.faults.caught():
            parsed[name] = parse_step(
                name,
                node,
                tree.value["steps"].keys[name],
                params=context.params,
                steps=context.steps,
                matrix_keys=context.matrix_keys,
                faults=context.faults,
                warnings=warnings,
            )
    context.resolved |= {name: StepInfo(guessed_instance(name)) for name in nodes}  # until they are resolved
    steps: dict[str, Step] = {}
    for name in _order(parsed, context.faults):
        step = parsed[name]
        for instance in resolve_step(step, context):
            steps[instance.name] = instance
        if len(steps) > MOST_INSTANCES:
            context.faults.add(step.location, step.path, f"the file makes more than {MOST_INSTANCES:,} instances")
            break
    return steps


def _order(steps: Mapping[str, ParsedStep], faults: FaultCollector) -> list[str]:
    """Return the steps after what they need, else in the order of the file; a cycle is noted."""
    order: dict[str, None] = {}
    for first in steps:
        path = [first]  # each step on it needs the next one; no recursion, since it may be a thousand steps long
        while path:
            step = steps[path[-1]]
            needed = [site.reference.name for site in step.references if site.reference.name in steps]
            missing = next((name for name in needed if name not in order), None)
            if missing is None:
                order[path.pop()] = None
            elif missing in path:
                cycle = [*path[path.index(missing) :], missing]
                faults.add(step.location, step.path, f"needs itself: {' <- '.join(cycle)}")
                order |= dict.fromkeys(path)
                break
            else:
                path.append(missing)
    return list(order)


def _text(tree: Node, key: str, default: str, faults: FaultCollector) -> str:
    node = tree.value.get(key)
    if node is None:
        return default
    if not isinstance(node.value, str):
        faults.add(node.location, key, f"got {node.shown}; write a text")
        return default
    return node.value

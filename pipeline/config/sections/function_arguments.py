"""The functions that steps name: whether their module may be imported, and which arguments they get."""

from __future__ import annotations

import re
from typing import Any

from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Params, Placeholder, Scope, interpolate, split_placeholders
from pipeline.config.matrix_values import listed_values
from pipeline.config.secret_values import holds_secret
from pipeline.config.signatures import Signature
from pipeline.config.step_context import Context, InstanceReader
from pipeline.config.step_syntax import ParsedStep, unknown_keys
from pipeline.config.user_functions import GivenArguments, check_function
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["FUNCTION", "arguments_in_op", "arguments_of_call", "called_function", "check_called", "require_named"]

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""How a function is written: ``module:function``."""

Places = dict[str, tuple[Location, str]]


def require_named(function: str, node: Node, path: str, context: Context) -> bool:
    """Return whether the module of ``module:function`` is among ``modules``; note it if not."""
    module = function.partition(":")[0]
    names = module.split(".")
    if module == "__main__":
        if function not in context.functions.objects:
            message = (
                f"got {function!r}; a function of a script or a notebook can be given in Python only, as an object"
            )
            context.faults.add(node.location, path, f"{message}; put it into a module: modules: [./my.py]")
        return function in context.functions.objects
    if any(".".join(names[:i]) in context.importable for i in range(1, len(names) + 1)):
        return True
    if context.modules_known:
        has = f"modules has {', '.join(sorted(context.importable))}" if context.importable else "modules is empty"
        cure = nearest(module, context.importable) or f"; add it: modules: [{module}], or [./{names[0]}.py]"
        context.faults.add(node.location, path, f"{module!r} is not among modules{cure}; {has}")
    return False


def check_called(parsed: ParsedStep, function: Any, context: Context) -> None:
    """Note what is wrong with the function that a call names, and with the arguments that it gets."""
    node, path, faults = parsed.node.value["call"], f"{parsed.path}.call", context.faults
    if not isinstance(function, str) or not FUNCTION.fullmatch(function):
        got = node.shown if function == node.value else f"{function!r} for {node.shown}"
        faults.add(node.location, path, f'got {got}; a function is written "module:function"')
    elif require_named(function, node, path, context):
        given = None if unknown_keys(parsed) else arguments_of_call(parsed, context.params)
        check_function(function, given, context.shipped, context.functions, faults, at=(node.location, path))


def called_function(reader: InstanceReader) -> str:
    """Return the function of an instance of a call, with params and matrix keys filled in; errors are noted."""
    parsed, context = reader.parsed, reader.context
    if "${" not in parsed.function:
        return parsed.function
    node, path = parsed.node.value["call"], f"{parsed.path}.call"
    with context.faults.caught():
        heads = (piece.head for piece in split_placeholders(node.text) if isinstance(piece, Placeholder))
        if unknown := next((head for head in heads if head in context.steps | parsed.over), ""):
            message = (
                f"got {node.shown}; {unknown!r} is known only in the run, a function needs a param or a matrix key"
            )
            raise ConfigFault(node.location, path, message)
        function = interpolate(node, path, Scope(context.params, reader.matrix, unsure=reader.scope.unsure))
        if holds_secret(function):
            message = f"got {node.shown}; a secret can't be the name of a function, which everyone sees"
            raise ConfigFault(node.location, path, message)
        check_called(parsed, function, context)
        return str(function)
    return parsed.function


def arguments_of_call(parsed: ParsedStep, params: Params) -> GivenArguments | None:
    """Return the arguments of a call; None where an error hides them."""
    args, over, source = (parsed.node.value.get(key) for key in ("args", "over", "input"))
    if args is not None and not args.is_map:
        if not args.is_list or not all(isinstance(one.value, str) for one in args.value):
            return None
        keywords = {one.value: (one.location, f"{parsed.path}.args[{i}]") for i, one in enumerate(args.value)}
    else:
        keywords = _places(args, f"{parsed.path}.args")
    if "seed" in parsed.node.value and parsed.node.value["seed"].value is True:
        keywords["seed"] = parsed.node.value["seed"].location, f"{parsed.path}.seed"
    is_all = True
    if over is not None and over.is_map:
        keywords |= _places(over, f"{parsed.path}.over")
    elif over is not None and (args is None or args.is_map):
        shared = _keys_of_maps(over, f"{parsed.path}.over", params)
        is_all = shared is not None
        keywords |= dict.fromkeys(shared or (), (over.location, f"{parsed.path}.over"))
    n_positional = 0 if source is None else len(source.value) if source.is_list else 1
    return GivenArguments(n_positional, keywords, is_all)


def _keys_of_maps(over: Node, path: str, params: Params) -> frozenset[str] | None:
    """Return the keys of a list of maps that all have the same; None where they differ, or are not known."""
    try:
        maps = listed_values(over, path, Scope(params))
    except ConfigFault:
        return None
    keys = {frozenset(one) if isinstance(one, dict) else frozenset() for one in maps}
    return keys.pop() if len(keys) == 1 else None


def arguments_in_op(parameters: Signature, parsed: ParsedStep) -> GivenArguments | None:
    """Return the arguments of a function that an op calls; None where they are not known."""
    gets = parameters.function_gets()
    args = parsed.node.value.get("args")
    if gets is None or (args is not None and not args.is_map):
        return None
    n_positional, names = gets
    node = parsed.node.value["function"]
    given: Places = dict.fromkeys(names, (node.location, f"{parsed.path}.function"))
    return GivenArguments(n_positional, given | _places(args, f"{parsed.path}.args"))


def _places(node: Node | None, path: str) -> Places:
    """Return the keys of a map with their places."""
    return {key: (node.keys[key], f"{path}.{key}") for key, _ in node.items()} if node is not None else {}

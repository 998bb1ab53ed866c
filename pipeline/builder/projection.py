"""Pushdown: which columns, rows and slices of the sources are used.

All are computed backwards over the file, before anything is built.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.config.expressions.expression import Expression
from pipeline.config.model import Config, Reference
from pipeline.ops.sources.scan_conditions import any_of

__all__ = ["needed_columns", "pushed_conditions", "shared_slices"]

_SLICED = frozenset({"from_netcdf", "from_npy", "from_zarr"})


def needed_columns(config: Config) -> dict[str, frozenset[str] | None]:
    """Return the columns of each instance that are used; None: all of them, or it is not a frame."""
    needed: dict[str, frozenset[str] | None] = {}

    def use(reference: Reference, columns: frozenset[str] | None) -> None:
        if reference.part and not reference.gathered:
            columns = frozenset({reference.part})
        for instance in reference.instances:
            before = needed.get(instance, frozenset())
            needed[instance] = None if columns is None or before is None else before | columns

    for output in config.outputs:
        use(output.input, None)
    for check in config.checks:
        for reference in check.references():
            use(reference, None)
    for name in config.keep:
        needed[name] = None
    for step in reversed(list(config.steps.values())):
        used = needed.get(step.name)  # not referred to: it is kept whole
        used_of_inputs = {}
        if step.kind == "op" and hasattr(step.parameters, "needed"):
            used_of_inputs = step.parameters.needed(used)
        inputs = {id(r) for references in step.inputs.values() for r in references}
        for role, references in step.inputs.items():
            for reference in references:
                use(reference, used_of_inputs.get(role))
        for reference in step.references():
            if id(reference) not in inputs:
                use(reference, None)
    return needed


def shared_slices(config: Config) -> dict[str, Reference]:
    """Return the array sources to which all references have the same picks, each with one of these references."""
    users = _users(config)
    shared = {}
    for name, step in config.steps.items():
        sliced = step.kind == "op" and step.function in _SLICED
        references = users.get(name, [])
        outputs = any(name in output.input.instances for output in config.outputs)
        if sliced and references and not outputs and name not in config.keep:
            picks = references[0].picks
            inputs_only = all(_first_pick(r) for r in references)
            if picks and inputs_only and all(r.picks == picks for r in references):
                shared[name] = references[0]
    return shared


def _users(config: Config) -> dict[str, list[Reference]]:
    """The references to each instance; those of checks without their picks."""
    users: dict[str, list[Reference]] = {}
    for step in config.steps.values():
        for reference in step.references():
            for instance in reference.instances:
                users.setdefault(instance, []).append(reference)
    for output in config.outputs:
        users.setdefault(output.input.instances[0], []).append(output.input)
    for check in config.checks:
        for reference in check.references():
            for instance in reference.instances:
                users.setdefault(instance, []).append(replace(reference, picks=()))
    return users


def pushed_conditions(config: Config) -> dict[str, Expression]:
    """Return the sources whose rows only filters use, each with the condition that a row of use meets."""
    conditions: dict[str, list[Expression]] = {}
    filters = 0
    for step in config.steps.values():
        if step.kind == "op" and step.function == "filter":
            for reference in step.inputs.get("input", ()):
                if not reference.gathered and not reference.part and reference.instances[0] in config.steps:
                    conditions.setdefault(reference.instances[0], []).append(step.parameters.where)
                    filters += 1
    if not filters:
        return {}
    users = _users(config)
    return {
        name: any_of(found)
        for name, found in conditions.items()
        if len(found) == len(users[name]) and name not in config.keep and not config.steps[name].inputs
    }


def _first_pick(reference: Reference) -> bool:
    """Return whether a source can apply the picks: each dim is picked once."""
    dims = [dim for dim, _ in reference.picks]
    return len(set(dims)) == len(dims)

"""What is needed of the sources, computed backwards over a file: columns, and slices that every user takes."""

from __future__ import annotations

from dataclasses import replace

from pipeline.config.expressions.expression import Expression
from pipeline.config.model import Check, Config, Reference

__all__ = ["check_references", "needed_columns", "shared_slices"]

_SLICED = frozenset({"from_netcdf", "from_npy", "from_zarr"})


def check_references(check: Check) -> tuple[Reference, ...]:
    """The references that a check holds."""
    return check.that.references if isinstance(check.that, Expression) else (check.that,)


def needed_columns(config: Config) -> dict[str, frozenset[str] | None]:
    """For each copy the columns that anybody needs of it; None where all are, or where it is no frame."""
    needed: dict[str, frozenset[str] | None] = {}

    def ask(reference: Reference, columns: frozenset[str] | None) -> None:
        if reference.part and not reference.gathered:
            columns = frozenset({reference.part})
        for copy in reference.instances:
            before = needed.get(copy, frozenset())
            needed[copy] = None if columns is None or before is None else before | columns

    for output in config.outputs:
        ask(output.input, None)
    for check in config.checks:
        for reference in check_references(check):
            ask(reference, None)
    for name in config.keep:
        needed[name] = None
    for step in reversed(list(config.steps.values())):
        wanted = needed.get(step.name)  # nobody asks: it is kept, so all of it is wanted
        asked = {}
        if step.kind == "op" and hasattr(step.parameters, "needed"):
            asked = step.parameters.needed(wanted)
        inputs = {id(r) for references in step.inputs.values() for r in references}
        for role, references in step.inputs.items():
            for reference in references:
                ask(reference, asked.get(role))
        for reference in step.references():
            if id(reference) not in inputs:
                ask(reference, None)
    return needed


def shared_slices(config: Config) -> dict[str, Reference]:
    """For each source of an array one of the references to it, if all make the same picks; others are left out."""
    users: dict[str, list[Reference]] = {}
    for step in config.steps.values():
        for reference in step.references():
            for copy in reference.instances:
                users.setdefault(copy, []).append(reference)
    for output in config.outputs:
        users.setdefault(output.input.instances[0], []).append(output.input)
    for check in config.checks:
        for reference in check_references(check):
            for copy in reference.instances:
                users.setdefault(copy, []).append(replace(reference, picks=()))
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


def _first_pick(reference: Reference) -> bool:
    """Whether the reader can take the picks: each dim once, forwards from the start."""
    dims = [dim for dim, _ in reference.picks]
    return len(set(dims)) == len(dims)

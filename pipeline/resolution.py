"""A Config as plain values, and as the YAML that it comes to: params filled in, copies apart, secrets masked."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from pipeline.config import Check, Config, Output, Reference, Secret, Step
from pipeline.expressions import Expression

__all__ = ["plain", "resolved_text", "without_nan"]

_OF_STEP = ("args", "batch", "parts", "seed", "checkpoint", "retries", "timeout", "resources", "pure", "on_error")
_USUAL: Mapping[str, Any] = {"pure": True, "on_error": "stop"}
_OF_OUTPUT = ("to", "path", "partition_by", "files", "attrs", "mode", "options")


def resolved_text(config: Config) -> str:
    """The file as it was run, as YAML, a step a copy; what is at its default is left out. To be read, not to be run."""
    from ruamel.yaml import YAML

    top: dict[str, Any] = {"version": 1, "name": config.name}
    for key in ("description", "params", "seed", "modules", "keep", "cluster", "compare"):
        value = plain(getattr(config, key))
        if value:
            top[key] = value
    top["steps"] = {name: _step(step) for name, step in config.steps.items()}
    if config.outputs:
        top["outputs"] = {output.writer.removeprefix("write "): _output(output) for output in config.outputs}
    if config.checks:
        top["checks"] = [_check(check) for check in config.checks]
    if config.storage:
        top["storage"] = dict.fromkeys(config.storage, "***")
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 100
    yaml.default_flow_style = None
    yaml.dump(config.masked(top), stream)
    return stream.getvalue()


def _step(step: Step) -> dict[str, Any]:
    told: dict[str, Any] = {step.kind: step.function}
    if step.kind != "expr":
        for role, references in step.inputs.items():
            texts = [plain(reference) for reference in references]
            told[role] = texts[0] if len(texts) == 1 else texts
    if step.over is not None:
        told["over"] = plain(dict(step.over.axes) if step.over.maps is None else step.over.maps)
    parameters = plain(step.parameters) if hasattr(step.parameters, "keywords") else {}
    own = {key: plain(getattr(step, key)) for key in _OF_STEP}
    told |= {key: value for key, value in parameters.items() if value is not None}
    return told | {key: value for key, value in own.items() if _told(key, value)}


def _told(key: str, value: Any) -> bool:
    return bool(value != _USUAL[key]) if key in _USUAL else bool(value)


def _check(check: Check) -> dict[str, Any]:
    told = {key: plain(value) for key, value in vars(check).items() if key not in ("that", "text", "location")}
    return {"that": check.text} | {key: value for key, value in told.items() if value is not None and value != ","}


def _output(output: Output) -> dict[str, Any]:
    told = {"input": plain(output.input)} | {key: plain(getattr(output, key)) for key in _OF_OUTPUT}
    return {key: value for key, value in told.items() if value not in (None, [], {}, "replace")}


def plain(value: Any) -> Any:
    """A Config, or a part of it, in the types that JSON has; secrets and storage options masked."""
    if isinstance(value, Secret):
        return "***"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Expression | Reference):
        return value.text
    if isinstance(value, Config):
        shown = {key: plain(item) for key, item in vars(value).items() if key not in ("storage", "text", "secrets")}
        return shown | {"storage": dict.fromkeys(value.storage, "***")}
    if hasattr(value, "keywords"):  # the parameters of an op
        return plain(value.keywords())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {key: plain(getattr(value, key)) for key in value.__dataclass_fields__ if key != "locations"}
    return str(value)


def without_nan(value: Any) -> Any:
    """The value, at any depth, with None in the place of nan and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(k): without_nan(v) for k, v in value.items()}
    return [without_nan(v) for v in value] if isinstance(value, list | tuple) else value

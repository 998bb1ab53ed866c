"""The keys of every section of a file, a model for each: the loader and the JSON Schema both come from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from pipeline.config.scalars import duration, is_name
from pipeline.config.sections.fields import (
    FREE_MAP,
    FUNCTION,
    NAME,
    REFERENCE,
    TEXT,
    TEXTS,
    VALUES,
    Count,
    Section,
    by_code,
    key,
    named_map,
    or_template,
)
from pipeline.config.sections.formats import FORMATS
from pipeline.config.signatures.base import Type

__all__ = ["CallKeys", "CheckKeys", "Cluster", "CommandKeys", "Compare", "File", "OutputKeys", "StepKeys"]


def _different(values: list[str]) -> list[str]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is listed more than once")
    return values


def _names(values: list[str]) -> list[str]:
    if not all(map(is_name, values)):
        raise ValueError  # without a message, which is made from `takes`
    return _different(values)


def _seconds(value: Any) -> float:
    seconds = duration(value)
    if seconds is None:
        raise ValueError
    return seconds


_Text = Annotated[str, Field(min_length=1)]
_Number = int | float  # an int stays one, as it was written
_Seconds = Annotated[float, BeforeValidator(_seconds), WithJsonSchema({"type": ["string", "number"]})]
_Memory = (
    Annotated[int, Field(ge=0, lt=2**63)]
    | Annotated[float, Field(ge=0, lt=2**63)]
    | Annotated[str, Field(pattern=r"^(auto|\s*\d+(\.\d+)?\s*([kKMGTP]i?)?B?\s*)$")]
)
_Rows = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\s*(==|!=|>=|<=|>|<)\s*\d+\s*$")]
_OVER = {"$ref": "#/definitions/over"}
_NAMES = {"type": "array", "items": {"type": "string", "pattern": NAME}, "minItems": 1, "uniqueItems": True}
_SCALARS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}


# ---------------------------------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------------------------------


class StepKeys(Section):
    """Keys that a step of any kind may have, besides ``input``."""

    matrix: Any = by_code(named_map(VALUES), "one instance of the step per combination, known before the run")
    exclude: Any = by_code(
        or_template({"type": "array", "items": FREE_MAP}), "combinations without an instance: [{key: value}]"
    )
    when: Any = by_code({"type": ["string", "boolean"]}, "over params and matrix keys; false: no such instance")
    checkpoint: Annotated[bool, WithJsonSchema({"const": False})] = key("not built yet", False)
    retries: int = key("how often a task that failed is tried again", 0, ge=0)
    timeout: _Seconds = key("of a task: seconds, or 5min, 2h", None, takes="seconds, or a text like 5min, 30s, 2h")
    resources: dict[str, Annotated[float, Field(ge=0)]] = key(
        "what a task needs of a worker, as Dask names it: {GPU: 1}", {}, takes="a map of numbers: {GPU: 1}"
    )
    pure: bool = key("false: has effects outside (sends, inserts); never run twice", True)
    writable: bool = key("true: the function gets copies of arrays, which it may write to", False)
    on_error: Literal["stop", "drop"] = key("of over; drop: failed items are left out and counted", "stop")


class CallKeys(Section):
    """Keys that only a call has, besides ``call`` and ``input``."""

    args: Any = by_code(FREE_MAP, 'keyword arguments; "${step}" passes the result of a step')
    over: Any = by_code(_OVER, "")
    batch: Literal["auto"] | Count = key("items per task", "auto")
    parts: Annotated[list[str], AfterValidator(_names), WithJsonSchema(_NAMES)] = key(
        "names of what the function returns: a map with these keys, or a tuple",
        [],
        takes="a list of different names: [model, rmse]",
        min_length=1,
    )
    seed: bool = key("true: the function gets seed=, the same on every back end", False)


class CommandKeys(Section):
    """Keys that only a command has, besides ``command``."""

    over: Any = by_code(_OVER, "")
    cwd: str = key("the folder to run in; default: a new one", None, takes="the path of a folder", pattern=r"\S")
    env: Any = by_code(_SCALARS, "environment variables: {NAME: value}")
    stdin: Any = by_code(REFERENCE, "a step, or a name of over, whose text, bytes or file it reads")
    files: Any = by_code(named_map(TEXT), "parts that are files which it writes: {png: plot.png}")
    check: bool = key("false: an exit code other than 0 is no failure", True)


# ---------------------------------------------------------------------------------------------------------------------
# Outputs and checks
# ---------------------------------------------------------------------------------------------------------------------

_KINDS = {name: " or ".join(form.kinds) for name, form in FORMATS.items()}
_FORMAT = {"enum": list(FORMATS), "enumDescriptions": [f"of {kinds}" for kinds in _KINDS.values()]}
_OPTIONS = {name: ", ".join(form.options.model_fields) for name, form in FORMATS.items()}


class OutputKeys(Section):
    """The keys of one output."""

    input: Any = by_code(REFERENCE, "what is written; default: the step of the output's name")
    to: Any = by_code(_FORMAT, "the format: " + ", ".join(f"{name} ({kinds})" for name, kinds in _KINDS.items()), ...)
    path: Any = by_code({"type": "string", "minLength": 1}, "where to write, below the output folder (--out)", ...)
    partition_by: Annotated[list[_Text], AfterValidator(_different)] = key(
        "parquet: a folder for each value of these columns", [], takes="a list of columns: [origin]", min_length=1
    )
    files: Annotated[int, Field(ge=1, le=1_000_000)] = key("parquet: number of files", None)
    attrs: dict[str, Any] = key("attributes: {units: K}", {})
    overwrite: bool = key("also replace files at the path that no manifest of this output names", False)
    mode: Any = by_code({"const": "replace"}, "replace: earlier files are removed when the new ones are complete")
    options: dict[str, Any] = key("; ".join(f"{name}: {options}" for name, options in _OPTIONS.items() if options), {})


class CheckKeys(Section):
    """The keys of one check."""

    that: Any = by_code(TEXT, "a step, or an expression of one-element steps that must be true", ...)
    approx: _Number = key("the expected number; with abs or rel", None)
    abs: _Number = key("how far from approx it may be", None)
    rel: _Number = key("how far from approx, or from equals_csv, it may be, relative to it", None)
    equals_csv: _Text = key("a CSV file with the expected frame", None)
    sep: _Text = key("what separates the columns of equals_csv", ",")
    rows: _Rows = key('of a frame: a number, or ">= 1"', None, takes='a whole number >= 0, or a comparison: ">= 1"')
    columns: dict[str, Type] = key("of a frame: {name: type}", None, takes="a map of types: {name: float64}")


# ---------------------------------------------------------------------------------------------------------------------
# Settings, and the file as a whole
# ---------------------------------------------------------------------------------------------------------------------


class Cluster(Section):
    """The keys of ``cluster``."""

    workers: Count | Literal["auto"] = key("number of worker processes; auto: as many as cores", "auto")
    threads_per_worker: Count = key("tasks that a worker runs at once", 1)
    memory_limit: _Memory = key("of a worker: bytes, 4GB, or auto", "auto", takes="bytes, or a text like 4GB, or auto")
    address: str | None = key("of a scheduler that runs already: tcp://host:8786", None)
    class_: str = key('"module:Class" of a Dask cluster', None, alias="class", takes='"module:Class"', pattern=":")
    kwargs: dict[str, Any] = key("arguments of that class", {})
    scale: Count | dict[str, Any] = key("how many workers that cluster starts", {})
    adapt: dict[str, Any] = key(
        "limits of its number of workers: {minimum: 1, maximum: 10}", {}, takes="a map: {minimum: 1, maximum: 10}"
    )
    insecure: bool = key("true: an address without TLS that others can reach, too", False)
    page: bool = key("false: no page of steps on the dashboard of a cluster that Pipeline starts", True)


class _Function(Section):
    call: str = key("module:function", takes='"module:function"', pattern=FUNCTION)


class Compare(Section):
    """The keys of ``compare``."""

    backends: list[str] = key("the back ends: [processes, dask]", [])
    repeat: Count = key("how often each is run", 1)
    reference: _Function = key(
        "the whole job as one would write it without Pipeline, in one thread; it gets the params as keywords and "
        "returns a map: name of an output -> its value",
        None,
        takes='{call: "module:function"}',
    )


class File(Section):
    """The keys of the top level."""

    version: Any = by_code({"const": 1}, "the version of the language, 1", ...)
    name: Any = by_code(TEXT, "of the pipeline; default: the file's name without .yaml")
    description: Any = by_code(TEXT, "what the pipeline is for, in your words")
    include: Any = by_code(TEXTS, "files merged first, in order, this one last")
    params: Any = by_code(named_map({}), "values for ${name} and ${name.sub}; pipeline run … --set name=value")
    modules: Any = by_code(TEXTS, "what call may import: scipy.ndimage (installed), ./my.py (shipped to the workers)")
    seed: int = key("root of every random number", 0, takes="a whole number >= 0", ge=0, lt=2**63)
    steps: Any = by_code(
        {**named_map({"$ref": "#/definitions/step"}), "minProperties": 1},
        "steps by name; each has one of op, expr, call, command",
        ...,
    )
    outputs: Any = by_code(
        named_map({"$ref": "#/definitions/output"}), "outputs by name; all of them are written, or none"
    )
    checks: Any = by_code(
        {"type": "array", "items": {"$ref": "#/definitions/check"}},
        "conditions that the results must meet before any output is committed",
    )
    keep: Any = by_code({"type": "array", "items": REFERENCE}, "steps whose values the run returns")
    storage: dict[str, dict[str, Any]] = key(
        "options of fsspec by protocol: {s3: {anon: true}}", {}, takes="a map of fsspec options"
    )
    cluster: Cluster = key("the Dask cluster of pipeline run", None)
    compare: Compare = key("what pipeline compare compares", None)

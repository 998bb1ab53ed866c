"""The keys of every section of a file, a model for each: the loader and the JSON Schema both come from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from pipeline.config.scalars import duration, is_name, size_in_bytes
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
from pipeline.config.sections.format_options import OPTIONS
from pipeline.config.sections.formats import FORMATS
from pipeline.config.signatures.base import Type

__all__ = [
    "CacheKeys",
    "CallKeys",
    "CheckKeys",
    "Claim",
    "Cluster",
    "CommandKeys",
    "Compare",
    "File",
    "OutputKeys",
    "StepKeys",
]


def _different(values: list[str]) -> list[str]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is listed more than once")
    return values


def _of_this_system(method: str) -> str:
    import multiprocessing  # only where a file names a start method

    there = multiprocessing.get_all_start_methods()
    if method not in there:
        raise ValueError(f"got {method!r}, which this system lacks; it has {', '.join(there)}")
    return method


def _names(values: list[str]) -> list[str]:
    if not all(map(is_name, values)):
        raise ValueError  # without a message, which is made from `takes`
    return _different(values)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _seconds(value: Any) -> float:
    seconds = duration(value)
    if seconds is None:
        raise ValueError
    return seconds


def _bytes(value: Any) -> int:
    size = size_in_bytes(value)
    if size is None:
        raise ValueError
    return size


_Text = Annotated[str, Field(min_length=1)]
_Number = int | float  # an int stays one, as it was written
_Seconds = Annotated[float, BeforeValidator(_seconds), WithJsonSchema({"type": ["string", "number"]})]
_SECONDS_TAKES = "seconds, or a text like 5min, 30s, 2h"
_Bytes = Annotated[int, BeforeValidator(_bytes), WithJsonSchema({"type": ["string", "number"]})]
_Memory = (
    Annotated[int, Field(ge=0, lt=2**63)]
    | Annotated[float, Field(ge=0, lt=2**63)]
    | Annotated[str, Field(pattern=r"^(auto|\s*\d+(\.\d+)?\s*([kKMGTP]i?)?B?\s*)$")]
)
_PORT = r"(\d{1,4}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"
_HOST_AND_PORT = rf"^(\[[^\[\]]+\]|[^:\[\]]+):{_PORT}$"
_BOUND = r"^\s*(>=|<=|>|<)\s*\d+(\.\d+)?\s*$"
_Rows = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\s*(==|!=|>=|<=|>|<)\s*\d+\s*$")]
_OVER = {"$ref": "#/definitions/over"}
_NAMES = {"type": "array", "items": {"type": "string", "pattern": NAME}, "minItems": 1, "uniqueItems": True}
_NAME_OR_NAMES = {"anyOf": [_NAMES["items"], _NAMES]}
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
    checkpoint: bool = key("true: its value is kept for later runs, in the folder of cache or beside the runs", False)
    code_version: Annotated[int, Field(ge=0)] = key(
        "a number of yours that stands for the code of its function or program: raise it when results change", None
    )
    depends_on: Annotated[list[_Text], BeforeValidator(_listed)] = key(
        "files and folders that its function or program reads by itself: when they change it runs again",
        [],
        takes="the path of a file or folder, or a list of them: [table.csv]",
        min_length=1,
    )
    retries: int = key("how often a task that failed is tried again", 0, ge=0)
    timeout: _Seconds = key("of a task: seconds, or 5min, 2h", None, takes=_SECONDS_TAKES)
    resources: dict[str, Annotated[float, Field(ge=0)]] = key(
        "what a task needs of a worker, as Dask names it: {GPU: 1}", {}, takes="a map of numbers: {GPU: 1}"
    )
    uses: Annotated[list[str], BeforeValidator(_listed), AfterValidator(_names), WithJsonSchema(_NAME_OR_NAMES)] = key(
        "limits of the file that each task has a place of while it runs: database, or [api, database]",
        [],
        takes="the name of a limit, or a list of different names: [api, database]",
        min_length=1,
    )
    pure: bool = key("false: has effects outside (sends, inserts); never run twice", True)
    writable: bool = key("true: the function gets copies of arrays, which it may write to", False)
    frames: Literal["pandas", "arrow", "polars"] = key(
        "which frames the function gets: a pandas.DataFrame, a pyarrow.Table or a polars.DataFrame", "pandas"
    )
    on_error: Literal["stop", "drop"] = key("of over; drop: failed items are left out and counted", "stop")


class CallKeys(Section):
    """Keys that only a call has, besides ``call`` and ``input``."""

    args: Any = by_code(
        {"anyOf": [FREE_MAP, _NAMES]},
        'keyword arguments; "${step}" passes the result of a step; or the names of the elements of lists of over',
    )
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
_OPTIONS = {name: ", ".join(options.model_fields) for name, options in OPTIONS.items()}


_NAME_OR_TEXT = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}


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
    mode: Any = by_code(
        {"enum": ["replace", "append"]},
        "replace: earlier files are removed when the new ones are complete; append (parquet): they stay",
    )
    plot: Literal["line", "bar", "histogram", "heatmap", "map"] = key("png, svg: what is drawn", None)
    x: _Text = key("of a plot: the dim or column along x", None)
    y: Any = by_code(_NAME_OR_TEXT, "of a plot: the dim along y, or the columns that are drawn")
    by: _Text = key("of a plot: the dim or column of which each value is a series", None)
    title: str = key("of a plot", None)
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
    """The keys of ``cluster``.

    Attributes
    ----------
    OPTIONS : the keys that are options of back ends: each goes to the back ends that have it, the others ignore it
    REFUSED : keys that are no keys on purpose, with the reason
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {
            "authkey_file",
            "blas_threads",
            "chunksize",
            "listen",
            "maxtasksperchild",
            "ordered",
            "start_method",
            "transport",
        }
    )

    REFUSED: ClassVar[Mapping[str, str]] = {
        "authkey": "a key that is written where others read it is no secret; write it to a file of its own, which only "
        "you can read, and name that: authkey_file: FILE"
    }

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
    blas_threads: Count = key("threads of BLAS, OpenMP and Arrow in each worker", 1)
    start_method: Annotated[Literal["spawn", "forkserver", "fork"], AfterValidator(_of_this_system)] = key(
        "how worker processes are started; default: spawn, of process-per-task forkserver", "spawn"
    )
    transport: Literal["pickle", "shared-memory", "auto"] = key(
        "how values go from process to process; auto: through shared memory from the size on where it is faster here",
        "pickle",
    )
    maxtasksperchild: Count | None = key("pool: segments, or chunks of them, after which a process is replaced", None)
    chunksize: Count | None = key("pool: segments that go to a worker in one message", None)
    ordered: bool | None = key(
        "pool: whether results are handed on in the order in which segments were begun (imap, not imap_unordered)",
        None,
    )
    listen: Annotated[str, Field(pattern=_HOST_AND_PORT)] | None = key(
        "manager: HOST:PORT at which workers join: pipeline worker --join HOST:PORT",
        None,
        takes="HOST:PORT: 192.168.1.10:5000, or [::1]:5000",
    )
    authkey_file: str | None = key("manager: the file of the key that those workers must have", None)


class CacheKeys(Section):
    """The keys of ``cache``, where it is a map."""

    dir: _Text = key("the folder", takes="the path of a folder")
    bytes: _Bytes = key("most bytes: 20GB", None, takes="bytes, or a text like 500MB, 20GB")
    entries: Count = key("most values", None)
    age: _Seconds = key("after which a value that no run has used is removed: 30d", None, takes=_SECONDS_TAKES)


class _Function(Section):
    call: str = key("module:function", takes='"module:function"', pattern=FUNCTION)


class Claim(Section):
    """The keys of one of ``compare: claims``: what is said of the back ends, and what must be measured for it."""

    claim: _Text = key("what is claimed, in your words")
    measure: Literal["elapsed", "total", "start_up", "cpu", "cores", "memory"] = key(
        "total: with start-up and commit; cpu: seconds; cores: cpu divided by elapsed; memory: the peak", "elapsed"
    )
    of: _Text = key("a back end, as backends names it, or serial")
    to: str | None = key("another one, whose measure that of the first is divided by", None)
    value: Annotated[str, Field(pattern=_BOUND)] = key("what it must be", takes='a bound like ">= 1.2" or "< 2"')


class Compare(Section):
    """The keys of ``compare``."""

    backends: list[str] = key("the back ends: [processes, dask]", [])
    repeat: Count = key("how often each is run", 1)
    claims: list[Claim] = key(
        "what is claimed of them, to be judged by what is measured",
        [],
        takes='a list of maps: {claim: "Threads gain nothing", of: serial, to: threads, value: "<= 1.1"}',
    )
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
    limits: dict[str, Annotated[int, Field(ge=1, le=1_000_000)]] = key(
        "how many tasks with uses: name may run at once: {database: 1, api: 4}",
        {},
        takes="names with whole numbers from 1 to 1,000,000: {database: 1, api: 4}",
    )
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
    cache: Any = by_code(
        {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/definitions/cache"}]},
        "a folder where the values of steps are kept for later runs, if they took longer to compute than to read",
    )
    storage: dict[str, dict[str, Any]] = key(
        "options of fsspec by protocol: {s3: {anon: true}}", {}, takes="a map of fsspec options"
    )
    cluster: Cluster = key("the Dask cluster of pipeline run", None)
    compare: Compare = key("what pipeline compare compares", None)

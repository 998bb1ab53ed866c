"""The models of ``report.json``, format 1: every field, its type and unit.

Times are seconds, sizes are bytes; null means not known or not applicable. A closed record refuses fields that it does
not list. A row, an account and a measurement are open: a later version may add fields without a new format, and
readers ignore fields that they do not know.

One file, as it is one document: what a reader of ``report.json`` looks up, from top to bottom.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["FORMAT", "LOSS_MEANINGS", "Environment", "Input", "Measurement", "One", "Report", "Row"]

FORMAT = 1


# JSON has one type of number: 2.0 is a valid integer.
def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Python has True == 1, JSON has not.
def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return value


One = Annotated[Literal[1], BeforeValidator(_no_truth)]
"""The number of a format."""
Integer = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_whole)]
Positive = Annotated[int, Field(ge=1, lt=2**63), BeforeValidator(_whole)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Open(BaseModel):
    """A record to which later versions may add fields."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False, defer_build=True)


class _Closed(_Open):
    """A record with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Interval(_Closed):
    """A median with its bounds."""

    value: float | None = Field(description="the median, in the unit of the quantity")
    low: float | None = Field(description="lower bound; null after one repeat")
    high: float | None = Field(description="upper bound; null after one repeat")
    n: Count = Field(description="repeats")
    confidence: Share = Field(description="probability that the median is between the bounds")


class Cause(_Open):
    """Why a row is not faster."""

    kind: str = Field(description="what it is: gil, lock, transfer, tiny tasks, chain, …; none")
    steps: list[str] = Field(description="the guilty step; of a chain its steps in order; empty for the run as a whole")
    gain: float = Field(description="share of the elapsed time that the run would save without it, by a replay")
    text: str = Field(description="the evidence; empty for none")
    advice: str = Field(description="what to change")
    predicted: float | None = Field(description="seconds after the change; null if they are not known")


class TriedRound(_Open):
    """One round with the recommendation."""

    elapsed: float = Field(description="seconds; 0 if it failed")
    speedup: float = Field(description="over the reference; 0 if it failed")
    equality: str = Field(description="how equal its results are to the reference's")
    failure: str = Field(default="", description="why it failed; empty if it ran")


class AdviceSentence(_Open):
    """One thing to do."""

    do: str = Field(description="what to do, in words")
    why: str = Field(description="why; empty if that is plain")


class Recommendation(_Open):
    """What to change first."""

    text: str = Field(description="the sentence of the terminal and of the page")
    change: str = Field(description="what to change")
    steps: list[str] = Field(description="the steps that it is about")
    cause: str = Field(description="kind of the cause that it answers")
    backend: str = Field(description="back end to run on")
    workers: Count = Field(description="workers to run with")
    best: float = Field(description="seconds of the fastest row as it is")
    predicted: float | None = Field(description="seconds after the change")
    tried: TriedRound | None = Field(default=None, description="one round with it; null if it was not tried")


class Row(_Open):
    """One back end with one number of workers: medians over its rounds."""

    label: str = Field(description="unique name of the row: the back end, with the workers if several were measured")
    backend: str = Field(description="name of the back end")
    workers: Count = Field(description="worker threads")
    reference: bool = Field(default=False, description="whether the other rows are compared with this one")
    n_rounds: Count = Field(default=0, description="measured runs")
    elapsed: Interval | None = Field(
        description="seconds from the first submit to the last output verified, with workers warm"
    )
    speedup: Interval | None = Field(default=None, description="elapsed of the reference over elapsed of this row")
    efficiency: float | None = Field(default=None, description="speedup over workers")
    speedup_all: Interval | None = Field(default=None, description="speedup with start-up and commit included")
    saved: float | None = Field(
        default=None, description="share of the reference's elapsed time that it saves, signed; null for the reference"
    )
    saved_beside_processes: float | None = Field(
        default=None, description="share that it saves of the elapsed time of process-per-task; null where unknown"
    )
    differs: bool = Field(default=False, description="whether its interval of elapsed does not overlap the reference's")
    user: float | None = Field(default=None, description="CPU seconds in user mode, of all processes")
    system: float | None = Field(default=None, description="CPU seconds in the kernel, of all processes")
    start_up: float | None = Field(default=None, description="seconds until the workers were warm")
    verify: float | None = Field(default=None, description="seconds of verifying the outputs; part of elapsed")
    commit: float | None = Field(default=None, description="seconds of publishing the outputs")
    memory: float | None = Field(default=None, description="bytes: peak of the resident memory of all processes")
    equality: str = Field(default="", description="how equal its results are to the reference's")
    failure: str = Field(default="", description="why it did not run; empty if it ran")
    exit_code: Integer = Field(default=0, description="exit code of the failure; 0 for none")
    reason: str = Field(default="", description="why its speedup is not higher, and what to change")
    cause: Cause | None = Field(default=None, description="the same by name; null for the reference")


class Loss(_Closed):
    """A part of workers x elapsed."""

    seconds: float = Field(description="core-seconds, signed")
    percent: Integer = Field(description="of workers x elapsed; those of one account add up to 100")
    low: float | None = Field(default=None, description="lower bound of the seconds over the rounds")
    high: float | None = Field(default=None, description="upper bound of the seconds over the rounds")


class Losses(_Closed):
    """The parts that workers x elapsed consists of."""

    useful: Loss | None = Field(default=None, description="time that the same tasks take serially")
    inflation: Loss | None = Field(default=None, description="time in tasks beyond that; negative if they ran faster")
    runtime: Loss | None = Field(default=None, description="the worker has the task, but its function does not run")
    transfer: Loss | None = Field(default=None, description="moving, pickling and unpickling")
    scheduling: Loss | None = Field(default=None, description="idle while a task is ready")
    limit: Loss | None = Field(default=None, description="idle while what is ready waits for a limit")
    dependency: Loss | None = Field(default=None, description="idle while no task is ready")
    unexplained: Loss | None = Field(default=None, description="no record of what the worker did")
    task: Loss | None = Field(
        default=None, description="time in tasks, instead of useful and inflation if serial times are not known"
    )


LOSS_MEANINGS = {name: field.description or "" for name, field in Losses.model_fields.items()}


class Factors(_Closed):
    """speedup = n_workers x the other factors (POP standard metrics); 1 means no loss."""

    speedup: float = Field(description="serial elapsed over elapsed")
    n_workers: Positive = Field(description="worker threads")
    computation_scaling: float = Field(description="serial seconds of the tasks over their seconds in this run")
    load_balance: float = Field(description="mean over maximum of the workers' busy seconds")
    serialization_efficiency: float = Field(
        description="busy seconds over those of an ideal run: waiting for each other"
    )
    transfer_efficiency: float = Field(description="ideal seconds, from a replay without overheads, over elapsed")
    overhead: float = Field(description="serial elapsed over serial seconds in tasks")
    transfer_is_model: bool = Field(
        description="whether transfer efficiency is above 1: the model was slower than the run"
    )


class PathSegment(_Closed):
    """A part of the observed critical path."""

    key: str = Field(description="the task that runs or is waited for")
    step: str = Field(description="step of the task, with its matrix keys")
    worker: str = Field(description="worker that runs it")
    kind: Literal["compute", "data-wait", "core-wait", "limit-wait"] = Field(
        description="the task runs; it waits for its inputs, while its worker runs another task, or for a limit"
    )
    start: float = Field(description="seconds since the run began")
    stop: float = Field(description="seconds since the run began")


class CriticalTimes(_Closed):
    """Seconds of the critical path, by kind and by step."""

    compute: float = Field(description="tasks run")
    data_wait: float = Field(alias="data-wait", description="the inputs of the next task are made or moved")
    core_wait: float = Field(alias="core-wait", description="the worker runs another task")
    limit_wait: float = Field(default=0.0, alias="limit-wait", description="others have the limit of the next task")
    steps: dict[str, Annotated[float, Field(description="seconds")]] = Field(
        description="step, with its matrix keys -> seconds of compute, the largest first"
    )


class StepCost(_Closed):
    """One instance of a step."""

    step: str = Field(description="step, with its matrix keys")
    n_tasks: Count = Field(description="tasks")
    seconds: float = Field(description="seconds in its tasks")
    useful: float | None = Field(description="seconds that the same tasks take serially")
    cpu: float = Field(description="CPU seconds")
    bytes_out: Count = Field(description="bytes of its results")
    bytes_moved: Count = Field(description="bytes moved to and from workers for its tasks")


class TaskCost(_Closed):
    """One task."""

    key: str = Field(description="key of the task")
    step: str = Field(description="step of the task, with its matrix keys")
    worker: str = Field(description="worker of the last attempt")
    seconds: float = Field(description="seconds in the task, over all attempts")
    useful: float | None = Field(description="seconds that it takes serially")


class Measuring(_Closed):
    """The cost of measuring."""

    per_task: float = Field(description="seconds a task")
    share: float = Field(description="of workers x elapsed, 0 to 1")


class Transfers(_Closed):
    """What was handed to workers and came from them, where some of it went through shared memory."""

    pickled: Count = Field(description="bytes in messages, through pipes")
    pickling: float = Field(description="seconds in which workers pickled, moved and unpickled them")
    shared: Count = Field(description="bytes that workers wrote to shared memory or mapped")
    sharing: float = Field(description="seconds of that")


class LimitWait(_Closed):
    """What a limit of the file cost one run."""

    places: Positive = Field(description="how many of its tasks may run at once")
    n_tasks: Count = Field(description="tasks, or batches of them, that waited for it")
    waited: float = Field(description="seconds in which at least one of them did")
    idle: float = Field(description="core-seconds in which a worker was idle meanwhile and nothing else was ready")


class Account(_Open):
    """Where the core-seconds of one row went, in the round with the median elapsed time."""

    case: str = Field(default="", description="label of the row")
    backend: str = Field(description="name of the back end")
    workers: Count = Field(description="worker threads")
    round: Positive = Field(default=1, description="number of the round, from 1")
    trace: str = Field(description="path of its Trace (Parquet), relative to the report; empty if none was kept")
    elapsed: float = Field(description="seconds")
    losses: Losses | None = Field(description="the parts of workers x elapsed; null if not known")
    cpu_beside: dict[str, Annotated[float, Field(description="seconds")]] = Field(
        description="CPU seconds outside of tasks, by place: parent, scheduler, workers"
    )
    factors: Factors | None = Field(description="factors of the speedup; null if serial times are not known")
    span: float = Field(description="seconds of the longest path through the graph, a lower bound of elapsed")
    critical_path: list[PathSegment] = Field(description="segments in order of time, which cover the elapsed time")
    limits: dict[str, LimitWait] = Field(default={}, description="limit -> what it cost")
    critical: CriticalTimes = Field(description="the critical path added up")
    steps: list[StepCost] = Field(description="the most expensive instances of steps, the most expensive first")
    tasks: list[TaskCost] = Field(description="the most expensive tasks, the most expensive first")
    measuring: Measuring = Field(description="the cost of measuring")
    clock_error: float = Field(description="seconds by which clocks of different machines may differ")
    transfers: Transfers | None = Field(
        default=None, description="what moved between workers; null if nothing went through shared memory"
    )


class ScalingPoint(_Closed):
    """A measured number of workers."""

    workers: Positive = Field(description="worker threads")
    elapsed: Interval | None = Field(description="seconds")
    speedup: float = Field(description="over the reference")
    karp_flatt: float | None = Field(description="experimental serial fraction; null for one worker")


class Amdahl(_Closed):
    """Amdahl's law, fitted by least squares."""

    serial_fraction: Share = Field(description="the part that does not get faster")
    largest_speedup: float | None = Field(description="with any number of workers; null for no bound")


class Usl(_Closed):
    """The universal scalability law."""

    contention: float = Field(description="sigma")
    coherency: float | None = Field(description="kappa")


class CurvePoint(_Closed):
    """A point of a fitted law."""

    workers: Positive = Field(description="worker threads")
    speedup: float = Field(description="by the law")
    model: Literal["amdahl", "usl"] = Field(description="the law")
    extrapolated: bool = Field(description="whether it has more workers than were measured")


class Scaling(_Closed):
    """How a back end scales with its workers."""

    backend: str = Field(description="name of the back end")
    points: list[ScalingPoint] = Field(description="the measurements")
    amdahl: Amdahl | None = Field(description="Amdahl's law")
    usl: Usl | None = Field(description="universal scalability law; null below six numbers of workers")
    curve: list[CurvePoint] = Field(description="points of the laws, to draw them")


class Reference(_Closed):
    """The whole job as one would write it in one thread, measured beside the back ends."""

    call: str = Field(description="module:function")
    elapsed: Interval | None = Field(description="seconds of the call")
    speedup_of_serial: Interval | None = Field(description="elapsed of serial over that of the call")
    equal: str = Field(description="how equal its results are to serial's, or why it did not run")
    cost: dict[str, Annotated[Positive | None, Field(description="workers")]] = Field(
        description="COST: back end -> fewest measured workers that were faster than the call; null if none were"
    )


class Measurement(_Open):
    """One measured run, in a fresh process."""

    case: str = Field(description="label of the row")
    backend: str = Field(description="name of the back end")
    round: Count = Field(description="number of the round, from 0")
    elapsed: Annotated[float, Field(ge=0, le=1e10)] = Field(description="seconds")
    start_up: float | None = Field(description="seconds until the workers were warm")
    verify: float | None = Field(description="seconds of verifying the outputs")
    commit: float | None = Field(description="seconds of publishing the outputs")
    user: float | None = Field(description="CPU seconds in user mode")
    system: float | None = Field(description="CPU seconds in the kernel")
    memory: float | None = Field(description="bytes: peak of the resident memory")
    n_workers: Count = Field(description="worker threads")
    process: float | None = Field(description="seconds of the whole process, imports included")
    trace: str = Field(description="path of its Trace")
    starved: float | None = Field(
        default=None, description="seconds in which threads were ready to run and had no core; null if not known"
    )
    dropped: Count = Field(default=0, description="items that failed and were dropped")


class Difference(_Open):
    """One output or value compared with the reference's."""

    what: str = Field(description="the output or value")
    same: bool = Field(description="whether it is equal within the tolerance")
    bitwise: bool = Field(description="whether it is equal bit by bit")
    largest: float | None = Field(description="largest relative difference")
    tolerance: float | None = Field(description="allowed relative difference")
    message: str = Field(description="what differs")


class Claim(_Open):
    """What the file claims of back ends, and whether it is true on this machine."""

    claim: str = Field(description="in the words of the file")
    what: str = Field(description="what was measured")
    measured: Interval | None = Field(description="its value; null if a back end did not run")
    bound: str = Field(description="what it must be: >= 1.2")
    verdict: str = Field(description="true here, false here, no difference shown, or which back end did not run")


class Environment(_Open):
    """The machine and the installed versions."""

    python: str = Field(default="", description="version of Python")
    platform: str = Field(default="", description="operating system")
    machine: str = Field(default="", description="a hash that distinguishes the machine from others")
    processor: str = Field(default="", description="name of the processor")
    cores: Count | None = Field(default=None, description="cores that the run could use")
    memory: Count | None = Field(default=None, description="bytes")
    versions: dict[str, Annotated[str, Field(description="version")]] = Field(
        default={}, description="package -> version"
    )


class Input(_Open):
    """An input file, or many recorded as one."""

    bytes: Count | None = Field(default=None, description="size")
    mtime_ns: Integer | None = Field(default=None, description="time of the last change, in ns since the epoch")
    sha256: str | None = Field(default="unknown", description="hash, in hex; unknown if it was not computed")
    partial: bool = Field(default=False, description="whether the hash covers only parts of the file")
    etag: str = Field(default="", description="version that a server reported")
    modified: str = Field(default="", description="time of the last change that a server reported")
    files: Count | None = Field(default=None, description="number of files recorded as one")


class GraphStep(_Closed):
    """A step with all its instances."""

    step: str = Field(description="name")
    kind: str = Field(description="kind of its value")
    n_tasks: Count = Field(description="tasks")


class GraphShape(_Closed):
    """The steps and their dependencies."""

    steps: list[GraphStep] = Field(description="in the order of the file")
    edges: list[Annotated[list[Annotated[str, Field(description="step")]], Field(min_length=2, max_length=2)]] = Field(
        description="pairs of steps; the second depends on the first"
    )


class WallPart(_Closed):
    """A part of the wall time of a run."""

    part: str = Field(description="loading, metadata, planning, start-up, running, checks, commit or after")
    what: str = Field(description="what is done in it")
    seconds: float = Field(description="seconds")


class WallTime(_Closed):
    """Where the wall time of a run went, from the start of the program; the parts add up to the whole."""

    seconds: float = Field(description="seconds until the run folder was complete")
    parts: list[WallPart] = Field(description="in the order of the run")


class Report(_Open):
    """All that is known of a run or a comparison. Times are seconds, sizes are bytes."""

    model_config = ConfigDict(title="report.json of Pipeline")

    format: One = Field(description="format of this document")
    kind: Literal["comparison", "run"] = Field(description="what it describes")
    name: str = Field(description="name of the pipeline")
    fingerprint: str = Field(description="hash of the Graph that ran")
    n_tasks: Count = Field(description="tasks of the Graph")
    folder: str = Field(description="the run folder, relative to the report")
    created: str = Field(description="time of writing: ISO 8601, UTC")
    exit_code: Integer = Field(description="exit code of the command")
    problem: str = Field(description="what the exit code means; empty for no problem")
    equality: str = Field(description="how equal the results are, over all back ends")
    verdict: list[str] = Field(description="the result in words; the last line is the most important")
    footnotes: list[str] = Field(description="what the numbers mean")
    advice: AdviceSentence | None = Field(default=None, description="the one thing to do; null in older reports")
    warnings: list[AdviceSentence] = Field(default=[], description="what limits the result, and what to do about it")
    recommendation: Recommendation | None = Field(default=None, description="what to change first; null for nothing")
    claims: list[Claim] = Field(default=[], description="what the file claims of back ends, judged")
    wall: WallTime | None = Field(default=None, description="where the wall time of a run went; null if not known")
    rows: list[Row] = Field(description="one for each back end and number of workers, the reference first")
    accounts: list[Account] = Field(description="where the core-seconds of each row that ran went")
    scaling: list[Scaling] = Field(description="of back ends measured with several numbers of workers")
    reference: Reference | None = Field(description="a single-threaded program for the same job")
    measurements: list[Measurement] = Field(description="every measured run")
    differences: dict[str, list[Difference]] = Field(description="label of a row -> results of comparing its outputs")
    environment: Environment = Field(description="the machine and the installed versions")
    inputs: dict[str, Input] = Field(description="path of an input file -> its state when it was read")
    code: dict[str, Annotated[str, Field(description="SHA-256, in hex")]] = Field(
        description="name of a module or function -> hash of its source"
    )
    config: str = Field(description="the resolved file, in YAML, with secrets masked")
    graph: GraphShape = Field(description="the steps and their dependencies")

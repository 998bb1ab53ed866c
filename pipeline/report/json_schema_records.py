"""The records that ``report.json`` is made of, as JSON Schema: their fields, and the unit of each.

What is not known is null. Records whose fields are all there can be are closed; a row, an account and a measurement are
open, since a later version may tell more without a new format: a reader passes over what it does not know.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DEFINITIONS", "MEANINGS", "Schema", "count", "listed", "mapped", "opened", "or_null", "record", "text"]

Schema = dict[str, Any]


def text(description: str) -> Schema:
    return {"type": "string", "description": description}


def number(description: str, **bounds: float) -> Schema:
    return {"type": "number", "description": description, **bounds}


def count(description: str, least: int = 0) -> Schema:
    return {"type": "integer", "description": description, "minimum": least}


def flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def listed(description: str, items: Schema) -> Schema:
    return {"type": "array", "description": description, "items": items}


def mapped(description: str, values: Schema) -> Schema:
    return {"type": "object", "description": description, "additionalProperties": values}


def record(description: str, properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """A closed record: it has these fields and no others."""
    return {**opened(description, properties, optional=optional), "additionalProperties": False}


def opened(description: str, properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "properties": properties, "required": required}


def or_null(schema: Schema) -> Schema:
    """The same, or null: not known, or it has no meaning here."""
    if "$ref" in schema:
        described = {name: said for name, said in schema.items() if name == "description"}
        return {"anyOf": [{"$ref": schema["$ref"]}, {"type": "null"}], **described}
    return {**schema, "type": [schema["type"], "null"]}


def interval(description: str) -> Schema:
    return {"$ref": "#/$defs/interval", "description": description}


MEANINGS = {
    "useful": "what the same tasks take serially",
    "inflation": "seconds in tasks above that; negative where they ran faster",
    "runtime": "the worker has the task but its function does not run",
    "transfer": "moving, pickling and unpickling",
    "scheduling": "idle while a task is ready",
    "dependency": "idle, nothing is ready",
    "unexplained": "nobody saw what the worker did",
    "task": "a task runs; in the place of useful and inflation, where serial's times are not known",
}

DEFINITIONS: dict[str, Schema] = {
    "interval": record(
        "a median, and where it lies",
        {
            "value": or_null(number("the median, in the unit of the quantity")),
            "low": or_null(number("lower bound; null where one repeat was made")),
            "high": or_null(number("upper bound; null where one repeat was made")),
            "n": count("repeats"),
            "confidence": number("with which it lies between the bounds", minimum=0, maximum=1),
        },
    ),
    "loss": record(
        "a part of workers x elapsed",
        {
            "seconds": number("core-seconds, signed"),
            "percent": {"type": "integer", "description": "of workers x elapsed; all of one account add up to 100"},
            "low": or_null(number("lower bound of the seconds over the rounds")),
            "high": or_null(number("upper bound of the seconds over the rounds")),
        },
        optional=("low", "high"),
    ),
    "row": opened(
        "one back end with one number of workers: medians over its rounds",
        {
            "label": text("what tells it from the others: the back end, and the workers where several were measured"),
            "backend": text("name of the back end"),
            "workers": count("worker threads"),
            "reference": flag("whether the others are measured against it"),
            "n_rounds": count("measured runs"),
            "elapsed": or_null(interval("seconds from the first submit to the last output verified, workers warm")),
            "speedup": or_null(interval("the reference's elapsed over its own")),
            "efficiency": or_null(number("speedup over workers")),
            "speedup_all": or_null(interval("speedup with start-up and commit included")),
            "differs": flag("whether its elapsed time differs from the reference's: the intervals do not overlap"),
            "user": or_null(number("CPU seconds in user mode, of all processes")),
            "system": or_null(number("CPU seconds in the kernel, of all processes")),
            "start_up": or_null(number("seconds until the workers were warm")),
            "verify": or_null(number("seconds in which the outputs were verified; part of elapsed")),
            "commit": or_null(number("seconds in which the outputs were published")),
            "memory": or_null(number("bytes: peak of the resident memory of all processes")),
            "equality": text("how equal its results are to the reference's"),
            "failure": text("why it did not run; empty: it did"),
            "exit_code": {"type": "integer", "description": "of the failure; 0: none"},
            "reason": text("why its speedup is not higher, and what to change"),
        },
        optional=(
            *("reference", "n_rounds", "speedup", "efficiency", "speedup_all", "differs", "user", "system"),
            *("start_up", "verify", "commit", "memory", "equality", "failure", "exit_code", "reason"),
        ),
    ),
    "factors": record(
        "speedup = n_workers x the others (POP standard metrics); 1 is no loss",
        {
            "speedup": number("serial elapsed over elapsed"),
            "n_workers": count("lanes", 1),
            "computation_scaling": number("serial seconds of the tasks over their seconds here"),
            "load_balance": number("mean over maximum of the workers' busy seconds"),
            "serialization_efficiency": number("busy seconds over those of an ideal run: waiting for each other"),
            "transfer_efficiency": number("ideal seconds over elapsed: all that is no task; ideal is a replay's"),
            "overhead": number("serial elapsed over serial's seconds in tasks"),
            "transfer_is_model": flag("whether transfer efficiency is above 1: the model was slower than the run"),
        },
    ),
    "stretch": record(
        "a part of the observed critical path",
        {
            "key": text("the task that runs or is waited for"),
            "step": text("the copy of the step that owns it"),
            "worker": text("that runs it"),
            "kind": {
                "enum": ["compute", "data-wait", "core-wait"],
                "description": "the task runs; what it needs was made last; its worker was busy last",
            },
            "start": number("seconds since the run began"),
            "stop": number("seconds since the run began"),
        },
    ),
    "step_cost": record(
        "a copy of a step",
        {
            "step": text("its name"),
            "n_tasks": count("its tasks"),
            "seconds": number("in its tasks"),
            "useful": or_null(number("seconds that the same tasks take serially")),
            "cpu": number("CPU seconds"),
            "bytes_out": count("bytes of its results"),
            "bytes_moved": count("bytes that went to workers for its tasks and came from them"),
        },
    ),
    "task_cost": record(
        "a task",
        {
            "key": text("its key"),
            "step": text("the copy of the step that owns it"),
            "worker": text("that ran it last"),
            "seconds": number("in the task, all attempts"),
            "useful": or_null(number("seconds that it takes serially")),
        },
    ),
    "account": opened(
        "where the core-seconds of one row went, in the run whose elapsed time is the median",
        {
            "case": text("label of the row"),
            "backend": text("name of the back end"),
            "workers": count("lanes of worker threads"),
            "round": count("number of the run, from 1", 1),
            "trace": text("its Trace (Parquet), relative to the folder of the report; empty: none was kept"),
            "elapsed": number("seconds"),
            "losses": or_null(
                record(
                    "workers x elapsed, tiled; null: not known",
                    {
                        name: {"anyOf": [{"$ref": "#/$defs/loss"}, {"type": "null"}], "description": said}
                        for name, said in MEANINGS.items()
                    },
                    optional=tuple(MEANINGS),
                )
            ),
            "cpu_beside": mapped("CPU seconds of all but the tasks: parent, scheduler, workers", number("seconds")),
            "factors": or_null({"$ref": "#/$defs/factors"}),
            "span": number("seconds of the longest path through the graph: no number of workers is faster"),
            "critical_path": listed("its stretches in time: they tile the elapsed time", {"$ref": "#/$defs/stretch"}),
            "critical": record(
                "the critical path added up; seconds",
                {
                    "compute": number("tasks run"),
                    "data-wait": number("what the next task needs is made, and the task does not run yet"),
                    "core-wait": number("the worker was busy with another task last"),
                    "steps": mapped("copy of a step -> seconds of compute, the most first", number("seconds")),
                },
            ),
            "steps": listed("the copies of steps that cost most, the most first", {"$ref": "#/$defs/step_cost"}),
            "tasks": listed("the tasks that cost most, the most first", {"$ref": "#/$defs/task_cost"}),
            "measuring": record(
                "what the measuring costs",
                {"per_task": number("seconds a task"), "share": number("of workers x elapsed, 0 to 1")},
            ),
            "clock_error": number("seconds by which instants of different machines may be off"),
        },
        optional=("case", "round"),
    ),
    "scaling": record(
        "how one back end scales with its workers",
        {
            "backend": text("name of the back end"),
            "points": listed(
                "what was measured",
                record(
                    "one number of workers",
                    {
                        "workers": count("worker threads", 1),
                        "elapsed": or_null(interval("seconds")),
                        "speedup": number("over the reference"),
                        "karp_flatt": or_null(number("experimental serial fraction; null for one worker")),
                    },
                ),
            ),
            "amdahl": or_null(
                record(
                    "Amdahl's law, by least squares",
                    {
                        "serial_fraction": number("the part that does not get faster", minimum=0, maximum=1),
                        "largest_speedup": or_null(number("with any number of workers; null: no bound")),
                    },
                )
            ),
            "usl": or_null(
                record(
                    "universal scalability law; null below six numbers of workers",
                    {"contention": number("sigma"), "coherency": or_null(number("kappa"))},
                )
            ),
            "curve": listed(
                "the laws drawn",
                record(
                    "a point of a law",
                    {
                        "workers": count("worker threads", 1),
                        "speedup": number("by the law"),
                        "model": {"enum": ["amdahl", "usl"], "description": "the law"},
                        "extrapolated": flag("more workers than were measured"),
                    },
                ),
            ),
        },
    ),
    "reference": record(
        "the whole job as its user would write it in one thread, measured beside the back ends",
        {
            "call": text("module:function"),
            "elapsed": or_null(interval("seconds of the call")),
            "speedup_of_serial": or_null(interval("serial's elapsed over that of the call")),
            "equal": text("how equal its results are to serial's, or why it did not run"),
            "cost": mapped(
                "COST: back end -> the fewest workers with which it was faster; null: none of those measured",
                {"type": ["integer", "null"], "minimum": 1, "description": "workers"},
            ),
        },
    ),
    "measurement": opened(
        "one measured run, in a fresh process",
        {
            "case": text("label of the row"),
            "backend": text("name of the back end"),
            "round": count("from 0"),
            "elapsed": number("seconds"),
            "start_up": or_null(number("seconds")),
            "verify": or_null(number("seconds")),
            "commit": or_null(number("seconds")),
            "user": or_null(number("CPU seconds in user mode")),
            "system": or_null(number("CPU seconds in the kernel")),
            "memory": or_null(number("bytes: peak of the resident memory")),
            "n_workers": count("worker threads"),
            "process": or_null(number("seconds of the whole process, imports included")),
            "trace": text("path of its Trace"),
            "starved": or_null(number("seconds for which threads were ready to run and had no core; null: not known")),
            "dropped": count("items that failed and were left out"),
        },
        optional=("starved", "dropped"),
    ),
    "difference": opened(
        "one output or value against the reference's",
        {
            "what": text("the output or value"),
            "same": flag("whether it is equal within the tolerance"),
            "bitwise": flag("whether it is equal bit by bit"),
            "largest": or_null(number("largest relative difference")),
            "tolerance": or_null(number("relative difference allowed")),
            "message": text("what differs"),
        },
    ),
}

"""An exception as lines of text: all errors of a file, then a last line with what, where, why and what to do."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import (
    BackendError,
    Bug,
    CheckError,
    ConfigError,
    DataError,
    OutputError,
    PipelineError,
    TaskDataError,
    TaskError,
    TaskTimeout,
    TaskWriteError,
    WorkerLost,
    WriteError,
    has_no_files,
    is_full,
    printable,
    shortened,
    where,
)
from pipeline.units import count_text, names_text

if TYPE_CHECKING:
    from pipeline.report.progress import Counts
    from pipeline.runs.partial import FailedStep, Partial


__all__ = ["failure_event", "failure_lines", "no_such_file", "partial_lines"]

_PREFIX = "pipeline: error: "

_CURES: tuple[tuple[type[PipelineError], str], ...] = (
    (WorkerLost, "If memory ran out, use smaller chunks or fewer workers"),
    (TaskTimeout, "Raise the step's timeout"),
    (BackendError, "Try another back end: --backend processes"),
    (DataError, "Fix the data or its path; --set and --root change paths"),
    (WriteError, ""),
    (OutputError, "Earlier outputs are unchanged; fix this and run again"),
)


_NOT_MEMORY = re.compile(
    r"ended by exit code|had closed its files|had been stopped|of its connection|ended by SIG(?!KILL|BUS)"
)
"""What messages about lost workers say if there was another reason than memory."""


def failure_lines(
    error: BaseException,
    *,
    file: str = "",
    options: Sequence[str] = (),
    locations: Mapping[str, str] | None = None,
    counts: Counts | None = None,
) -> list[str]:
    """Return the lines for stderr, without control characters; the last line is the summary.

    Parameters
    ----------
    file : path of the file that was run, for commands to try
    options : options that it was loaded with, such as ``--set``
    locations : step instance -> its place, such as ``sweep.yaml:6``
    counts : progress of the steps
    """
    lines = [shortened(printable(line)) for line in _failure_lines(error, file, locations or {}, counts)]
    task = getattr(error, "task", "")
    if task and file and not isinstance(error, TaskDataError | TaskWriteError):  # these messages say what to fix
        lines[-1] += f" Try it here: {shlex.join(['pipeline', 'debug', file, task, *options])}"
    return lines


def partial_lines(
    partial: Partial,
    *,
    file: str = "",
    options: Sequence[str] = (),
    locations: Mapping[str, str] | None = None,
    shown: int = 10,
) -> list[str]:
    """Return what a run that kept going could not compute, as lines for stderr; the last line is the summary.

    Parameters
    ----------
    file, options, locations : see :func:`failure_lines`
    shown : number of failed steps, and of failed tasks of each, that have lines
    """
    lines = []
    for step in partial.failed[:shown]:
        place = (locations or {}).get(step.step, "")
        of = f"{len(step.tasks):,} of {step.n_units:,} failed" if step.n_units > 1 else ""
        about = f" ({'; '.join(filter(None, [place, of]))})" if place or of else ""
        for task in step.tasks[:shown]:
            lines.append(f"failed: {where(step.step, task.item)}{about}: {task.cause}")
        if len(step.tasks) > shown:
            lines.append(f"… {len(step.tasks) - shown:,} more failed; all of them are in run.json of the run folder")
        lines += [f"  {text}" for text in _not_computed(step)]
    if len(partial.failed) > shown:
        lines.append(f"… {len(partial.failed) - shown:,} more steps failed; they are in run.json of the run folder")
    last = f"{_PREFIX}{_sentence(partial.problem)}"
    if file:
        first = partial.failed[0].tasks[0].task
        last += f" Try it here: {shlex.join(['pipeline', 'debug', file, first, *options])}"
    return [shortened(printable(line)) for line in [*lines, last]]


def _not_computed(step: FailedStep) -> list[str]:
    kinds = (("step", step.steps), ("output", step.outputs), ("check", step.checks))
    texts = [f"{kind}{'s' * (len(found) > 1)} {names_text(found)}" for kind, found in kinds if found]
    return [f"not computed, since {step.name} failed: {'; '.join(texts)}"] if texts else []


def _failure_lines(error: BaseException, file: str, locations: Mapping[str, str], counts: Counts | None) -> list[str]:
    if isinstance(error, ConfigError):
        return _config_lines(error, file)
    if isinstance(error, TaskError):
        details = "; ".join(filter(None, [locations.get(error.step, ""), _progress(error, counts)]))
        where = f"{error.where} ({details})" if details else error.where
        return [f"{_PREFIX}{where}: {_sentence(error.cause)}"]
    if isinstance(error, CheckError):  # its last line is a summary
        *checks, last = str(error).split("\n")
        return [*checks, f"{_PREFIX}{_sentence(last)}"]
    if isinstance(error, WorkerLost | TaskTimeout):
        return _lines(_with_place(str(error), locations), _cure(error, file))
    if isinstance(error, PipelineError) and not isinstance(error, Bug):
        return _lines(str(error), _cure(error, file))
    if has_no_files(error):
        return _lines(f"{error.strerror} in this process; a task must close what it opens (with open(…) as file)",
                      "Other back ends give tasks a process of their own: --backend processes")  # fmt: skip
    if is_full(error):
        place = f": {error.filename}" if error.filename else ""
        return _lines(f"{error.strerror}{place}", "Free some space and run again")
    what = str(error) if isinstance(error, Bug) else f"{type(error).__name__}: {error}"
    what = "; ".join([what, *getattr(error, "__notes__", ())])  # the step that it happened in
    return _lines(f"this is a bug in Pipeline: {what}",
                  "Please report it, with the output of --debug and the file that was run")  # fmt: skip


def _with_place(text: str, locations: Mapping[str, str]) -> str:
    """Return a message with the place of its step: ``fit[t2m] (sweep.yaml:6): why`` for ``fit[t2m]: why``."""
    task, colon, why = text.partition(": ")
    step = next(
        (
            s
            for s in locations
            if task == s or task.startswith(f"{s.removesuffix(']')}{',' if s.endswith(']') else '['}")
        ),
        "",
    )
    return f"{task} ({locations[step]}){colon}{why}" if step else text


def _progress(error: TaskError, counts: Counts | None) -> str:
    step = counts.of(error.step) if counts is not None else None
    done, n = step.units() if step is not None else (0, 0)
    return f"1 of {n:,} failed, {done:,} done" if n > 1 else ""


def failure_event(
    error: BaseException, *, exit_code: int, locations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the error as a map, for ``--json``."""
    event: dict[str, Any] = {
        "exit_code": exit_code,
        "type": type(error).__name__,
        "message": failure_lines(error, locations=locations)[-1].removeprefix(_PREFIX),
    }
    if isinstance(error, ConfigError):
        event["faults"] = [
            {"file": f.location.file, "line": f.location.line, "column": f.location.column, "path": f.path,
             "message": f.message}
            for f in error.faults
        ]  # fmt: skip
    if isinstance(error, TaskError):
        event |= {"step": error.step, "key": error.key, "item": error.item, "cause": error.cause}
    return event


def no_such_file(path: str) -> ConfigError:
    """Return the error for a path that is not a file, with the names of similar files."""
    wanted = Path(path)
    kind = "is a folder" if wanted.is_dir() else "no such file"
    like = _like(wanted)
    hint = f"; did you mean {' or '.join(repr(name) for name in like)}?" if like else ""
    return ConfigError(f"{path}: {kind}{hint}")


def _like(wanted: Path) -> list[str]:
    """Return at most three YAML files with similar names, from the folder of ``wanted``, ``.`` and ``configs/``."""
    folders = dict.fromkeys([wanted if wanted.is_dir() else wanted.parent, Path(), Path("configs")])
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            files = (p for p in sorted(folder.iterdir()) if p.suffix in (".yaml", ".yml") and p.is_file())
            found |= {str(p): p for p in files if str(p) not in found}
    if wanted.is_dir():
        return list(found)[:3]
    by_stem: dict[str, list[str]] = {}
    for name, p in found.items():
        by_stem.setdefault(p.stem, []).append(name)
    close = difflib.get_close_matches(wanted.stem, by_stem, n=3, cutoff=0.6)
    return [name for stem in close for name in by_stem[stem]][:3]


def _config_lines(error: ConfigError, file: str) -> list[str]:
    if len(error.faults) == 1:
        first, *more = str(error).split("\n")
        return [*more, f"{_PREFIX}{first}"]
    n = count_text(len(error.faults), "error")
    return [*map(str, error.faults), f"{_PREFIX}{n}, listed above. Fix them, then run: pipeline check {file}".rstrip()]


def _lines(text: str, cure: str) -> list[str]:
    """Return the lines of a message with its first line moved to the end, where it is read."""
    first, *more = text.split("\n")
    return [*more, f"{_PREFIX}{_sentence(first)} {_sentence(cure) if cure else ''}".rstrip()]


def _cure(error: PipelineError, file: str) -> str:
    if isinstance(error, WorkerLost) and _NOT_MEMORY.search(str(error)):
        return ""
    if type(error) is BackendError and not file:  # of ``pipeline worker``, which runs no file
        return ""
    for kind, cure in _CURES:
        if isinstance(error, kind):
            return cure.format(file=file)
    return ""


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."

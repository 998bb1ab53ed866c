"""The parts of the JSON files of run folders that are read again, with their types; other parts are ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from pipeline.runs.report_model import Environment, Input, One

__all__ = ["Inputs", "Provenance", "RunFacts", "Unreadable", "document"]

FORMAT = 1
_LARGEST = 200_000_000  # bytes of a file that is read here

Seconds = Annotated[FiniteFloat, Field(ge=0, le=1e10)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Unreadable(Exception):
    """A file of a run folder can't be read; the text names it and the reason."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def of(cls, value: Any, name: str) -> Self:
        """Return the parts of a JSON document that are read here.

        Parameters
        ----------
        name : of the file, for messages

        Raises
        ------
        Unreadable : if the document has another format or kind, or a part of it another type
        """
        if not isinstance(value, dict):
            raise Unreadable(f"{name} is not a map")
        if value.get("format", FORMAT) != FORMAT:
            raise Unreadable(f"{name} has format {str(value['format'])[:20]}; this version reads {FORMAT}")
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise Unreadable(f"{name} was not written by pipeline: {place}: {first['msg']}") from None


class StepSeconds(_Part):
    """How many tasks of a step ran, and how long they took in all."""

    n_tasks: Count
    seconds: Seconds


class Resumed(_Part):
    """What a run reused of earlier ones; all but the summary is for other programs."""

    summary: str = ""


class RunFacts(_Part):
    """``run.json``; the fields from ``created`` on are those of a run that has ended well, or has kept going.

    ``problem`` is what a run that kept going could not compute.
    """

    format: One
    kind: Literal["run"]
    name: str
    backend: str
    workers: Count | None
    fingerprint: str
    n_tasks: Count
    graph: Mapping[str, Any]
    created: str | None = None
    exit_code: int | None = None
    problem: str = ""
    elapsed: Seconds | None = None
    start_up: Seconds | None = None
    commit: Seconds | None = None
    wall: Seconds | None = None
    times: Mapping[str, Seconds] = {}
    steps: Mapping[str, StepSeconds] = {}
    resumed: Resumed = Resumed()


class Provenance(_Part):
    """``provenance.json``."""

    environment: Environment
    code: Mapping[str, str]
    config: str


class Inputs(_Part):
    """``inputs.json``."""

    inputs: Mapping[str, Input]


def document(path: Path) -> Any:
    """Return the content of a JSON file; None if there is no such file.

    Raises
    ------
    Unreadable : if it can't be read, or is not JSON (which has no NaN)
    """
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > _LARGEST:
            raise Unreadable(f"{path.name} is larger than {_LARGEST // 1_000_000} MB")
        return json.loads(path.read_bytes(), parse_constant=_refused)
    except OSError as error:
        raise Unreadable(f"{path.name} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).split("\n")[0]
        raise Unreadable(f"{path.name} is not JSON: {reason}") from error


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number in JSON")

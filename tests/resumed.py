"""A pipeline in a folder that is run several times, and what its functions did in the last run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.backends.events import Event, Note, Resumed
from pipeline.config.loader import loads
from pipeline.runs.run import Run, run

__all__ = ["Project"]


class Project:
    """Outputs, runs and modules are in one folder. Functions note what they do in the file ``log``.

    Parameters
    ----------
    modules : name -> code, in which ``PLACE`` stands for the path of the log
    """

    def __init__(self, folder: Path, modules: Mapping[str, str]) -> None:
        self.folder, self.log = folder, folder / "log"
        for module, code in modules.items():
            self.code(code, module)
        self.events: list[Event] = []

    def code(self, text: str, module: str) -> None:
        (self.folder / f"{module}.py").write_text(text.replace("PLACE", str(self.log)))

    def run(
        self,
        text: str,
        *,
        backend: str = "serial",
        sets: Mapping[str, str] | None = None,
        cache: bool = False,
        **options: Any,
    ) -> Run:
        self.log.write_text("")
        self.events = []
        config = loads(text, name="t", root=str(self.folder), sets=dict(sets or {}))
        return run(
            config,
            backend=backend,
            out=self.folder,
            runs=self.folder / "runs",
            cache=self.folder / "cache" if cache else None,
            listener=self.events.append,
            **options,
        )

    @property
    def did(self) -> list[str]:
        return sorted(self.log.read_text().split())

    @property
    def said(self) -> str:
        """The line about what is reused."""
        return "".join(event.message for event in self.events if isinstance(event, Resumed))

    @property
    def notes(self) -> list[str]:
        return [event.message for event in self.events if type(event) is Note]

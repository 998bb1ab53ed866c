"""The functions of the ops by their names, from where their signatures say that they stand."""

from __future__ import annotations

from typing import Any

from pipeline.config.signatures import OPS
from pipeline.graph.importing import resolve

__all__ = ["arrays", "frames", "sources"]


class _Below:
    """The ops of a folder; each is imported when it is named."""

    def __init__(self, folder: str) -> None:
        classes = [cls for several in OPS.values() for cls in several if cls.home.startswith(f"{folder}.")]
        self._paths = {cls.home.partition(":")[2]: cls.function_path() for cls in classes}

    def __getattr__(self, name: str) -> Any:
        if name not in self._paths:
            raise AttributeError(name)
        return resolve(self._paths[name])


arrays, frames, sources = _Below("arrays"), _Below("frames"), _Below("sources")

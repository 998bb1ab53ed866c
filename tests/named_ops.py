"""The functions of the ops by their names, from where their signatures say that they stand."""

from __future__ import annotations

from types import SimpleNamespace

from pipeline.config.signatures import OPS
from pipeline.graph.importing import resolve

__all__ = ["arrays", "frames", "sources"]


def _below(folder: str) -> SimpleNamespace:
    classes = [cls for several in OPS.values() for cls in several if cls.home.startswith(f"{folder}.")]
    return SimpleNamespace(**{cls.home.partition(":")[2]: resolve(cls.function_path()) for cls in classes})


arrays, frames, sources = _below("arrays"), _below("frames"), _below("sources")

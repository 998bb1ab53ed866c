"""Config -> Graph, step by step."""

from __future__ import annotations

from pipeline.steps.building import build

__all__ = ["build"]

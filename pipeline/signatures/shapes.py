"""Ops that give an array another shape, order or place."""

from __future__ import annotations

__all__: list[str] = []

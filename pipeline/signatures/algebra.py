"""Ops of linear algebra and signals, and those that see beyond their chunk."""

from __future__ import annotations

__all__: list[str] = []

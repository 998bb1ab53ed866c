"""A headless browser: what pages and pictures are looked at with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["chromium"]

PATIENCE = 120_000  # ms for whatever is waited for: a busy machine may need them
FLAGS = ["--no-sandbox", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@contextmanager
def chromium(folder: Path, *, width: int = 1280, height: int = 800) -> Iterator[Any]:
    """Playwright's context of the system's chromium, with a fresh profile in ``folder`` and windows of this size."""
    program = shutil.which("chromium")
    if program is None:  # a program of the system's; .ci/run installs it, and lets the skip fail
        pytest.skip("no chromium here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=program,
            args=FLAGS,
            viewport={"width": width, "height": height},
            timeout=PATIENCE,
        )
        context.set_default_timeout(PATIENCE)
        try:
            yield context
        finally:
            context.close()

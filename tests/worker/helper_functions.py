"""Functions that helper processes call."""

from __future__ import annotations

import os
import warnings


def doubled(text: str) -> str:
    if text == "3":
        raise ValueError("three")
    if text == "4":
        warnings.warn("four", stacklevel=1)
    if text == "5":
        os._exit(1)
    return f"{text * 2} {os.getpid()}"

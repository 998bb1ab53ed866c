"""What the files of ``letters.yaml`` say, and a few words about it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def read(path: str) -> dict[str, Any]:
    """One letter: its head as a map, and how often each of the characters a to z is in its text, shape (26,) int64.

    The head is lines of ``word: value``; the weather may be lacking, and then no temperature is known.
    """
    head, _, text = Path(path).read_text(encoding="utf-8").partition("\n\n")
    said = dict(line.split(": ", 1) for line in head.splitlines())
    letter = {
        "sender": said["from"],
        "receiver": said["to"],
        "day": datetime.fromisoformat(said["date"]),
        "degrees": float(said["degrees"]) if "degrees" in said else None,
        "words": len(text.split()),
    }
    codes = np.frombuffer(text.lower().encode("ascii"), np.uint8)
    counts = np.bincount(codes[(codes >= ord("a")) & (codes <= ord("z"))] - ord("a"), minlength=26)
    return {"letter": letter, "counts": counts}


def digest(senders: pd.DataFrame) -> list[str]:
    """A line a sender, in the order of the frame."""
    return [
        f"{row.sender} wrote {row.letters} letters to {row.receivers} people, at {row.degrees:.1f} degrees"
        for row in senders.itertuples()
    ]

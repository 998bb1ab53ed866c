"""Mutated files give an error with its place, never a traceback; typos get the right suggestion."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from fuzzing import Checked, Typo, in_a_process, suggested


def require_answers(rows: list[Checked]) -> None:
    """Exit code 0, 2 or 3, no traceback; refusing a file takes less than 200 MB, whatever it asks for."""
    for row in rows:
        assert not row.fault, f"file {row.number} ({row.kind} of {row.file}): {row.fault}: {row.said[-2000:]}"
        assert row.code == 0 or row.grown < 200e6, f"file {row.number} ({row.kind} of {row.file}): {row.grown:,} bytes"


def require_suggestions(found: list[tuple[Typo, bool]]) -> None:
    missed = [one for one, ok in found if not ok]
    assert len(missed) <= 0.05 * len(found), missed


def test_mutated_files_load_or_give_an_error() -> None:
    rows = in_a_process(range(200))
    assert {row.code for row in rows} >= {0, 2}  # some are still right
    require_answers(rows)


def test_typos_get_the_right_suggestion() -> None:
    found = suggested(random.Random(1), share=0.1)
    assert set(Counter(one.kind for one, _ in found)) == {"key", "op", "step", "column"}
    require_suggestions(found)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_thousand_mutated_files_load_or_give_an_error() -> None:
    for start in range(0, 20_000, 500):
        require_answers(in_a_process(range(start, start + 500)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_every_misspelt_name_gets_the_right_suggestion(seed: int) -> None:
    require_suggestions(suggested(random.Random(seed)))

"""A function called for many arguments, in helper processes too."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helper_functions import doubled

from pipeline.worker import helper_processes
from pipeline.worker.helper_processes import call_each


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers are started after the first call."""
    monkeypatch.setattr(helper_processes, "_LOOK", 0.0)
    monkeypatch.setattr(helper_processes, "_WORTH", 0.0)


class Here:
    """The function in this process: after its first call it waits until a helper has answered."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.answered = threading.Event()

    def __call__(self, text: str) -> str:
        if self.called:
            assert self.answered.wait(120)
        self.called.append(text)
        return f"{text * 2} here"

    def received(self, reply: str) -> str:
        return reply


def announce(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell it when a helper has answered."""
    give: Callable[..., None] = helper_processes._Work.give

    def give_and_tell(*args: Any) -> None:
        give(*args)
        here.answered.set()

    monkeypatch.setattr(helper_processes._Work, "give", give_and_tell)


def called(here: Here, texts: list[str], monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[list[str], int]:
    """Return the results, and how many arguments were reported as done."""
    announce(here, monkeypatch)
    counts: list[int] = []
    return call_each(texts, here, doubled, here.received, counts.append, **how), sum(counts)


@pytest.mark.usefixtures("soon")
def test_helpers_do_a_part_of_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    here, texts = Here(), [str(n) for n in range(6, 46)]
    results, n_done = called(here, texts, monkeypatch, n_helpers=1)
    assert [result.split()[0] for result in results] == [text * 2 for text in texts]
    workers = {result.split()[1] for result in results}
    assert "here" in workers
    assert len(workers) == 2
    assert str(os.getpid()) not in workers
    assert n_done == len(texts)


@pytest.mark.usefixtures("soon")
def test_what_fails_or_warns_in_a_helper_is_called_here(monkeypatch: pytest.MonkeyPatch) -> None:
    here, texts = Here(), ["1", *["3", "4"] * 20]
    results, n_done = called(here, texts, monkeypatch, n_helpers=1)
    assert results == [f"{text * 2} here" for text in texts]
    assert n_done == len(texts)


@pytest.mark.usefixtures("soon")
def test_the_calls_of_a_helper_that_dies_are_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    here, texts = Here(), ["1", *["5"] * 10]
    assert called(here, texts, monkeypatch, n_helpers=2)[0] == [f"{text * 2} here" for text in texts]


def test_what_is_done_soon_starts_no_helper() -> None:
    texts = [str(n) for n in range(1_000)]
    assert call_each(texts, str.upper, doubled, str, lambda n: None, n_helpers=1) == texts
    assert call_each([], str.upper, doubled, str, lambda n: None) == []


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("n_helpers", [0, 1])
def test_the_first_error_is_raised(n_helpers: int) -> None:
    done: list[str] = []

    def here(text: str) -> str:
        done.append(text)
        if text in ("3", "8"):
            raise ValueError(text)
        return text

    with pytest.raises(ValueError, match=r"^3$"):
        call_each([str(n) for n in (0, 1, 2, 3, 6, 7, 8)], here, doubled, str, lambda n: None, n_helpers=n_helpers)
    assert "8" not in done


@pytest.mark.usefixtures("soon")
def test_an_interrupt_ends_the_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here()

    def interrupted(n: int) -> None:
        if len(here.called) > 1:
            raise KeyboardInterrupt

    announce(here, monkeypatch)
    with pytest.raises(KeyboardInterrupt):  # that nothing of them is left is seen by the fixture of all tests
        call_each([str(n) for n in range(6, 70)], here, doubled, here.received, interrupted, n_helpers=1)

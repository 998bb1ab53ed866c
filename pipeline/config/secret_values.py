"""The values of ``${secret:…}``: which were read while a Config was loaded, and how they are masked in texts."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from pipeline.errors import printable

__all__ = ["Secret", "holds_secret", "masked", "note", "recorded"]

SHORTEST = 4
"""Letters of a secret that is masked; a shorter one would be found everywhere."""

_SHORTEST_LINE = 8  # of a secret of several lines, such as a private key, each is masked by itself
_READ: ContextVar[tuple[set[str], ...]] = ContextVar("secrets_read", default=())


class Secret(str):
    """Text from ``${secret:…}``; ``name`` is what it is made of: ``Bearer ${secret:TOKEN}``.

    ``repr`` shows the name. dask describes a text by that, so that a Graph depends on which secret it is.
    """

    __slots__ = ("name",)
    name: str

    def __new__(cls, text: str, name: str) -> Secret:
        self = super().__new__(cls, text)
        self.name = name
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (str(self), self.name)

    def __repr__(self) -> str:
        return repr(self.name)


@contextmanager
def recorded() -> Iterator[set[str]]:
    """Collect the secrets that are read inside the block; blocks may be nested."""
    found: set[str] = set()
    token = _READ.set((*_READ.get(), found))
    try:
        yield found
    finally:
        _READ.reset(token)


def note(secret: str) -> None:
    """Note that a secret is read."""
    for found in _READ.get():
        found.add(secret)


def holds_secret(value: Any) -> bool:
    """Return whether a value is a secret, or has one at any depth."""
    if isinstance(value, dict | list):
        return any(map(holds_secret, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Secret)


def masked(value: Any, secrets: Set[str]) -> Any:
    """Return texts, at any depth, with ``***`` for each secret, also where it is escaped or quoted.

    >>> masked({"a": ["with hunter2", 3]}, {"hunter2"})
    {'a': ['with ***', 3]}
    >>> masked(repr("it's a\\\\b"), {"it's a\\\\b"})
    '"***"'
    """
    if not secrets:
        return value
    return _masked(value, _pattern(frozenset(secrets)))


def _masked(value: Any, pattern: re.Pattern[str] | None) -> Any:
    if pattern is None:
        return value
    if isinstance(value, str):
        return pattern.sub("***", value)
    if isinstance(value, dict):
        return {_masked(k, pattern) if isinstance(k, str) else k: _masked(one, pattern) for k, one in value.items()}
    return [_masked(one, pattern) for one in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=64)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Return what finds the secrets in every form; None if none is long enough."""
    texts = set(secrets)
    for secret in secrets:
        lines = [line.strip() for line in secret.splitlines()]
        texts |= {line for line in lines if len(line) >= _SHORTEST_LINE}
    forms = {form(text) for text in texts if len(text) >= SHORTEST for form in _FORMS}
    return re.compile("|".join(map(re.escape, sorted(forms, key=lambda form: (-len(form), form))))) if forms else None


_FORMS: tuple[Callable[[str], str], ...] = (
    str,
    printable,
    lambda text: repr(text)[1:-1],
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: text.replace("'", "'\"'\"'"),  # as shlex.quote writes it
    html.escape,
    lambda text: html.escape(text, quote=False),
    lambda text: quote(text, safe=" ", errors="surrogateescape"),
    lambda text: quote(text, safe="", errors="surrogateescape"),
    lambda text: quote(text, errors="surrogateescape"),
    lambda text: quote_plus(text, errors="surrogateescape"),
)
"""How a secret may be written in a message or a file."""

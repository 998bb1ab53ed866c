"""Ops that ask other programs: lookups in databases, tables and web services, and the crawl of a web site."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pipeline.config.scalars import duration
from pipeline.config.signatures.base import ByteSize, Path, Signature

__all__ = ["Crawl", "Lookup"]

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|min|h)\s*")
_SECONDS = {"s": 1, "min": 60, "h": 3600}


def _per_second(value: Any) -> float:
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    rate = float(found[1]) / _SECONDS[found[2]] if found else 0.0
    if not 1e-6 <= rate <= 1e6:
        raise ValueError(f"got {value!r}; a rate is a text like 10/s, 100/min, 500/h")
    return rate


def _seconds(value: Any) -> float:
    seconds = duration(value)
    if seconds is None:
        raise ValueError(f"got {value!r}; a time is a number of seconds, or a text like 30s, 10min, 2h")
    return seconds


_TEXT_OR_NUMBER = WithJsonSchema({"type": ["string", "number"]})
Rate = Annotated[float, BeforeValidator(_per_second), WithJsonSchema({"type": "string"})]
"""Requests per second, written ``10/s``, ``100/min``, ``500/h``."""
Seconds = Annotated[float, BeforeValidator(_seconds), _TEXT_OR_NUMBER]
"""Seconds: a number, or a text such as ``10min``."""

_SOURCES = {
    "database": ("database", "query", "one"),
    "csv": ("csv", "key", "field", "sep", "one"),
    "url": ("url", "headers"),
}
_NEEDED = {"database": ("query",), "csv": ("key",), "url": ()}


class Lookup(Signature):
    """What a database, a CSV file or a web service has for each item, or for each row of a frame, as items.

    SQLite: ``database`` is opened for reading only, ``:id`` in the ``query`` is bound to that key of the item, or to
    the item itself if it is no map. CSV: the rows whose column ``key`` has the value of the item. Web: ``{id}`` in the
    ``url`` is the URL-encoded value; the answer is JSON. A SQLite or CSV item is a list of maps, one a row; with
    ``one: true`` a map.

    ``retries`` of the step wait 0.5 s, 1 s, 2 s, … or what the server asks for; ``timeout`` is that of one try (30 s).

    Errors: nothing found, unless ``missing`` says otherwise; an answer that is no JSON; a query that writes.
    """

    op: ClassVar[str] = "lookup"
    family: ClassVar[str] = "outside"
    inputs: ClassVar = {"input": ("items", "value", "frame")}
    gives: ClassVar[str] = "items"
    home: ClassVar[str] = "web.lookup:lookup"
    reads: ClassVar = ("database", "csv")
    own_items: ClassVar[bool] = True
    tries_itself: ClassVar[bool] = True
    no_effect: ClassVar[frozenset[str]] = frozenset({"rate"})

    database: Path | None = Field(None, description="SQLite file")
    query: Annotated[str, Field(min_length=1)] | None = Field(
        None, description='SQLite: "select name from pets where owner = :id"'
    )
    csv: Path | None = Field(None, description="CSV file, read whole by each worker")
    key: str | None = Field(None, description="CSV: the column that is compared with the item")
    field: str | None = Field(None, description="CSV: the key of an item that is a map; default: as key")
    sep: Annotated[str, Field(min_length=1, max_length=1)] = Field(",", description="CSV: what separates the columns")
    url: Annotated[str, Field(min_length=1)] | None = Field(
        None, description='web: "https://host/pets?owner={id}", or "…/{id}"'
    )
    headers: dict[str, str] = Field({}, description='web: {Authorization: "Bearer ${secret:TOKEN}"}')
    one: bool = Field(False, description="SQLite, CSV: true: one row each, as a map; more is an error")
    missing: Literal["error", "null", "empty"] = Field(
        "error", description="no row, or status 404 or 410: an error, null, or an empty list"
    )
    rate: Rate | None = Field(None, description="10/s: not more requests, of all workers of a machine together")
    split: Annotated[int, Field(ge=1, le=100_000)] = Field(
        64, description="number of tasks for items whose number is unknown until run time"
    )

    def unrepeatable(self) -> str:
        return "what a web service answers has no version" if self.url is not None else ""

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            return [("", f"needs one of database, csv, url; got {' and '.join(given) or 'none'}")]
        (source,) = given
        own = {name for names in _SOURCES.values() for name in names}
        errors = []
        for name in sorted(self.model_fields_set & own - set(_SOURCES[source])):
            others = " and ".join(other for other, names in _SOURCES.items() if name in names)
            errors.append((name, f"has no effect beside {source!r}; it is for {others}"))
        errors += [("", f"{source!r} needs {n}") for n in _NEEDED[source] if getattr(self, n) is None]
        if self.missing == "empty" and self.one:
            errors.append(("missing", "empty is a list, and one: true gives maps; write missing: null"))
        return errors


class Crawl(Signature):
    """The links of a web site and whether they are dead, as a frame: a row a link, in the order of depth and URL.

    Columns: ``url``; ``result`` (``ok``, ``dead``, ``off-site``: never requested, ``skipped``); ``status`` (0: no
    answer); ``reason``; ``kind`` (page, image, script, …); ``found_on``, the first page with it; ``n_found``, how many
    have it; ``depth``, the number of clicks; ``seconds``, ``bytes``, and ``redirect``, where it leads.

    Only the scheme, host and port of ``url`` are requested, and what its robots.txt allows. All limits are of the whole
    crawl but ``page_bytes`` and ``timeout``, the time of one request from connecting to the last byte (10 s).

    Errors: the start page can't be read, or is another site's (exit 3).
    """

    op: ClassVar[str] = "crawl"
    family: ClassVar[str] = "outside"
    inputs: ClassVar = {}
    gives: ClassVar[str] = "frame"
    home: ClassVar[str] = "web.crawl:crawl"
    keeps: ClassVar = ("state",)
    tries_itself: ClassVar[bool] = True

    url: Annotated[str, Field(min_length=1)] = Field(description="the start page: http://host/")
    depth: Annotated[int, Field(ge=1, le=20)] = Field(description="clicks from the start page")
    pages: Annotated[int, Field(ge=1, le=100_000)] = Field(1000, description="most requests")
    bytes: ByteSize = Field(100_000_000, description="most bytes of all bodies: 100MB")
    page_bytes: ByteSize = Field(
        2_000_000, description="most bytes of one page, packed or unpacked; the rest is cut off"
    )
    rate: Rate = Field(10.0, description="most requests: 10/s; a crawl-delay in robots.txt may ask for fewer")
    time: Seconds = Field(600.0, description="after which nothing more is requested: 10min")
    split: Annotated[int, Field(ge=1, le=64)] = Field(8, description="tasks that request pages, for each depth")
    contact: Annotated[str, Field(max_length=200, pattern=r"^[\x20-\x27\x2a-\x7e]*$")] = Field(
        "", description="who crawls, for the site's owner: an address or a URL, sent with each request"
    )
    state: Path | None = Field(None, description="folder that keeps each page, so that another run goes on from there")
    max_age: Seconds = Field(86400.0, description="with state: older pages are requested again")

    def unrepeatable(self) -> str:
        return "what a web site holds has no version"

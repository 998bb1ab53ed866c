"""The links of an HTML page, with their kinds."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pipeline.ops.web.urls import Unusable, normal

__all__ = ["MOST_LINKS", "Link", "is_page", "links_of", "text_of_page"]

MOST_LINKS = 10_000
"""Different links of one page; the others are left out."""

Link = tuple[str, str, str]
"""URL, kind, and why it is not requested: ``is no valid URL!`` if the link is broken; empty if it may be."""

_DEEPEST = 2_000
"""Elements within each other; what comes after is left out: the time of parsing grows with the square of the depth."""
_MOST_ATTRIBUTES = 50_000  # bytes of one tag: the time grows with the square of the number of its attributes

_SOURCES = (  # attribute, tags and their kinds
    ("href", {"a": "page", "area": "page", "link": "link"}),
    ("xlink:href", {"a": "page", "image": "image"}),
    (
        "src",
        {"img": "image", "input": "image", "script": "script", "iframe": "page", "frame": "page"}
        | dict.fromkeys(("source", "video", "audio", "track", "embed"), "media"),
    ),
    ("data", {"object": "media"}),
    ("poster", {"video": "image"}),
    ("srcset", {"img": "image", "source": "image"}),
    ("content", {"meta": "page"}),
)
_RELS = {"stylesheet": "style", "icon": "image", "next": "page", "prev": "page", "alternate": "page", "help": "page"}
_NO_LINK = frozenset({"preconnect", "dns-prefetch", "prefetch", "preload", "modulepreload", "pingback", "canonical"})
_REFRESH = re.compile(r"\s*[\d.]*\s*[;,]?\s*(?:url\s*=)?\s*['\"]?([^'\"]+)", re.IGNORECASE)
_CANDIDATE = re.compile(r"[\s,]*([^\s,]\S*[^\s,]|[^\s,])(?:\s+[^,]*)?")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_ENCODING = re.compile(
    r"utf-?8|utf-?16(le|be)?|us-ascii|ascii|latin-?1|iso-?8859-\d{1,2}|(windows|cp)-?125\d|koi8-[ru]|gb2312|gbk|gb18030"
    r"|big5|euc-(jp|kr)|shift_jis|sjis|iso-2022-(jp|kr)|macintosh|tis-620"
)
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_PIECE = re.compile(
    r"<!--.*?(?:-->|\Z)|<(?:script|style|textarea|title|iframe|noembed|noframes|xmp)\b.*?(?:</(?:script|style|textarea|title"
    r"|iframe|noembed|noframes|xmp)\b|\Z)|<(/?)([A-Za-z][^\s/>]*)(?:[^\"'>]|\"[^\"]*\"|'[^']*')*",
    re.IGNORECASE | re.DOTALL,
)
_FORMATTING = frozenset({"a", "b", "big", "code", "em", "font", "i", "s", "small", "strike", "strong", "tt", "u"})
_BARRIERS = frozenset(
    {"applet", "button", "caption", "marquee", "math", "object", "select", "svg", "table", "template"}
)
_CLOSED_BY_ITSELF = frozenset(
    {
        *(
            "area",
            "base",
            "br",
            "col",
            "embed",
            "hr",
            "img",
            "input",
            "link",
            "meta",
            "param",
            "source",
            "track",
            "wbr",
        ),
        *("p", "li", "dt", "dd", "option", "td", "th", "tr"),
    }
)


def is_page(headers: Any) -> bool:
    """Return whether an answer is HTML, by its headers."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("text/html", "application/xhtml+xml")


def text_of_page(data: bytes, content_type: str) -> tuple[str, str]:
    """Return a page as text, and its encoding: by its first bytes, its header, or its ``meta``; else UTF-8."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data.decode(name, "replace"), "utf-8"
    found = re.search(r"charset\s*=\s*[\"']?([\w:.-]{1,40})", content_type, re.IGNORECASE)
    stated = found[1] if found else ""
    if not stated and (inside := _CHARSET.search(data[:4096])):
        stated = inside[1].decode("ascii")
        stated = "utf-8" if stated.lower().startswith("utf-16") else stated  # or it could not have been read
    name = _encoding(stated)
    return data.decode(name, "replace"), name


def _encoding(stated: str) -> str:
    """Return the codec of an encoding; only those of text in use, since some codecs are slow on purpose-made data."""
    name = stated.lower()
    if not _ENCODING.fullmatch(name):
        return "utf-8"
    if name in ("iso-8859-1", "iso8859-1", "latin1", "latin-1", "us-ascii", "ascii"):
        name = "cp1252"  # as browsers read it
    with suppress(LookupError):
        return codecs.lookup({"tis-620": "cp874", "macintosh": "mac_roman"}.get(name, name)).name
    return "utf-8"


def links_of(text: str, url: str, *, encoding: str = "utf-8") -> tuple[list[Link], str]:
    """Return the different links of a page in the order of the page, and a note if some are left out.

    Parameters
    ----------
    url : of the page; ``<base href>`` is relative to it
    """
    from selectolax.lexbor import LexborHTMLParser

    end = _end_of_parsed(text)
    tree = LexborHTMLParser(text[:end])
    note = "" if end == len(text) else f"links after character {end:,} are not read: tags too deep, or too long"
    base = url
    for node in tree.css("base[href]")[:1]:
        with suppress(Unusable):
            base = normal(node.attributes.get("href") or "", url, encoding=encoding)
    found: dict[str, Link] = {}
    for place, kind in _written(tree):
        with suppress(Unusable):
            link = _link(place, base, kind, encoding)
            if link is not None and link[0] not in found:
                if len(found) == MOST_LINKS:
                    note = f"links after the first {MOST_LINKS:,} are left out"
                    break
                found[link[0]] = link
    return list(found.values()), note


def _link(place: str, base: str, kind: str, encoding: str) -> Link | None:
    try:
        return normal(place, base, encoding=encoding), kind, ""
    except Unusable as error:
        if not error.shown:
            return None
        return error.shown, kind, error.reason + ("!" if error.broken else "")


def _written(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield each link as it is written, with its kind, in the order of the page."""
    for node in tree.root.traverse() if tree.root is not None else ():
        tag = node.tag
        if tag.startswith("-") or tag == "base":
            continue
        attributes = node.attributes
        for name, kinds in _SOURCES:
            value = attributes.get(name)
            if value is None or tag not in kinds:
                continue
            if tag == "meta":
                if (attributes.get("http-equiv") or "").strip().lower() == "refresh" and ";" in value:
                    refresh = _REFRESH.match(value.partition(";")[2])
                    if refresh:
                        yield refresh[1], "page"
            elif name == "srcset":
                yield from ((place[1], "image") for place in _CANDIDATE.finditer(value))
            elif tag == "link":
                rels = (attributes.get("rel") or "").lower().split()
                if not _NO_LINK & set(rels):
                    yield value, next((_RELS[rel] for rel in rels if rel in _RELS), "link")
            elif tag != "input" or (attributes.get("type") or "").lower() == "image":
                yield value, kinds[tag]


def _end_of_parsed(text: str) -> int:
    """Return where parsing should end: at a tag that is too long, or where too many elements are within each other."""
    stack: list[str] = []
    for found in _PIECE.finditer(text):
        name = found[2]
        if name is None:
            continue  # a comment, or text that is no HTML
        if found.end() - found.start() > _MOST_ATTRIBUTES and found[0].count("=") > 1_000:
            return found.start()
        name = name.lower()
        if name in _CLOSED_BY_ITSELF:
            continue
        if not found[1]:
            stack.append(name)
            if len(stack) > _DEEPEST:
                return found.start()
            continue
        for i in range(len(stack) - 1, max(len(stack) - 100, 0) - 1, -1):
            if stack[i] == name:
                del stack[i : i + 1 if name in _FORMATTING else None]
                break
            if stack[i] in _BARRIERS:
                break  # as in a browser: what is around a table can't be closed within it
    return len(text)

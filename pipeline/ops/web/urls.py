"""URLs in one normal form; a site: scheme, host and port.

Two texts that mean the same page get one form: the scheme and the host in lower case, the host in ASCII (IDNA), no
default port, no dot segments, no fragment, percent-encoding only where it is needed and in upper case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

__all__ = ["MOST_LENGTH", "Site", "Unusable", "normal", "redirected", "site_of"]

MOST_LENGTH = 2_000
"""Characters of a URL; longer ones are never requested."""

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?|\[[0-9a-f:.]+\]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_IN_PATH = "!$&'()*+,;=:@/%"
_IN_QUERY = _IN_PATH + "?"


class Unusable(Exception):
    """A text is no URL that may be requested.

    Parameters
    ----------
    reason : why
    shown : the text as it may be listed; empty if it is no link at all
    broken : whether it can't be right; else it is only not requested
    """

    def __init__(self, reason: str, shown: str, *, broken: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.shown, self.broken = reason, shown[:MOST_LENGTH], broken


@dataclass(frozen=True)
class Site:
    """What a crawl stays within; ``host`` is ASCII in lower case, an IPv6 address without its brackets."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    def target(self, url: str) -> str | None:
        """Return path and query of a URL in normal form; None if it is on another site."""
        own = str(self)
        return url[len(own) :] if url.startswith(own + "/") else None


def site_of(url: str) -> Site:
    """Return the site of a URL in normal form."""
    split = urlsplit(url)
    return Site(split.scheme, split.hostname or "", split.port or _PORTS[split.scheme])


def normal(text: str, base: str = "", *, encoding: str = "utf-8") -> str:
    """Return a link as a URL in normal form.

    Parameters
    ----------
    base : the URL in normal form that it is relative to
    encoding : of the page, for letters in the query

    Raises
    ------
    Unusable : for a link to no page (a mail address), one with a password, and a text that is no URL

    >>> normal("../b/%7Ec?q=ü#top", "http://Host:80/a/x/y".lower())
    'http://host:80/a/b/~c?q=%C3%BC'
    >>> normal("HTTP://Bücher.example:80")
    'http://xn--bcher-kva.example/'
    """
    text = re.sub(r"[\t\n\r]", "", text.strip("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0e\x0f \t\n\r\f"))
    found = _SCHEME.match(text)
    scheme = found[0][:-1].lower() if found else ""
    if scheme and scheme not in _PORTS:
        shown = "" if scheme in ("javascript", "data", "about", "blob") else _shown(text)
        raise Unusable(f"{scheme[:20]}: is not requested", shown)
    head, mark, query = text.partition("#")[0].partition("?")
    head = head.replace("\\", "/")  # as browsers do
    if scheme:
        head = f"{scheme}://{head[len(scheme) + 1 :].lstrip('/')}"
    shown = _shown(text)
    try:
        whole = urljoin(base, f"{head}{mark}{query}") if base else head + mark + query
        split = urlsplit(whole)
        port = split.port
    except ValueError:
        raise Unusable("is no valid URL", shown, broken=True) from None
    if split.scheme not in _PORTS:
        raise Unusable("is no URL of a web page", shown, broken=True)
    address = split.netloc.rpartition("@")[2]
    host = _host(split.hostname or "", bracketed=address.startswith("["))
    if not host or port == 0:
        raise Unusable("is no valid URL", shown, broken=True)
    origin = f"{split.scheme}://{host}" + ("" if port in (None, _PORTS[split.scheme]) else f":{port}")
    path = _without_dots(_encoded(split.path, _IN_PATH, "utf-8")) or "/"
    url = origin + path + (f"?{_encoded(split.query, _IN_QUERY, encoding)}" if split.query else "")
    if "@" in split.netloc:
        raise Unusable("has a user name or password", url.replace("://", "://***@", 1))
    if len(url) > MOST_LENGTH:
        raise Unusable(f"is longer than {MOST_LENGTH:,} characters", url)
    return url


def redirected(location: str, url: str) -> str:
    """Return where the header Location of an answer from ``url`` leads, in normal form.

    Raises
    ------
    Unusable : as of :func:`normal`; also for control characters, which a link may have, but no header
    """
    if re.search(r"[\x00-\x1f\x7f]", location):
        raise Unusable("is no valid URL", _shown(location), broken=True)
    return normal(location, url)


def _shown(text: str) -> str:
    return quote(text[:MOST_LENGTH], safe=_IN_QUERY + "#[]", errors="replace")


def _host(name: str, *, bracketed: bool) -> str:
    """Return a host in ASCII, in lower case; empty if it is none."""
    if bracketed:
        name = f"[{name}]"
    elif not name.isascii():
        import idna  # comes with httpx

        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return ""
    name = name.lower()
    return name if _HOST.fullmatch(name) and len(name) <= 253 else ""


def _encoded(text: str, safe: str, encoding: str) -> str:
    """Return a path or query with percent-encoding where it is needed, and nowhere else."""
    text = quote(text, safe=safe, encoding=encoding, errors="xmlcharrefreplace" if encoding != "utf-8" else "replace")
    return re.sub("%([0-9A-Fa-f]{2})?", _escape, text)


def _escape(found: re.Match[str]) -> str:
    if not found[1]:
        return "%25"  # a % by itself
    code = int(found[1], 16)
    return chr(code) if code in _UNRESERVED else f"%{found[1].upper()}"


def _without_dots(path: str) -> str:
    """Return a path without its segments ``.`` and ``..``, which may have been percent-encoded."""
    kept: list[str] = []
    segments = path.split("/")
    for i, segment in enumerate(segments):
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
            continue
        if i == len(segments) - 1:
            kept.append("")
    return "/".join(kept) if kept and kept[0] == "" else "/" + "/".join(kept)

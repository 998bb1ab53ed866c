"""robots.txt, as RFC 9309 has it: fetched before anything else; protego reads it.

Status 4xx: all is allowed. 5xx, or no answer: nothing is. Five redirects within the site are followed; one to another
site is not, and then nothing is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipeline.ops.web.http_client import Answer, NoAnswer
from pipeline.ops.web.urls import Site, Unusable, redirected

__all__ = ["MOST_BYTES", "PRODUCT", "Rules", "fetch_rules"]

PRODUCT = "Pipeline"
"""The name that rules for this crawler are under."""

MOST_BYTES = 500 * 1024
"""Bytes of robots.txt that count; the rest is not read."""

_MOST_REDIRECTS = 5
_AGENT = re.compile(r"^\s*user[- ]*agent\s*[:\s]\s*(\*(?![^\s#])|[a-z_-]*).*", re.IGNORECASE)
_OTHERS = "-"  # is in no name


@dataclass(frozen=True)
class Rules:
    """What a site allows.

    Parameters
    ----------
    text : of robots.txt
    reason : why nothing is allowed; empty if the text decides
    """

    text: str = ""
    reason: str = ""

    def allows(self, url: str) -> bool:
        """Return whether a URL may be requested."""
        return not self.reason and bool(_parsed(self.text).can_fetch(url, PRODUCT))

    @property
    def delay(self) -> float:
        """Seconds between two requests that the site asks for; 0 if it asks for none."""
        return float(_parsed(self.text).crawl_delay(PRODUCT) or 0.0)


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    from protego import Protego

    return Protego.parse("\n".join(_AGENT.sub(_named, line) for line in text.splitlines()))


def _named(line: re.Match[str]) -> str:
    """Return the line of a user agent with a name that protego, which also finds parts of names, finds if it is ours.

    RFC 9309, 2.2.1: the product token of the line, which ends at the first other character, is compared as a whole.
    """
    return f"User-agent: {line[1] if line[1].lower() in ('*', PRODUCT.lower()) else _OTHERS}"


def fetch_rules(site: Site, get: Callable[[str], Answer]) -> Rules:
    """Return the rules of a site; ``get`` requests a path of it."""
    url = f"{site}/robots.txt"
    for _ in range(_MOST_REDIRECTS + 1):
        target = site.target(url)
        if target is None:
            return Rules(reason=f"robots.txt is on another site ({url})")
        try:
            answer = get(target)
        except NoAnswer as error:
            return Rules(reason=f"robots.txt gave no answer ({error})")
        if 300 <= answer.status < 400:
            try:
                url = redirected(answer.headers.get("location", ""), url)
            except Unusable as error:
                return Rules(reason=f"robots.txt leads to what {error.reason}")
        elif 400 <= answer.status < 500:
            return Rules()
        elif answer.status >= 500 or answer.failed:
            return Rules(reason=f"robots.txt gave no answer (status {answer.status}{answer.failed * ', cut off'})")
        else:
            return Rules(text=answer.body[:MOST_BYTES].decode("utf-8", "replace").removeprefix("\ufeff"))
    return Rules()  # more redirects: as if there were none

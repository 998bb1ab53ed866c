"""What differs between two records of a step, as short texts: ``window 5 -> 7``, ``helpers.py: smooth() changed``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.source_digests import MODULE_LEVEL
from pipeline.runs.provenance.user_code import NO_MODULE, THIS, WHOLE
from pipeline.runs.resume.records import StepRecord
from pipeline.units import count_text

__all__ = ["OTHERWISE", "differences", "touched"]

OTHERWISE = "Pipeline plans this step differently"
"""The reason where a key has changed and no component has."""

_MOST_NAMED = 3  # functions and files named in one text
_VERSION = "code_version"
_MARK = " #"  # before the digest of a value that is shown shortened


def differences(old: StepRecord | None, new: StepRecord) -> list[str]:
    """Return why a step that has the first record can't stand for one that has the second, a text for each reason.

    Empty if no component differs. An unknown component is a reason, whatever it was before.
    """
    if old is None:
        return ["new"]
    texts: list[str] = []
    for name, describe in _DESCRIBE.items():
        before, now = old.component(name), new.component(name)
        if not now.key:
            texts.append(now.unknown or f"{name} is unknown")
        elif now.key != before.key:
            found = describe(before.shown, now.shown)
            texts += found or [(before.unknown and f"before, {before.unknown}") or f"{_WORDS[name]} changed"]
    return texts


def touched(old: StepRecord | None, new: StepRecord) -> list[str]:
    """Return the files that have another time of change than before, and the same content; sorted."""
    before = old.component("inputs").shown if old is not None else {}
    now = new.component("inputs").shown
    return sorted(
        name for name, about in now.items() if name in before and before[name] != about and before[name][2] == about[2]
    )


def _op(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before.get("name") != now.get("name"):
        return [f"{before.get('name', 'nothing')} -> {now.get('name', 'nothing')}"]
    return [f"results of {now.get('name')} are different in this version of Pipeline"]


def _values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    texts = []
    for name in dict.fromkeys((*now, *before)):
        was, is_now = before.get(name, "default"), now.get(name, "default")
        if was == is_now:
            continue
        if _shown(was) == _shown(is_now):
            texts.append(f"{name} changed: {_shown(is_now)}")
        else:
            texts.append(f"{name} {_shown(was)} -> {_shown(is_now)}")
    return texts


def _versions(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    both = _values({k: v for k, v in before.items() if k in now}, {k: v for k, v in now.items() if k in before})
    texts = [*both, *(f"{name} {version} is new" for name, version in now.items() if name not in before)]
    return [*texts, *(f"{name} {version} is gone" for name, version in before.items() if name not in now)]


def _shown(text: Any) -> str:
    return str(text).rpartition(_MARK)[0] if _MARK in str(text)[-20:] else str(text)


def _code(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if (_VERSION in before) != (_VERSION in now):
        return [f"{_VERSION} {before.get(_VERSION, 'default')} -> {now.get(_VERSION, 'default')}"]
    texts = []
    for module in dict.fromkeys((*now, *before)):
        was, is_now = (None if one.get(module) == NO_MODULE else one.get(module) for one in (before, now))
        if was == is_now:
            continue
        if not isinstance(was, Mapping) or not isinstance(is_now, Mapping):
            if was is None or is_now is None:
                texts.append(f"{module} is {'new' if was is None else 'gone'}")
            else:
                texts.append(f"{module} {was} -> {is_now}")
            continue
        for names, what in (
            ([name for name in is_now if name in was and was[name] != is_now[name]], "changed"),
            ([name for name in is_now if name not in was], "new"),
            ([name for name in was if name not in is_now], "gone"),
        ):
            if names:
                verb = what if what == "changed" else f"{'is' if len(names) == 1 else 'are'} {what}"
                if module == THIS:  # functions and values, by their names
                    texts.append(f"{_listed(names)} {verb}")
                else:
                    texts.append(f"{module}{_functions(names, is_now if what != 'gone' else was)} {verb}")
    return texts


def _functions(names: Sequence[str], among: Mapping[str, str]) -> str:
    """Return the names of functions and classes of a module; a file as a whole has none."""
    shown = []
    for name in names:
        if name == WHOLE:
            return ""
        is_class = any(other.startswith(f"{name}.") for other in among)
        shown.append("code outside functions" if name == MODULE_LEVEL else name if is_class else f"{name}()")
    return f": {_listed(shown)}"


def _inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    texts = []
    for names, what, among in (
        ([name for name in now if name not in before], "new", now),
        ([name for name in now if name in before and before[name][2] != now[name][2]], "changed", now),
        ([name for name in before if name not in now], "gone", before),
    ):
        if names:
            verb = what if what == "changed" else f"{'is' if len(names) == 1 else 'are'} {what}"
            n = f"{len(names):,} of {count_text(len(among), 'file')}" if len(among) > 1 else "1 file"
            texts.append(f"{n} {verb}: {_listed(sorted(names))}" if len(among) > 1 else f"{names[0]} {verb}")
    return texts


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED:,} more"


_DESCRIBE = {"op": _op, "parameters": _values, "seed": _values, "code": _code, "versions": _versions, "inputs": _inputs}
_WORDS = {
    "op": "the op",
    "parameters": "the parameters",
    "seed": "the seed",
    "code": "the code",
    "versions": "the versions",
    "inputs": "the files",
}

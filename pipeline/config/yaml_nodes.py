"""YAML text parsed to a tree in which every value has its place.

YAML 1.2: ``on``, ``no`` and dates stay text. Duplicate keys, tags, merge keys and several documents are refused; size,
depth and the number of values that aliases expand to are bounded, so that no file takes long or much memory.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from pipeline.config.fault_collector import ConfigFault
from pipeline.errors import Location, printable

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

__all__ = ["Node", "parse", "scalar"]

MOST_BYTES = 256 * 1024
MOST_DEPTH = 40
MOST_VALUES = 100_000

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGS = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None), "map": dict, "seq": list}


@dataclass(eq=False)
class Node:
    """One value of a file.

    Parameters
    ----------
    location : where it begins
    value : a scalar, a list of nodes, or a dict of nodes by the text of their keys
    text : of a scalar, as it is written (without quotes); of a whole file, all of it
    plain : whether it is a scalar without quotes
    keys : of a map, the place of each key
    size : number of values in it, with aliases expanded
    folder : absolute path of the folder of its file
    """

    location: Location
    value: Any
    text: str = ""
    plain: bool = False
    keys: dict[str, Location] = field(default_factory=dict)
    size: int = 1
    folder: str = ""

    @property
    def is_map(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)

    @property
    def is_empty(self) -> bool:
        """Return whether it is a key without a value."""
        return self.plain and self.text == ""

    @property
    def shown(self) -> str:
        """Return the value as messages show it."""
        if self.is_map:
            return "a map" if self.value else "an empty map"
        if self.is_list:
            return f"a list of {len(self.value)}"
        if self.is_empty:
            return "nothing"
        short = self.text if len(self.text) <= 60 else f"{self.text[:57]}…"
        return f"'{printable(short)}'" if isinstance(self.value, str) else short

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield the entries of a map; none of anything else."""
        if isinstance(self.value, dict):
            yield from self.value.items()

    def at(self, *path: Any) -> Node:
        """Return the node at a path of keys and positions, or the last one on the way that exists."""
        node = self
        for step in path:
            if (node.is_map and step in node.value) or (
                node.is_list and isinstance(step, int) and step < len(node.value)
            ):
                node = node.value[step]
            else:
                break
        return node


def scalar(text: str) -> Any:
    """Return the value of a plain scalar in the core schema of YAML 1.2: null, bool, int, float or the text itself."""
    if text in _NULL:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if len(text) > 400:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL.fullmatch(text)
    if special:
        return math.nan if special[3] else math.inf * (-1 if special[1] == "-" else 1)
    return text


def parse(text: str, file: str, folder: str) -> Node:
    """Parse the text of a file.

    Parameters
    ----------
    file : its name in messages
    folder : absolute path of its folder

    Raises
    ------
    ConfigFault : at the first place that is not YAML, or exceeds a bound
    """
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise ConfigFault(
            Location(file, 1, 1), "", f"got more than {MOST_BYTES // 1024} KiB of YAML; read data with a step"
        )
    if _OTHERWISE_IN_11.search(text) is None:
        with contextlib.suppress(Exception):  # whatever it is, the parser of YAML 1.2 reports it
            return _quickly(text, file, folder)
    return _carefully(text, file, folder)


_OTHERWISE_IN_11 = re.compile(r"^%|[\t\r\x85\u2028\u2029\ufeff]", re.MULTILINE)
"""What YAML 1.1 reads otherwise than 1.2: directives, tabs, and the ends of lines that 1.2 does not have."""


def _quickly(text: str, file: str, folder: str) -> Node:
    """Parse a text by libyaml, in a tenth of the time; what it gives of a text that it accepts is the same.

    Any exception means that it can't. Without libyaml PyYAML has no ``CSafeLoader``.
    """
    root = _Composer(file, folder, yaml.events).document(_of_libyaml(text))
    root.text = root.text if root.plain else text
    return root


def _of_libyaml(text: str) -> Iterator[Any]:
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.ScalarEvent) and not event.value and not event.style:
            raise ValueError("its place is another one here")
        yield event


def _carefully(text: str, file: str, folder: str) -> Node:
    """Parse a text by ruamel's parser of YAML 1.2, whose errors have their places."""
    from ruamel.yaml import YAML, events  # it takes long to import, and most files are right
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    parser = YAML(typ="safe", pure=True)
    parser.allow_duplicate_keys = True  # duplicates are found here, with the place of the first
    try:
        root = _Composer(file, folder, events).document(parser.parse(text))
        root.text = root.text if root.plain else text
        return root
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        raise ConfigFault(
            Location(file, line, column),
            "",
            f"got the character #x{_refused_character(error):04x}, which YAML excludes",
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file, 1, 1)
        raise ConfigFault(place, "", f"not YAML: {_problem(error)}") from None
    except (YAMLError, ValueError, AttributeError, IndexError, TypeError, AssertionError, KeyError) as error:
        # ruamel's scanner raises these for some texts that are not YAML
        raise ConfigFault(
            Location(file, 1, 1), "", f"not YAML: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None


def _refused_character(error: ReaderError) -> int:
    """Return the code of the character that ruamel refused."""
    return error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "\0")


def _problem(error: MarkedYAMLError) -> str:
    problem = " ".join(part for part in (error.context, error.problem) if part)
    problem = " ".join(problem.split())
    if "flow mapping" in problem or "flow sequence" in problem:
        problem += "; inside {…} and […] quote text with [ ] { } , ${"
    elif "mapping values are not allowed" in problem:
        problem += "; quote text with ': '"
    elif "found character '\\t'" in problem or "\\t" in problem:
        problem += "; indent with spaces"
    elif "cannot start any token" in problem:
        problem += "; quote text that begins with one of @ ` % & * ! |"
    return problem


class _Composer:
    """Makes one tree from one stream of events; keeps the anchors and the depth.

    Parameters
    ----------
    events : the module of the classes of the events, of PyYAML or of ruamel, which have the same names

    ruamel's own composer is not used: it accepts an alias within its own anchor, and its nodes do not
    show whether a tag was written or implied.
    """

    def __init__(self, file: str, folder: str, events: ModuleType) -> None:
        self._file, self._folder, self._events = file, folder, events
        self._anchors: dict[str, Node] = {}
        self._depth = 0

    def document(self, events: Iterator[Any]) -> Node:
        ev = self._events
        root: Node | None = None
        for event in events:
            if isinstance(event, ev.DocumentStartEvent):
                if root is not None:
                    raise self._fault(event, "got a second document (---); a file has one")
            elif not isinstance(event, (ev.StreamStartEvent, ev.StreamEndEvent, ev.DocumentEndEvent)):
                root = self._node(event, events)
        return root or Node(Location(self._file, 1, 1), None, plain=True, folder=self._folder)

    def _location(self, event: Any) -> Location:
        return Location(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _fault(self, event: Any, message: str) -> ConfigFault:
        return ConfigFault(self._location(event), "", message)

    def _node(self, event: Any, events: Iterator[Any]) -> Node:
        if isinstance(event, self._events.AliasEvent):
            node = self._anchors.get(event.anchor)
            if node is None:
                raise self._fault(event, f"got *{event.anchor}, but nothing before it has the anchor &{event.anchor}")
            return node
        if isinstance(event, self._events.ScalarEvent):
            node = self._scalar(event)
        else:
            node = self._collection(event, events)
        if node.size > MOST_VALUES:
            raise self._fault(event, f"expands to more than {MOST_VALUES:,} values")
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _tag(self, event: Any) -> str:
        tag = str(event.tag or "")
        short = tag.removeprefix("tag:yaml.org,2002:").lstrip("!")
        if tag and tag != "!" and short not in _TAGS:
            raise self._fault(event, f"got the tag {tag!r}; a file has plain values only")
        return short

    def _scalar(self, event: Any) -> Node:
        tag = self._tag(event)
        if not event.value.isascii():
            event.value = self._whole_characters(event)
        plain = event.style in (None, "") and tag != "str" and event.tag != "!"
        value = scalar(event.value) if plain or (tag and tag != "str") else event.value
        if tag and not isinstance(value, _TAGS[tag]):
            raise self._fault(event, f"got {event.value!r} with the tag !!{tag}")
        return Node(self._location(event), value, event.value, plain=plain, folder=self._folder)

    def _whole_characters(self, event: Any) -> str:
        """Return the text with pairs of surrogates, as JSON writes them, as the characters that they mean."""
        try:
            return str(event.value.encode("utf-16", "surrogatepass").decode("utf-16"))
        except UnicodeDecodeError:
            message = f"got '{printable(event.value)}', with half of a character (\\ud800 to \\udfff); write all of it"
            raise self._fault(event, message) from None

    def _collection(self, event: Any, events: Iterator[Any]) -> Node:
        tag = self._tag(event)
        is_map = isinstance(event, self._events.MappingStartEvent)
        if tag not in ("", "map" if is_map else "seq"):
            raise self._fault(event, f"got the tag !!{tag} on a {'map' if is_map else 'list'}")
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise self._fault(event, f"is nested deeper than {MOST_DEPTH} levels")
        node = self._map(event, events) if is_map else self._list(event, events)
        self._depth -= 1
        return node

    def _list(self, event: Any, events: Iterator[Any]) -> Node:
        node = Node(self._location(event), [], folder=self._folder)
        for inner in events:
            if isinstance(inner, self._events.SequenceEndEvent):
                break
            node.value.append(self._node(inner, events))
            node.size += node.value[-1].size
        return node

    def _map(self, event: Any, events: Iterator[Any]) -> Node:
        node = Node(self._location(event), {}, folder=self._folder)
        for inner in events:
            if isinstance(inner, self._events.MappingEndEvent):
                break
            place = self._location(inner)
            key = self._node(inner, events)
            if key.is_map or key.is_list:
                raise self._fault(inner, "got a map or a list as a key; a text with { } [ ] needs quotes")
            if key.text in node.value:
                first = node.keys[key.text]
                raise self._fault(inner, f"the key {key.text!r} is here a second time; first at {first}")
            if key.plain and key.text == "<<":
                raise self._fault(inner, "got the merge key <<, which YAML 1.2 doesn't have; use include or params")
            value = self._node(next(events), events)
            node.value[key.text], node.keys[key.text] = value, place
            node.size += value.size
        return node

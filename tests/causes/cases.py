"""Files whose cause of slowness is known by construction: the guilty step has innocent ones beside it.

A task of ``digest`` with 150 megabytes takes about 0.08 s of one core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BACKENDS", "CASES", "NOTHING", "Case"]

BACKENDS = ("threads", "processes", "dask")

NOTHING = ("", "none")
"""What is said of a back end on which nothing is wrong."""

Said = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """A file and what may be said of it.

    Parameters
    ----------
    steps : the steps in YAML
    causes : back end -> the pairs (step, cause) that are right; ``""`` for all other back ends. A step ``""`` means any
    change : what a user should do, in words
    better : the steps after that change, where it is one by hand
    """

    name: str
    steps: str
    causes: Mapping[str, frozenset[Said]]
    change: str
    better: str = ""

    @property
    def file(self) -> str:
        """Return the text of the file."""
        return _file(self.name, self.steps)

    @property
    def changed_file(self) -> str:
        """Return the text of the file after the change by hand."""
        return _file(self.name, self.better)

    @property
    def is_control(self) -> bool:
        """Whether nothing is wrong on any back end."""
        return all(found <= {NOTHING} for found in self.causes.values())

    def right(self, backend: str, step: str, cause: str) -> bool:
        """Return whether the step and the cause may be said of a back end."""
        if cause == "machine":  # of the file itself nothing was found
            step, cause = NOTHING
        return any(
            cause == c and s in ("", step) for s, c in self.causes.get(backend, self.causes.get("", frozenset()))
        )


def _file(name: str, steps: str) -> str:
    return f"version: 1\nname: {name}\nmodules: [./functions.py]\nsteps:\n{steps}"


def _is(*said: Said) -> frozenset[Said]:
    return frozenset(said)


def _step(name: str, function: str, items: int, /, **args: object) -> str:
    given = ", ".join(f"{key}: {value}" for key, value in args.items() if key != "batch")
    batch = f", batch: {args['batch']}" if "batch" in args else ""
    over = f"over: {{i: {{range: {items}}}}}" if items else ""
    parts = [f'call: "functions:{function}"', *([over] if over else []), *([f"args: {{{given}}}"] if given else [])]
    return f"  {name}: {{{', '.join(parts)}{batch}}}\n"


def _ends(name: str, of: str) -> str:
    return f'  {name}: {{call: "functions:last", input: {of}}}\n'


def _links(n: int, megabytes: int) -> str:
    first = _step("link0", "seed", 0, i=0)
    return first + "".join(
        f'  link{k}: {{call: "functions:link", args: {{before: "${{link{k - 1}}}", megabytes: {megabytes}}}}}\n'
        for k in range(1, n + 1)
    )


def _chain(n: int) -> frozenset[Said]:
    return frozenset((f"link{k}", "chain") for k in range(n + 1))


_TINY = _is(("small", "tiny tasks"))
_NONE = _is(NOTHING)
_GIL = {"threads": _is(("hold", "gil")), "": _NONE}
_INNOCENTS = _step("hashed", "digest", 6, megabytes=150) + _step("asked", "wait", 4, seconds=0.02)

CASES: tuple[Case, ...] = (
    Case(
        "gil-python",
        _step("hold", "count", 12, n=2_500_000) + _INNOCENTS + _ends("end", "hold"),
        _GIL,
        "processes, or code that releases the GIL",
    ),
    Case(
        "gil-big-integers",
        _step("hold", "power", 10, digits=350_000) + _step("victim", "count", 4, n=600_000) + _INNOCENTS,
        _GIL,
        "processes",
    ),
    Case(
        "gil-objects",
        _step("hold", "objects", 12, n=150_000, times=20) + _step("hashed", "digest", 6, megabytes=150),
        _GIL,
        "processes",
    ),
    Case("gil-extension", _step("hold", "encode", 14, n=60_000) + _INNOCENTS, _GIL, "processes"),
    Case(
        "own-threads",
        _step("hold", "in_threads", 8, megabytes=150, n=2) + _step("asked", "wait", 4, seconds=0.02),
        {"": _is(("hold", "own threads"))},
        "one thread in each task, or one worker",
    ),
    Case(
        "program-of-threads",
        _step("hold", "program", 8, megabytes=150, n=2) + _step("seeds", "seed", 8),
        {"": _is(("hold", "own threads"))},
        "one thread in each program, or one worker",
    ),
    Case("programs", _step("run", "program", 10, megabytes=150, n=1) + _INNOCENTS, {"": _NONE}, "nothing"),
    Case(
        "frame-transfer",
        _step("made", "frame", 6, rows=700_000)
        + _step("hashed", "digest", 6, megabytes=100)
        + '  used: {call: "functions:total", over: {i: {range: 6}}, args: {values: "${made}"}}\n',
        {"threads": _NONE | _is(("made", "transfer")), "": _is(("made", "transfer"))},
        "threads, or a smaller result",
    ),
    Case(
        "array-transfer",
        _step("made", "array", 6, megabytes=40)
        + _step("hashed", "digest", 6, megabytes=100)
        + '  used: {call: "functions:total", over: {i: {range: 6}}, args: {values: "${made}"}}\n',
        {"threads": _NONE | _is(("made", "transfer")), "": _is(("made", "transfer"))},
        "threads, or a smaller result",
    ),
    Case(
        "bandwidth",
        _step("streamed", "stream", 8, megabytes=128, passes=3) + _step("hashed", "digest", 6, megabytes=100),
        {"": _is(("streamed", "memory"), ("streamed", "page faults"), NOTHING)},
        "smaller pieces, fewer passes",
    ),
    Case(
        "long-task",
        _step("fitted", "one_long", 8, megabytes=60, times=24, item=6) + _step("hashed", "digest", 6, megabytes=100),
        {"": _is(("fitted", "long task"))},
        "split item 6 of fitted",
        _step("fitted", "digest", 31, megabytes=60) + _step("hashed", "digest", 6, megabytes=100),
    ),
    Case(
        "chain",
        _links(7, 280) + _step("asked", "wait", 8, seconds=0.05) + _ends("end", "asked"),
        {"": _chain(7)},
        "shorten the chain",
        _step("links", "digest", 7, megabytes=280) + _step("asked", "wait", 8, seconds=0.05) + _ends("end", "asked"),
    ),
    Case(
        "long-beside-chain",
        _links(7, 330) + _step("fitted", "digest", 1, megabytes=1400),
        {"": _chain(7)},
        "shorten the chain, not the long task",
        _step("fitted", "digest", 1, megabytes=1400) + _step("links", "digest", 7, megabytes=330),
    ),
    Case(
        "serial-end",
        _step("hashed", "digest", 8, megabytes=150)
        + '  closing: {call: "functions:link", args: {before: "${hashed}", megabytes: 1500}}\n',
        {"": _is(("closing", "long task"))},
        "split closing",
        _step("hashed", "digest", 8, megabytes=150)
        + '  closing: {call: "functions:link", over: {i: {range: 2}}, args: {before: "${hashed}", megabytes: 750}}\n',
    ),
    Case(
        "three-on-two",
        _step("fitted", "digest", 3, megabytes=700) + _step("asked", "wait", 2, seconds=0.02),
        {"": _is(("fitted", "few tasks"))},
        "more, smaller tasks in fitted",
        _step("fitted", "digest", 12, megabytes=175) + _step("asked", "wait", 2, seconds=0.02),
    ),
    Case(
        "tiny",
        _step("small", "seed", 3000, batch=1) + _step("inno", "digest", 4, megabytes=500),
        {"threads": _TINY | _NONE, "": _TINY},
        "small.batch: 1000 or more",
    ),
    Case(
        "thread-lock",
        _step("guarded", "in_lock", 10, megabytes=200) + _step("hashed", "digest", 4, megabytes=150),
        {"threads": _is(("guarded", "lock")), "": _NONE},
        "processes, or hold the lock for less",
    ),
    Case(
        "file-lock",
        _step("guarded", "in_file_lock", 10, megabytes=200) + _step("hashed", "digest", 4, megabytes=150),
        {"": _is(("guarded", "lock"))},
        "hold the lock for less",
        _step("guarded", "digest", 10, megabytes=200) + _step("hashed", "digest", 4, megabytes=150),
    ),
    Case(
        "fsync",
        _step("written", "synced", 8, n=40, kilobytes=200) + _step("hashed", "digest", 6, megabytes=150),
        {"": _is(("written", "disk"), ("written", "waiting"), NOTHING)},
        "sync once, or more workers",
    ),
    Case(
        "waiting",
        _step("asked", "wait", 16, seconds=0.12) + _step("hashed", "digest", 4, megabytes=150),
        {"": _is(("asked", "waiting"))},
        "more workers, as threads",
    ),
    Case(
        "stopped-worker",
        _step("parsed", "stopped", 8, megabytes=150, seconds=0.8) + _step("hashed", "digest", 6, megabytes=150),
        {"threads": _NONE, "": _is(("parsed", "stopped worker"))},
        "see what stopped it",
    ),
    Case(
        "start-up",
        _step("small", "digest", 4, megabytes=20) + _step("seeds", "seed", 4),
        {"threads": _NONE, "": _is(("", "start-up"))},
        "serial, or threads",
    ),
    Case(
        "late-import",
        _step("parsed", "late_import", 12, seconds=0.7, megabytes=80) + _step("hashed", "digest", 4, megabytes=100),
        {"threads": _is(("parsed", "long task"), ("parsed", "first calls")), "": _is(("parsed", "first calls"))},
        "import at the top of the module",
        _step("parsed", "digest", 12, megabytes=80) + _step("hashed", "digest", 4, megabytes=100),
    ),
    Case("control-calls", _step("hashed", "digest", 12, megabytes=250), {"": _NONE}, "nothing"),
    Case(
        "control-processes",
        _step("counted", "count", 12, n=2_500_000) + _step("hashed", "digest", 4, megabytes=200),
        {"threads": _is(("counted", "gil")), "": _NONE},
        "nothing on processes",
    ),
    Case(
        "control-array",
        "  x: {op: random, shape: {t: 1600, y: 10000}, chunks: {t: 100}}\n"
        '  y: {expr: "sqrt(abs(sin(x) * cos(x) + exp(-x)))"}\n'
        "  result: {op: mean, input: y}\n",
        {"": _NONE | _is(("y", "memory"), ("y", "page faults"), ("x", "page faults"))},
        "nothing",
    ),
    Case(
        "control-frame",
        '  f: {op: timeseries, start: "2001-01-01", end: "2001-05-01", freq: 1s, partitions: 16, '
        "columns: {x: float64}}\n"
        '  g: {op: assign, input: f, columns: {z: "sqrt(abs(x)) + x * x", k: "integer(x * 4)"}}\n'
        "  result: {op: groupby, input: g, by: k, agg: {z: mean(z), n: count()}}\n",
        {"": _NONE},
        "nothing",
    ),
    Case(
        "control-threads-wait",
        _step("asked", "wait", 2, seconds=0.6) + _step("also", "wait", 2, seconds=0.6),
        {"": _NONE | _is(("asked", "waiting"), ("also", "waiting"))},
        "more workers at most",
    ),
)

"""Files that are nearly right: mutations of whole files, one-letter typos, and what ``pipeline check`` makes of them.

``python tests/fuzzing.py --files 20000`` makes that many files and prints a table by kind of mutation: exit codes, the
slowest, the one that took most memory; ``--typos`` prints how often the right name was suggested. A mutation knows the
structure of a file (keys, types, references, expressions, ops, numbers) or spoils its text.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import string
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from snippets import SNIPPETS

from pipeline.config import yaml_nodes
from pipeline.config.interpolation import python_value
from pipeline.config.signatures import OPS
from pipeline.config.step_syntax import CALL_KEYS, COMMON_KEYS

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
ALLOWED = (0, 2, 3)
_MOST_SPACE = 4 * 1024**3
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Tree = dict[str, Any]


# ---------------------------------------------------------------------------------------------------------------------
# What is mutated
# ---------------------------------------------------------------------------------------------------------------------


def corpus() -> dict[str, str]:
    """The texts of the files in configs/, and of the ops' snippets, each as a file of its own, by name."""
    texts = {path.name: path.read_text() for path in sorted(CONFIGS.glob("*.yaml"))}
    modules = f"modules: [{json.dumps(str(HERE / 'everywhere_functions.py'))}]\n"
    for op, steps in SNIPPETS.items():
        if "${made}" in steps:  # a file that a test makes; the configs have the like
            continue
        head = "version: 1\n" + (modules if "everywhere_functions" in steps else "") + "steps:\n"
        texts[f"snippet_{op}.yaml"] = head + steps.replace("${data}", str(HERE.parent / "data"))
    return texts


def tree_of(text: str) -> Tree:
    """A file as plain maps and lists; JSON of it is YAML, too."""
    made: Tree = python_value(yaml_nodes.parse(text, "file", "."))
    return made


@dataclass
class Place:
    """A value in a tree: what holds it, and under which key; ``path`` from the top."""

    holder: Any
    key: Any
    path: tuple[Any, ...]

    @property
    def value(self) -> Any:
        return self.holder[self.key]

    def put(self, value: Any) -> None:
        self.holder[self.key] = value


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[Place]:
    """Every value below the top of a tree, those of maps and lists before what they hold."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(inner):
        yield Place(tree, key, (*path, key))
        yield from places(value, (*path, key))


# ---------------------------------------------------------------------------------------------------------------------
# Mutations of the structure
# ---------------------------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3.5, -0.0, 1e308, 10**30, 2**63, "", " ", "é", "a b", "x" * 200, ".", "/"),
    *([], {}, [[]], [None], {"range": 3}, {"range": [0, -5, 0]}, {"range": 10**12}, {"a": {"b": {"c": []}}}),
    *("${", "${}", "${nope}", "${nope.sub}", "${env:NOPE}", "${env:NOPE:-3}", "${secret:NOPE}", "${file:no.csv}"),
    *("$${x}", "${python:stdlib}", "nan", "null", "01", "1e3", "2001-01-01", "auto", "a:b", "os:system", "tcp://x:1"),
)
_TOKENS = (
    *"()[]{}+-*/%<>=!&|^~.,:;'`\"@#\\", "**", "//", "==", "!=", "<=", "and", "or", "not", "in", "not in", "if", "else",
    *("lambda x: x", "None", "True", "is", "missing(", "mean(", "sum(", "where(", "${", "}", "${x}", "1e999"),
    *("9**9**9", "__import__('os')"),
    *("x.y", "0", "1_000", "'a'", "'", "date('2001-01-01')", "coord(", "é", " ", "\t", "\n"),
)  # fmt: skip


def typo(name: str, rng: random.Random) -> str:
    """The name with one letter left out, put in, replaced, or two that change places; never the name itself."""
    while True:
        i = rng.randrange(len(name))
        letter = rng.choice(string.ascii_lowercase)
        made = rng.choice([
            name[:i] + name[i + 1 :],
            name[:i] + letter + name[i:],
            name[:i] + letter + name[i + 1 :],
            name[:i] + name[i + 1 : i + 2] + name[i] + name[i + 2 :],
        ])  # fmt: skip
        if made and made != name and not made[0].isdigit():
            return made


def _maps(tree: Tree) -> list[Tree]:
    return [tree, *(p.value for p in places(tree) if isinstance(p.value, dict) and p.value)]


def _scalars(tree: Tree) -> list[Place]:
    return [p for p in places(tree) if not isinstance(p.value, dict | list)]


def _texts(tree: Tree) -> list[Place]:
    return [p for p in places(tree) if isinstance(p.value, str)]


def _renamed(holder: Tree, old: str, new: str) -> None:
    pairs = [(new if key == old else key, value) for key, value in holder.items()]
    holder.clear()
    holder.update(pairs)


def key_typo(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    holder = rng.choice(_maps(tree))
    old = rng.choice(list(holder))
    _renamed(holder, old, typo(old, rng) if old else "x")


def key_removed(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    holder = rng.choice(_maps(tree))
    del holder[rng.choice(list(holder))]


def key_added(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    key = rng.choice([*COMMON_KEYS, *CALL_KEYS, "op", "expr", "call", "command", "columns", "axis", "é", "a b", "<<"])
    rng.choice(_maps(tree))[key] = rng.choice(_VALUES)


def values_swapped(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    one, other = (rng.choice(list(places(tree))) for _ in range(2))
    if one.path[: len(other.path)] != other.path and other.path[: len(one.path)] != one.path:
        first, second = one.value, other.value
        one.put(second)
        other.put(first)


def type_changed(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    rng.choice(list(places(tree))).put(rng.choice(_VALUES))


def number_changed(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    numbers = [p for p in _scalars(tree) if isinstance(p.value, int | float) and not isinstance(p.value, bool)]
    if numbers:
        place = rng.choice(numbers)
        place.put(rng.choice([-place.value, 0, place.value + 1, place.value * 1000, 10**9, 10**18, 0.5, -1, 1e-9]))


def wrapped(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    place = rng.choice(list(places(tree)))
    value = place.value
    deep: Any = value
    for _ in range(rng.choice([1, 2, 200])):
        deep = [deep]
    place.put(rng.choice([[value], [value, value], {"x": value}, str(value), deep]))


def reference_changed(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    steps = list(tree.get("steps") or {}) if isinstance(tree.get("steps"), dict) else []
    keys = ("input", "left", "right", "weights", "like", "over", "that")
    found = [p for p in places(tree) if p.path[-1] in keys or (len(p.path) > 1 and p.path[-2] in keys)]
    if not found or not steps:
        return
    name = rng.choice(steps)
    pick = rng.choice(["", "[*]", "[0]", "[x]", "[time=0:3]", "[time=10000]", "[a=1,b=2]", ".u", ".nope", "[", "]",
                       "[=]", "[-1:]", "[*][*]", ".u[x=0]", "[x=1:0]", "[x=*]", " ", "[١]"])  # fmt: skip
    rng.choice(found).put(rng.choice([f"{name}{pick}", f"${{{name}{pick}}}", typo(name, rng), [name, name], name]))


def expression_changed(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    keys = ("expr", "where", "columns", "agg", "by", "at", "that", "when")
    found = [p for p in _texts(tree) if any(k in p.path for k in keys)]
    if not found:
        return
    place = rng.choice(found)
    tokens = re.findall(r"\w+|\s+|[^\w\s]", place.value) or [""]
    for _ in range(rng.randint(1, 3)):
        i = rng.randrange(len(tokens))
        change = rng.randrange(3)
        tokens[i] = "" if change == 0 else rng.choice(_TOKENS) if change == 1 else tokens[i] + rng.choice(_TOKENS)
    place.put("".join(tokens))


def op_changed(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    found = [p for p in _scalars(tree) if p.path[-1] == "op"]
    if found:
        rng.choice(found).put(rng.choice(sorted(OPS)))


def step_moved(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    steps = tree.get("steps")
    if isinstance(steps, dict) and steps:
        name = rng.choice(list(steps))
        change = rng.randrange(3)
        if change == 0:
            del steps[name]
        elif change == 1:
            _renamed(steps, name, rng.choice([*steps, "sum", "class", "x1", "a-b", ""]))
        else:
            steps[f"{name}2"] = steps[name]


def spliced(tree: Tree, rng: random.Random, others: list[Tree]) -> None:
    other = rng.choice(others)
    here, there = rng.choice(list(places(tree))), rng.choice(list(places(other)))
    here.put(json.loads(json.dumps(there.value, default=str)))


STRUCTURAL: dict[str, Callable[[Tree, random.Random, list[Tree]], None]] = {
    "key: a typo": key_typo,
    "key: removed": key_removed,
    "key: added": key_added,
    "value: two swapped": values_swapped,
    "value: another type": type_changed,
    "value: another number": number_changed,
    "value: wrapped": wrapped,
    "reference: changed": reference_changed,
    "expression: changed": expression_changed,
    "op: another": op_changed,
    "step: removed, renamed": step_moved,
    "subtree of another file": spliced,
}


# ---------------------------------------------------------------------------------------------------------------------
# Mutations of the text
# ---------------------------------------------------------------------------------------------------------------------


def text_changed(text: str, rng: random.Random) -> bytes:
    """The text with some characters or lines spoilt; not always UTF-8."""
    data = text
    for _ in range(rng.randint(1, 3)):
        lines = data.split("\n")
        i, at = rng.randrange(len(lines)), rng.randrange(len(data) + 1)
        change = rng.randrange(9)
        if change == 0:
            data = data[:at] + data[at + 1 :]
        elif change == 1:
            data = data[:at] + rng.choice("{}[],:'\"#&*!|>%@`-?\t\x00\ufeff\u2028é$~ \n") + data[at:]
        elif change == 2:
            data = data[:at]
        elif change == 3:
            data = "\n".join(lines[:i] + lines[i + 1 :])
        elif change == 4:
            data = "\n".join([*lines[: i + 1], *lines[i:]])
        elif change == 5:
            data = "\n".join([*lines[:i], " " * rng.randint(1, 3) + lines[i], *lines[i + 1 :]])
        elif change == 6:
            bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
            data = f"a0: &a0 [x]\n{bomb}{data}"
        elif change == 7:
            data = data.replace(": ", ":", 1) if rng.random() < 0.5 else data[:at] + "&x " + data[at:] + " *x"
        else:
            data = data[:at] + "---\n" + data[at:]
    made = data.encode("utf-8", "replace")
    if rng.random() < 0.05:
        at = rng.randrange(len(made) + 1)
        made = made[:at] + rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80"]) + made[at:]
    return made


def mutated(number: int, texts: dict[str, str], trees: dict[str, Tree]) -> tuple[str, str, bytes]:
    """The ``number``-th mutated file, always the same: kind of the (first) mutation, file it comes from, content."""
    rng = random.Random(number)
    name = rng.choice(sorted(texts))
    if rng.random() < 0.2:
        return "text: spoilt", name, text_changed(texts[name], rng)
    tree: Tree = json.loads(json.dumps(trees[name], default=str))
    kinds = rng.choices(list(STRUCTURAL), k=rng.choice([1, 1, 1, 2, 3]))
    for kind in kinds:
        if tree:
            STRUCTURAL[kind](tree, rng, list(trees.values()))
            tree = json.loads(json.dumps(tree))  # so that nothing in it is the same object twice
    return kinds[0], name, json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


# ---------------------------------------------------------------------------------------------------------------------
# One-letter typos
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Typo:
    """A file with one name misspelt: what was meant, and what kind of name it is."""

    kind: str
    file: str
    meant: str
    got: str
    text: str = field(repr=False)


_FREE = frozenset(
    {"params", "steps", "outputs", "matrix", "over", "args", "storage", "kwargs", "attrs", "options", "agg", "columns",
     "labels", "chunks", "shape", "window", "rule", "at", "expected", "adapt", "scale", "resources", "env", "files"}
)  # fmt: skip
"""Below these the keys are the user's own."""


def typos(rng: random.Random, name: str, text: str, columns: frozenset[str]) -> list[Typo]:
    """A typo for each key, op, reference and column that a file holds."""
    tree = tree_of(text)
    made: list[Typo] = []

    def add(kind: str, meant: str, got: str, changed: Tree) -> None:
        made.append(Typo(kind, name, meant, got, json.dumps(changed)))

    def fresh() -> tuple[Tree, list[Place]]:
        again: Tree = json.loads(json.dumps(tree, default=str))
        return again, list(places(again))

    steps = frozenset(tree["steps"])
    for i, place in enumerate(places(tree)):
        key, path = place.path[-1], place.path
        if isinstance(key, str) and _is_of_the_language(path):
            got = typo(key, rng)
            again, found = fresh()
            _renamed(found[i].holder, key, got)
            add("key", key, got, again)
        if key == "op" and isinstance(place.value, str):
            got = typo(place.value, rng)
            again, found = fresh()
            found[i].put(got)
            add("op", place.value, got, again)
        if (
            isinstance(place.value, str)
            and path[0] in ("steps", "outputs", "checks")
            and key not in ("op", "path", "to")
        ):
            for match in _NAME.finditer(place.value):
                word = match[0]
                quoted = place.value[match.start() - 1 : match.start()] in ("'", ".", "=")
                kind = "step" if word in steps else "column" if word in columns and _in_columns(path) else ""
                if kind and not quoted:
                    got = typo(word, rng)
                    again, found = fresh()
                    found[i].put(place.value[: match.start()] + got + place.value[match.end() :])
                    add(kind, word, got, again)
    return made


def _may_refer(path: tuple[Any, ...]) -> bool:
    return path[0] in ("steps", "outputs", "checks") and "parts" not in path and path[-1] not in ("op", "path", "to")


def _is_of_the_language(path: tuple[Any, ...]) -> bool:
    """Whether the last key of a path is one that the language names, not the user."""
    inside = path[2:-1] if path[0] in ("steps", "outputs") else path[:-1]
    return path[:-1] not in (("steps",), ("outputs",)) and not any(p in _FREE for p in inside)


def _in_columns(path: tuple[Any, ...]) -> bool:
    return path[0] == "steps" and any(p in ("where", "columns", "agg", "by", "on", "left_on", "right_on") for p in path)


def columns_of(text: str) -> frozenset[str]:
    """The columns of all frames of a file."""
    from pipeline.builder.build import build
    from pipeline.config.loader import loads

    value_types = build(loads(text, root=CONFIGS)).value_types.values()
    return frozenset(str(c) for found in value_types if found.kind == "frame" for c in found.schema.names)


# ---------------------------------------------------------------------------------------------------------------------
# Checking them
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Checked:
    """What ``pipeline check`` made of one file: seconds, and bytes that the process grew by at its peak."""

    kind: str
    file: str
    number: int
    code: int
    seconds: float
    grown: int
    said: str = ""

    @property
    def fault(self) -> str:
        """What must not be; empty where all is as it must be."""
        if self.code not in ALLOWED or self.kind == "?":
            return f"exit code {self.code}"
        return "a traceback" if "Traceback (most recent" in self.said else ""


def check(path: Path) -> tuple[int, str]:
    """The exit code and all text of ``pipeline check``, in this process."""
    from pipeline.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["check", str(path), "--root", str(CONFIGS)])
    return code, out.getvalue()


def _peak() -> tuple[int, int]:
    """Resident bytes of this process now, and at their peak since the last :func:`_forget_peak`."""
    status = Path("/proc/self/status").read_text()
    now, peak = (int(re.search(rf"{name}:\s*(\d+)", status)[1]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return now, peak


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def checked(numbers: range) -> Iterator[Checked]:
    """What comes of the mutated files with these numbers."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_SPACE, _MOST_SPACE))  # a MemoryError is told; the machine goes on
    texts = corpus()
    trees = {name: tree_of(text) for name, text in texts.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.yaml")
        path.write_text(texts["climate.yaml"])
        assert check(path)[0] == 0  # everything is imported now
        for number in numbers:
            kind, name, content = mutated(number, texts, trees)
            path.write_bytes(content)
            _forget_peak()
            before, _ = _peak()
            began = perf_counter()
            code, said = check(path)
            yield Checked(kind, name, number, code, perf_counter() - began, _peak()[1] - before, said)


def in_a_process(numbers: range) -> list[Checked]:
    """The same in a child process, so that what is measured is not this one, and what it ends on is seen."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    rows: list[Checked] = []
    while (start := numbers.start + len(rows)) < numbers.stop:
        command = [sys.executable, str(Path(__file__).resolve()), "--range", str(start), str(numbers.stop)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        came = [Checked(**json.loads(line)) for line in done.stdout.splitlines()]
        assert came, done.stderr
        rows += came
        if (number := numbers.start + len(rows)) < numbers.stop:
            rows.append(Checked("?", "?", number, done.returncode, 0.0, 0, f"the process ended: {done.stderr[-2000:]}"))
    return rows


def suggested(rng: random.Random, *, files: float = 1.0, share: float = 1.0) -> list[tuple[Typo, bool]]:
    """For a share of all typos of some files, if a file is refused for it: whether the name meant was suggested.

    Typos that give another name that is right, too, say nothing and are left out.
    """
    found: list[tuple[Typo, bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.yaml")
        texts = corpus()
        for name, text in rng.sample(list(texts.items()), round(files * len(texts))):
            made = typos(rng, name, text, columns_of(text))
            for one in rng.sample(made, round(share * len(made))):
                path.write_text(one.text)
                code, said = check(path)
                if code:
                    flat = " ".join(said.split())
                    found.append((one, f"did you mean {one.meant!r}" in flat or f"did you mean '{one.meant}'" in flat))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------


def _print_files(n: int) -> int:
    rows = [row for start in range(0, n, 500) for row in in_a_process(range(start, min(start + 500, n)))]
    by_kind: dict[str, list[Checked]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    print(f"{'mutation':26}{'files':>7}{'exit 0':>8}{'2':>7}{'3':>6}{'else':>6}{'slowest':>10}{'most memory':>13}")
    for kind, those in [*sorted(by_kind.items()), ("all", rows)]:
        codes = [sum(row.code == code for row in those) for code in ALLOWED]
        slowest, largest = max(row.seconds for row in those), max(row.grown for row in those)
        counts = f"{codes[0]:8,}{codes[1]:7,}{codes[2]:6,}{len(those) - sum(codes):6,}"
        print(f"{kind:26}{len(those):7,}{counts}{slowest:8.2f} s{largest / 1e6:10.1f} MB")
    wrong = [row for row in rows if row.fault or row.seconds > 1 or row.grown > 200e6]
    for row in wrong:
        said = row.said[-300:].strip() if row.fault else ""
        spent = f"{row.seconds:.2f} s {row.grown / 1e6:.0f} MB"
        print(f"file {row.number} ({row.kind} of {row.file}): exit {row.code}, {row.fault} {spent} {said}")
    print(f"{len(wrong)} of {len(rows):,} with another exit code, a traceback, over 1 s or over 200 MB")
    return 1 if wrong else 0


def _print_typos(seed: int) -> int:
    found = suggested(random.Random(seed))
    for kind in ("key", "op", "step", "column"):
        those = [(one, ok) for one, ok in found if one.kind == kind]
        print(
            f"{kind:8}{len(those):6,} typos  {sum(ok for _, ok in those) / max(len(those), 1):6.1%} with the right name"
        )
    for one, ok in found:
        if not ok:
            print(f"  {one.kind} {one.meant!r} -> {one.got!r} ({one.file})")
    share = sum(ok for _, ok in found) / len(found)
    print(f"all     {len(found):6,} typos  {share:6.1%}")
    return 0 if share >= 0.95 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=0, help="so many mutated files")
    parser.add_argument("--typos", type=int, metavar="SEED", help="all typos of a seed")
    parser.add_argument("--range", type=int, nargs=2, metavar=("FROM", "TO"), help="these files, a line of JSON each")
    parser.add_argument("--print", type=int, metavar="NUMBER", help="the content of one mutated file")
    given = parser.parse_args()
    if given.range:
        for row in checked(range(*given.range)):
            print(json.dumps(asdict(row)), flush=True)
        return 0
    if given.print is not None:
        texts = corpus()
        print(
            mutated(given.print, texts, {name: tree_of(text) for name, text in texts.items()})[2].decode(
                errors="replace"
            )
        )
        return 0
    if given.typos is not None:
        return _print_typos(given.typos)
    return _print_files(given.files or 1000)


if __name__ == "__main__":
    sys.exit(main())

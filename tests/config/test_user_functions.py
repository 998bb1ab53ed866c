"""Functions that a file names: they exist and take their arguments, as far as reading their source can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loader import load
from pipeline.config.module_source import names_of
from pipeline.errors import ConfigError

MINE = """
raise SystemExit("this module is read, not run")

def fit(a, b, *, c=1): ...
def loose(*args, **kwargs): ...
def first(x, /, y=0): ...
def one(block, scale): ...
def nothing(): ...
async def later(a): ...
def lists(values, weight=1): ...
def _private(a): ...

@decorated
def wrapped(a): ...

class Model:
    def __init__(self, a): ...
    def run(self): ...

if True:
    def conditional(a): ...
def twice(a): ...
def twice(b): ...
bound = partial(fit, 1)
from elsewhere import imported
import package.inner
for looped in []: ...
with open("x") as opened: ...
try:
    import fast as quick
except ImportError as problem:
    quick = None
def outer():
    global made
    made = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "star.py").write_text("from os.path import *\n")
    (tmp_path / "dynamic.py").write_text("def __getattr__(name): ...\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("def top(a): ...\n")
    (tmp_path / "pkg" / "inner.py").write_text("def deep(a): ...\n")
    return tmp_path


def errors(
    folder: Path, steps: str, modules: str = "[./mine.py, ./star.py, ./dynamic.py, ./broken.py, ./pkg]"
) -> list[str]:
    (folder / "a.yaml").write_text(f"version: 1\nmodules: {modules}\nparams: {{n: 2}}\nsteps:\n{steps}")
    try:
        load(folder / "a.yaml")
    except ConfigError as error:
        return [
            f"{fault.location.line}:{fault.location.column}: {fault.path}: {fault.message}" for fault in error.faults
        ]
    return []


def call(function: str, more: str = "args: {a: 1, b: 2}") -> str:
    return f'  x: {{call: "{function}", {more}}}\n'


def op(name: str, more: str, between: str = '{expr: "a"}') -> str:
    return f"  a: {{op: arange, stop: 4, dim: i}}\n  b: {between}\n  x: {{op: {name}, input: b, {more}}}\n"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (call("mine:fti"), "5:13: steps.x.call: 'mine' has no function 'fti'; did you mean 'fit'?"),
        (call("mine:zzzzz"), "5:13: steps.x.call: 'mine' has no function 'zzzzz'"),
        (call("pkg:tpo"), "5:13: steps.x.call: 'pkg' has no function 'tpo'; did you mean 'top'?"),
        (call("pkg.inner:depe"), "'pkg.inner' has no function 'depe'; did you mean 'deep'?"),
        (call("pkg.iner:deep"), "there is no module 'pkg.iner'; did you mean 'inner'?"),
        (call("mine.inner:fit"), "'mine' is a file, which has no module 'inner'"),
        (call("broken:f"), "broken.py:1: this is no Python: invalid syntax"),
        (call("mien:fit"), "5:13: steps.x.call: 'mien' is not among modules; did you mean 'mine'?"),
        (
            call("mine:fit", "args: {a: 1, bb: 2}"),
            "5:38: steps.x.args.bb: mine:fit takes no argument 'bb'; it takes a, b, c",
        ),
        (call("mine:fit", "args: {a: 1}"), "5:13: steps.x.call: mine:fit needs 'b', which is not given"),
        (call("mine:fit", "over: {a: [1]}"), "mine:fit needs 'b', which is not given"),
        (
            call("mine:fit", "over: {a: [1], d: [2]}, args: {b: 1}"),
            "5:40: steps.x.over.d: mine:fit takes no argument 'd'",
        ),
        (call("mine:fit", "over: [{a: 1}, {a: 2}]"), "mine:fit needs 'b', which is not given"),
        (call("mine:fit", "over: [{a: 1, e: 2}], args: {b: 1}"), "steps.x.over: mine:fit takes no argument 'e'"),
        (call("mine:fit", "args: {a: 1, b: 2}, seed: true"), "steps.x.seed: mine:fit takes no argument 'seed'"),
        (call("mine:first", "args: {x: 1}"), "steps.x.args.x: mine:first takes no argument 'x'; it takes y"),
        (call("mine:later", "args: {}"), "mine:later needs 'a', which is not given"),
        (
            call("mine:nothing", "input: y") + call("mine:nothing", "args: {}").replace("x:", "y:"),
            "mine:nothing takes no positional arguments, and gets 1: its input",
        ),
        (
            call("mine:fit", "input: y, args: {a: 1, b: 2}") + call("mine:nothing", "args: {}").replace("x:", "y:"),
            "steps.x.args.a: mine:fit gets 'a' already: its input is passed first",
        ),
        (
            op("map_blocks", "function: mine:one, dtype: int64"),
            "steps.x.function: mine:one needs 'scale', which is not",
        ),
        (op("map_blocks", "function: mine:on, args: {scale: 1}, dtype: int64"), "'mine' has no function 'on'; did you"),
        (
            op("map_overlap", "function: mine:one, args: {scael: 1}, depth: {i: 1}, dtype: int64"),
            "steps.x.args.scael: mine:one takes no argument 'scael'; it takes block, scale; did you mean 'scale'?",
        ),
        (
            "  x: {op: from_call, function: mine:fit, shape: {a: 2, y: 3}, dtype: int64}\n",
            "steps.x.function: mine:fit takes no argument 'y'",
        ),
        (
            "  x: {op: from_call, function: mine:fit, columns: {a: int64}}\n",
            "steps.x.function: mine:fit takes no argument 'n_partitions'",
        ),
        (
            op("map_partitions", "function: mine:nothing, columns: {a: int64}", "{op: to_frame, input: a}"),
            "mine:nothing takes no positional arguments",
        ),
        (
            op("tree_reduce", "function: mine:lists, args: {w: 1}", "{op: to_items, input: a, along: i}"),
            "steps.x.args.w: mine:lists takes no argument 'w'; it takes values, weight",
        ),
        (
            call("mine:nothing", "args: {}") + "compare: {reference: {call: mine:fit}}\n",
            "mine:fit takes no argument 'n'",
        ),
    ],
)
def test_what_can_be_told_is_an_error_at_its_place(folder: Path, steps: str, said: str) -> None:
    found = errors(folder, steps)
    assert said in found[0]
    assert all("mine:fit takes no argument" in other for other in found[1:])  # each keyword is one


@pytest.mark.parametrize(
    "steps",
    [
        *(call(f"mine:{name}", "args: {q: 1}") for name in (
            "loose", "wrapped", "Model", "Model.run", "conditional", "twice", "bound", "imported", "package", "looped",
            "opened", "quick", "problem", "made",
        )),
        call("star:join"),
        call("dynamic:anything"),
        call("mine:fit"),
        call("mine:_private", "args: {a: 1}"),
        call("mine:first", "input: y") + call("mine:nothing", "args: {}").replace("x:", "y:"),
        call("mine:fit", "over: y") + call("mine:nothing", "args: {}").replace("x:", "y:"),
        call("mine:fit", "over: [{a: 1, b: 2}, {a: 1, b: 2, c: 3}]"),
        call("pkg:top", "args: {a: 1}"),
        call("pkg.inner:deep", "args: {a: 1}"),
        call("pkg:inner.deep"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_none(folder: Path, steps: str) -> None:
    assert errors(folder, steps) == []


@pytest.mark.parametrize("modules", ["[./mien.py]", "[./pkq, ./mine.py]", "[./mine.pyy]"])
def test_a_misspelt_module_is_one_error(folder: Path, modules: str) -> None:
    (found,) = errors(folder, call("mine:fit") + call("pkg.inner:deep", "args: {a: 1}").replace("x:", "y:"), modules)
    assert found.startswith("2:")
    assert "did you mean" in found


def test_names_of_a_module() -> None:
    found = names_of(MINE.encode())
    assert not found.is_open
    known = {name for name, parameters in found.names.items() if parameters is not None}
    assert known == {"fit", "loose", "first", "one", "nothing", "later", "lists", "_private", "outer"}

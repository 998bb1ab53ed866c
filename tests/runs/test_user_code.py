"""The code that a step runs: what is followed, what changes it, and what can't be known."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.config.source_digests import MODULE_LEVEL, read_source
from pipeline.runs.provenance.user_code import Code, UserCode
from pipeline.runs.resume.reasons import differences
from pipeline.runs.resume.records import Component, StepRecord
from pipeline.worker.file_notes import FileNotes

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
FILES = {
    "my.py": """
        import functools
        from typing import TYPE_CHECKING

        import helpers
        from pkg import inner
        from pkg.star import *
        if TYPE_CHECKING:
            import only_for_types
        try:
            import fast
        except ImportError:
            fast = None

        @helpers.cached
        def f(x, n=3):
            'Smooth.'
            import late
            return helpers.smooth([x], n)  # a comment

        class Model:
            order = 2

            def fit(self, x):
                return x
    """,
    "helpers.py": """
        import importlib
        import deeper
        LIMIT = 7

        def cached(function):
            return function

        def smooth(x, n):
            return deeper.mean(x)[:n]

        plugin = importlib.import_module("plugin")
    """,
    "deeper.py": "def mean(x):\n    return x\n",
    "late.py": "def g():\n    return 1\n",
    "plugin.py": "def p():\n    return 1\n",
    "other.py": "def unused():\n    return 1\n",
    "pkg/__init__.py": "VERSION = 1\n",
    "pkg/inner.py": "from . import near\nfrom .deep.far import h\n",
    "pkg/near.py": "def near():\n    return 1\n",
    "pkg/deep/__init__.py": "",
    "pkg/deep/far.py": "from ..up import k\ndef h():\n    return k()\n",
    "pkg/up.py": "from . import compiled\ndef k():\n    return 1\n",
    "pkg/star.py": "__all__ = ['used']\nused = 1\n",
    f"pkg/compiled{SUFFIX}": "not really",
    "pkg/alone.py": "def alone():\n    return 1\n",
}


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip())


def code(folder: Path, *functions: str) -> Code:
    tops = [str(path) for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return UserCode(tops, notes=FileNotes(folder)).of(functions or ["my:f"])


def reasons(before: Code, now: Code) -> list[str]:
    records = [
        StepRecord("f", {"code": Component("" if one.unknown else repr(one.modules), one.modules, one.unknown)})
        for one in (before, now)
    ]
    return differences(*records)


def test_all_modules_that_are_imported_are_followed(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    found = code(tmp_path)
    assert found.unknown == ""
    assert set(found.modules) == set(FILES) - {"other.py", "pkg/alone.py"} | {"fast.py"}
    assert set(found.modules["my.py"]) == {"f", "Model", "Model.fit", MODULE_LEVEL}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("my.py", "  # a comment", "", []),
        ("my.py", "'Smooth.'", '"Smooth."', []),
        (
            "my.py",
            "helpers.smooth([x], n)",
            "helpers.smooth(\n        [\n            x,\n        ],\n        n\n    )",
            [],
        ),
        ("my.py", "import functools", "\n\n# much further down\n\nimport functools", []),
        ("my.py", "import only_for_types", "import other, only_for_types", ["my.py: code outside functions changed"]),
        ("my.py", "'Smooth.'", "'Smooth it.'", ["my.py: f() changed"]),
        ("my.py", "n=3", "n=4", ["my.py: f() changed"]),
        ("my.py", "n=3", "n=3.0", ["my.py: f() changed"]),
        ("my.py", "n=3", "n=True", ["my.py: f() changed"]),
        ("my.py", "@helpers.cached\n", "", ["my.py: f() changed"]),
        ("my.py", "return x\n", "return -x\n", ["my.py: Model.fit() changed"]),
        ("my.py", "order = 2", "order = 3", ["my.py: Model changed"]),
        ("my.py", "class Model:", "def g():\n    pass\n\n\nclass Model:", ["my.py: g() is new"]),
        ("my.py", "def fit(", "def train(", ["my.py: Model.train() is new", "my.py: Model.fit() is gone"]),
        ("helpers.py", "LIMIT = 7", "LIMIT = 8", ["helpers.py: code outside functions changed"]),
        ("helpers.py", "return function", "return print", ["helpers.py: cached() changed"]),
        ("deeper.py", "return x", "return x[0]", ["deeper.py: mean() changed"]),
        ("late.py", "return 1", "return 2", ["late.py: g() changed"]),
        ("plugin.py", "return 1", "return 2", ["plugin.py: p() changed"]),
        ("pkg/__init__.py", "1", "2", ["pkg/__init__.py: code outside functions changed"]),
        ("pkg/near.py", "return 1", "return 2", ["pkg/near.py: near() changed"]),
        ("pkg/deep/far.py", "return k()", "return -k()", ["pkg/deep/far.py: h() changed"]),
        ("pkg/up.py", "return 1", "return 2", ["pkg/up.py: k() changed"]),
        (f"pkg/compiled{SUFFIX}", "not", "never", [f"pkg/compiled{SUFFIX} changed"]),
        ("other.py", "return 1", "return 2", []),
        ("pkg/alone.py", "return 1", "return 2", []),
    ],
)
def test_a_change_of_the_code_is_named(tmp_path: Path, file: str, old: str, new: str, expected: list[str]) -> None:
    write(tmp_path, FILES)
    before = code(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new))
    now = code(tmp_path)
    assert reasons(before, now) == expected
    assert (before.modules == now.modules) == (not expected)


@pytest.mark.parametrize(
    "text",
    ["def f():\n    import fast\n", "import sys\nif sys.version_info < (3, 11):\n    import fast\n",
     "try:\n    import fast\nexcept (ImportError, OSError):\n    fast = None\n"],
)  # fmt: skip
def test_a_module_that_may_be_absent_counts_once_it_is_there(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"my.py": text})
    before = code(tmp_path)
    (tmp_path / "fast.py").write_text("def fast():\n    return 1\n")
    assert reasons(before, code(tmp_path)) == ["fast.py is new"]


def test_a_module_may_add_its_own_folder_to_the_path(tmp_path: Path) -> None:
    text = "import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\nimport neighbour_of_mine\n"
    write(tmp_path, {"my.py": text, "neighbour_of_mine.py": "x = 1\n"})
    found = UserCode([str(tmp_path / "my.py")], notes=FileNotes(tmp_path)).of(["my:f"])
    assert set(found.modules) == {"my.py", "neighbour_of_mine.py"}


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        (
            "deeper.py",
            "import nowhere_a\n",
            "the module 'nowhere_a', which deeper.py imports, was not found; name it under modules",
        ),
        ("deeper.py", "try:\n    import x_a\nexcept ImportError:\n    import nowhere_b\n", "'nowhere_b', which deeper"),
        (
            "deeper.py",
            "from pkg.no import x\n",
            "the module 'pkg.no', which deeper.py imports, was not found; name it under modules",
        ),
        (
            "deeper.py",
            "import sys\nsys.path.append('x')\ndef f():\n    import nowhere_c\n",
            "'nowhere_c', which deeper",
        ),
        ("deeper.py", "def f(:\n", "deeper.py is no Python"),
    ],
)
def test_code_that_cannot_be_found_is_unknown(tmp_path: Path, file: str, text: str, reason: str) -> None:
    write(tmp_path, {**FILES, file: text})
    assert reason in code(tmp_path).unknown
    assert reasons(Code(), code(tmp_path)) == [code(tmp_path).unknown]


def test_a_function_of_a_module_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert code(tmp_path, "nowhere_c:f").unknown == "the module 'nowhere_c' was not found; name it under modules"


def test_imports_by_computed_names_count_all_modules_beside(tmp_path: Path) -> None:
    write(
        tmp_path,
        FILES | {"deeper.py": "import importlib\ndef mean(x, name='late'):\n    importlib.import_module(name)\n"},
    )
    found = code(tmp_path)
    assert {"other.py", "pkg/alone.py"} <= set(found.modules)
    assert found.notes == ("deeper.py imports modules by import_module(); all modules beside it are counted",)


def test_installed_modules_count_by_their_distribution(tmp_path: Path) -> None:
    write(tmp_path, {"my.py": "import json, numpy.linalg, pipeline.units\nfrom dask import array\nimport yaml\n"})
    found = code(tmp_path)
    assert found.distributions == ("PyYAML", "dask", "numpy")
    assert set(found.modules) == {"my.py"}
    assert code(tmp_path, "numpy.linalg:norm") == Code(distributions=("numpy",))
    assert code(tmp_path, "math:sqrt") == Code()


def test_what_is_sent_to_the_workers_counts(tmp_path: Path) -> None:
    write(tmp_path, {"my.py": "x = 1\n"})
    sent = UserCode([str(tmp_path / "my.py")], {"my.py": b"x = 2\n"}).of(["my:f"])
    write(tmp_path, {"my.py": "x = 2\n"})
    assert sent.modules == code(tmp_path).modules


def test_data_files_of_a_shipped_package_count(tmp_path: Path) -> None:
    write(tmp_path, {"pkg/__init__.py": ""})
    contents = [{"pkg/__init__.py": b"", "pkg/table.csv": data} for data in (b"1", b"2")]
    codes = [UserCode([str(tmp_path / "pkg")], one).of(["pkg:f"]) for one in contents]
    assert reasons(*codes) == ["pkg/table.csv changed"]


def test_a_large_module_is_noted_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"def f{i}():\n    return {i}\n" for i in range(400))
    notes, kept = FileNotes(tmp_path), dict[str, bytes]()
    monkeypatch.setattr(FileNotes, "put", lambda self, kind, facts, stamps: kept.update(facts))
    monkeypatch.setattr(FileNotes, "get", lambda self, kind, paths: {p: kept[p] for p in paths if p in kept})
    found = []
    for content in (text, text, text.replace("return 399", "return 0")):
        (tmp_path / "my.py").write_text(content)
        found.append(UserCode([str(tmp_path / "my.py")], notes=notes).of(["my:f"]))
        monkeypatch.setattr("pipeline.runs.provenance.user_code.read_source", read_source)
        if len(found) == 1:
            assert kept
            monkeypatch.setattr("pipeline.runs.provenance.user_code.read_source", None)
    assert found[0] == found[1]
    assert reasons(found[0], found[2]) == ["my.py: f399() changed"]


LOADED = """
LIMIT = 3

def wrapped(function):
    @functools.wraps(function)
    def inner(x):
        return function(x)
    return inner

class Model:
    @property
    def order(self):
        return 1

    @staticmethod
    def fit(x):
        return [x + i for i in range(9)]

@wrapped
def f(x):
    return x
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [("LIMIT = 3", "LIMIT = 4"), ("return 1", "return 2"), ("x + i", "x - i"), ("return x\n", "return -x\n"),
     ("class Model", "def more(): ...\n\nclass Model"), ("@functools.wraps(function)", "")],
)  # fmt: skip
def test_a_module_that_is_edited_after_its_import_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    def found() -> str:
        return UserCode(notes=FileNotes(tmp_path)).of(["edited_module:f"]).unknown

    text = f"import functools\n{LOADED}"
    write(tmp_path, {"edited_module.py": text})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "edited_module", raising=False)
    assert found() == ""
    module = importlib.import_module("edited_module")
    assert found() == ""
    write(tmp_path, {"edited_module.py": "# moved\n\n" + text})
    assert found() == ""
    assert old in text
    write(tmp_path, {"edited_module.py": text.replace(old, new)})
    assert found().startswith("edited_module.py was changed after this process imported it: start Python again")
    importlib.reload(module)
    assert found() == ""
    del sys.modules["edited_module"]

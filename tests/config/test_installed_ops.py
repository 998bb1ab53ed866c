"""Ops of other distributions: found by their entry points when a file uses them, harmless when it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.config.signatures import OPS
from pipeline.config.signatures.installed import Ops
from pipeline.errors import ConfigError
from pipeline.graph.importing import resolve

SIGNATURES = """
from typing import Any, ClassVar

from pydantic import Field

from pipeline.config.signatures.arrays import ArrayOp
from pipeline.config.signatures.frames import FrameOp


class Shift(ArrayOp):
    '''The array with a number added.'''

    op: ClassVar[str] = "shift"
    home: ClassVar[str] = "{package}.functions:shift"

    by: float = Field(description="what is added")


class ShiftFrame(FrameOp):
    '''The frame with a number added to its numbers.'''

    op: ClassVar[str] = "shift"
    home: ClassVar[str] = "{package}.functions:shift"

    by: float = Field(description="what is added")


class Twice(ArrayOp):
    '''The array times two.'''

    op: ClassVar[str] = "twice"
    home: ClassVar[str] = "{package}.functions:twice"
"""
FUNCTIONS = """
import dask.array as da

from pipeline.errors import OpError


def shift(x, *, by):
    if by == 13:
        raise OpError("by", "got 13, which brings bad luck")
    return x.copy(data=da.map_blocks(_plus, x.data, by, dtype=float))


def twice(x):
    return x + x


def _plus(block, by):
    return block + by
"""
FILE = """
version: 1
steps:
  x: {op: arange, stop: 6, chunks: 4, dim: x}
  moved: {op: shift, input: x, by: 0.5}
outputs: {moved: {to: npy, path: moved.npy}}
"""


def install(
    site: Path,
    points: Mapping[str, str],
    *,
    name: str = "shifts",
    signatures: str = SIGNATURES,
    functions: str = FUNCTIONS,
) -> None:
    """Write what installing a distribution writes: the package, and its metadata folder."""
    package = site / name
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "signatures.py").write_text(signatures.replace("{package}", name))
    (package / "functions.py").write_text(functions)
    about = site / f"{name}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    said = "".join(f"{point} = {value}\n" for point, value in points.items())
    (about / "entry_points.txt").write_text(f"[pipeline.ops]\n{said}")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python imports from; its modules are unloaded after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for module in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[module], "__file__", None)):
            del sys.modules[module]


def fresh_ops() -> Ops:
    """The ops as a new process would find them."""
    return Ops({name: OPS[name] for name in ("mean", "groupby", "zeros")})


def reasons(ops: Ops) -> dict[str, str]:
    return {op.name: op.reason for op in ops.installed.unusable}


def test_an_entry_point_names_a_class(site: Path) -> None:
    install(site, {"twice": "shifts.signatures:Twice"})
    ops = fresh_ops()
    assert list(ops) == ["mean", "groupby", "zeros", "twice"]
    assert len(ops) == 4
    assert [cls.function_path() for cls in ops["twice"]] == ["shifts.functions:twice"]
    assert "shift" not in ops


def test_an_entry_point_names_a_module_with_several_ops(site: Path) -> None:
    install(site, {"all": "shifts.signatures"})
    ops = fresh_ops()
    assert [cls.__name__ for cls in ops["shift"]] == ["Shift", "ShiftFrame"]
    assert "twice" in ops
    assert not ops.installed.unusable


def test_an_op_named_by_two_entry_points_is_listed_once(site: Path) -> None:
    install(site, {"twice": "shifts.signatures:Twice", "all": "shifts.signatures"})
    assert len(fresh_ops()["twice"]) == 1


def test_an_op_of_ours_is_found_without_looking_elsewhere(site: Path) -> None:
    install(site, {"all": "shifts.signatures"})
    ops = fresh_ops()
    assert "mean" in ops
    assert ops["mean"] is OPS["mean"]
    assert "installed" not in vars(ops)


@pytest.mark.parametrize("name", ["mean", "zeros"])
def test_a_name_of_the_language_stays_ours(site: Path, name: str) -> None:
    install(site, {name: "shifts.signatures:Twice"}, signatures=SIGNATURES.replace('"twice"', f'"{name}"'))
    ops = fresh_ops()
    assert list(ops) == ["mean", "groupby", "zeros"]
    assert ops["mean"] is OPS["mean"]
    (unusable,) = ops.installed.unusable
    assert str(unusable) == (
        f"{name!r} of the distribution shifts 1.2 can't be used: Pipeline has an op of this name; rename yours"
    )


def test_a_name_brought_by_two_distributions_is_refused(site: Path) -> None:
    install(site, {"all": "shifts.signatures"})
    install(site, {"twice": "others.signatures:Twice"}, name="others")
    ops = fresh_ops()
    assert "shift" in ops
    assert "twice" not in ops
    assert ops.unknown_message("twice") == (
        "there is no op 'twice'; 'twice' of the distribution others 1.2 can't be used: shifts 1.2 also provides one; "
        "'twice' of the distribution shifts 1.2 can't be used: others 1.2 also provides one"
    )


BROKEN = {
    "no such module": ("shifts.signature:Twice", SIGNATURES, "ModuleNotFoundError"),
    "no such class": ("shifts.signatures:Thrice", SIGNATURES, "AttributeError"),
    "an import that fails": ("shifts.signatures:Twice", "import nowhere_at_all", "No module named 'nowhere_at_all'"),
    "a module that ends the process": ("shifts.signatures:Twice", "raise SystemExit(3)", "SystemExit: 3"),
    "a function": (
        "shifts.functions:twice",
        SIGNATURES,
        "it is neither a subclass of pipeline.config.signatures.Signature",
    ),
    "a module without ops": ("shifts.functions", SIGNATURES, "no subclass of pipeline.config.signatures.Signature"),
    "no name": (
        "shifts.signatures:Twice",
        SIGNATURES.replace('"twice"', '"two times"'),
        "'two times'; a name has letters",
    ),
    "no kind": (
        "shifts.signatures:Twice",
        f'{SIGNATURES}    gives: ClassVar[str] = "table"',
        "Twice.gives is 'table'; kinds: array, frame",
    ),
    "no function": (
        "shifts.signatures:Twice",
        SIGNATURES.replace("functions:twice", "functions"),
        'write "package.module:function"',
    ),
    "a common key": (
        "shifts.signatures:Twice",
        f"{SIGNATURES}    timeout: int = 3",
        "has a parameter 'timeout', which is a key of every step",
    ),
    "an input as a parameter": (
        "shifts.signatures:Twice",
        f"{SIGNATURES}    weights: int = 3\n    inputs: ClassVar[Any] = {{'weights': ('array',)}}",
        "has a parameter 'weights'",
    ),
    "what it lacks": (
        "shifts.signatures:Bare",
        "from pipeline.config.signatures import Signature\n\nclass Bare(Signature):\n    op = 'bare'",
        "Bare lacks family, gives, home",
    ),
    "a type that is not there": (
        "shifts.signatures:Twice",
        f"from __future__ import annotations\n{SIGNATURES}    by: Nowhere = 3",
        "Nowhere",
    ),
}


@pytest.mark.parametrize(("value", "signatures", "said"), BROKEN.values(), ids=BROKEN)
def test_an_invalid_op_is_reported_with_its_distribution(site: Path, value: str, signatures: str, said: str) -> None:
    install(site, {"twice": value}, signatures=signatures)
    ops = fresh_ops()
    assert list(ops) == ["mean", "groupby", "zeros"]
    assert said in reasons(ops)["twice"]
    assert ops.unknown_message("twice").startswith(
        f"there is no op 'twice'; 'twice' of the distribution shifts 1.2 can't be used: {value!r}: "
    )


def test_a_broken_entry_point_is_named_where_no_op_is_similar(site: Path) -> None:
    install(site, {"everything": "shifts.signatures"}, signatures="import nowhere_at_all")
    ops = fresh_ops()
    assert "'everything' of the distribution shifts 1.2" in ops.unknown_message("twice")
    assert ops.unknown_message("maen") == "there is no op 'maen'; did you mean 'mean'?"


def test_a_similar_name_of_an_installed_op_is_the_hint(site: Path) -> None:
    install(site, {"all": "shifts.signatures"})
    assert fresh_ops().unknown_message("twise").endswith("did you mean 'twice'?")


# ---------------------------------------------------------------------------------------------------------------------
# The command line with a distribution installed
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a working and a broken distribution, and a folder with a pipeline file."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("here")
    install(site, {"all": "shifts.signatures"})
    install(site, {"broken": "brokens.signatures"}, name="brokens", signatures="raise RuntimeError('not today')")
    (folder / "moved.yaml").write_text(FILE)
    return site, folder


def test_it_runs_here_and_in_other_processes(two_sites: tuple[Path, Path]) -> None:
    site, folder = two_sites
    code = """
        import json
        import pipeline
        from pipeline.runs.provenance.code import code_hashes
        p = pipeline.load("moved.yaml")
        for backend in ("serial", "processes"):
            p.run(backend=backend, workers=1, out=backend)
        print(json.dumps(sorted(code_hashes(p.build(), p.config))))
    """
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for backend in ("serial", "processes"):
        np.testing.assert_array_equal(np.load(folder / backend / "moved.npy"), np.arange(6) + 0.5)
    assert json.loads(done.stdout)[-2:] == ["shifts/functions.py", "shifts/signatures.py"]


def test_it_is_listed_and_in_the_schema_and_a_broken_one_warns(two_sites: tuple[Path, Path]) -> None:
    code = textwrap.dedent(
        """
        from pipeline.cli import main
        from pipeline.config.schema.document import json_schema
        main(["ops"])
        main(["ops", "twice"])
        print(sorted(name for name in json_schema()["definitions"] if name.startswith(("op_shift", "op_twice"))))
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(two_sites[0])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "  shift           The frame with a number added to its numbers" in done.stdout
    assert "twice: array -> array\n\nThe array times two." in done.stdout
    assert done.stdout.endswith("['op_shift', 'op_shift_2', 'op_twice']\n")
    warning = (
        "pipeline: warning: 'broken' of the distribution brokens 1.2 can't be used: 'brokens.signatures': "
        "RuntimeError: not today"
    )
    assert done.stderr.splitlines() == [warning] * 2


@pytest.fixture
def anew(site: Path) -> Iterator[Path]:
    """Makes this process look up entry points again, now and after the test."""
    vars(OPS).pop("installed", None)
    yield site
    vars(OPS).pop("installed", None)
    resolve.cache_clear()


ERRORS = {
    "unknown parameter": (
        "by: 0.5",
        "by: 1, bye: 2",
        "steps.moved.bye: unknown key of op 'shift'; allowed: by and the common keys; did you mean 'by'?",
    ),
    "type": ("by: 0.5", "by: far", "steps.moved.by: got 'far'; by takes a number"),
    "its own refusal": ("by: 0.5", "by: 13", "steps.moved.by: got 13, which brings bad luck"),
    "no such op": ("op: shift", "op: shirt", "steps.moved.op: there is no op 'shirt'; did you mean 'shift'?"),
}


@pytest.mark.parametrize(("old", "new", "said"), ERRORS.values(), ids=ERRORS)
def test_an_error_has_its_place(anew: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    install(anew, {"all": "shifts.signatures"})
    with pytest.raises(ConfigError) as caught:
        build(loads(FILE.replace(old, new), name="moved", root=tmp_path))
    (fault,) = caught.value.faults
    assert f"{fault.path}: {fault.message}" == said
    assert fault.location.line == 5


def test_an_op_without_its_function_is_an_error_of_the_file(anew: Path, tmp_path: Path) -> None:
    install(anew, {"all": "shifts.signatures"}, functions="import nowhere_at_all")
    config = loads(FILE, name="moved", root=tmp_path)
    with pytest.raises(ConfigError) as caught:
        build(config)
    assert str(caught.value) == (
        "moved.yaml:5:15: steps.moved.op: the function of 'shift', shifts.functions:shift, can't be imported: "
        "No module named 'nowhere_at_all'"
    )


def test_a_file_that_does_not_use_it_does_not_load_it(two_sites: tuple[Path, Path]) -> None:
    site, folder = two_sites
    (folder / "own.yaml").write_text("version: 1\nsteps: {x: {op: arange, stop: 6}, m: {op: mean, input: x}}\n")
    code = (
        "import sys; from pipeline.config.loader import load; load('own.yaml');"
        "print(sorted({'shifts', 'brokens'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""Values of steps from earlier runs: a cache, checkpoints, and the items of a run that did not end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import resumed

from pipeline import cli
from pipeline.errors import CheckError, ConfigError, TaskError
from pipeline.runs.run import Run, run

MODULE = """
import os
import signal
import time

LOG = "PLACE"

def _note(text):
    with open(LOG, "a") as file:
        file.write(text + " ")

def double(a):
    _note(f"double{a}")
    time.sleep(0.003)
    return 2 * a

def add(x):
    _note("add")
    time.sleep(0.003)
    return x + 1

def text(x):
    _note("text")
    time.sleep(0.003)
    return f"{x}"

def fit(a, bad):
    _note(f"fit{a}")
    time.sleep(0.003)
    if a == bad:
        if os.environ.get("KILLED"):
            os.kill(os.getppid() if os.environ["KILLED"] == "parent" else os.getpid(), signal.SIGKILL)
        raise ValueError("bad")
    return a * 10
"""
CHAIN = """
version: 1
modules: [./value_one.py, ./value_two.py, ./value_functions.py]
params: {a: 3}
steps:
  one: {call: "value_one:double", args: {a: "${a}"}}
  two: {call: "value_two:add", args: {x: "${one}"}}
  three: {call: "value_functions:text", args: {x: "${two}"}}
outputs:
  three: {to: text, path: o/three.txt}
"""
ITEMS = """
version: 1
modules: [./value_functions.py]
params: {items: [1, 2, 3, 4], bad: 3}
steps:
  fit: {call: "value_functions:fit", over: {a: "${items}"}, args: {bad: "${bad}"}, batch: 1}
  both: {call: "value_functions:text", args: {x: "${fit}"}}
outputs:
  both: {to: text, path: o/both.txt}
"""


class Project(resumed.Project):
    """A pipeline with three modules."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, dict.fromkeys(("value_one", "value_two", "value_functions"), MODULE))

    def code(self, text: str, module: str = "value_functions") -> None:
        super().code(text, module)

    def run(self, text: str = CHAIN, *, cache: bool = True, **options: Any) -> Run:
        return super().run(text, cache=cache, **options)

    def entries(self) -> list[Path]:
        return [path for path in (self.folder / "cache").glob("??/*") if path.is_file()]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def states(r: Run, kind: str = "steps") -> dict[str, str]:
    return {one["name"]: one["state"] for one in r.resumed[kind]}


# A cache


def test_a_lost_output_is_written_from_what_is_kept(project: Project) -> None:
    project.run()
    assert project.did == ["add", "double3", "text"]
    (project.folder / "o/three.txt").unlink()
    r = project.run()
    assert (project.did, r.open("three")) == ([], "7")
    assert set(states(r).values()) == {"unchanged"}
    assert project.said == "3 of 3 steps unchanged; three: missing: o/three.txt is missing: written from what is kept"


def test_a_changed_function_with_an_equal_result_stops(project: Project) -> None:
    first = project.run()
    project.code(MODULE.replace("return 2 * a", "return a + a"), "value_one")
    r = project.run()
    assert project.did == ["double3"]
    assert states(r) == {"one": "run", "two": "depends", "three": "depends"}
    assert states(r, "outputs") == {"three": "depends"}
    assert "one: value_one.py: double() changed: one runs again" in project.said
    assert r.outputs["three"].files == first.outputs["three"].files
    assert r.outputs["three"].run == first.outputs["three"].run
    project.run()
    assert (project.did, project.said) == ([], "3 of 3 steps unchanged: nothing to do")


def test_a_changed_function_with_another_result_goes_on(project: Project) -> None:
    project.run()
    project.code(MODULE.replace("return x + 1", "return x + 2"), "value_two")
    r = project.run()
    assert (project.did, r.open("three")) == (["add", "text"], "8")


def test_back_to_an_earlier_value_is_loaded(project: Project) -> None:
    project.run()
    project.run(sets={"a": "4"})
    assert project.did == ["add", "double4", "text"]
    r = project.run()
    assert (project.did, r.open("three")) == ([], "7")


def test_a_changed_comment_runs_nothing(project: Project) -> None:
    project.run()
    project.code(MODULE.replace("    return x + 1", "    # one more\n    return x + 1"), "value_two")
    project.run()
    assert project.said == "3 of 3 steps unchanged: nothing to do"


def test_one_more_file_is_the_reason_and_one_item_runs(project: Project) -> None:
    """Also where nobody needs the other items, since what was made of them is loaded."""
    text = (
        "version: 1\nmodules: [./value_functions.py]\nsteps:\n"
        '  files: {op: files, path: "days/*"}\n'
        '  read: {call: "value_functions:text", over: {x: files}, checkpoint: true}\n'
        '  again: {call: "value_functions:text", over: {x: read}, checkpoint: true}\n'
        "outputs: {again: {to: json, path: again.json}}\n"
    )
    for name in "abc":
        (project.folder / "days").mkdir(exist_ok=True)
        (project.folder / "days" / name).write_text(name)
        r = project.run(text)
    steps = {one["name"]: one for one in r.resumed["steps"]}
    assert project.did == ["text", "text"]
    assert steps["read"]["reasons"] == [f"1 of 3 files is new: {Path('days/c')}"]
    assert (steps["read"]["reused"], steps["read"]["total"]) == (2, 3)
    assert (steps["again"]["state"], steps["again"]["reused"]) == ("depends", 2)


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "foreign"])
def test_a_damaged_entry_is_computed_again(project: Project, harm: str) -> None:
    project.run()
    (project.folder / "o/three.txt").unlink()
    for path in project.entries():
        data = bytearray(path.read_bytes())
        if harm == "flip":
            data[-1] ^= 1
        path.write_bytes({"flip": data, "cut": data[:-3], "empty": b"", "foreign": b"{}" * 99}[harm])
    r = project.run()
    assert (r.open("three"), "text" in project.did) == ("7", True)
    (project.folder / "o/three.txt").unlink()
    assert (project.run().open("three"), project.did) == ("7", [])


def test_an_entry_that_is_removed_in_the_run_is_no_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run()
    (project.folder / "o/three.txt").unlink()
    real = run.__globals__["_computed"]

    def computed(*args: Any, **options: Any) -> Any:
        for path in project.entries():
            path.unlink()
        return real(*args, **options)

    monkeypatch.setitem(run.__globals__, "_computed", computed)
    assert project.run().open("three") == "7"


def test_a_cache_of_another_user_is_refused(project: Project) -> None:
    (project.folder / "cache").mkdir()
    (project.folder / "cache").chmod(0o777)
    with pytest.raises(ConfigError, match="can't be used as a cache"):
        project.run()


def test_one_more_alpha_fits_one_model(project: Project) -> None:
    project.run(ITEMS, sets={"bad": "0"})
    assert project.did == ["fit1", "fit2", "fit3", "fit4", "text"]
    r = project.run(ITEMS, sets={"bad": "0", "items": "[0.5, 4, 3, 2, 1]"})
    assert project.did == ["fit0.5", "text"]
    assert r.open("both") == "[5.0, 40, 30, 20, 10]"
    assert "4 of 5 results of fit are reused" in project.said


def test_one_more_file_is_read_alone(project: Project) -> None:
    text = """
version: 1
modules: [./value_functions.py]
steps:
  files: {op: files, path: "in/*.csv"}
  size: {call: "value_functions:sized", over: {path: files}}
  total: {call: "value_functions:text", args: {x: "${size}"}}
outputs:
  total: {to: text, path: o/total.txt}
"""
    project.code(
        MODULE + "\ndef sized(path):\n    _note(os.path.basename(path))\n    time.sleep(0.003)\n"
        "    return os.path.getsize(path)\n"
    )
    (project.folder / "in").mkdir()
    for i in range(3):
        (project.folder / f"in/{i}.csv").write_text("x" * i)
    project.run(text)
    (project.folder / "in/00.csv").write_text("xxxxx")
    r = project.run(text)
    assert (project.did, r.open("total")) == (["00.csv", "text"], "[0, 5, 1, 2]")
    (project.folder / "in/1.csv").write_text("yyyy")
    r = project.run(text)
    assert (project.did, r.open("total")) == (["1.csv", "text"], "[0, 5, 4, 2]")


def test_a_checkpoint_is_kept_beside_the_runs(project: Project) -> None:
    text = CHAIN.replace('args: {x: "${one}"}}', 'args: {x: "${one}"}, checkpoint: true}')
    project.run(text, cache=False)
    (project.folder / "o/three.txt").unlink()
    project.run(text, cache=False)
    assert project.did == ["text"]
    assert (project.folder / "runs/.cache").is_dir()


@pytest.mark.parametrize(
    "backend",
    [
        "processes",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("threads", "pool", "process-per-task", "manager", "dask")),
    ],
)
def test_it_is_the_same_on_every_back_end(project: Project, backend: str) -> None:
    project.run(ITEMS, sets={"bad": "0"})
    r = project.run(ITEMS, backend=backend, sets={"bad": "0", "items": "[1, 2, 3, 4, 5]"}, workers=1)
    assert (project.did, r.open("both")) == (["fit5", "text"], "[10, 20, 30, 40, 50]")
    (project.folder / "o/both.txt").unlink()
    project.run(ITEMS, sets={"bad": "0", "items": "[1, 2, 3, 4, 5]"})
    assert project.did == []


def test_limits_hold_at_the_end_of_a_run(project: Project) -> None:
    text = CHAIN.replace("steps:", f"cache: {{dir: {project.folder / 'cache'}, entries: 2}}\nsteps:")
    project.run(text, cache=False)
    for path in project.entries():
        os.utime(path, (1, 1))
    project.run(text, cache=False, sets={"a": "4"})
    kept = [path for path in project.entries() if path.stat().st_mtime < 10]
    assert len(kept) == 0


# What is asked for


def test_force_from_and_only(project: Project) -> None:
    project.run()
    project.run(force="two")
    assert project.did == ["add"]
    project.run(from_="two")
    assert project.did == ["add", "text"]
    project.run(force=True)
    assert project.did == ["add", "double3", "text"]
    r = project.run(sets={"a": "5"}, only="two")
    assert (project.did, r["two"], states(r, "outputs")) == (["add", "double5"], 11, {"three": "unchanged"})
    r = project.run(sets={"a": "5"})
    assert (project.did, r.open("three")) == (["text"], "11")


def test_a_change_that_is_accepted_stays_accepted(project: Project) -> None:
    project.run(cache=False)
    project.code(MODULE.replace("return x + 1", "return x + 1.0"), "value_two")
    project.run(cache=False, accept="code:two")
    assert (project.did, project.said) == ([], "3 of 3 steps unchanged: nothing to do")
    project.run(cache=False)
    assert project.said == "3 of 3 steps unchanged: nothing to do"
    project.code(MODULE.replace("return x + 1", "return x + 3"), "value_two")
    assert project.run(cache=False).open("three") == "9"


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"force": "tow"}, r"--force tow: there is no step 'tow'; did you mean 'two'\?"),
        ({"only": "tow"}, r"--only tow: there is no step"),
        ({"from_": "tow"}, r"--from tow: there is no step"),
        ({"accept": "code:tow"}, r"--accept code:tow: there is no step 'tow'; did you mean 'two'\?"),
        ({"accept": "coed:two"}, r"--accept coed:two: write what has changed and the step"),
    ],
)
def test_a_wish_that_names_nothing_is_an_error(project: Project, wishes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        project.run(**wishes)
    assert not (project.folder / "runs").exists()


# Runs that did not end


def test_a_failed_item_runs_alone(project: Project) -> None:
    with pytest.raises(TaskError):
        project.run(ITEMS, cache=False)
    assert project.did == ["fit1", "fit2", "fit3"]
    r = project.run(ITEMS, cache=False, sets={"bad": "0"})
    assert r.open("both") == "[10, 20, 30, 40]"
    assert project.did == ["fit1", "fit2", "fit3", "fit4", "text"]  # bad is an argument of each item
    assert not list(project.folder.glob("runs/t/*/items"))


def test_items_that_had_finished_are_taken_over(project: Project) -> None:
    project.code(MODULE.replace("if a == bad:", "if a == bad and not os.path.exists(LOG + '.ok'):"))
    with pytest.raises(TaskError):
        project.run(ITEMS, cache=False)
    (project.folder / "log.ok").touch()
    r = project.run(ITEMS, cache=False)
    assert (project.did, r.open("both")) == (["fit3", "fit4", "text"], "[10, 20, 30, 40]")
    assert "2 of 4 results of fit are reused" in project.said
    assert not list(project.folder.glob("runs/t/*/items"))


def test_force_takes_no_items_over(project: Project) -> None:
    project.code(MODULE.replace("if a == bad:", "if a == bad and not os.path.exists(LOG + '.ok'):"))
    with pytest.raises(TaskError):
        project.run(ITEMS, cache=False)
    (project.folder / "log.ok").touch()
    project.run(ITEMS, cache=False, force=True)
    assert project.did == ["fit1", "fit2", "fit3", "fit4", "text"]


def test_a_damaged_log_is_no_error(project: Project) -> None:
    project.code(MODULE.replace("if a == bad:", "if a == bad and not os.path.exists(LOG + '.ok'):"))
    with pytest.raises(TaskError):
        project.run(ITEMS, cache=False)
    (project.folder / "log.ok").touch()
    (path,) = project.folder.glob("runs/t/*/items/*.items")
    path.write_bytes(path.read_bytes()[:-5])
    r = project.run(ITEMS, cache=False)
    assert (project.did, r.open("both")) == (["fit2", "fit3", "fit4", "text"], "[10, 20, 30, 40]")


@pytest.mark.parametrize("killed", ["self", pytest.param("parent", marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on(project: Project, killed: str) -> None:
    project.code(MODULE.replace("if a == bad:", "if a == bad and not os.path.exists(LOG + '.ok'):"))
    (project.folder / "t.yaml").write_text(ITEMS)
    backend = "serial" if killed == "self" else "processes"
    command = [sys.executable, "-m", "pipeline", "run", "t.yaml", "--backend", backend, "--workers", "1"]
    project.log.write_text("")
    died = subprocess.run(
        command, cwd=project.folder, env={**os.environ, "KILLED": killed}, capture_output=True, check=False
    )
    assert died.returncode == -signal.SIGKILL
    (project.folder / "log.ok").touch()
    r = project.run(ITEMS, cache=False)
    assert (project.did, r.open("both")) == (["fit3", "fit4", "text"], "[10, 20, 30, 40]")
    assert not list(project.folder.glob(".staging-*"))


@pytest.mark.parametrize("kept", ["", "cache", "fit", "both", "last"])
def test_items_that_were_left_out_are_tried_again(project: Project, kept: str) -> None:
    text = ITEMS.replace("batch: 1}", "batch: 1, on_error: drop}")
    text = text.replace("outputs:", '  last: {call: "value_functions:text", args: {x: "${both}"}}\noutputs:')
    text += "  last: {to: text, path: o/last.txt}\n"
    text = re.sub(f"(  {kept}: {{)call", r"\1checkpoint: true, call", text) if kept not in ("", "cache") else text
    project.code(MODULE.replace("if a == bad:", "if a == bad and not os.path.exists(LOG + '.ok'):"))
    cache = kept == "cache"
    assert len(project.run(text, cache=cache).dropped) == 1
    (project.folder / "log.ok").touch()
    r = project.run(text, cache=cache)
    assert (r.open("both"), r.open("last")) == ("[10, 20, 30, 40]",) * 2
    assert "fit3" in project.did


# What changes in the meantime, and what is said


def test_an_input_that_changes_while_it_is_read_is_not_reused(project: Project) -> None:
    text = """
version: 1
modules: [./value_functions.py]
steps:
  rows: {op: read_csv, path: in.csv}
  n: {call: "value_functions:counted", args: {rows: "${rows}"}}
outputs:
  n: {to: text, path: o/n.txt}
"""
    path = project.folder / "in.csv"
    path.write_text("a\n1\n")
    os.utime(path, (1e9, 1e9))
    append = f"with open({str(path)!r}, 'a') as file:\n        file.write('2\\n')"
    project.code(f"def counted(rows):\n    {append}\n    return str(len(rows))\n")
    project.run(text)
    (note,) = project.notes
    assert re.match(r"warning: in\.csv has changed during the run: the next run makes again .*: n", note)
    project.run(text)
    assert "n: 1 file changed" in project.said or "rows: in.csv changed" in project.said


def test_dry_run_says_what_the_run_does(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    (project.folder / "t.yaml").write_text(CHAIN)
    assert cli.main(["run", "t.yaml", "--backend", "serial", "--cache", "cache"]) == 0
    project.code(MODULE.replace("return 2 * a", "return a + a"), "value_one")
    capsys.readouterr()
    before = sorted(project.folder.rglob("*"))
    assert cli.main(["run", "t.yaml", "--dry-run", "--cache", "cache"]) == 0
    shown = capsys.readouterr().out
    assert sorted(project.folder.rglob("*")) == before
    assert re.search(r"one +runs +value_one\.py: double\(\) changed", " ".join(shown.split("\n")))
    assert re.search(r"two +may run +depends on one", shown)
    assert cli.main(["run", "t.yaml", "--backend", "serial", "--cache", "cache"]) == 0
    summary = next(line for line in shown.splitlines() if "steps unchanged" in line)
    assert summary in capsys.readouterr().out
    assert cli.main(["run", "t.yaml", "--dry-run", "--json", "--force"]) == 0
    assert '"reasons": ["forced"]' in capsys.readouterr().out


def test_two_runs_share_a_cache_at_once(project: Project, tmp_path: Path) -> None:
    (project.folder / "t.yaml").write_text(CHAIN)
    project.log.write_text("")
    commands = [
        [sys.executable, "-m", "pipeline", "run", "t.yaml", "--backend", "serial", "--cache", "cache", "--out", f"o{i}"]
        for i in (1, 2)
    ]
    running = [
        subprocess.Popen([*command, "--runs", f"runs{i}"], cwd=project.folder, stdout=subprocess.DEVNULL)
        for i, command in enumerate(commands)
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert {(project.folder / f"o{i}/o/three.txt").read_text() for i in (1, 2)} == {"7"}
    project.run()
    assert project.did == []


# ---------------------------------------------------------------------------------------------------------------------
# What must not be taken for the same
# ---------------------------------------------------------------------------------------------------------------------


LABELS = """
version: 1
modules: [./value_functions.py]
params: {al: [1, 2], lab: [a, b], dim: t}
steps:
  c: {call: "value_functions:seven", over: {a: "${al}"}, checkpoint: true}
  x: {op: arange, start: 0, stop: 2, dim: "${dim}", checkpoint: true}
  y: {op: arange, start: 0, stop: 2, dim: t, checkpoint: true}
  lb: {op: set_labels, input: y, labels: {t: "${lab}"}, checkpoint: true}
outputs:
  c: {to: json, path: c.json}
  k: {input: c, to: json, path: "k/${key}.json"}
  x: {to: netcdf, path: x.nc}
  lb: {to: netcdf, path: lb.nc}
"""


def test_equal_values_under_other_labels_are_another_output(project: Project) -> None:
    project.code(MODULE + "\ndef seven(a):\n    return 7\n")
    project.run(LABELS, cache=False)
    r = project.run(LABELS, cache=False, sets={"al": "[3, 4]", "lab": "[x, y]"})
    assert r.open("c") == {"a=3": 7, "a=4": 7}
    assert sorted(path.name for path in (project.folder / "k").glob("a=*.json")) == ["a=3.json", "a=4.json"]
    assert r.open("lb").t.values.tolist() == ["x", "y"]
    assert project.run(LABELS, cache=False, sets={"dim": "u"}).open("x").dims == ("u",)


def test_a_check_of_incomplete_values_has_not_passed(project: Project) -> None:
    text = ITEMS.replace("batch: 1}", "batch: 1, on_error: drop}")
    text = text.replace("outputs:", "  one: {call: 'value_functions:text', args: {x: 1}}\noutputs:\n"
                                    "  one: {to: text, path: o/one.txt}")  # fmt: skip
    text += """checks: [{that: "both == '[10, 20, 40]'"}]\n"""
    project.code(MODULE.replace("if a == bad:", "if a == bad and not os.path.exists(LOG + '.ok'):"))
    assert project.run(text, cache=False).checks[0].ok
    (project.folder / "log.ok").touch()
    with pytest.raises(CheckError):
        project.run(text, cache=False)


SLOW = """
import os
import time
from pathlib import Path

LOG = "PLACE"

def late(x):
    Path(LOG + ".began").touch()
    while not os.path.exists(LOG + ".go"):
        time.sleep(0.01)
    return [x, Path(LOG).with_name("d.txt").read_text()]

def five():
    time.sleep(0.01)
    return 5
def last(x):
    if os.path.exists(LOG + ".fail"):
        raise ValueError("boom")
    return x
"""
READING = """
version: 1
modules: [./value_functions.py]
steps:
  c: {call: "value_functions:five"}
  d: {call: "value_functions:late", over: {x: "${c}"}, depends_on: d.txt}
  l: {call: "value_functions:last", args: {x: "${d}"}}
outputs: {l: {to: json, path: l.json}}
"""


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_what_read_a_file_that_changed_is_kept_under_no_key(project: Project, cache: bool, fails: bool) -> None:
    project.code(SLOW)
    text = READING.replace('over: {x: "${c}"}', 'args: {x: "${c}"}') if cache else READING.replace('"${c}"', "[5]")
    source, began, go, fail = (project.folder / name for name in ("d.txt", "log.began", "log.go", "log.fail"))
    source.write_text("A")
    if fails:
        fail.touch()

    def change() -> None:
        while not began.exists():
            time.sleep(0.01)
        source.write_text("other")
        go.touch()

    changing = threading.Thread(target=change)
    changing.start()
    if fails:
        with pytest.raises(TaskError, match="boom"):
            project.run(text, cache=cache)
    else:
        project.run(text, cache=cache)
    changing.join()
    fail.unlink(missing_ok=True)
    source.write_text("A")
    assert "other" not in str(project.run(text, cache=cache).open("l"))


def test_a_step_that_passes_on_what_another_gives_is_kept(project: Project) -> None:
    text = "version: 1\nsteps:\n  b: {op: arange, start: 0, stop: 4, dim: t, chunks: 1}\n"
    text += "  cc: {op: transpose, input: b, dims: [t], checkpoint: true}\n"
    text += "outputs: {o: {input: cc, to: json, path: o.json}}\n"
    for force in (False, True):
        assert project.run(text, cache=False, force=force).open("o").values.tolist() == [0, 1, 2, 3]

"""YAML -> Config: params, instances, references, calls, outputs, and their bounds."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.builder.plan import unused_steps
from pipeline.config.absolute_paths import with_absolute_paths
from pipeline.config.interpolation import Placeholder, split_placeholders
from pipeline.config.loader import load, loads
from pipeline.config.model import Cache, Config, ItemKey, Over, Reference, Template
from pipeline.config.secret_values import Secret
from pipeline.config.yaml_nodes import scalar
from pipeline.config.yaml_writer import yaml_text
from pipeline.errors import ConfigError

TAS = '  tas: {op: from_zarr, matrix: {run: [A1B, E1]}, path: "${run}.zarr"}\n'


def config(steps: str, before: str = "", **keywords: Any) -> Config:
    return loads(f"version: 1\n{before}\nsteps:\n{steps}", **keywords)


def message(steps: str, before: str = "", **keywords: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(steps, before, **keywords)
    return str(caught.value)


def called(args: str, before: str = "", more: str = "", steps: str = "") -> Any:
    """Return the args of a call whose YAML is ``args``."""
    made = config(f'{steps}  f: {{call: "m:f", args: {args}{more}}}\n', f"modules: [m]\n{before}")
    return next(step for step in made.steps.values() if step.step == "f").args


# -- YAML -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("01", 1),
        ("0o17", 15),
        ("0x1f", 31),
        ("-1.5e3", -1500.0),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("true", True),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("null", None),
        ("", None),
        ("2001-01-01", "2001-01-01"),
        ("12:30:45", "12:30:45"),
        (".inf", float("inf")),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "2:1: the key 'a' is here a second time; first at x.yaml:1:1"),
        ("a: !!python/object:os.system x", "a file has plain values only"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: {<<: {b: 1}}", "merge key"),
        ("a: &x [*x]", "nothing before it has the anchor"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 40 levels"),
        ("a: {x: tas[1]}", "quote text with"),
        ("a:\n\tb: 1", "not YAML"),
        ("a: \x07", "which YAML excludes"),
        ("a: " + "x" * 300_000, "more than 256 KiB"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{c}: &{c} [{','.join([f'*{b}'] * 10)}]\n" for b, c in zip("abcdef", "bcdefg", strict=True)),
            "100,000",
        ),
    ],
)
def test_refused_yaml_is_reported_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, name="x")
    assert said in str(caught.value)


def test_a_byte_that_is_not_utf8_is_reported_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes("version: 1\nname: é".encode("latin1"))
    with pytest.raises(ConfigError, match=r"x\.yaml:2:7: got the byte 0xe9; a file is UTF-8 text"):
        load(file)


def test_every_value_has_its_place_in_the_file() -> None:
    step = config("  a:\n    op: arange\n    stop: 3\n", name="p").steps["a"]
    assert (str(step.location), str(step.locations["stop"])) == ("p.yaml:4:3", "p.yaml:6:11")


# -- params and placeholders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a", ("a",)),
        ("${a}", (Placeholder("a", 1),)),
        ("x/${a.b}.nc", ("x/", Placeholder("a.b", 3), ".nc")),
        ("$${a}", ("${a}",)),
        ("${env:X:-${y}}", (Placeholder("env:X:-${y}", 1),)),
        ("$5", ("$5",)),
    ],
)
def test_text_is_split_at_its_placeholders(text: str, pieces: Any) -> None:
    assert split_placeholders(text) == pieces


def test_a_placeholder_keeps_its_type_unless_it_is_in_text() -> None:
    before = "params: {n: 3, l: [1, 2], m: {k: {d: true}}}"
    assert called('{a: "${n}", b: "${l}", c: "${m.k.d}", d: "n${n}-${m.k.d}", e: "$${n}"}', before) == {
        "a": 3,
        "b": [1, 2],
        "c": True,
        "d": "n3-true",
        "e": "${n}",
    }


def test_a_list_inside_text_is_an_error() -> None:
    assert "is a list; inside text it must be a scalar" in message(
        '  a: {op: files, path: "x${l}"}\n', "params: {l: [1]}"
    )


def test_params_may_use_each_other_but_not_in_a_cycle() -> None:
    assert called('{x: "${b}"}', 'params: {b: "${a}/b", a: A}') == {"x": "A/b"}
    assert "needs itself: a -> b -> a" in message("  x: {op: arange, stop: 1}\n", 'params: {a: "${b}", b: "${a}"}')


def test_params_that_expand_without_bound_are_refused() -> None:
    lines = "".join(f'  p{i}: "{f"${{p{i + 1}}}" * 10}"\n' for i in range(12))
    assert "expands to more than" in message("  x: {op: arange, stop: 1}\n", f"params:\n{lines}  p12: xxxxxxxxxx\n")


def test_the_environment_is_read_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_X", "[1, a]")
    monkeypatch.delenv("PIPELINE_Y", raising=False)
    got = called('{a: "${env:PIPELINE_X}", b: "${env:PIPELINE_Y:-2.5}", c: "v${env:PIPELINE_Y:-2.5}"}')
    assert got == {"a": [1, "a"], "b": 2.5, "c": "v2.5"}


def test_a_secret_is_text_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_KEY", "12345")
    made = config("  a: {op: arange, stop: 1}\n", 'storage: {s3: {key: "${secret:PIPELINE_KEY}"}}')
    assert made.storage["s3"]["key"] == "12345"
    assert isinstance(made.storage["s3"]["key"], Secret)
    assert "12345" not in repr(made)


def test_a_secret_in_text_is_known_by_the_text_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_KEY", "12345")
    got = called('{alone: "${secret:PIPELINE_KEY}", inside: "Bearer ${secret:PIPELINE_KEY}"}')
    assert got == {"alone": "12345", "inside": "Bearer 12345"}
    assert [one.name for one in got.values()] == ["${secret:PIPELINE_KEY}", "Bearer ${secret:PIPELINE_KEY}"]
    assert [repr(one) for one in got.values()] == ["'${secret:PIPELINE_KEY}'", "'Bearer ${secret:PIPELINE_KEY}'"]
    again = pickle.loads(pickle.dumps(got["inside"]))
    assert (again, again.name) == ("Bearer 12345", "Bearer ${secret:PIPELINE_KEY}")


@pytest.mark.parametrize(
    ("cache", "found"),
    [
        ("kept", Cache("/data/kept")),
        ("/tmp/kept", Cache("/tmp/kept")),
        ("~/kept", Cache("/home/me/kept")),
        ("{dir: kept, bytes: 20GB, entries: 9, age: 30d}", Cache("/data/kept", 20 * 10**9, 9, 30 * 86400.0)),
        ('{dir: "${d}/kept"}', Cache("/data/below/kept")),
    ],
)
def test_the_cache_is_a_folder_with_limits(monkeypatch: pytest.MonkeyPatch, cache: str, found: Cache) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    text = f"version: 1\nparams: {{d: below}}\ncache: {cache}\nsteps:\n  a: {{op: arange, stop: 1}}\n"
    made = loads(text, root="/data")
    assert made.cache == found
    assert loads(yaml_text(with_absolute_paths(made)), root="/elsewhere").cache == found
    assert config("  a: {op: arange, stop: 1}\n").cache is None


def test_keys_of_resume_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    keys = "checkpoint: true, code_version: 2, depends_on: [a.csv, ., ./a.csv]"
    steps = f'a: {{call: "math:sqrt", input: b, {keys}}}\n  b: {{op: arange, stop: 1}}'
    text = f"version: 1\nmodules: [math]\nsteps:\n  {steps}\n"
    made = loads(text, root=tmp_path)
    step = made.steps["a"]
    assert (step.checkpoint, step.code_version, step.depends_on) == (True, 2, (f"{tmp_path}/a.csv", str(tmp_path)))
    assert loads(yaml_text(with_absolute_paths(made)), root="/").steps == made.steps
    assert (made.steps["b"].checkpoint, made.steps["b"].code_version, made.steps["b"].depends_on) == (False, None, ())


def test_settings_keep_their_secrets_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_KEY", "tls://12345:1")
    cluster = '{class: "m:${secret:PIPELINE_KEY}", kwargs: {key: "${secret:PIPELINE_KEY}"}}'
    made = config("  a: {op: arange, stop: 1}\n", f"cluster: {cluster}")
    assert made.cluster == {"class": "m:tls://12345:1", "kwargs": {"key": "tls://12345:1"}}
    assert "12345" not in repr(made)


def test_files_are_read_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("alpha,name\n0.1,a\n2,b\n")
    (tmp_path / "p.json").write_text('{"a": [1]}')
    (tmp_path / "p.yaml").write_text("a: {b: on}")
    (tmp_path / "p.txt").write_text("x\ny\n")
    args = '{a: "${file:points.csv}", b: "${file:p.json}", c: "${file:p.yaml}", d: "${file:p.txt}"}'
    made = config(f'  f: {{call: "m:f", args: {args}}}\n', "modules: [m]", root=tmp_path)
    assert made.steps["f"].args == {
        "a": [{"alpha": 0.1, "name": "a"}, {"alpha": 2, "name": "b"}],
        "b": {"a": [1]},
        "c": {"a": {"b": "on"}},
        "d": ["x", "y"],
    }


def test_quotes_and_ends_of_lines_in_csv_files(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b'a,b\r1,"x\ny"\r2,z\r')
    made = config('  f: {call: "m:f", args: {a: "${file:p.csv}"}}\n', "modules: [m]", root=tmp_path)
    assert made.steps["f"].args["a"] == [{"a": 1, "b": "x\ny"}, {"a": 2, "b": "z"}]
    (tmp_path / "p.csv").write_text('a,b\n1,"x\n2,z\n')
    with pytest.raises(ConfigError, match="line 3: unexpected end of data; is a quote not closed"):
        config('  f: {call: "m:f", args: {a: "${file:p.csv}"}}\n', "modules: [m]", root=tmp_path)


def test_paths_of_python_come_from_sysconfig() -> None:
    import sysconfig

    assert called('{x: "${python:stdlib}"}') == {"x": sysconfig.get_paths()["stdlib"]}
    assert "Python has no path 'stblib'" in message('  a: {op: files, path: "${python:stblib}"}\n')


def test_set_changes_a_param_and_knows_no_others(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("b: {c: 5}\na: 7\n")
    steps, before = (
        '  f: {call: "m:f", args: {a: "${a}", c: "${b.c}"}}\n',
        "modules: [m]\nparams: {a: 1, b: {c: 2, d: 3}}",
    )
    made = config(steps, before, sets={"b.c": "[x]", "params.b.d": "4"}, params_files=[tmp_path / "more.yaml"])
    assert made.steps["f"].args == {"a": 7, "c": ["x"]}
    assert made.params == {"a": 7, "b": {"c": ["x"], "d": 4}}
    assert "param 'b' has no key 'e'" in message(steps, before, sets={"b.e": "1"})
    assert "has no param 'bb'; did you mean 'b'?" in message(steps, before, sets={"bb": "1"})


def test_the_including_file_wins_and_a_step_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text(
        "params: {root: data, deep: {a: 1, b: 2}}\n"
        "steps:\n  a: {op: read_csv, path: a.csv, sep: ';'}\n  b: {op: read_csv, path: b.csv}\n"
    )
    (tmp_path / "x.yaml").write_text(
        "version: 1\ninclude: [base/base.yaml]\nparams: {deep: {b: 3}}\nsteps:\n  a: {op: read_csv, path: new.csv}\n"
    )
    made = load(tmp_path / "x.yaml")
    assert made.params == {"root": "data", "deep": {"a": 1, "b": 3}}
    assert made.steps["a"].parameters.path == str(tmp_path / "new.csv")
    assert made.steps["a"].parameters.sep == ","
    assert made.all_steps["b"].parameters.path == str(tmp_path / "base" / "b.csv")
    (warning,) = made.warnings
    assert "steps.a: replaces the step of" in warning


COMMON = "  a: {op: arange, stop: 2}\n  b: {expr: a + 1}\n  c: {op: arange, stop: 3}\n  d: {expr: c + 1}\n"


@pytest.mark.parametrize(
    ("rest", "used"),
    [
        ("outputs: {b: {to: zarr, path: b.zarr}}", "ab"),
        ("outputs: {b: {to: zarr, path: b.zarr}}\nkeep: [c]", "abc"),
        ('outputs: {b: {to: zarr, path: b.zarr}}\nchecks: [{that: "${d} > 0"}]', "abcd"),
        ("", "abcd"),
        ("keep: [a]", "abcd"),  # without outputs the last steps are computed
    ],
)
def test_steps_that_lead_to_nothing_are_not_computed(rest: str, used: str) -> None:
    made = loads(f"version: 1\nsteps:\n{COMMON}{rest}\n")
    assert "".join(made.steps) == used
    assert "".join(made.unused) == "".join(step for step in "abcd" if step not in used)
    assert "".join(made.all_steps) == "abcd"


def test_steps_with_effects_are_computed_though_nothing_needs_them() -> None:
    send = 'send: {command: [send, "${d}"], pure: false}'
    made = loads(f"version: 1\nsteps:\n{COMMON}  {send}\noutputs: {{b: {{to: zarr, path: b.zarr}}}}\n")
    assert sorted(made.steps) == ["a", "b", "c", "d", "send"]


def test_instances_that_lead_to_nothing_are_not_computed() -> None:
    made = loads(
        "version: 1\nsteps:\n  x: {op: arange, matrix: {n: [2, 3, 4]}, stop: '${n}'}\n  y: {expr: 'x[3] * 2'}\n"
        "outputs: {y: {to: zarr, path: y.zarr}}\n"
    )
    assert (sorted(made.steps), made.unused) == (["x[3]", "y"], ("x[2]", "x[4]"))
    assert unused_steps(made) == ("x (2 of 3 instances)",)


def test_errors_of_steps_that_are_not_computed_are_found() -> None:
    with pytest.raises(ConfigError, match="nothing"):
        loads(f"version: 1\nsteps:\n{COMMON}  e: {{expr: nothing * 2}}\noutputs: {{b: {{to: zarr, path: b.zarr}}}}\n")


def test_unused_steps_of_included_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text(f"steps:\n{COMMON}  send: {{command: [send], pure: false}}\n")
    own = tmp_path / "own.yaml"
    steps = "steps: {mine: {expr: b * 2}, alone: {op: arange, stop: 1}}"
    own.write_text(f"version: 1\ninclude: [common.yaml]\n{steps}\noutputs: {{mine: {{to: zarr, path: m.zarr}}}}\n")
    assert sorted(load(own).steps) == ["a", "b", "mine"]
    assert len(load(own).tree.value["steps"].value) == 7
    own.write_text('version: 1\ninclude: [common.yaml]\nchecks: [{that: "${d} > 0"}]\n')
    assert sorted(load(own).steps) == ["c", "d"]
    own.write_text(f"version: 1\ninclude: [common.yaml]\n{steps}\n")
    assert sorted(load(own).steps) == ["a", "alone", "b", "mine"]
    own.write_text("version: 1\ninclude: [common.yaml]\n")
    assert sorted(load(own).steps) == ["a", "b", "c", "d", "send"]


def test_files_that_include_each_other_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: [b.yaml]")
    (tmp_path / "b.yaml").write_text("include: [a.yaml]")
    with pytest.raises(ConfigError, match="includes itself"):
        load(tmp_path / "a.yaml")


def test_includes_are_merged_in_order_and_the_file_comes_last(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "params: {n: 1, m: {x: 1, y: 2}}\nsteps: {b: {op: arange, stop: 2}, c: {op: arange, stop: 1}}\n"
    )
    (tmp_path / "two.yaml").write_text("params: {n: 2, m: {y: 3}}\nsteps: {c: {op: arange, stop: 9}}\nseed: 4\n")
    (tmp_path / "x.yaml").write_text(
        'version: 1\ninclude: [one.yaml, two.yaml]\nparams: {n: 3}\nsteps: {a: {op: arange, stop: "${n}"}}\n'
    )
    made = load(tmp_path / "x.yaml")
    assert made.params == {"n": 3, "m": {"x": 1, "y": 3}}
    assert {name: step.parameters.stop for name, step in made.all_steps.items()} == {"a": 3, "b": 2, "c": 9}
    assert made.seed == 4
    (warning,) = made.warnings
    assert warning.endswith("two.yaml:2:9: steps.c: replaces the step of " + str(tmp_path / "one.yaml") + ":2:35")


@pytest.mark.parametrize(
    ("include", "base", "said"),
    [
        ("[none.yaml]", "", "x.yaml:2:11: include[0]: 'none.yaml': No such file"),
        ("base.yaml", "", "x.yaml:2:10: include: got 'base.yaml'; write a list of files: [base.yaml]"),
        ("[3]", "", "x.yaml:2:11: include[0]: got 3; an entry is the path of a file"),
        ("[base.yaml]", "[1]", "base.yaml:1:1: got a list of 1; an included file is a map"),
        ("[base.yaml]", "a: [", "base.yaml:1:5: not YAML"),
        ("[base.yaml]", "steps: {b: {op: arange, stop: 2, stp: 1}}", "base.yaml:1:34: steps.b.stp: unknown key of op"),
    ],
)
def test_an_error_of_an_include_is_reported_at_its_place(include: str, base: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "x.yaml").write_text(f"version: 1\ninclude: {include}\nsteps: {{a: {{op: arange, stop: 2}}}}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "x.yaml")
    (fault,) = caught.value.faults
    assert said in str(fault)


# -- copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        (TAS, ["tas[A1B]", "tas[E1]"]),
        (TAS + "  m: {op: mean, input: tas}\n", ["m[A1B]", "m[E1]"]),
        (TAS + '  m: {op: mean, input: "tas[E1]"}\n', ["m"]),
        (TAS + '  m: {op: mean, input: "tas[run=E1]"}\n', ["m"]),
        (TAS + '  m: {op: to_frame, input: "tas[*]", columns: {x: int64}}\n', ["m"]),
        (
            TAS + '  q: {op: quantile, input: tas, matrix: {p: [0.1, 0.9]}, q: "${p}", axis: t}\n',
            ["q[run=A1B,p=0.1]", "q[run=A1B,p=0.9]", "q[run=E1,p=0.1]", "q[run=E1,p=0.9]"],
        ),
        (
            TAS + '  b: {op: arange, matrix: {k: [1, 2]}, stop: "${k}"}\n  s: {expr: tas + b}\n',
            ["s[run=A1B,k=1]", "s[run=A1B,k=2]", "s[run=E1,k=1]", "s[run=E1,k=2]"],
        ),
        (TAS + "  b: {op: mean, input: tas}\n  s: {expr: tas - b}\n", ["s[A1B]", "s[E1]"]),
        (TAS + '  s: {expr: "tas - tas[A1B]"}\n', ["s[A1B]", "s[E1]"]),
        (
            "  a: {op: arange, matrix: {i: [1, 2], j: [x, y]}, exclude: [{i: 1, j: y}], stop: 3}\n",
            ["a[i=1,j=x]", "a[i=2,j=x]", "a[i=2,j=y]"],
        ),
        ("  a: {op: arange, matrix: {i: {range: [0, 6, 2]}}, stop: 3}\n", ["a[0]", "a[2]", "a[4]"]),
        ("  a: {op: arange, matrix: {i: [true, null]}, stop: 3}\n", ["a[true]", "a[null]"]),
    ],
)
def test_instances_of_the_last_step(steps: str, names: list[str]) -> None:
    made = config(steps)
    last = list(made.steps.values())[-1].step
    assert [name for name, step in made.steps.items() if step.step == last] == names


def test_inherited_keys_are_matched_by_label() -> None:
    made = config(TAS + "  b: {op: mean, input: tas}\n  s: {expr: tas - b}\n")
    assert {r.instances for r in made.steps["s[E1]"].references()} == {("tas[E1]",), ("b[E1]",)}


def test_a_gather_carries_the_labels_of_its_keys() -> None:
    steps = "  a: {op: arange, matrix: {i: [1, 2], j: [x, y]}, stop: 3}\n"
    steps += '  f: {op: to_frame, input: "a[j=*]", columns: {v: int64}}\n'
    (reference,) = config(steps).steps["f[2]"].inputs["input"]
    assert reference == Reference("a", ("a[i=2,j=x]", "a[i=2,j=y]"), ("j",), (("x",), ("y",)), text="a[j=*]")


def test_a_reference_holds_its_part_and_picks_along_dims() -> None:
    steps = TAS + '  s: {op: svd, input: tas}\n  m: {op: mean, input: "s.u[A1B, component=0:2, x=-1]"}\n'
    (reference,) = config(steps).steps["m"].inputs["input"]
    assert (reference.instances, reference.part) == (("s[A1B]",), "u")
    assert reference.picks == (("component", (0, 2)), ("x", -1))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        (TAS + "  m: {op: mean, input: tas, matrix: {run: [A1B]}}\n", "which this step inherits; leave it out here"),
        (TAS + '  m: {op: mean, input: "tas[A1C]"}\n', "did you mean 'A1B'?"),
        (TAS + '  m: {op: mean, input: "tas[A1B, E1]"}\n', "more labels than 'tas' has matrix keys"),
        ('  t: {op: arange, stop: 1}\n  m: {op: mean, input: "t[A1B]"}\n', "'t' has no matrix, so no label 'A1B'"),
        (
            (
                "  a: {op: arange, matrix: {i: [1, 2]}, stop: 3}\n  b: {op: arange, matrix: {i: [1, 3]}, stop: 3}\n"
                "  c: {expr: a + b}\n"
            ),
            "'b' has i 1, 3, but 'a' has 1, 2; a key inherited from two steps must have the same values in both",
        ),
        (
            "  a: {op: arange, matrix: {i: {range: 40}, j: {range: 30}}, stop: 3}\n",
            "makes 1,200 instances (40 i x 30 j)",
        ),
        ("  a: {op: arange, matrix: {i: [1, 01]}, stop: 3}\n", "the label '1' is listed twice"),
        ("  a: {op: arange, matrix: {i: ['a,b']}, stop: 3}\n", "contains ',', which a label can't"),
        ("  a: {op: arange, matrix: {i: [1]}, exclude: [{j: 1}], stop: 3}\n", "the step has no matrix key 'j'"),
        ("  a: {op: arange, matrix: {i: [1]}, exclude: [{i: 2}], stop: 3}\n", "i has no value '2'; it has 1"),
        ("  a: {op: arange, matrix: {i: [1]}, exclude: {i: 1}, stop: 3}\n", "write a list of maps"),
        ("  a: {expr: b + 1}\n  b: {expr: a + 1}\n", "needs itself: "),
    ],
)
def test_matrices_that_are_refused(steps: str, said: str) -> None:
    assert said in message(steps)


def test_a_refused_matrix_is_one_error() -> None:
    again = TAS + "  m: {op: mean, input: tas, matrix: {run: [A1B]}}\n"
    unequal = "  a: {op: arange, matrix: {i: [1]}, stop: 3}\n  b: {op: arange, matrix: {i: [2]}, stop: 3}\n"
    for steps in (again, unequal + "  c: {expr: a + b}\n"):
        assert "does not exist" not in message(steps)


def test_numbers_that_print_differently_are_warned_of() -> None:
    (warning,) = config("  a: {op: arange, matrix: {i: [01]}, stop: 3}\n").warnings
    assert '01 is the number 1, which is the label; for the text write "01"' in warning


def test_when_removes_instances_and_all_that_need_them() -> None:
    made = config(
        '  a: {op: arange, matrix: {i: [1, 2, 3]}, when: "${i} > ${least}", stop: 3}\n'
        "  b: {op: mean, input: a}\n"
        '  c: {op: mean, input: "a[1]"}\n'
        '  d: {op: to_frame, input: "b[*]", columns: {x: float64}}\n',
        "params: {least: 1}",
    )
    assert list(made.steps) == ["a[2]", "a[3]", "b[2]", "b[3]", "d"]
    assert made.absent == {
        "a[1]": "when is false",
        "b[1]": "needs a[1], which does not exist",
        "c": "needs a[1], which does not exist",
    }
    assert made.steps["d"].inputs["input"][0].instances == ("b[2]", "b[3]")


@pytest.mark.parametrize(
    ("when", "exists"),
    [
        ("true", True),
        ("false", False),
        ('"${on}"', False),
        ('"not ${on}"', True),
        ("\"${mode} == 'fast' and not ${on}\"", True),
        ("\"${mode} in ['slow', 'lazy']\"", False),
        ('"1 < ${n.least} <= 3"', True),
    ],
)
def test_when_is_an_expression_of_params(when: str, exists: bool) -> None:
    before = "params: {on: false, mode: fast, n: {least: 3}}"
    made = config(f"  a: {{op: arange, stop: 3, when: {when}}}\n  b: {{op: arange, stop: 1}}\n", before)
    assert ("a" in made.steps) == exists
    assert made.absent == ({} if exists else {"a": "when is false"})


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("3", "got 3; write something that is true or false"),
        ("[true]", "got a list of 1; write something that is true or false"),
        ('"${i}"', "got '${i}'; write something that is true or false"),
        ('"${i} + 1"', "got '${i} + 1'; write something that is true or false"),
        ('"${k} > 1"', "no param is named 'k'; known here: i"),
        ('"i > 1"', "params and matrix keys are written ${i}"),
        ('"${x} > 1"', '"${x}" is unknown until run time, one value a call; a when needs a param, a matrix key'),
        ('"${b} > 1"', "is unknown until the run has computed 'b'; a when needs a param, a matrix key"),
    ],
)
def test_when_is_known_before_the_run(when: str, said: str) -> None:
    step = f'  a: {{call: "m:f", matrix: {{i: [1, 2]}}, over: {{x: [1]}}, when: {when}}}\n'
    found = message(f'  b: {{call: "m:f"}}\n{step}', "modules: [m]")
    assert "steps.a.when: " in found
    assert said in found


def test_exclude_removes_instances_and_all_that_need_them() -> None:
    made = config(
        '  a: {op: arange, matrix: {i: [1, 2], j: [x, y]}, exclude: [{i: "${n}"}, {i: 1, j: y}], stop: 3}\n'
        "  b: {op: mean, input: a}\n"
        '  c: {op: mean, input: "a[i=2,j=x]"}\n',
        "params: {n: 2}",
    )
    assert list(made.steps) == ["a[i=1,j=x]", "b[i=1,j=x]"]
    assert made.absent["c"] == "needs a[i=2,j=x], which does not exist"


def test_an_output_of_an_absent_step_is_not_made() -> None:
    made = loads(
        "version: 1\nsteps: {a: {op: arange, stop: 3, when: false}, b: {op: arange, stop: 3}}\n"
        "outputs: {a: {to: zarr, path: a}}\nchecks: [{that: a, approx: 1, abs: 1}]"
    )
    assert (made.outputs, made.checks) == ((), ())


def test_steps_come_after_what_they_need() -> None:
    made = config("  c: {expr: b + 1}\n  b: {op: mean, input: a}\n  a: {op: arange, stop: 3}\n")
    assert list(made.steps) == ["a", "b", "c"]


# -- expressions ------------------------------------------------------------------------------------------------------


def test_in_expressions_params_are_constants_steps_references() -> None:
    made = config(
        "  f: {op: read_csv, path: f.csv}\n  m: {op: groupby, input: f, by: a, agg: {top: max(x)}}\n"
        '  g: {op: filter, input: f, where: "x < ${m.top} and seg == ${segment}"}\n',
        "params: {segment: BUILDING}",
    )
    step = made.steps["g"]
    where = step.parameters.where
    assert (where.names, where.placeholders) == ({"x", "seg"}, ())
    assert [(r.step, r.part) for r in where.references] == [("m", "top")]
    assert [r.step for r in step.references()] == ["f", "m"]


def test_an_expr_has_a_role_a_name() -> None:
    step = config(TAS + '  s: {expr: "tas - tas[A1B] * ${k}"}\n', "params: {k: 2}").steps["s[E1]"]
    assert {role: refs[0].instances for role, refs in step.inputs.items()} == {
        "tas": ("tas[E1]",),
        "tas[A1B]": ("tas[A1B]",),
    }
    assert len(step.expression.references) == 2


# -- calls ------------------------------------------------------------------------------------------------------------


def test_args_take_references_at_any_depth() -> None:
    got = called(
        '{x: ["${a}", {y: "n=${a}"}], z: "${k}-${a}"}', more=", over: {k: [1]}", steps="  a: {op: arange, stop: 1}\n"
    )
    reference = Reference("a", ("a",), text="a")
    assert got == {
        "x": [reference, {"y": Template(("n=", reference))}],
        "z": Template((ItemKey("k"), "-", reference)),
    }


@pytest.mark.parametrize(
    ("over", "wanted"),
    [
        ("{a: [1, x], b: {range: 2}}", Over((("a", (1, "x")), ("b", (0, 1))))),
        ('{a: "${l}"}', Over((("a", (3, 4)),))),
        ("[{a: 1}, {a: 2}]", Over(maps=({"a": 1}, {"a": 2}))),
        ('"${m}"', Over(maps=({"x": 1},))),
        ("{a: items}", Over((("a", Reference("items", ("items",), text="items")),))),
        ("items", Over(maps=Reference("items", ("items",), text="items"))),
        ('"${items.p}"', Over(maps=Reference("items", ("items",), part="p", text="items.p"))),
    ],
)
def test_what_a_call_is_mapped_over(over: str, wanted: Over) -> None:
    before = "modules: [m]\nparams: {l: [3, 4], m: [{x: 1}]}"
    steps = f'  items: {{call: "m:g", over: {{i: [1]}}, parts: [p]}}\n  f: {{call: "m:f", over: {over}}}\n'
    assert config(steps, before).steps["f"].over == wanted


def test_the_keys_of_a_call_are_read() -> None:
    step = config(
        '  f: {call: "m.sub:f", over: {a: [1]}, batch: 8, parts: [x, y], seed: true, retries: 2, timeout: 5min, '
        "resources: {GPU: 1}, on_error: drop}\n",
        "modules: [m]",
    ).steps["f"]
    assert (step.function, step.batch, step.parts, step.seed) == ("m.sub:f", 8, ("x", "y"), True)
    assert (step.retries, step.timeout, step.resources, step.on_error) == (2, 300.0, {"GPU": 1.0}, "drop")


def test_a_step_uses_limits_of_the_file() -> None:
    steps = '  f: {call: "m:f", uses: db}\n  g: {call: "m:f", uses: [db, "${api}"], matrix: {api: [x, y]}}\n'
    made = config(steps, "modules: [m]\nparams: {n: 4}\nlimits: {db: 1, x: '${n}', y: 2}")
    assert made.limits == {"db": 1, "x": 4, "y": 2}
    assert {name: step.uses for name, step in made.steps.items()} == {
        "f": ("db",),
        "g[x]": ("db", "x"),
        "g[y]": ("db", "y"),
    }
    assert not made.warnings


@pytest.mark.parametrize(
    ("limits", "uses", "wrong"),
    [
        ("limits: {db: 0}", "db", "limits.db: got 0; limits takes names with whole numbers from 1"),
        ("limits: {db: 1.5}", "db", "limits.db: got 1.5; limits takes"),
        ("limits: {db: true}", "db", "limits.db: got true; limits takes"),
        ("limits: [db]", "db", "limits: got a list"),
        ("limits: {my db: 1}", "[]", "limits.my db: 'my db' can't be a name"),
        ("limits: {database: 1}", "databse", "steps.f.uses: the file has no limit 'databse'; its limits are database"),
        ("seed: 1", "api", "the file has no limit 'api'; it has none; write at the top: limits: {api: 1}"),
        ("limits: {db: 1}", "[db, db]", "steps.f.uses: 'db' is listed more than once"),
        ("limits: {db: 1}", "[]", "steps.f.uses: got a list of 0; uses takes the name of a limit"),
        ("limits: {db: 1}", "{db: 1}", "steps.f.uses: got a map; uses takes the name of a limit"),
    ],
)
def test_a_wrong_limit_is_refused_with_place_and_cure(limits: str, uses: str, wrong: str) -> None:
    assert wrong in message(f'  f: {{call: "m:f", uses: {uses}}}\n', f"modules: [m]\n{limits}")


def test_a_limit_that_no_step_uses_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text("version: 1\nlimits: {theirs: 2}\n")
    path = tmp_path / "own.yaml"
    path.write_text("version: 1\ninclude: [shared.yaml]\nlimits: {own: 2}\nsteps: {x: {op: arange, stop: 1}}\n")
    (warning,) = load(path).warnings
    assert warning.endswith("own.yaml:3:10: limits.own: no step uses it; write uses: own on a step, or leave it out")


def test_modules_are_importable_names_or_shipped_files(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def g():\n    return 1\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_text("def f():\n    return 1\n")
    made = config(
        '  f: {call: "package.a:f"}\n  g: {call: "own:g"}\n', "modules: [math, ./own.py, ./package/]", root=tmp_path
    )
    assert (made.modules, made.shipped) == (("math",), (str(tmp_path / "own.py"), str(tmp_path / "package")))
    assert "there is no" in message("  a: {op: arange, stop: 1}\n", "modules: [./none.py]", root=tmp_path)


# -- outputs, checks, the rest ----------------------------------------------------------------------------------------


def test_outputs_have_a_path_per_instance() -> None:
    made = loads(
        f"version: 1\nsteps:\n{TAS}outputs:\n"
        '  tas: {to: zarr, path: "out/./${run}.zarr", attrs: {units: K}}\n'
        '  one: {input: "tas[E1, t=0:3]", to: zarr, path: one}\n'
    )
    assert [(o.name, o.path, o.input.instances, o.attrs) for o in made.outputs] == [
        ("tas", "out/A1B.zarr", ("tas[A1B]",), {"units": "K"}),
        ("tas", "out/E1.zarr", ("tas[E1]",), {"units": "K"}),
        ("one", "one", ("tas[E1]",), {}),
    ]


def test_the_path_of_items_keeps_the_key() -> None:
    made = config(
        '  f: {call: "m:f", over: {a: [1]}}\n', 'modules: [m]\noutputs: {f: {to: pickle, path: "o/${key}.pkl"}}'
    )
    assert made.outputs[0].path == "o/${key}.pkl"


@pytest.mark.parametrize("second", ["x", "x/y"])
def test_outputs_do_not_write_into_each_other(second: str) -> None:
    outputs = f"outputs: {{a: {{to: zarr, path: x}}, b: {{input: a, to: zarr, path: {second}}}}}"
    said = {"x": "'x' is written by 'a', too", "x/y": "'x/y' is inside 'x', which 'a' writes"}[second]
    assert said in message("  a: {op: arange, stop: 1}\n", outputs)


def test_checks_are_references_or_expressions_per_instance() -> None:
    made = loads(
        f"version: 1\nsteps:\n{TAS}  m: {{op: mean, input: tas}}\n"
        'checks: [{that: m, approx: 3, abs: 0.1}, {that: "m[A1B] > m[E1]"}, {that: "m[E1]", approx: 1, rel: 0.1}]'
    )
    assert [(c.text, getattr(c.that, "instances", None)) for c in made.checks] == [
        ("m", ("m[A1B]",)),
        ("m", ("m[E1]",)),
        ("m[A1B] > m[E1]", None),
        ("m[E1]", ("m[E1]",)),
    ]
    assert [r.instances for r in made.checks[2].that.references] == [("m[A1B]",), ("m[E1]",)]


def test_keep_names_instances() -> None:
    assert config(TAS, "keep: [tas]").keep == ("tas[A1B]", "tas[E1]")
    assert config(TAS, 'keep: ["tas[E1]"]').keep == ("tas[E1]",)


def test_input_paths_are_absolute_and_urls_stay(tmp_path: Path) -> None:
    made = config("  a: {op: read_csv, path: [d/*.csv, /x.csv, 's3://b/k.csv']}\n", root=tmp_path)
    assert made.steps["a"].parameters.path == [str(tmp_path / "d/*.csv"), "/x.csv", "s3://b/k.csv"]


def test_loading_imports_neither_numpy_nor_dask() -> None:
    code = (
        "import sys\nfrom pipeline.config.loader import loads\n"
        "from pipeline.config.schema.document import json_schema\n"
        "json_schema()\n"
        "loads('version: 1\\nsteps: {a: {op: arange, stop: 1}, b: {expr: a + 1}}')\n"
        "print([m for m in ('numpy', 'pandas', 'dask', 'xarray', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_of_the_repository_loads(path: Path) -> None:
    assert load(path).steps

"""Messages of the loader: the place, what was got, what is allowed, what to do."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from pipeline.config.loader import loads
from pipeline.errors import ConfigError

ERA5 = """version: 1
steps:
  tas: {op: from_zarr, path: "era5/tas.zarr"}
"""
FRAMES = """version: 1
steps:
  orders: {op: read_parquet, path: orders}
"""
SWEEP = """version: 1
modules: [models]
steps:
  fit: {call: "models:fit", over: {alpha: [0.1, 1]}, parts: [model, rmse]}
  scores: {op: to_frame, input: fit.rmse, columns: {rmse: float64}}
  best: {op: nsmallest, input: scores, n: 1, columns: rmse}
"""


def faults(text: str, name: str = "x") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, name=name)
    return [str(fault) for fault in caught.value.faults]


def only(text: str, name: str = "x") -> str:
    (fault,) = faults(text, name)
    return fault


def test_an_unknown_key_of_an_op_gets_the_allowed_and_nearest() -> None:
    assert only(ERA5 + "  clim: {op: mean, input: tas, axes: time}\n", "era5") == (
        "era5.yaml:4:32: steps.clim.axes: unknown key of op 'mean'; allowed: axis, skipna, keepdims and the common "
        "keys; did you mean 'axis'?"
    )


def test_directions_of_an_order_are_a_key_of_their_own() -> None:
    for step in ("op: window, input: orders, columns: {n: rank()}, order", "op: sort_values, input: orders, by"):
        said = only(FRAMES + f"  x: {{{step}: {{spent: desc, day: asc}}}}\n")
        assert said.endswith("got a map; name the columns, [spent, day], with ascending: [false, true]")
    loads(FRAMES + "  x: {op: window, input: orders, by: [], columns: {n: count()}}\n", name="x")


def test_sizes_of_blocks_have_the_units_of_other_sizes() -> None:
    text = "version: 1\nsteps:\n  x: {op: read_csv, path: x.csv, blocksize: SIZE}\n"
    for size, n in {"300kB": 300_000, "1 MiB": 2**20, "77": 77}.items():
        assert loads(text.replace("SIZE", size), name="x").steps["x"].parameters.blocksize == n
    assert only(text.replace("SIZE", "many")).endswith("a size is a number of bytes, or a text like 500kB, 20MB, 1GB")
    assert "a size is a number of bytes" in only(text.replace("SIZE", "0"))


def test_an_unquoted_expression_with_commas_is_joined_again() -> None:
    assert only(ERA5 + "  hot: {expr: where(x > 1, x, 0)}\n", "era5") == (
        "era5.yaml:4:3: steps.hot: got the keys 'x' and '0)' without values; inside {…} an expression with a comma "
        'needs quotes: {expr: "where(x > 1, x, 0)"}'
    )


def test_an_unquoted_aggregate_with_commas_is_joined_again() -> None:
    text = FRAMES + "  by: {op: groupby, input: orders, by: a, agg: {p: quantile(x, 0.9)}}\n"
    assert only(text) == (
        "x.yaml:4:43: steps.by.agg: got the key '0.9)' without values; inside {…} an expression with a comma needs "
        'quotes: {p: "quantile(x, 0.9)"}'
    )


def test_an_ampersand_gets_the_and_to_write() -> None:
    text = FRAMES + '  l: {op: filter, input: orders, where: "l_tax > 0 & l_tax < 1"}\n'
    assert only(text, "q3").startswith(
        "q3.yaml:4:41: steps.l.where: column 11: got '&', which binds tighter than '>'; write 'and'"
    )


def test_an_input_of_another_kind_gets_the_conversion() -> None:
    text = (
        "version: 1\nmodules: [census]\nsteps:\n"
        '  parsed: {call: "census:parse", over: {path: [a, b]}}\n'
        "  by_package: {op: groupby, input: parsed, by: [package], agg: {n: count()}}\n"
    )
    assert only(text, "census") == (
        "census.yaml:5:36: steps.by_package.input: got 'parsed' (items); op 'groupby' needs a frame; make one: "
        "{op: to_frame, input: parsed, columns: {…: type}}"
    )


def test_an_output_path_without_its_matrix_key_gets_the_key() -> None:
    text = """version: 1
steps:
  hot: {op: from_zarr, matrix: {var: [t2m, tp]}, path: "${var}.zarr"}
outputs:
  hot: {to: zarr, path: out/hot.zarr}
"""
    assert only(text, "era5") == (
        "era5.yaml:5:25: outputs.hot.path: got 'out/hot.zarr' for 2 instances of 'hot' (var: t2m, tp); the path must "
        'contain ${var}, or gather them in a step with "hot[*]"'
    )


def test_a_result_where_a_known_value_is_needed_is_explained() -> None:
    assert only(SWEEP + '  load: {op: read_csv, path: "${best.alpha}"}\n', "sweep") == (
        "sweep.yaml:7:30: steps.load.path: \"${best.alpha}\" is unknown until the run has computed 'best'; a path "
        "needs a param, a matrix key or ${env:…}"
    )


def test_an_over_key_where_a_known_value_is_needed_is_explained() -> None:
    text = 'version: 1\nmodules: [m]\nsteps:\n  f: {call: "m:f", over: {a: [1]}, timeout: "${a}"}\n'
    assert "is unknown until run time, one value a call" in only(text)


def test_positions_that_are_labels_get_op_sel() -> None:
    assert "for labels: {op: sel, input: tas, labels: {time: A1B}}" in only(
        ERA5 + '  x: {op: mean, input: "tas[time=A1B]"}\n'
    )


SINGLE: dict[str, tuple[str, str]] = {
    "op": (ERA5 + "  x: {op: maen, input: tas}\n", "there is no op 'maen'; did you mean 'mean'?"),
    "op that is a kind": (
        ERA5 + "  x: {op: Call, input: tas}\n",
        "no op 'Call'; it is a kind of step: {call: \"module:function\", args: {…}}",
    ),
    "op like a kind": (ERA5 + "  x: {op: commnad, input: tas}\n", "did you mean 'command'?"),
    "op that is a function": (ERA5 + "  x: {op: sqrt, input: tas}\n", 'a function of expressions: {expr: "sqrt(…)"}'),
    "op that is a function of columns": (
        FRAMES + "  x: {op: upper, input: orders}\n",
        '{op: assign, input: …, columns: {…: "upper(…)"}}',
    ),
    "op of pandas": (FRAMES + "  x: {op: join, left: orders}\n", "there is no op 'join'; use op 'merge'"),
    "value of another language": (
        ERA5 + '  x: {expr: "tas + NaN"}\n',
        "column 7: no step is named 'NaN'; for a missing value of floats write nan",
    ),
    "itself": (ERA5 + '  x: {expr: "y + 1"}\n', "no step is named 'y'; steps: tas"),
    "keep of positions": (ERA5 + 'keep: ["tas[time=0]"]\n', "keep names whole steps"),
    "command": (ERA5 + "  x: {command: ls -l}\n", "got 'ls -l'; write a list, which no shell reads: [ls, -l]"),
    "checkpoint": (ERA5 + "  x: {expr: tas, checkpoint: true, pure: false}\n", "pure: false runs each time, so its"),
    "code_version": (ERA5 + "  x: {expr: tas, code_version: 2}\n", "stands for code of yours, and this step runs none"),
    "depends_on": (ERA5 + "  x: {expr: tas, depends_on: no.csv}\n", "steps.x.depends_on: there is no "),
    "depends_on a URL": (ERA5 + '  x: {expr: tas, depends_on: "s3://x/y"}\n', "got 's3://x/y'; write a local file"),
    "cache": (
        ERA5 + "cache: [a]\n",
        "cache: got a list of 1; write the path of a folder, or a map: {dir: cache, bytes: 20GB}",
    ),
    "cache without a folder": (ERA5 + "cache: {bytes: 1GB}\n", "cache: needs dir"),
    "cache of a size": (ERA5 + "cache: {dir: a, bytes: many}\n", "got 'many'; bytes takes bytes, or a text like 500MB"),
    "pure": (ERA5 + "  x: {expr: tas, pure: false, retries: 2}\n", "is never run twice; leave retries out"),
    "no kind": (ERA5 + "  x: {input: tas}\n", "needs exactly one of op, expr, call, command; got none"),
    "two kinds": (ERA5 + "  x: {op: mean, expr: tas}\n", "got op and expr"),
    "step": (ERA5 + "  x: {op: mean, input: tsa}\n", "no step is named 'tsa'; did you mean 'tas'?"),
    "step in over": (
        SWEEP + '  x: {call: "models:f", over: {a: fti}}\n',
        "no step is named 'fti'; did you mean 'fit'?",
    ),
    "step in over alone": (SWEEP + '  x: {call: "models:f", over: fti}\n', "no step is named 'fti'"),
    "step in expr": (ERA5 + '  x: {expr: "1 + tsa"}\n', "column 5: no step is named 'tsa'; did you mean 'tas'?"),
    "no input": (ERA5 + "  x: {op: mean}\n", "op 'mean' needs input: the name of a step that is an array"),
    "parameter": (ERA5 + "  x: {op: sel, input: tas}\n", "op 'sel' needs labels: dim: label, or [start, stop]"),
    "ddof": (ERA5 + "  x: {op: std, input: tas}\n", "op 'std' needs ddof"),
    "type": (ERA5 + "  x: {op: mean, input: tas, axis: 3}\n", "got 3; axis takes text or a list of text"),
    "choice": (
        FRAMES + "  x: {op: merge, left: orders, right: orders, on: a, how: lefft}\n",
        "got 'lefft'; how takes inner or left or right or outer or cross or semi or anti; did you mean 'left'?",
    ),
    "dtype": (
        "version: 1\nsteps:\n  x: {op: random, shape: {a: 1}, dtype: flaot32}\n",
        "unknown dtype 'flaot32'; did you mean 'float32'?",
    ),
    "braces": (ERA5 + '  x: {op: mean, input: "${tas}"}\n', "a reference is the bare name of a step: tas"),
    "part of an array": (ERA5 + "  x: {op: mean, input: tas.u}\n", "'tas' is an array, which has no parts"),
    "part": (SWEEP + "  x: {op: to_frame, input: fit.rsme, columns: {a: int64}}\n", "did you mean 'rmse'?"),
    "parts as a whole": (ERA5 + "  s: {op: svd, input: tas}\n  x: {op: mean, input: s}\n", "name one: s.u"),
    "frame in expr": (
        FRAMES + "  x: {expr: orders + 1}\n",
        "an expr takes arrays and scalars; columns are computed by",
    ),
    "array in over": (
        ERA5.replace("steps", "modules: [m]\nsteps") + '  x: {call: "m:f", over: {a: tas}}\n',
        "{op: to_items, input: tas, along: …}",
    ),
    "module": (ERA5 + '  x: {call: "m:f"}\n', "'m' is not among modules; add it: modules: [m]"),
    "function": (ERA5 + "  x: {call: m.f}\n", 'a function is written "module:function"'),
    "timeout": (
        ERA5 + "  x: {expr: tas, timeout: 5 parsecs}\n",
        "timeout takes seconds, or a text like 5min",
    ),
    "retries": (ERA5 + "  x: {expr: tas, retries: -1}\n", "got -1; retries takes a whole number >= 0"),
    "drop": (ERA5 + "  x: {expr: tas, on_error: drop}\n", "this step has no items of its own"),
    "drop to array": (
        SWEEP.replace("parts:", "on_error: drop, parts:")
        + "  x: {op: to_array, input: fit.rmse, along: a, dims: [], shape: [], dtype: int8}\n",
        "items of 'fit.rmse' may be left out (on_error: drop)",
    ),
    "format": (
        ERA5 + "outputs: {tas: {to: parquet, path: x}}\n",
        "got parquet for 'tas' (array); an array is written to",
    ),
    "partition_by": (
        FRAMES + "outputs: {orders: {to: parquet, path: x, partition_by: a}}\n",
        "partition_by: got 'a'; partition_by takes a list of columns: [origin]",
    ),
    "partition_by twice": (
        FRAMES + "outputs: {orders: {to: parquet, path: x, partition_by: [a, a]}}\n",
        "partition_by: 'a' is listed more than once",
    ),
    "partition_by of a format": (
        FRAMES + "outputs: {orders: {to: csv, path: x, partition_by: [a]}}\n",
        "partition_by: does not apply to csv; it is for parquet",
    ),
    "attrs": (
        FRAMES + "outputs: {orders: {to: csv, path: x, attrs: {a: 1}}}\n",
        "attrs: csv files hold no attributes; parquet, zarr, netcdf do",
    ),
    "option": (
        ERA5 + "outputs: {tas: {to: zarr, path: x, options: {levels: 1}}}\n",
        "options.levels: unknown key of zarr; allowed: chunks, level; did you mean 'level'?",
    ),
    "option's value": (
        ERA5 + "outputs: {tas: {to: netcdf, path: x, options: {level: 12}}}\n",
        "options.level: got 12; level takes a whole number >= 0 and <= 9",
    ),
    "above": (ERA5 + "outputs: {tas: {to: zarr, path: ../x}}\n", "outputs stay below the output folder"),
    "absolute": (ERA5 + "outputs: {tas: {to: zarr, path: /x}}\n", "outputs stay below the output folder"),
    "items path": (
        SWEEP + "outputs: {o: {input: fit.model, to: pickle, path: x.pkl}}\n",
        "got 'x.pkl' for items; a file an item: out/${key}.pickle",
    ),
    "rows of an array": (ERA5 + "checks: [{that: tas, rows: 1}]\n", "rows and columns are checked of a frame"),
    "approx": (ERA5 + "checks: [{that: tas, approx: 1}]\n", "give a tolerance: abs or rel"),
    "top level": (ERA5 + "output: {}\n", "unknown key; allowed: version"),
    "version": (ERA5.replace("1", "2"), "this version of Pipeline reads version 1"),
    "version as text": (ERA5.replace("version: 1", "version: '1'"), "got '1'; write 1 without quotes"),
    "cluster": (ERA5 + "cluster: {worker: 3}\n", "did you mean 'workers'?"),
    "shared name": (ERA5 + "params: {tas: 1}\n", "a param is named 'tas', too"),
    "param": (ERA5 + 'params: {root: x}\n  \nchecks: [{that: "tas > ${rot}"}]\n', "did you mean 'root'?"),
    "keyword": (
        ERA5 + "  in: {expr: tas}\n",
        "'in' can't be a name: letters a to z, digits and _, no Python keyword; write 'in_'",
    ),
    "dash": (ERA5 + "  x: {expr: tas, matrix: {lat-lon: [1]}}\n", "; write 'lat_lon'"),
    "digit": (ERA5 + "params: {2m: 1}\n", "'2m' can't be a name: letters a to z, digits and _, no Python keyword"),
}


@pytest.mark.parametrize(("text", "said"), SINGLE.values(), ids=SINGLE)
def test_an_error_is_reported_once_with_what_to_do(text: str, said: str) -> None:
    assert said in only(text)


def test_all_errors_are_reported_in_the_order_of_their_places() -> None:
    text = ERA5 + "  a: {op: maen}\n  b: {op: mean, input: tsa}\n  c: {op: sum, input: tas, axsi: x}\nkepp: []\n"
    assert [fault.split(":")[1] for fault in faults(text)] == ["4", "5", "6", "7"]


def test_a_step_that_needs_a_wrong_step_has_no_error_itself() -> None:
    text = (
        ERA5
        + "  a: {op: maen, input: tas}\n  b: {op: mean, input: a}\n  c: {op: groupby, input: b, by: x, agg: mean}\n"
    )
    assert len(faults(text)) == 1


def test_an_error_in_every_instance_is_reported_once() -> None:
    text = 'version: 1\nsteps: {a: {op: from_zarr, matrix: {v: {range: 50}}, path: "${x}"}}\n'
    assert len(faults(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "version: 1",
        "a: b: c",
        "{",
        "version: 1\nsteps: {a: *b}",
        "\0",
        "- ",
        "version: 1\nsteps: 3",
        "&a [*a]",
    ],
)
def test_any_other_text_is_a_config_error_with_a_place(text: str) -> None:
    assert all(fault.startswith("x.yaml:") for fault in faults(text))


TYPOS = {"axis": ["axi", "axiss", "xais", "Axis"], "skipna": ["skpina", "skipn"], "keepdims": ["keepdim", "keepdms"]}


@pytest.mark.parametrize(("meant", "typo"), [(meant, typo) for meant, typos in TYPOS.items() for typo in typos])
def test_a_one_letter_typo_of_a_key_gets_the_right_suggestion(meant: str, typo: str) -> None:
    assert f"did you mean '{meant}'?" in only(ERA5 + f"  c: {{op: mean, input: tas, {typo}: time}}\n")


@pytest.mark.parametrize(
    "text",
    [
        'include: ["{}.yaml"]', 'name: "{}"', 'params: {{"{}": 1}}', 'modules: ["./{}.py"]', 'description: "{}"',
        'outputs: {{a: {{to: npy, path: "{}"}}}}', 'checks: [{{that: "{}"}}]', 'keep: ["{}"]', 'seed: "{}"',
    ],
)  # fmt: skip
def test_half_a_character_is_an_error_with_its_place(text: str) -> None:
    assert "x.yaml:3:" in (said := only("version: 1\nsteps: {a: {op: arange, stop: 3}}\n" + text.format(r"\ud800")))
    assert r"\ud800" in said
    assert "half of a character" in said


def test_a_pair_of_halves_is_one_character() -> None:
    assert loads('version: 1\nname: "\\ud83d\\ude00"\nsteps: {a: {op: arange, stop: 3}}\n').name == "\U0001f600"


def test_consequences_of_an_error_are_not_reported(tmp_path: Path) -> None:
    text = """
    steps:
      a: {op: arrange, stop: 3, matrix: {k: [x, y]}}
      b: {op: sum, input: a}
      c: {expr: "b + 1"}
    outputs: {c: {to: npy, path: "${k}.npy"}}
    checks: [{that: "c[x]", approx: 4, abs: 0}, {that: "b[*]", rows: ">= 1"}]
    """
    with pytest.raises(ConfigError) as caught:
        loads("version: 1\n" + textwrap.dedent(text), root=tmp_path)
    assert [fault.path for fault in caught.value.faults] == ["steps.a.op", "checks[1].that"]  # a sum has no rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "params: {base: {a: 1}}\nsteps: {x: {op: arange, stop: '${base.b}'}}",
            "x.yaml:3:31: steps.x.stop: \"${base.b}\": 'base' has no key 'b'; it has a",
        ),
        (
            "steps: {x: {op: arange, stop: 4, chunks: 0}}",
            "x.yaml:2:42: steps.x.chunks: got 0; chunks takes a whole number, or a map: size of a chunk",
        ),
        (
            "steps: {x: {op: arange, stop: 4}, y: {op: sum, input: []}}",
            "x.yaml:2:55: steps.y.input: got an empty list; op 'sum' needs an array",
        ),
        (
            "steps: {x: {op: read_csv, path: p}, y: {op: filter, input: x, where: {a: b}}}",
            "x.yaml:2:70: steps.y.where: got a map; write an expression",
        ),
        (
            "steps: {x: {op: read_csv, path: p}, y: {op: assign, input: x, columns: {a: {b: 1}}}}",
            "x.yaml:2:76: steps.y.columns.a: got a map; write an expression",
        ),
        (
            "steps: {x: {op: arange, stop: 4}}\noutputs: {x: {to: {npy: 1}, path: x.npy}}",
            (
                "x.yaml:3:19: outputs.x.to: got a map; "
                "formats: parquet, zarr, netcdf, npy, csv, json, pickle, text, file, png, svg"
            ),
        ),
        (
            'steps: {x: {op: arange, stop: 4}}\nseed: "a\\e[31m\\n"',
            "x.yaml:3:7: seed: got 'a\\x1b[31m\\n'; seed takes a whole number >= 0",
        ),
        (
            f"params: {{n: '{'x' * 500}'}}\nsteps: {{x: {{op: arange, stop: '${{n}}'}}}}",
            "x.yaml:3:31: steps.x.stop: got '${n}', which is 'xxxxxxxxxxxx...xxxxxxxxxxxxx'; stop takes a number",
        ),
        (
            "steps: {x: {op: arange, stop: 4}}\ncluster: {workers: 1.5}",
            "x.yaml:3:20: cluster.workers: got 1.5; workers takes a whole number >= 1 or auto",
        ),
        (
            "steps: {x: {op: arange, stop: 4}}\ncluster: {memory_limit: lots}",
            "x.yaml:3:25: cluster.memory_limit: got 'lots'; memory_limit takes bytes, or a text like 4GB, or auto",
        ),
        (
            "steps: {x: {op: arange, stop: 4}}\ncluster: {listen: 192.168.1.10}",
            "x.yaml:3:19: cluster.listen: got '192.168.1.10'; listen takes HOST:PORT: 192.168.1.10:5000, or [::1]:5000",
        ),
        (
            "steps: {x: {op: arange, stop: 4}}\ncompare: {repeat: 0}",
            "x.yaml:3:19: compare.repeat: got 0; repeat takes a whole number >= 1",
        ),
    ],
)
def test_a_wrong_value_gets_what_is_allowed_in_its_place(text: str, said: str) -> None:
    assert only(f"version: 1\n{text}\n") == said


@pytest.mark.parametrize(
    ("steps", "paths"),
    [
        ('a: {op: arange, matrix: {p: [1, 1]}, stop: "${p}"}', ["steps.a.matrix.p"]),
        ('a: {op: arange, matrix: {k: [1, 2]}, stop: "${k}"}, k: {op: sum, input: "a[1]"}', ["steps.a.matrix.k"]),
        ('a: {call: "m:f", over: [{a: 1}], args: {a: 2}}', ["steps.a.call", "steps.a.args.a"]),
    ],
    ids=["a label twice", "a step named like a matrix key", "args beside a list of maps"],
)
def test_an_error_is_reported_at_its_place_and_once(steps: str, paths: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(f"version: 1\nsteps: {{{steps}}}\n")
    assert sorted(fault.path for fault in caught.value.faults) == sorted(paths)


def test_the_branch_of_a_union_that_fits_best_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"steps\.p\.cast\.i: .*int65"):
        loads("version: 1\nsteps: {p: {op: read_parquet, path: t.parquet, cast: {i: int65}}}\n")


def test_every_error_of_a_nested_section_is_reported() -> None:
    text = ERA5 + "cluster: {workers: none, class: Foo, page: 1}\ncompare: {reference: {cal: x}, repeat: two}\n"
    assert [fault.split(": ")[1] for fault in faults(text)] == [
        "cluster.workers",
        "cluster.class",
        "cluster.page",
        "compare.reference",
        "compare.reference.cal",
        "compare.repeat",
    ]


@pytest.mark.parametrize(("check", "key"), [("abs: 3", "abs"), ("rel: 1", "rel"), ("sep: ';'", "sep")])
def test_a_tolerance_needs_a_comparison(check: str, key: str) -> None:
    steps = "steps: {a: {op: arange, stop: 3}, m: {op: sum, input: a}}"
    with pytest.raises(ConfigError, match=rf"checks\[0\]\.{key}: .*it goes with .*, which is not here"):
        loads(f'version: 1\n{steps}\nchecks: [{{that: "m == 3", {check}}}]\n')


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{op: histogram, input: x, bins: 1000000000000, range: [0, 1]}", "bins: got 1000000000000"),
        ("{op: pad, input: x, pad_width: {i: [0, 1000000000]}}", "pad_width"),
    ],
)
def test_absurd_numbers_are_refused_before_planning(step: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loads(f"version: 1\nsteps:\n  x: {{op: arange, stop: 9, dim: i, dtype: float64}}\n  y: {step}\n")


def test_a_full_join_is_called_outer() -> None:
    fault = only(FRAMES + "  x: {op: merge, left: orders, right: orders, on: a, how: full}\n")
    assert "got 'full'; write how: outer" in fault

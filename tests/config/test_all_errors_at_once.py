"""All errors of a file are reported at once, each once, and nothing that only follows from one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.loader import loads
from pipeline.errors import ConfigError

VALID = {
    "version": "version: 1",
    "modules": "modules: [./mine.py]",
    "params": "params: {n: 8, low: 2, names: [t, q]}",
    "steps": "steps:",
    "x": '  x: {op: random, shape: {time: "${n}", y: 4}, matrix: {var: "${names}"}}',
    "hot": '  hot: {expr: "where(x > ${low}, x, 0)"}',
    "mean": "  mean: {op: mean, input: hot, axis: time}",
    "diff": '  diff: {expr: "hot - mean"}',
    "svd": '  svd: {op: svd, input: "diff[var=t]"}',
    "left": '  left: {expr: "svd.u * 2"}',
    "stack": '  stack: {op: stack, input: "mean[*]", dim: kind}',
    "table": "  table: {op: to_frame, input: stack}",
    "rows": '  rows: {op: filter, input: table, where: "y > ${low}"}',
    "more": '  more: {op: assign, input: rows, columns: {z: "y * 2"}}',
    "by": "  by: {op: groupby, input: more, by: [y], agg: {n: count()}}",
    "join": "  join: {op: merge, left: more, right: by, how: left, on: y}",
    "fit": '  fit: {call: "mine:fit", over: {a: [1, 2]}, args: {f: "${join}", s: "${left}"}, parts: [rmse, fit]}',
    "best": '  best: {call: "mine:best", input: fit.rmse, retries: 2}',
    "again": '  again: {call: "mine:fit", over: {item: fit}, args: {b: "${best}"}, on_error: drop}',
    "told": '  told: {command: [echo, "${best}", "${k}"], over: {k: [1, 2]}, timeout: 5}',
    "outputs": "outputs:",
    "o1": "  mean: {to: zarr, path: 'mean/${var}.zarr'}",
    "o2": "  join: {to: parquet, path: join, partition_by: [y]}",
    "o3": "  errors: {input: fit.rmse, to: json, path: 'errors/${key}.json'}",
    "checks": "checks:",
    "c1": "  - {that: join, rows: '>= 1'}",
    "c2": '  - {that: "best > 0"}',
    "keep": "keep: [again, told, svd]",
}
"""A valid file, a line an entry; nearly every step needs one before it."""

PLANTS = {
    "modules": {"module": ("mine", "mien")},
    "params": {"name": ("low: 2", "low: 2, 9x: 1")},
    "x": {
        "unknown key": ("shape:", "size: 3, shape:"),
        "kind of value": ('{time: "${n}", y: 4}', "[3, 4]"),
        "unknown op": ("random", "randon"),
        "unknown param": ("${n}", "${m}"),
        "misspelt matrix": ("matrix", "matrx"),
        "matrix": ('"${names}"', "[[1], 2]"),
        "missing": (', shape: {time: "${n}", y: 4}', ""),
        "when": ("}}", '}, when: "${low}"}'),
    },
    "hot": {
        "reference": ("where(x", "where(xx"),
        "unknown param": ("${low}", "${lov}"),
        "syntax": ("x, 0)", "x, 0"),
        "function": ("where(", "wehre("),
        "unknown key": ('0)"}', '0)", axis: 0}'),
        "kind of value": ('0)"}', '0)", timeout: soon}'),
    },
    "mean": {
        "unknown key": ("axis: time", "axsi: time"),
        "reference": ("hot", "hut"),
        "unknown op": ("op: mean", "op: maen"),
        "no kind": ("op: mean", "opp: mean"),
        "kind of value": ("time", "{a: 1}"),
        "two kinds": ("op: mean", 'op: mean, expr: "1"'),
    },
    "diff": {"reference": ("mean", "meen"), "syntax": ("hot -", "hot - *"), "no map": ('{expr: "hot - mean"}', "3")},
    "svd": {"label": ("var=t", "var=u"), "reference": ("diff", "dif"), "unknown op": ("svd, ", "swd, ")},
    "left": {"part": ("svd.u", "svd.q"), "reference": ("svd.u", "svt.u")},
    "stack": {"gather": ("mean[*]", "mean[vor=*]"), "missing": (", dim: kind", "")},
    "table": {"unknown key": ("input: stack", "input: stack, colums: [a]"), "missing": (", input: stack", "")},
    "rows": {"syntax": ("y >", "y > >"), "unknown param": ("${low}", "${lou}"), "unknown op": ("filter", "fliter")},
    "more": {"syntax": ("y * 2", "y * "), "reference": ("rows", "rose"), "function": ("y * 2", "abbs(y)")},
    "by": {"aggregate": ("count()", "conut()"), "kind of value": ("[y]", "7"), "missing": (", by: [y]", "")},
    "join": {
        "choice": ("how: left", "how: lift"),
        "reference": ("right: by", "right: buy"),
        "missing": ("left: more, ", ""),
    },
    "fit": {
        "reference": ("${join}", "${joint}"),
        "module": ("mine:fit", "mein:fit"),
        "function": ("mine:fit", "mine fit"),
        "no such function": ("mine:fit", "mine:fti"),
        "keyword": ("f: ", "g: "),
        "over": ("[1, 2]", "3"),
        "clash": ("f: ", "a: 1, f: "),
        "misspelt parts": ("parts", "part"),
        "misspelt over": ("over", "ovre"),
    },
    "best": {
        "reference": ("fit.rmse", "fut.rmse"),
        "kind of value": ("retries: 2", "retries: many"),
        "argument": ("input: fit.rmse, ", ""),
    },
    "again": {
        "reference": ("item: fit", "item: fot"),
        "choice": ("on_error: drop", "on_error: dorp"),
        "no such function": ("fit", "fitt"),
    },
    "told": {
        "reference": ('"${best}"', '"${beast}"'),
        "misspelt over": ("over", "ovre"),
        "kind of value": ("timeout: 5", "timeout: {}"),
        "no list": ('[echo, "${best}", "${k}"]', "echo"),
    },
    "o1": {
        "format": ("to: zarr", "to: zar"),
        "path": ("mean/", "../"),
        "unknown key": ("to:", "too: 1, to:"),
        "other format": ("to:", "files: 2, to:"),
    },
    "o2": {"missing": (", path: join", "")},
    "o3": {"reference": ("fit.rmse", "fat.rmse"), "part": ("fit.rmse", "fit.mse")},
    "c1": {"reference": ("join", "jion"), "unknown key": ("rows", "rosw")},
    "c2": {"reference": ("best", "bets"), "syntax": ("best > 0", "best >")},
    "keep": {"reference": ("told", "tald")},
}
"""Errors to plant: in which line, of which kind, what is replaced by what. Each is one error."""

OF_INPUTS = ("label", "gather", "part", "module", "no such function", "keyword", "argument")
"""Errors that can be told only where the step, or the module, that is referred to has none."""

MINE = "def fit(a=0, f=None, s=None, item=None, b=0): ...\ndef best(rmse): ...\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors")
    (folder / "mine.py").write_text(MINE)
    return folder


KINDS = [(line, kind) for line, kinds in PLANTS.items() for kind in kinds]


def text_with(planted: Mapping[str, str]) -> str:
    lines = dict(VALID)
    for line, kind in planted.items():
        before, after = PLANTS[line][kind]
        assert before in lines[line]
        lines[line] = lines[line].replace(before, after, 1)
    return "\n".join(lines.values()) + "\n"


def lines_with_errors(text: str, folder: Path) -> list[str]:
    """Return the entry of each error that loading the file reports."""
    try:
        loads(text, root=folder)
    except ConfigError as error:
        return sorted(list(VALID)[fault.location.line - 1] for fault in error.faults)
    return []


def test_the_file_is_valid(folder: Path) -> None:
    assert lines_with_errors(text_with({}), folder) == []


@pytest.mark.parametrize(("line", "kind"), KINDS)
def test_one_error_is_one_message(folder: Path, line: str, kind: str) -> None:
    assert lines_with_errors(text_with({line: kind}), folder) == [line]


@given(st.sets(st.sampled_from(list(PLANTS)), min_size=2), st.randoms(use_true_random=False))
def test_every_error_is_found_and_nothing_else(folder: Path, lines: set[str], random: Random) -> None:
    planted: dict[str, str] = {}
    for line in [line for line in VALID if line in lines]:
        kinds = [kind for kind in PLANTS[line] if not planted or kind not in OF_INPUTS]
        planted |= {line: random.choice(kinds)} if kinds else {}
    assert lines_with_errors(text_with(planted), folder) == sorted(planted)

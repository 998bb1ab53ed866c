"""Digests of values of a Config: equal for equal values alone, in every process."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph.canonical_encoding import UnknownValue
from pipeline.runs.resume.config_values import value_digest

IN_ANOTHER_PROCESS = """
from pathlib import Path
from pipeline.config.expressions.expression import parse
from pipeline.config.source_digests import read_source
from pipeline.runs.resume.config_values import value_digest
values = [{"b": {1.5, "x", None}, "a": frozenset("qwertz")}, parse("x in [1, 2] and y > 3", "columns")]
print(value_digest(values), read_source(Path("helpers.py").read_bytes()).digests)
"""


def test_digests_are_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("def f(x, n={1, 2}):\n    return x\n")
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
        found.add(subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True).stdout)
    assert len(found) == 1


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=30,
)


def same(a: Any, b: Any) -> bool:
    """Equality of plain values with their types, the sign of zero, and the order of maps."""
    return repr(a) == repr(b)


@settings(max_examples=50)
@given(PLAIN, PLAIN)
def test_digests_are_equal_for_equal_values_alone(a: Any, b: Any) -> None:
    assert (value_digest(a) == value_digest(b)) == same(a, b)
    assert value_digest(copy.deepcopy(a)) == value_digest(a)


@pytest.mark.parametrize("value", [object(), {"a": [object()]}, print, {1: {2: (lambda: 1)}}])
def test_values_of_other_types_have_no_digest(value: Any) -> None:
    with pytest.raises(UnknownValue, match="an object of type"):
        value_digest(value)

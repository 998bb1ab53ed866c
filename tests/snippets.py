"""A few steps for each op, to be run on every back end (``test_everywhere.py``): the same values must come back.

``SNIPPETS[op]`` is the YAML of some steps, without ``steps:``; the op is used in the last of them, and the names of the
steps of all snippets are different, since all of them run in one Graph: begin them with the op's name. Sources without
files (``arange``, ``random``, ``to_frame`` of an array) keep a snippet short; files lie in ``data/``, and are found by
``${data}``. Functions stand in ``tests/everywhere_functions.py`` and are called as ``everywhere_functions:name``.
"""

from __future__ import annotations

SNIPPETS: dict[str, str] = {}

SNIPPETS["mean"] = """
  mean_x: {op: arange, start: 0, stop: 24, chunks: 5, dim: x, dtype: float64}
  mean: {op: mean, input: mean_x}
"""

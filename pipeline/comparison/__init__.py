"""``compare()``: how fast back ends are on the same Graph, and whether their results are the same.

========  =============================================================================================
rounds    :func:`compare`: which run is made when, in which folder
children  a measured run: a process of its own, watched, ended with us
sameness  the outputs and values of a run against those of the reference
result    :class:`Comparison`: medians, intervals, speedup, and the verdict in words
========  =============================================================================================
"""

from __future__ import annotations

from pipeline.comparison.result import Comparison as Comparison
from pipeline.comparison.rounds import compare as compare
from pipeline.comparison.rounds import compare_graph as compare_graph

__all__ = ["Comparison", "compare", "compare_graph"]

"""Run folders after the run: which there are, what is in one, and what has changed from one to another.

============  =======================================================================
``folders``   where they lie, how a new one is made, and which one a name means
``reading``   one run folder: what its files say, whatever state they are in
``stored``    the parts of ``report.json`` that are read here
``changes``   what two of them were asked, with what, on what
``verdict``   whether one is faster than the other, or why that can't be said
============  =======================================================================

Whatever lies in a run folder is data of unknown origin: it is checked when it is read, and no code in it is run (the
saved Graph is not opened).
"""

from __future__ import annotations

from pipeline.history.changes import Difference as Difference
from pipeline.history.changes import diff as diff
from pipeline.history.folders import find as find
from pipeline.history.folders import runs as runs
from pipeline.history.reading import RunFolder as RunFolder
from pipeline.history.reading import read as read

__all__ = ["Difference", "RunFolder", "diff", "find", "read", "runs"]

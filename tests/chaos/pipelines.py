"""The pipelines that are disturbed, and what they must write: files of a serial run that nothing disturbs.

Each has an ``edition``: what was there before a disturbed run is of another edition than what the run writes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

import pipeline

__all__ = ["PIPELINES", "TIMED", "digests", "files_of", "prepared"]

_HEAD = "version: 1\nseed: 3\nmodules: [./chaos_tasks.py]\nparams: {edition: 2}\n"

PIPELINES = {
    "arrays": """
cluster: {transport: shared-memory}
steps:
  raw: {op: random, matrix: {s: [a, b]}, shape: {t: 40, y: 60}, chunks: {t: 10}}
  x: {op: map_blocks, input: raw, function: "chaos_tasks:block", dtype: float64}
  scaled: {expr: "x * ${edition}"}
  mean: {op: mean, input: scaled, axis: y}
  both: {op: stack, input: "mean[*]", dim: s}
outputs:
  scaled: {to: zarr, path: "scaled-${s}.zarr"}
  mean: {to: netcdf, path: "mean-${s}.nc"}
  both: {to: npy, path: both.npy}
""",
    "frames": """
cluster: {transport: shared-memory}
steps:
  rows: {op: from_call, function: "chaos_tasks:rows", columns: {k: int64, v: float64}, partitions: 8}
  scaled: {op: assign, input: rows, columns: {v: "v * ${edition}"}}
  sums: {op: groupby, input: scaled, by: k, agg: {total: sum(v), n: count()}}
  joined: {op: merge, left: scaled, right: sums, how: left, on: k}
  sorted: {op: sort_values, input: joined, by: [k, v]}
outputs:
  scaled: {to: parquet, path: scaled}
  sums: {to: csv, path: sums.csv}
  sorted: {to: json, path: sorted.json}
""",
    "calls": """
steps:
  fit: {call: "chaos_tasks:fit", over: {k: {range: 8}}, args: {edition: "${edition}"}, parts: [rmse, curve],
        retries: 2, timeout: 5}
  half: {call: "chaos_tasks:half", over: {x: fit.rmse}}
  table: {op: to_frame, input: half, columns: {rmse: float64}}
  curves: {op: to_array, input: fit.curve, along: k, dims: [i], shape: [50], dtype: float64}
outputs:
  table: {to: csv, path: deep/table.csv}
  curves: {to: zarr, path: curves.zarr}
  half: {to: json, path: "half/${key}.json"}
""",
    "children": """
steps:
  left: {call: "chaos_tasks:leave_children", over: {k: {range: 8}}, args: {edition: "${edition}"}}
  table: {op: to_frame, input: left, columns: {value: float64}}
outputs:
  table: {to: parquet, path: table}
""",
}
TIMED = {"calls"}
"""Those whose steps have a timeout: a worker that is stopped for ever does not hold them up."""


@functools.cache
def prepared(name: str) -> Path:
    """A folder with the file, and the outputs of its two editions in ``old`` and ``new``."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-of-"))
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=1)  # processes of multiprocessing run no atexit
    file = folder / "p.yaml"
    file.write_text(_HEAD + PIPELINES[name])
    shutil.copy(Path(__file__).with_name("chaos_tasks.py"), folder)
    for edition, out in ((1, "old"), (2, "new")):
        pipeline.load(file, params={"edition": edition}).run(backend="serial", out=folder / out, runs=folder / "runs")
    return folder


def files_of(root: Path) -> list[Path]:
    """All files below a folder of outputs, but for locks and staging folders."""
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.endswith(".lock")]
    return [path for path in found if not path.relative_to(root).parts[0].startswith(".staging-")]


def digests(root: Path) -> dict[str, str]:
    """The content of each file below a folder of outputs; of manifests, what two equal runs have in common."""
    found = {}
    for path in files_of(root):
        data = path.read_bytes()
        if path.name.endswith(".manifest.json"):
            with contextlib.suppress(ValueError):  # half of one stays as it is
                told = json.loads(data)
                data = json.dumps({key: told[key] for key in told if key not in ("run", "written")}).encode()
        found[str(path.relative_to(root))] = hashlib.sha256(data).hexdigest()
    return found

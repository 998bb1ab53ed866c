"""Run folders made by hand, for tests of reports: Traces of a small simulation, and the ``report.json`` to them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.trace.costs import steps as step_costs
from pipeline.trace.costs import tasks as task_costs
from pipeline.trace.critical_path import critical_path, span
from pipeline.trace.efficiency import factors
from pipeline.trace.losses import LOSSES, Losses, SerialTimes, losses, serial_times
from pipeline.trace.scaling_laws import amdahl, curve, karp_flatt
from pipeline.trace.trace import Record, Trace

__all__ = ["HOSTILE", "comparison", "edges_of", "interval", "run", "simulated"]

HOSTILE = (
    "<script>window.hurt=1</script>",
    "</script><script>window.hurt=2</script>",
    "<img src=x onerror=window.hurt=3>",
    "$$\\int x$$ {{ 7*7 }} @{task} ${step}",
    "\"onmouseover=window.hurt=4' `code` & <!-- ",
    "été\u2028\u202e\x07 " + "long_" * 30,
)
"""Names that are markup, scripts, TeX, templates, or too long."""


def interval(value: float, spread: float = 0.05, n: int = 3) -> dict[str, Any]:
    low, high = (value * (1 - spread), value * (1 + spread)) if n > 1 else (None, None)
    return {"value": value, "low": low, "high": high, "n": n, "confidence": 0.75 if n > 1 else 0.0}


def edges_of(steps: Sequence[str], seed: int = 0) -> list[tuple[str, str]]:
    """Edges between steps: each needs one or two of the eight before it."""
    rng = random.Random(seed)
    pairs = [(steps[rng.randrange(max(0, i - 8), i)], steps[i]) for i in range(1, len(steps)) for _ in range(2)]
    return list(dict.fromkeys(pairs))


def simulated(
    steps: Sequence[str], edges: Sequence[tuple[str, str]], *, n_tasks: int, backend: str, workers: int, seed: int = 0
) -> tuple[Trace, dict[str, tuple[str, ...]]]:
    """A Trace of ``n_tasks`` tasks, dealt out to the steps in turn, and what each needs; ms of random length."""
    rng = random.Random(seed)
    sources: dict[str, list[str]] = {step: [] for step in steps}
    for source, target in edges:
        sources[target].append(source)
    per_step = -(-n_tasks // len(steps))
    ends: dict[str, float] = {}
    free = [0.0] * workers
    needs, rows = {}, []
    for s, step in enumerate(steps):
        for j in range(min(per_step, n_tasks - s * per_step)):
            key = f"('{step}', {j})"
            needs[key] = tuple(k for k in (f"('{source}', {j})" for source in sources[step]) if k in ends)
            worker = min(range(workers), key=free.__getitem__)
            ready = max([0.0, *(ends[k] for k in needs[key])])
            received = max(free[worker], ready) + 0.0002
            start = received + (0.0 if backend == "serial" else 0.0004)
            grown = 1.0 if backend == "serial" else 1.2
            stop = start + grown * (0.001 + rng.expovariate(1 / (0.002 * (1 + s % 5))))
            sent = stop + (0.0 if backend == "serial" else 0.0003)
            free[worker], ends[key] = sent, sent
            at = [ready, ready, received, (received + start) / 2, (received + start) / 2, start, stop, stop, sent, sent]
            ns = [round(t * 1e9) for t in at]
            name = f"{backend}-{worker}"
            cpu = round((stop - start) * 0.9e9)
            rows.append(Record(key, step, name, len(rows), 0, *ns, cpu, 1_000, 8_000 * (1 + j), 900,
                               100_000_000 + 50_000 * j + worker * 9_000_000))  # fmt: skip
    notes = {"cpu": {"parent": 0.02, "workers": 0.03}, "measuring": 1e-5, "clock_error": 0.0}
    trace = Trace.from_records(
        rows, elapsed=max([0.001, *ends.values()]) + 0.002, backend=backend, n_workers=workers, notes=notes
    )
    return trace, needs


def _account(
    folder: Path, trace: Trace, needs: Mapping[str, tuple[str, ...]], label: str, serial: SerialTimes | None
) -> dict[str, Any]:
    (folder / f"{label}-2").mkdir(parents=True, exist_ok=True)
    trace.save(folder / f"{label}-2" / "trace.parquet")
    path = critical_path(trace, needs)
    frame = trace.to_frame()
    seconds = dict(zip(frame["key"], frame["seconds"], strict=True))
    told = losses(trace, serial) if serial else None
    found = factors(trace, serial, trace.elapsed * 0.9) if serial else None
    return {
        "case": label,
        "backend": trace.backend,
        "workers": trace.n_workers,
        "round": 2,
        "trace": f"{label}-2/trace.parquet",
        "elapsed": trace.elapsed,
        "losses": _losses(told) if told else _unknown(trace),
        "cpu_beside": dict(trace.notes["cpu"]),
        "factors": found and vars(found) | {"transfer_is_model": found.transfer_is_model},
        "span": span(needs, seconds),
        "critical_path": [vars(s) | {"start": s.start / 1e9, "stop": s.stop / 1e9} for s in path.steps],
        "critical": {
            **{kind: path.seconds(kind) for kind in ("compute", "data-wait", "core-wait")},
            "steps": path.by_step(),
        },
        "steps": [vars(cost) for cost in step_costs(trace, serial)],
        "tasks": [vars(cost) for cost in task_costs(trace, serial)],
        "measuring": {"per_task": 1e-5, "share": 0.0042},
        "clock_error": 0.0,
    }


def _losses(told: Losses) -> dict[str, Any]:
    percents = told.percents()
    found: dict[str, Any] = {name: {"seconds": getattr(told, name), "percent": percents[name]} for name in LOSSES}
    found["inflation"] |= {"low": found["inflation"]["seconds"] * 0.9, "high": found["inflation"]["seconds"] * 1.1}
    return found


def _unknown(trace: Trace) -> dict[str, Any]:
    whole = trace.n_workers * trace.elapsed
    parts = {"task": 0.8, "runtime": 0.02, "transfer": 0.08, "scheduling": 0.04, "dependency": 0.06, "unexplained": 0.0}
    told = {name: {"seconds": share * whole, "percent": round(100 * share)} for name, share in parts.items()}
    return {"useful": None, "inflation": None, **told}


def _document(steps: Sequence[str], edges: Sequence[tuple[str, str]], n_tasks: int, **fields: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": "comparison",
        "name": "census",
        "fingerprint": "0123456789abcdef",
        "n_tasks": n_tasks,
        "folder": ".",
        "created": "2026-11-24T17:02:45+00:00",
        "exit_code": 0,
        "problem": "",
        "equality": "results equal bit by bit",
        "verdict": [],
        "footnotes": ["medians of 3 rounds; [where the median lies, with 75% confidence]"],
        "rows": [],
        "accounts": [],
        "scaling": [],
        "reference": None,
        "measurements": [],
        "differences": {},
        "environment": {
            "python": "3.11.2",
            "platform": "Linux-6.1-x86_64",
            "machine": "0a1b2c3d4e5f",
            "processor": "a processor at 2.50GHz",
            "cores": 2,
            "memory": 8_000_000_000,
            "versions": {"dask": "2026.8.0", "numpy": "2.4.1"},
        },
        "inputs": {"data/a.csv": {"bytes": 1_500, "sha256": "ab" * 32}},
        "code": {"census.model:fit": "cd" * 32},
        "config": "version: 1\nname: census\nsteps:\n" + "".join(f"  {step}: {{op: arange}}\n" for step in steps),
        "graph": {
            "steps": [{"step": s, "kind": "array", "n_tasks": -(-n_tasks // len(steps))} for s in steps],
            "edges": [list(edge) for edge in edges],
        },
        **fields,
    }


def _written(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(told, allow_nan=False), encoding="utf-8")
    return told


def comparison(
    folder: Path,
    *,
    steps: Sequence[str] = ("read", "clean", "fit[A]", "fit[B]", "score"),
    n_tasks: int = 200,
    cases: Sequence[tuple[str, int]] = (("threads", 2), ("processes", 4)),
    scaled: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """Write the folder of a comparison, with serial first, and give what stands in its ``report.json``.

    Parameters
    ----------
    cases : back end and workers
    scaled : whether a law of scaling is told of the last back end
    fields : in the place of what would be in the document
    """
    edges = edges_of(steps)
    first, needs = simulated(steps, edges, n_tasks=n_tasks, backend="serial", workers=1)
    serial = serial_times([first])
    accounts = [_account(folder, first, needs, "serial", serial)]
    rows: list[dict[str, Any]] = [_row(first, "serial", None)]
    for number, (backend, workers) in enumerate(cases, 1):
        name = f"{backend} x{workers}" if scaled else backend
        trace, needs = simulated(steps, edges, n_tasks=n_tasks, backend=backend, workers=workers, seed=number)
        accounts.append(_account(folder, trace, needs, name, serial))
        rows.append(_row(trace, name, first.elapsed / trace.elapsed, differs=number > 1))
    best = max(rows[1:], key=lambda row: row["speedup"]["value"])
    fastest = (
        f"Fastest: {best['backend']}, {best['speedup']['value']:.2g}x as fast as serial on {best['workers']} workers"
    )
    shape = [{"step": s.partition("[")[0], "kind": "array", "n_tasks": 10} for s in steps]
    pairs = dict.fromkeys((a.partition("[")[0], b.partition("[")[0]) for a, b in edges)
    graph = {
        "steps": list({s["step"]: s for s in shape}.values()),
        "edges": [list(pair) for pair in pairs if pair[0] != pair[1]],
    }
    laws = [_scaling([row for row in rows if row["backend"] == cases[-1][0]])] if scaled else []
    told = _document(
        steps,
        edges,
        n_tasks,
        **{
            "verdict": [f"{fastest}; results equal bit by bit"],
            "advice": ADVICE,
            "rows": rows,
            "accounts": accounts,
            "scaling": laws,
            "graph": graph,
            **fields,
        },
    )
    return _written(folder, told)


_CAUSE = {"kind": "tiny tasks", "steps": ["fit"], "gain": 0.2, "text": "", "advice": "Set `steps.fit.batch: 8`",
          "predicted": 0.5}  # fmt: skip
ADVICE = {"do": "Set `steps.fit.batch: 8`", "why": "`fit` has 60 pieces of work. Predicted: 1 s instead of 2 s"}


def _row(trace: Trace, label: str, speedup: float | None, *, differs: bool = False) -> dict[str, Any]:
    reference = speedup is None
    return {
        "label": label,
        "backend": trace.backend,
        "workers": trace.n_workers,
        "reference": reference,
        "n_rounds": 3,
        "elapsed": interval(trace.elapsed),
        "speedup": None if speedup is None else interval(speedup),
        "efficiency": None if speedup is None else speedup / trace.n_workers,
        "speedup_all": None if speedup is None else interval(speedup * 0.8),
        "differs": differs,
        "user": trace.elapsed * 0.9,
        "system": 0.03,
        "start_up": 1.25,
        "verify": 0.008,
        "commit": 0.004,
        "memory": 201_957_376.0,
        "equality": "reference" if reference else "equal",
        "failure": "",
        "exit_code": 0,
        "reason": "" if speedup is None else f"Set `steps.fit.batch: 8`. `fit` takes 1.2x as long as alone on {label}.",
        "cause": None if speedup is None else _CAUSE,
    }


def _scaling(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    workers, speedups = [row["workers"] for row in rows], [row["speedup"]["value"] for row in rows]
    law = amdahl(workers, speedups).serial_fraction
    return {
        "backend": rows[0]["backend"],
        "points": [
            {"workers": n, "elapsed": row["elapsed"], "speedup": s, "karp_flatt": karp_flatt(s, n) if n > 1 else None}
            for row, n, s in zip(rows, workers, speedups, strict=True)
        ],
        "amdahl": {"serial_fraction": law, "largest_speedup": 1 / law if law > 0 else None},
        "usl": None,
        "curve": curve(workers, speedups),
    }


def run(folder: Path, *, steps: Sequence[str] = ("read", "fit", "score"), n_tasks: int = 60) -> dict[str, Any]:
    """Write the folder of one run, where serial's times are not known."""
    edges = edges_of(steps)
    trace, needs = simulated(steps, edges, n_tasks=n_tasks, backend="dask", workers=2)
    row = {
        "label": "dask",
        "backend": "dask",
        "workers": 2,
        "n_rounds": 1,
        "elapsed": interval(trace.elapsed, n=1),
        "start_up": 1.25,
        "commit": 0.004,
        "exit_code": 0,
    }
    told = _document(
        steps,
        edges,
        n_tasks,
        kind="run",
        equality="",
        footnotes=[],
        verdict=[f"census: {trace.elapsed:.3g} s on 2 workers of dask"],
        rows=[row],
        accounts=[_account(folder, trace, needs, "dask", None)],
    )
    return _written(folder, told)

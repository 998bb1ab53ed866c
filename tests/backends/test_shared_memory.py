"""Values in shared memory: mapped and not copied, freed when nobody needs them, swept after a kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shared_tasks
from conftest import until

from pipeline.backends import descendants
from pipeline.backends.base import Backend
from pipeline.backends.local import shared_memory
from pipeline.backends.local.serialization import load, pack
from pipeline.backends.local.shared_memory import NEVER, Block, SharedFiles, Sharing, crossing, map_block, write_block
from pipeline.backends.options import parse
from pipeline.backends.registry import create
from pipeline.errors import ConfigError, TaskError
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import ref, task

LARGE = 50_000  # rows or cells: more than what is kept in a pickle


def chain(*steps: tuple[str, Callable[..., Any], Sequence[Any]], wanted: Sequence[str] = (), **policy: Any) -> Graph:
    """Steps of one task each, of a name, a function and its arguments; each runs in a segment of its own."""
    tasks = {(name, 0): task((name, 0), function, *arguments) for name, function, arguments in steps}
    owners: dict[Key, str] = {key: str(key[0]) for key in tasks}
    names = wanted or [steps[-1][0]]
    policies = {name: Policy(name, merge=False, **policy) for name in owners.values()}
    return Graph(tasks, tuple((name, 0) for name in names), owners, policies)


def of(name: str) -> Any:
    return ref((name, 0))


def left() -> list[Path]:
    """What is left of the values of this process's workers."""
    prefix = descendants.shared_prefix(descendants.mark().rpartition(":")[2])
    return [file for folder in Path("/dev/shm").glob(f"{prefix}*") for file in folder.iterdir()]


def opened_with(name: str, transport: str) -> Backend:
    return create(name, workers=2, start_method="forkserver", transport=transport)


@pytest.fixture(scope="module", params=["processes", pytest.param("pool", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with opened_with(request.param, "shared-memory") as backend:
        yield backend


@pytest.fixture
def backend(opened: Backend) -> Iterator[Backend]:
    yield opened
    assert not left()


# ---------------------------------------------------------------------------------------------------------------------
# What a task sees
# ---------------------------------------------------------------------------------------------------------------------


def test_an_array_is_mapped_read_only_and_not_copied(backend: Backend) -> None:
    graph = chain(("a", shared_tasks.make_array, [LARGE]), ("b", shared_tasks.about_array, [of("a")]))
    assert backend.run(graph).results["b", 0] == (True, False, False, LARGE - 1.0)


def test_arrow_tables_and_frames_are_mapped_too(backend: Backend) -> None:
    graph = chain(
        ("a", shared_tasks.make_table, [LARGE]),
        ("b", shared_tasks.about_table, [of("a")]),
        ("c", shared_tasks.make_frame, [LARGE]),
        ("d", shared_tasks.about_frame, [of("c")]),
        wanted=["b", "d"],
    )
    total = LARGE * (LARGE - 1) // 2 + 5
    assert backend.run(graph).results == {("b", 0): (True, False, LARGE), ("d", 0): (True, total)}


def test_a_task_that_writes_to_a_mapped_array_gets_the_cure(backend: Backend) -> None:
    steps = (("a", shared_tasks.make_array, [LARGE]), ("b", shared_tasks.add_in_place, [of("a")]))
    with pytest.raises(TaskError, match="'writable: true' on the step"):
        backend.run(chain(*steps))
    assert backend.run(chain(*steps, writable=True)).results["b", 0] == 1.0


def test_what_a_task_changes_in_a_list_is_its_own(backend: Backend) -> None:
    users = [(f"b{i}", shared_tasks.add_in_lists, [of("a"), i]) for i in range(6)]
    graph = chain(("a", shared_tasks.make_lists, [LARGE]), *users, wanted=[name for name, *_ in users])
    assert set(backend.run(graph).results.values()) == {float(LARGE)}


def test_an_array_that_a_worker_keeps_outlives_its_file(backend: Backend) -> None:
    arrays = [(f"a{i}", shared_tasks.make_array, [LARGE]) for i in range(4)]
    keeping = [(f"k{i}", shared_tasks.keep, [of(f"a{i}"), *([of(f"k{i - 1}")] if i else [])]) for i in range(4)]
    sums = backend.run(chain(*arrays, *keeping, wanted=[name for name, *_ in keeping])).results.values()
    assert max(map(len, sums)) >= 1  # there are two workers
    assert {found for one in sums for found in one} == {LARGE * (LARGE - 1) / 2}


def test_what_a_run_returns_is_its_own_and_writable(backend: Backend) -> None:
    value = backend.run(chain(("a", shared_tasks.make_array, [LARGE]))).results["a", 0]
    assert not shared_tasks.in_shared_memory(value.ctypes.data)
    value += 1.0
    assert value[-1] == LARGE


# ---------------------------------------------------------------------------------------------------------------------
# How long the files live
# ---------------------------------------------------------------------------------------------------------------------


def test_a_file_is_removed_when_its_last_task_is_done(backend: Backend) -> None:
    graph = chain(
        ("a", shared_tasks.make_array, [LARGE]),
        ("one", shared_tasks.files_left, [of("a")]),
        ("two", shared_tasks.files_left, [of("a"), of("one")]),
        ("none", shared_tasks.files_left, [of("two")]),
        wanted=["one", "two", "none"],
    )
    found = [len(files) for files in backend.run(graph).results.values()]
    assert found == [1, 1, 0]


def test_a_failed_run_leaves_no_file(backend: Backend) -> None:
    graph = chain(("a", shared_tasks.make_array, [LARGE]), ("b", shared_tasks.add_in_place, [of("a")]))
    with pytest.raises(TaskError):
        backend.run(graph)
    assert not left()


def test_what_a_killed_worker_was_writing_is_removed(tmp_path: Path) -> None:
    graph = chain(
        ("a", shared_tasks.make_array, [LARGE]),
        ("b", shared_tasks.die_while_writing, [of("a"), str(tmp_path)]),
        ("c", shared_tasks.files_left, [of("a"), of("b")]),
    )
    with opened_with("processes", "shared-memory") as backend:
        (file,) = backend.run(graph).results["c", 0]
        assert not file.endswith("-12345")
        assert not left()


def test_files_of_living_workers_and_of_values_are_not_swept() -> None:
    files = SharedFiles(10_000)
    try:
        kept = write_block(files.folder, [b"x"])
        written = write_block(files.folder, [b"y"])
        files.adopt([kept])
        files.sweep([os.getpid()])
        assert os.path.exists(written.path)
        files.sweep([])
        assert os.path.exists(kept.path)
        assert not os.path.exists(written.path)
    finally:
        files.close()
    assert not os.path.exists(files.folder)


SCRIPT = """
import sys
import shared_tasks
from pipeline.backends.registry import create
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import ref, task
if __name__ == "__main__":
    tasks = {("a", 0): task(("a", 0), shared_tasks.make_array, 50_000),
             ("b", 0): task(("b", 0), shared_tasks.hold, ref(("a", 0)))}
    with create(sys.argv[1], workers=2, start_method="forkserver", transport="shared-memory") as backend:
        policies = {n: Policy(n, merge=False) for n in "ab"}
        backend.run(Graph(tasks, (("b", 0),), {key: key[0] for key in tasks}, policies))
"""


def script_of(folder: Path, text: str) -> tuple[str, dict[str, str]]:
    """A script in a folder, and the environment in which it finds the tasks."""
    script = folder / "script.py"
    script.write_text(text)
    return str(script), {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["processes", pytest.param("pool", marks=pytest.mark.slow)])
def test_no_file_outlives_a_parent_that_is_ended(name: str, ended_by: signal.Signals, tmp_path: Path) -> None:
    script, environment = script_of(tmp_path, SCRIPT)
    with subprocess.Popen(
        [sys.executable, script, name], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == b"holding\n"
            assert list(Path("/dev/shm").glob(f"pipeline-shared-{parent.pid}_*/*"))
            parent.send_signal(ended_by)
            parent.wait(timeout=120)
        finally:
            parent.kill()
    assert until(lambda: not list(Path("/dev/shm").glob(f"pipeline-shared-{parent.pid}_*")))


def test_what_nothing_removed_goes_when_the_next_run_begins() -> None:
    stale = Path("/dev/shm/pipeline-shared-999999999_of_no_process_0")
    stale.mkdir()
    (stale / "1-0").touch()
    SharedFiles(10_001).close()
    assert not stale.exists()


# ---------------------------------------------------------------------------------------------------------------------
# Where there is no room
# ---------------------------------------------------------------------------------------------------------------------

IN_A_SMALL_PLACE = """
import sys
import shared_tasks
from pipeline.backends.events import Note
from pipeline.backends.registry import create
from pipeline.graph.graph import Graph, Policy
from pipeline.graph.nodes import ref, task
if __name__ == "__main__":
    tasks = {("a", i): task(("a", i), shared_tasks.make_array, 50_000) for i in range(8)}
    tasks |= {("b", i): task(("b", i), shared_tasks.touch_all, ref(("a", i))) for i in range(8)}
    with create("processes", workers=2, start_method="forkserver", transport=sys.argv[1]) as backend:
        graph = Graph(tasks, tuple(tasks), {key: key[0] for key in tasks}, {n: Policy(n, merge=False) for n in "ab"})
        events = []
        results = backend.run(graph, listener=events.append).results
    notes = [event.message for event in events if isinstance(event, Note)]
    print(sum(results["b", i] for i in range(8)), len(results), notes)
"""


def in_small_place(tmp_path: Path, mount: str, transport: str) -> str:
    """Run the script where ``/dev/shm`` is another one, seen by that process alone; return what it prints."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system allows no mounts of one's own")
    script, environment = script_of(tmp_path, IN_A_SMALL_PLACE)
    command = f'{mount} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", sys.executable, script, transport],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("mount", "transport", "reason"),
    [
        ("mount -t tmpfs -o size=1m none /dev/shm", "shared-memory", "No space left on device"),
        pytest.param(
            "mount -t tmpfs -o size=4k none /dev/shm", "auto", "No space left on device", marks=pytest.mark.slow
        ),
        pytest.param(
            "mount -t tmpfs -o ro none /dev/shm", "shared-memory", "Read-only file system", marks=pytest.mark.slow
        ),
    ],
    ids=["small", "tiny", "read-only"],
)
def test_a_full_or_missing_dev_shm_means_pickle_said_once(
    tmp_path: Path, mount: str, transport: str, reason: str
) -> None:
    printed = in_small_place(tmp_path, mount, transport)
    assert printed.startswith(f"{8 * 49_999.0} 16 [")
    assert printed.count(reason) == 1
    assert printed.count("go through pipes") == 1


# ---------------------------------------------------------------------------------------------------------------------
# One value
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[str]:
    files = SharedFiles(10_002)
    yield files.folder
    files.close()


@pytest.mark.parametrize("frames", [[b""], [b"a"], [b"head", bytes(100_000), b"", b"end"], [bytes(1 << 20)] * 3])
def test_frames_are_what_they_were_and_aligned(folder: str, frames: list[bytes]) -> None:
    mapped = map_block(write_block(folder, frames))
    assert [bytes(frame) for frame in mapped] == frames
    whole = [np.frombuffer(frame, np.uint8).ctypes.data for frame in mapped if frame.nbytes]
    assert not any(address % 64 for address in whole)


def test_a_mapping_needs_no_open_file_and_ends_with_its_value(folder: str) -> None:
    packed = pack(np.ones(LARGE), Sharing(folder, 1))
    before, maps = len(os.listdir("/proc/self/fd")), Path("/proc/self/maps")
    values = [load(packed) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert maps.read_text().count(folder) == 20
    del values
    assert maps.read_text().count(folder) == 0


def test_what_one_reader_writes_no_other_sees(folder: str) -> None:
    packed = pack([np.zeros(LARGE)], Sharing(folder, 1))
    (one,), (other,) = load(packed), load(packed)
    one += 1.0
    assert other.sum() == 0.0
    assert load(packed)[0].sum() == 0.0


def test_a_part_of_an_array_is_not_copied_by_its_reader(folder: str) -> None:
    part = np.arange(4.0 * LARGE).reshape(2, -1)[:, ::2]
    found = load(pack(part, Sharing(folder, 1)))
    assert shared_tasks.in_shared_memory(found.ctypes.data)
    assert (found == part).all()


def test_a_value_below_the_limit_goes_by_pickle(folder: str) -> None:
    packed = pack(np.zeros(100), Sharing(folder, 2_000))
    assert packed.block is None
    assert pack(np.zeros(1_000), Sharing(folder, 2_000)).block is not None


def test_a_value_that_does_not_fit_stays_writable(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    packed = pack([np.zeros(1_000), np.zeros(LARGE)], Sharing(folder, 1))
    assert packed.lacked == "No space left on device"
    assert not os.listdir(folder)
    reduced, arguments = packed.__reduce_ex__(5)
    first, second = load(reduced(*arguments))
    first += 1.0
    assert first.sum() == 1_000.0
    assert second.size == LARGE


# ---------------------------------------------------------------------------------------------------------------------
# The choice
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pipes", "memory", "size"),
    [
        ([1.0, 2.0, 4.0], [2.0, 2.0, 2.0], 20),
        ([3.0, 3.0, 4.0], [2.0, 2.0, 2.0], 10),
        ([1.0, 1.0, 4.0], [2.0, 2.0, 2.0], 27),  # between 20 and 40: a third of the way from -1 to 2
        ([1.0, 2.0, 4.0], [5.0, 5.0, 5.0], 50),  # beyond 40, as it grows from 20 to 40
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], NEVER),
    ],
)
def test_the_crossover_is_where_both_ways_take_as_long(pipes: list[float], memory: list[float], size: int) -> None:
    assert crossing([10, 20, 40], pipes, memory) == size


def test_auto_notes_the_size_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backends.local.process_backend._measured", [100_000])
    graph = chain(
        ("small", shared_tasks.make_array, [10_000]),
        ("large", shared_tasks.make_array, [LARGE]),
        ("s", shared_tasks.about_array, [of("small")]),
        ("l", shared_tasks.about_array, [of("large")]),
        wanted=["s", "l"],
    )
    with opened_with("processes", "auto") as backend:
        outcome = backend.run(graph)
    assert [found[0] for found in outcome.results.values()] == [False, True]
    assert outcome.trace.notes["transport"] == {"name": "auto", "least": 100_000}
    rows = {row["step"]: row for row in outcome.trace.tasks.to_pylist()}
    assert [rows[step]["shared_sent"] > 8 * LARGE for step in ("small", "large")] == [False, True]
    assert [rows[step]["shared_in"] > 8 * LARGE for step in ("s", "l")] == [False, True]
    assert rows["s"]["bytes_in"] > 80_000
    assert 0 < rows["l"]["bytes_in"] < 10_000
    assert rows["l"]["sharing"] > 0


def test_a_trial_of_this_machine_gives_a_size(folder: str) -> None:
    assert 0 < shared_memory.crossover(folder) <= NEVER
    assert not os.listdir(folder)


@pytest.mark.parametrize("name", ["serial", "threads", "dask"])
def test_back_ends_without_processes_of_ours_refuse_transport(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"back end '{name}[transport=auto]': unknown option 'transport'")):
        parse(f"{name}[transport=auto]")


def test_another_transport_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="transport takes"):
        parse("pool[transport=pipes]")
    with pytest.raises(ConfigError, match="allowed: pickle, shared-memory, auto"):
        create("pool", transport="pipes")


def test_the_bytes_of_a_block_are_those_of_its_frames() -> None:
    assert Block("x", (3, 0, 5)).nbytes == 8

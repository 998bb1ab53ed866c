"""The server of a manager: who gets in, what strangers cost, and what is lost with a worker."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import answer_challenge
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import until
from manager_tasks import hold_once, mapped

from pipeline.backends.base import Backend
from pipeline.backends.events import Event, Note, WorkerLoss
from pipeline.backends.local.child_main import Setup
from pipeline.backends.manager import connections, fleet, server
from pipeline.backends.manager.authkey import read_authkey
from pipeline.backends.manager.connections import Line, to_address
from pipeline.backends.manager.member import Facts, Order, _Child, _Member
from pipeline.backends.manager.queues import Message, QueueManager, Results, Tasks
from pipeline.backends.manager.server import Server
from pipeline.backends.options import parse
from pipeline.backends.registry import create
from pipeline.backends.versions import PACKAGES, installed
from pipeline.cli import main
from pipeline.config.absolute_paths import with_absolute_paths
from pipeline.config.loader import load
from pipeline.errors import BackendError, ConfigError, WorkerLost
from pipeline.worker.segment_result import SegmentResult, SegmentTimes, TaskTiming
from pipeline.worker.thread_usage import TaskUsage

KEY = b"0123456789abcdef0123456789abcdef"


class Open:
    """A server with one job for whoever asks, and what it has reported."""

    def __init__(self) -> None:
        self.tasks, self.results = Tasks(), Results()
        self.refused: list[str] = []
        self.ended: list[str] = []
        self.server = Server(
            ("127.0.0.1", 0), KEY, self.tasks, self.results, refused=self.refused.append, ended=self.ended.append
        )
        self.address = self.server.listener.address

    def stranger(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def works(self) -> bool:
        """Whether a worker with the key is served."""
        manager: Any = QueueManager(self.address, KEY)
        manager.connect()
        manager.results().put("m/0", "hello")
        return self.results.get(60.0)[:2] == ("m/0", "hello")


@pytest.fixture
def opened() -> Iterator[Open]:
    found = Open()
    found.server.start()
    try:
        yield found
    finally:
        connections.shut_all()
        found.tasks.close()
        found.server.close()


def everything_from(stranger: socket.socket) -> bytes:
    """What the server sends until it ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := stranger.recv(4096):
            found += part
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Strangers
# ---------------------------------------------------------------------------------------------------------------------


def test_silent_peers_do_not_keep_others_waiting(opened: Open) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(opened.stranger()) for _ in range(server._MOST_UNKNOWN + 5)]
        assert opened.works()
        assert all(b"#CHALLENGE#" in everything_from(one) for one in silent[:5])  # the oldest make room
        assert len(opened.server._living()) <= server._MOST_UNKNOWN + 3


def test_a_silent_peer_is_sent_away_after_a_while(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_HANDSHAKE", 0.05)
    with opened.stranger() as silent, opened.stranger() as slow:
        slow.sendall(b"\0")
        assert b"#CHALLENGE#" in everything_from(silent)
        assert b"#CHALLENGE#" in everything_from(slow)
    assert opened.refused == []


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def framed(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


def test_nothing_is_unpickled_for_a_stranger(opened: Open, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    garbage = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        framed(bomb),
        struct.pack("!i", -1) + struct.pack("!Q", 1 << 60),
        struct.pack("!i", -5),
        framed(b"#WELCOME#") + framed(b"#CHALLENGE#" + b"x" * 20) + framed(bomb),
        framed(b"x" * 16),
        os.urandom(300),
        b"",
    ]
    for data in garbage:
        with opened.stranger() as stranger:
            with contextlib.suppress(OSError):  # it may have been sent away already
                stranger.sendall(data)
                stranger.shutdown(socket.SHUT_WR)
            said = everything_from(stranger)
            assert len(said) < 120, said  # the challenge, and that it was failed
            assert b"Traceback" not in said
    assert opened.works()
    assert not (tmp_path / "exploded").exists()


def assert_ended(line: Line) -> None:
    """The server ends the connection, whatever it has said before."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            line.recv_bytes(256)


def test_half_a_handshake_opens_nothing(opened: Open, tmp_path: Path) -> None:
    with Line(opened.stranger()) as line:
        answer_challenge(line, KEY)  # that of the server; it waits for ours now
        line.send_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
        assert_ended(line)
    assert opened.works()
    assert not (tmp_path / "exploded").exists()


def test_a_wrong_key_is_an_authentication_error(opened: Open) -> None:
    with pytest.raises(AuthenticationError):
        QueueManager(opened.address, b"another key, also long enough").connect()
    assert until(lambda: opened.refused == ["127.0.0.1"])
    assert opened.works()


def test_a_hundred_workers_can_join_at_once(opened: Open) -> None:
    failed: list[BaseException] = []

    def join() -> None:
        try:
            QueueManager(opened.address, KEY).connect()
        except BaseException as error:  # noqa: BLE001  (shown below)
            failed.append(error)

    threads = [threading.Thread(target=join) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_only_the_calls_of_workers_are_served(opened: Open) -> None:
    with connections.connect(opened.address, authkey=KEY) as line:
        line.send((None, "shutdown", (), {}))
        with pytest.raises((EOFError, OSError)):
            line.recv()
    manager: Any = QueueManager(opened.address, KEY)
    manager.connect()
    with pytest.raises(Exception, match="not in exposed"):
        manager.tasks()._callmethod("admit", ("m/0",))
    assert opened.works()


# ---------------------------------------------------------------------------------------------------------------------
# The queue of tasks
# ---------------------------------------------------------------------------------------------------------------------


def test_jobs_go_to_workers_that_are_ready_letters_first() -> None:
    tasks = Tasks()
    tasks.admit("m/0")
    tasks.put(1, "first job")
    tasks.ready("m/0")
    tasks.post("m/0", "letter")
    tasks.ready("m/0")
    assert [tasks.get("m/0"), tasks.get("m/0")] == ["letter", "first job"]
    assert tasks.busy() == ["m/0"]
    tasks.over("m/0", 1)
    assert tasks.busy() == []


def test_a_lost_worker_gets_no_job_and_hands_back_its_own() -> None:
    tasks = Tasks()
    tasks.admit("m/0")
    tasks.ready("m/0")
    tasks.put(1, "job")
    assert tasks.get("m/0") == "job"
    tasks._running["m"] = {"m/0": (1, 3)}
    assert tasks.remove("m/0") == 1
    assert tasks.position("m", "m/0", 1) == 3
    assert tasks.position("m", "m/0", 2) == 0  # of another job
    with pytest.raises(EOFError):
        tasks.get("m/0")


def test_cancelled_jobs_are_named_at_the_next_beat() -> None:
    tasks = Tasks()
    tasks.admit("m/0")
    tasks.ready("m/0")
    tasks.put(1, "job")
    tasks.put(2, "another")
    tasks.get("m/0")
    tasks.cancel()
    assert tasks.beat("m", {}) == {1}
    tasks.over("m/0", 1)
    tasks.close()
    with pytest.raises(EOFError):
        tasks.beat("m", {})


def test_a_child_killed_when_its_job_was_done_is_replaced() -> None:
    with _Child("manager-0", "forkserver", 1) as child:
        assert child.get_ready(Order(Setup((), {}, ()), 31.0), keep_path=False)
        before = child._workers[0].process
        child.settle()
        assert child._workers[0].process is before
        child.stop()
        child.settle()
        assert child._workers[0].process is not before
        assert child.get_ready(Order(Setup((), {}, ()), 31.0), keep_path=False)


def test_instants_of_another_machine_get_the_clock_here() -> None:
    member = _Member(("127.0.0.1", 1), KEY, 1, "spawn", print, own=False)

    class Clock:
        """A server of another boot, whose clock is 1,000 s behind."""

        def clock(self) -> tuple[str, int]:
            from time import perf_counter_ns

            return "another boot", perf_counter_ns() - 1_000_000_000_000

    member._tasks = Clock()  # type: ignore[assignment]
    member._set_clock()
    assert abs(member._offset - 1_000_000_000_000) <= member._error + 1
    member._offset = 1_000
    usage = TaskUsage(*[0] * len(TaskUsage._fields))
    result = SegmentResult(
        timings=[TaskTiming(("a",), "a", 5_000, 6_000, usage, 0, 0)], times=SegmentTimes(4_000, 0, 4_500, 7_000, 0)
    )
    member._shift(result)
    assert (result.timings[0].start, result.timings[0].stop) == (4_000, 5_000)
    assert result.times == SegmentTimes(3_000, 0, 3_500, 6_000, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Who has joined
# ---------------------------------------------------------------------------------------------------------------------


class Joined:
    """A fleet without processes, on a clock of its own, and what it has noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.notes, self.tasks = 0.0, list[str](), Tasks()
        monkeypatch.setattr(fleet, "perf_counter", lambda: self.now)
        children: Any = None
        self.fleet = fleet.Fleet(children, self.tasks, 0, 1, self.notes.append)

    def join(self, member: str, host: str = "there") -> str:
        facts = Facts(member, host, 7, False, 0.0, installed(PACKAGES, ""))
        worker = f"{member}/0"
        assert list(self.fleet.handle(Message(worker, "join", facts, 10))) == []
        assert self.tasks.get(worker)[0] == "welcome"
        return worker

    def after(self, seconds: float) -> list[fleet.Lost]:
        """What a check finds that comes after so many seconds, in which there were checks, too."""
        lost: list[fleet.Lost] = []
        for _ in range(int(seconds)):
            self.now += 1.0
            lost += self.fleet.check()
        return lost


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Joined:
    return Joined(monkeypatch)


def test_a_silent_member_is_lost_and_hands_back_its_job(joined: Joined) -> None:
    worker, lively = joined.join("1"), joined.join("2")
    for name in (worker, lively):
        list(joined.fleet.handle(Message(name, "ready", {}, 20)))
    joined.tasks.put(5, "job")
    assert joined.tasks.get(worker) == "job"
    assert joined.after(29) == []
    joined.tasks._beats["2"] = 1
    assert joined.after(1) == []
    (lost,) = joined.after(1)
    assert (lost.number, lost.position, lost.worker) == (5, 0, "worker there-0 (pid 7 there)")
    assert "silent for 31 s" in lost.ended_by
    assert list(joined.fleet.workers) == [lively]


def test_a_stop_of_this_process_makes_nobody_silent(joined: Joined) -> None:
    joined.join("1")
    joined.now += 3600  # Ctrl-Z
    assert list(joined.fleet.check()) == []
    assert joined.fleet.workers


def test_who_joins_or_leaves_during_a_run_has_a_gap(joined: Joined) -> None:
    joined.fleet.began = 100
    worker = joined.join("1")
    list(joined.fleet.handle(Message(worker, "ready", {}, 250)))
    assert joined.fleet.all_gaps() == [("there-0", 100, 250)]
    assert list(joined.fleet.handle(Message("1", "gone", None, 400))) == []
    name, since, until_ = joined.fleet.all_gaps()[-1]
    assert (name, since) == ("there-0", 250)
    assert until_ > since
    assert joined.fleet.n_took_part == 1


def test_names_are_those_of_the_hosts_and_not_used_twice(joined: Joined) -> None:
    for member, host in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "x\x1b[31m")):
        joined.join(member, host)
    assert [this.name for this in joined.fleet.workers.values()] == ["a-0", "b-0", "a-1", "x\\x1b[31m-0"]


def test_a_worker_without_the_folder_of_outputs_leaves(joined: Joined, tmp_path: Path) -> None:
    member = _Member(("127.0.0.1", 1), KEY, 1, "spawn", print, own=False)
    said: list[Any] = []
    member._results = Sent(said)  # type: ignore[assignment]
    child: Any = None
    with pytest.raises(BackendError, match="does not see"):
        member._set_up("1/0", child, Order(Setup((), {}, ()), 1.0, (str(tmp_path / "marker"), "42")))
    worker = joined.join("1")
    list(joined.fleet.handle(Message(worker, *said[0][1:], 30)))
    assert joined.notes[1].startswith("worker there-0 (pid 7 there) could not be set up: does not see ")
    assert not joined.fleet.workers


class Sent:
    """Takes the place of the queue of results."""

    def __init__(self, said: list[Any]) -> None:
        self.put = lambda *message: said.append(message)


# ---------------------------------------------------------------------------------------------------------------------
# The back end
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> Iterator[Backend]:
    """A back end of one worker of its own."""
    with create("manager", workers=1, start_method="forkserver") as backend:
        backend.run(mapped(abs, [-3]))
        yield backend


@pytest.mark.parametrize("pure", [True, False])
def test_a_killed_process_of_workers_is_replaced(own: Backend, tmp_path: Path, pure: bool) -> None:
    held = tmp_path / "held"
    events: list[Event] = []

    def kill() -> None:
        assert until(held.exists)
        os.kill(own._fleet._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        if pure:
            assert list(own.run(mapped(hold_once, [str(tmp_path)]), listener=events.append).results.values()) == [7]
            assert [event.step for event in events if isinstance(event, WorkerLoss)] == ["fit"]
        else:
            with pytest.raises(WorkerLost, match=r"fit\[x=0\]: worker manager-0 .*SIGKILL.*pure: false"):
                own.run(mapped(hold_once, [str(tmp_path)], pure=False))
    finally:
        killer.join()
    assert own.run(mapped(abs, [-3])).results == {("fit", 0): 3}


def test_without_listen_only_the_loopback_device_is_used(own: Backend) -> None:
    own.run(mapped(abs, [-3]))
    key = own._authkey.hex()  # type: ignore[attr-defined]
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("inet"):
                assert connection.laddr.ip in ("127.0.0.1", "::1"), process.cmdline()
            shown = " ".join([*process.cmdline(), *process.environ().values()])
            assert key not in shown
            assert own._authkey.decode("latin-1") not in shown  # type: ignore[attr-defined]


def test_a_worker_of_another_version_is_refused_others_go_on(tmp_path: Path) -> None:
    notes: list[str] = []
    here = installed(PACKAGES, "")
    with create("manager", listen="127.0.0.1:0", authkey_file=str(key_file(tmp_path))) as backend:
        found: Any = backend._fleet  # type: ignore[attr-defined]
        found._note = notes.append
        tasks = backend._tasks  # type: ignore[attr-defined]
        for member, versions in (("old", {**here, "numpy": "1.2.3", "dask": None}), ("new", here)):
            backend._results.put(f"{member}/0", "join", Facts(member, "there", 7, False, 0.0, versions))  # type: ignore[attr-defined]
            backend._take(60.0)  # type: ignore[attr-defined]
        assert tasks.get("old/0") == ("refused", found._members["old"].refused)
        assert tasks.get("new/0")[0] == "welcome"
        assert [worker.name for worker in found.workers.values()] == ["there-0"]
        found.workers.clear()
    assert notes[0].startswith("refused workers of there (pid 7): dask is missing; here it is ")
    assert "numpy 1.2.3; here it is" in notes[0]


# ---------------------------------------------------------------------------------------------------------------------
# The key, and what users write
# ---------------------------------------------------------------------------------------------------------------------


def key_file(folder: Path, content: bytes = KEY, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_key_is_the_content_without_white_space(tmp_path: Path) -> None:
    assert read_authkey(key_file(tmp_path, b"  " + KEY + b"\r\n")) == KEY


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (KEY, 0o640, r"others can read or write it \(mode 0640\); make it your own: chmod 600 .*key$"),
        (KEY, 0o602, r"others can read or write it"),
        (b"", 0o600, r"got 0 bytes; a key has 16 to 4,096 bytes; make one: \(umask 077; openssl rand -hex 32 > "),
        (b" \n" * 40, 0o600, r"got 0 bytes"),
        (b"short", 0o600, r"got 5 bytes"),
        (b"x" * 5_000, 0o600, r"is longer than 4,096 bytes"),
    ],
)
def test_a_key_file_that_keeps_no_secret_is_refused(tmp_path: Path, content: bytes, mode: int, message: str) -> None:
    path = key_file(tmp_path, content, mode)
    with pytest.raises(ConfigError, match=message):
        read_authkey(path)


def test_a_key_file_must_be_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("", "no regular file"), ("none", "no such file"), ("pipe", "no regular file")):
        with pytest.raises(ConfigError, match=message):
            read_authkey(tmp_path / name)


@pytest.mark.parametrize("text", ["5000", "host", "host:", ":5000", "host:99999", "a b:1", "::1:5000", "tcp://h:1"])
def test_an_address_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--join: got .*; write HOST:PORT"):
        to_address(text, "--join")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"listen": "127.0.0.1:0"}, "add authkey_file: FILE"),
        ({"authkey_file": "key"}, "add listen: HOST:PORT"),
        ({"start_method": "fork"}, "got 'fork'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("manager", **options)


def test_a_key_in_the_file_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    steps = "steps:\n  a: {op: random, shape: {x: 4}, chunks: {x: 2}}\n"
    file.write_text(f"version: 1\n{steps}cluster:\n  workers: 2\n  authkey: hunter2-hunter2\n")
    with pytest.raises(ConfigError, match=r"p\.yaml:6:\d+: cluster\.authkey: .*authkey_file: FILE") as caught:
        load(file)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="authkey_file: FILE") as caught:
        parse("manager[listen=127.0.0.1:0,authkey=hunter2-hunter2]")
    assert "hunter2" not in str(caught.value)


def test_the_path_of_the_key_is_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    steps = "steps:\n  a: {op: random, shape: {x: 4}, chunks: {x: 2}}\n"
    file.write_text(f"version: 1\n{steps}cluster: {{listen: '127.0.0.1:0', authkey_file: keys/one}}\n")
    config = load(file)
    assert config.cluster["authkey_file"] == str(tmp_path / "keys" / "one")
    assert with_absolute_paths(config).value["cluster"].value["authkey_file"].value == str(tmp_path / "keys" / "one")


def run_worker(*arguments: str) -> int:
    return main(["worker", *arguments])


def test_a_worker_says_in_one_line_why_it_can_not_join(
    opened: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, key = connections.to_text(opened.address), str(key_file(tmp_path, b"another key, also long enough"))
    assert run_worker("--join", address, "--authkey-file", key) == 4
    wanted = (
        f"pipeline: error: AuthenticationError: the run at {address} has another authkey; use the file that it was "
    )
    assert capsys.readouterr().err == f"{wanted}started with.\n"
    assert run_worker("--join", "127.0.0.1:1", "--authkey-file", key, "--wait", "0s") == 4
    assert capsys.readouterr().err.startswith("pipeline: error: no run listens at 127.0.0.1:1 (")
    assert run_worker("--join", "127.0.0.1:1", "--authkey-file", str(tmp_path / "none")) == 2
    assert "--authkey-file: " in capsys.readouterr().err


def test_a_worker_leaves_what_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connections, "_HANDSHAKE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = connections.to_text(silent.getsockname())
        assert run_worker("--join", address, "--authkey-file", str(key_file(tmp_path)), "--wait", "0s") == 4
    assert capsys.readouterr().err == f"pipeline: error: {address} does not answer as a run of pipeline does.\n"


def test_refusals_are_one_line_for_each_host(tmp_path: Path) -> None:
    events: list[Event] = []
    with create("manager", listen="127.0.0.1:0", authkey_file=str(key_file(tmp_path))) as backend:
        opened: Any = backend
        opened._listener = events.append
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                QueueManager(to_address(opened.address, ""), b"another key, also long enough").connect()
        while opened._refusals.total() < 2:
            opened._take(1.0)
    assert events == [Note("refused a worker from 127.0.0.1: AuthenticationError, it has another authkey or none")]

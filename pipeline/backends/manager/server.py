"""The server of a manager: who connects is authenticated in a thread of its own, within a deadline.

What :class:`multiprocessing.managers.Server` does by itself, in Python 3.11 to 3.13: it starts a thread for each
connection, which waits for the challenge to be answered without end; so peers that connect and are silent cost a thread
and a descriptor each, for good. Once there are no more descriptors, its accept loop spins. A peer that fails gets a
traceback, with paths of this machine. Its backlog is 16 up to 3.11. Therefore the accept loop and the handshake are
ours; the queues, their proxies and the challenge are the standard library's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing import AuthenticationError, managers
from typing import Any

from pipeline.backends.interrupts import interrupts_blocked
from pipeline.backends.manager.connections import Address, Line, Listener, authenticate
from pipeline.backends.manager.queues import SERIALIZER, Results, Tasks, register_serializer, registry

__all__ = ["Server"]

_MOST_UNKNOWN = 128  # connections that are not authenticated yet; one more costs the oldest of them
_NO_DESCRIPTOR = 0.1  # seconds until it is tried again to accept a connection
_END_LIMIT = 5.0  # seconds for the threads to end


class Server(managers.Server):
    """Serves the two queues in threads of this process. States: made (it listens) -> started -> closed.

    A worker connects once for each of its threads, and names the connection ``MEMBER/THREAD``.

    Parameters
    ----------
    address : where to listen
    refused : called, from any thread, with the host of a peer that has another key
    ended : called, from any thread, with the member whose connection has ended

    Raises
    ------
    OSError : if the address can't be listened at
    """

    authkey: bytes
    listener: Listener
    public = ["dummy", "create", "decref", "accept_connection"]  # noqa: RUF012 - as the class above declares it

    def __init__(
        self,
        address: Address,
        authkey: bytes,
        tasks: Tasks,
        results: Results,
        *,
        refused: Callable[[str], None],
        ended: Callable[[str], None],
    ) -> None:
        register_serializer()
        super().__init__(registry(tasks, results), address, authkey, SERIALIZER)
        self.stop_event = threading.Event()
        self._refused, self._ended = refused, ended
        self._unknown: OrderedDict[Line, None] = OrderedDict()
        self._lines: dict[Line, str] = {}  # every open connection -> the member, once it is known
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to accept connections."""
        with interrupts_blocked():  # the threads that it starts have the signal blocked, too
            self._start(self.accepter)

    def close(self) -> None:
        """End all connections and threads."""
        self.stop_event.set()
        self.listener.close()
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.shut()
        deadline = time.monotonic() + _END_LIMIT
        while (threads := self._living()) and time.monotonic() < deadline:
            threads[0].join(max(0.0, deadline - time.monotonic()))

    def shut(self, member: str) -> None:
        """End the connections of a member."""
        with self._lock:
            lines = [line for line, name in self._lines.items() if name == member]
        for line in lines:
            line.shut()

    def accepter(self) -> None:
        """Accept connections until the server is closed."""
        while not self.stop_event.is_set():
            try:
                line, host = self.listener.accept()
            except OSError:  # closed, or out of descriptors
                self.stop_event.wait(_NO_DESCRIPTOR)
                continue
            with self._lock:
                self._lines[line] = ""
                self._unknown[line] = None
                oldest = next(iter(self._unknown)) if len(self._unknown) > _MOST_UNKNOWN else None
            if oldest is not None:
                oldest.shut()
            try:
                self._start(self._serve, line, host)
            except RuntimeError:  # no more threads
                self._forget(line)

    def serve_client(self, conn: Any) -> None:
        """Answer the calls of one thread of a worker until it ends the connection."""
        member, named, _ = threading.current_thread().name.rpartition("|")[2].partition("/")
        with self._lock:
            self._lines[conn] = member if named else ""
        try:
            super().serve_client(conn)
        finally:
            if named and not self.stop_event.is_set():
                self._ended(member)

    def decref(self, c: Any, ident: str) -> None:
        """Keep the queue: the server owns it."""

    def _serve(self, line: Line, host: str) -> None:
        try:
            authenticate(line, self.authkey)
            with self._lock:
                self._unknown.pop(line, None)
            _, name, arguments, keywords = line.recv()
            if name not in self.public:
                return
            try:
                answer = "#RETURN", getattr(self, name)(line, *arguments, **keywords)
            except Exception as error:  # noqa: BLE001 - the client raises it
                answer = "#ERROR", error
            if name != "accept_connection":  # which has answered itself, and is over
                line.send(answer)
        except AuthenticationError:
            self._refused(host)
        except (EOFError, OSError):  # silent for too long, garbage, or gone
            pass
        except Exception:  # noqa: BLE001 - of whoever has the key, but speaks otherwise: it costs its connection
            pass
        finally:
            self._forget(line)

    def _forget(self, line: Line) -> None:
        with self._lock:
            self._unknown.pop(line, None)
            self._lines.pop(line, None)
        line.close()

    def _start(self, function: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            with contextlib.suppress(SystemExit):  # serve_client ends so
                function(*arguments)
            with self._lock:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="manager", daemon=True)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._threads.discard(thread)
            raise

    def _living(self) -> list[threading.Thread]:
        with self._lock:
            return [thread for thread in self._threads if thread is not threading.current_thread()]

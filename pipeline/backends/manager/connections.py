"""TCP connections of the back end ``manager``: authenticated within a deadline, and ended when the other side is gone.

The connections are those of :mod:`multiprocessing.connection`, with its challenge in both directions. A message is
pickled and unpickled only after that. What is sent is signed by nobody and can be read on the way.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import weakref
from collections.abc import Iterator
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from time import perf_counter_ns
from typing import Any

from pipeline.backends.local.serialization import dump, receive, send
from pipeline.errors import ConfigError

__all__ = ["Address", "Line", "Listener", "arrived", "authenticate", "connect", "shut_all", "to_address", "to_text"]

Address = tuple[str, int]
"""Host and port; the port is 0 where any free one will do."""

_CONNECT = 5.0  # seconds
_HANDSHAKE = 10.0  # seconds for the whole of it, however slowly bytes come
_BACKLOG = 128  # connections that the system keeps until they are accepted: a fleet joins at once
# The other side is gone when it has not answered for 10 s: nobody tells when a machine vanishes or a cable is cut. The
# system answers also for a process that is stopped (Ctrl-Z), which messages of our own would take for gone.
_KEEPALIVE = (("TCP_KEEPIDLE", 4), ("TCP_KEEPALIVE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))  # s, s, s, probes
_UNANSWERED = 10_000  # ms

_here = threading.local()
_connected: weakref.WeakSet[Line] = weakref.WeakSet()  # by this process, as a client
_connecting = threading.Lock()


def to_address(text: str, what: str) -> Address:
    """Return host and port of ``HOST:PORT``, or ``[HOST]:PORT`` for IPv6.

    Parameters
    ----------
    what : the name of the option, for the message

    Raises
    ------
    ConfigError : if it is none

    >>> to_address("10.0.0.1:5000", "--join"), to_address("[::1]:5000", "--join")
    (('10.0.0.1', 5000), ('::1', 5000))
    """
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:\s]+)):(\d{1,5})", text.strip())
    if match is None or int(match[3]) > 65_535:
        raise ConfigError(f"{what}: got {text!r}; write HOST:PORT: 192.168.1.10:5000")
    return match[1] or match[2], int(match[3])


def to_text(address: Any) -> str:
    """Return ``HOST:PORT`` of the address of a socket.

    >>> to_text(("::1", 5000, 0, 0))
    '[::1]:5000'
    """
    host, port, *_ = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Line(Connection):
    """A connection over TCP; large buffers of a message are sent from where they are.

    Parameters
    ----------
    connected : a socket, which is taken over
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(None)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (*_KEEPALIVE, ("TCP_USER_TIMEOUT", _UNANSWERED)):
            if hasattr(socket, name):  # not all systems have all of them
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._closing = threading.Lock()
        super().__init__(connected.detach())

    def send(self, obj: Any) -> None:
        send(self, *dump(obj))

    def recv(self) -> Any:
        self.poll(None)
        _here.arrived = perf_counter_ns()
        return receive(self)[0]

    def close(self) -> None:
        with self._closing:
            super().close()

    def shut(self) -> None:
        """End the connection: whichever thread waits at it goes on at once, with an error."""
        with self._closing, contextlib.suppress(OSError):
            if not self.closed:
                with socket.socket(fileno=socket.dup(self.fileno())) as same:
                    same.shutdown(socket.SHUT_RDWR)


def arrived() -> int:
    """Return when the last message that this thread has received began to arrive, by ``perf_counter_ns``."""
    return getattr(_here, "arrived", 0)


@contextlib.contextmanager
def _deadline(line: Line) -> Iterator[None]:
    """Shut a connection whose handshake takes too long: a peer may be silent, or send a byte a minute."""
    timer = threading.Timer(_HANDSHAKE, line.shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def authenticate(line: Line, authkey: bytes) -> None:
    """Check that the client has the key, and prove to it that this process has it.

    Raises
    ------
    AuthenticationError : if it has another key
    OSError, EOFError : if it is no client of ours, or takes too long
    """
    with _deadline(line):
        deliver_challenge(line, authkey)
        answer_challenge(line, authkey)


def connect(address: Address, family: str | None = None, authkey: bytes | None = None) -> Line:
    """Return an authenticated connection to a server.

    Raises
    ------
    AuthenticationError : if the server has another key
    OSError, EOFError : if there is no server, or it does not answer as one of ours
    """
    line = Line(socket.create_connection(address, timeout=_CONNECT))
    try:
        with _deadline(line):
            answer_challenge(line, authkey or b"")
            deliver_challenge(line, authkey or b"")
    except BaseException:
        line.close()
        raise
    with _connecting:
        _connected.add(line)
    return line


def shut_all() -> None:
    """End the connections that this process has made to servers."""
    with _connecting:
        lines = list(_connected)
    for line in lines:
        line.shut()


class Listener:
    """Where a server accepts connections; none is authenticated yet.

    Raises
    ------
    OSError : if the address is not one of this machine, or in use
    """

    def __init__(self, address: Address, backlog: int = _BACKLOG) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        # multiprocessing asks for a backlog of 16 up to Python 3.11
        self._socket = socket.create_server(address, family=family, backlog=max(backlog, _BACKLOG))

    @property
    def address(self) -> Address:
        host, port, *_ = self._socket.getsockname()
        return host, port

    def accept(self) -> tuple[Line, str]:
        """Return the next connection, and the host that it comes from."""
        connected, peer = self._socket.accept()
        return Line(connected), str(peer[0])

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a thread that waits in accept goes on only after this
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

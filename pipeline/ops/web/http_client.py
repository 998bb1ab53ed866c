"""One connection to one site: every request has a deadline and a largest size, and no redirect is followed.

httpx limits the time of each read, so that a server which sends a byte a second is never given up. Here all reads and
writes of a request, with its connection and its headers, end at one deadline.
"""

# Rejected: asyncio.timeout around httpx.AsyncClient, which needs an event loop a thread, and fails in notebooks, whose
# thread has one that runs; httpx.HTTPTransport, which takes no network backend; httpx.Client, which makes a request of
# every redirect even where it is not to follow them, and raises if it can't.

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline.ops.web.turns import require_running
from pipeline.ops.web.urls import Site

__all__ = ["Answer", "HttpClient", "NoAnswer"]

_SLICE = 0.25  # seconds between looks at whether the run has ended
_DRAINED = 65_536  # bytes of a body that nobody wants but that keep the connection open for the next request


class NoAnswer(Exception):
    """No complete answer came; the text gives the reason.

    Parameters
    ----------
    late : whether the time was up
    asked : the header Retry-After
    """

    def __init__(self, reason: str, *, late: bool = False, asked: str = "") -> None:
        super().__init__(reason)
        self.late, self.asked = late, asked


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Parameters
    ----------
    headers : by lower-case name
    body : unpacked, at most as long as was asked for; empty where it was not wanted
    size : bytes of the body as it was sent; where it was not read to its end, as the server states it, else what was
        asked for at most if it was cut off, and 0 if it was not
    received : bytes of it that were read, as far as they were asked for
    note : why the body is not whole: cut off, or packed in an unknown way; empty if it is, or was not wanted
    failed : whether the body broke off, or did not end in time
    late : whether it did not end in time
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    size: int
    received: int
    seconds: float
    note: str = ""
    failed: bool = False
    late: bool = False


class HttpClient:
    """Requests to one site over one connection, which is kept open; for one thread at a time.

    No proxy of the environment is used, no cookie is kept, no password is taken from ``.netrc``.
    """

    def __init__(self, site: Site) -> None:
        import httpcore  # an optional dependency, slow to import

        self.site = site
        self._network = _Network()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context() if site.scheme == "https" else None,
            max_connections=1,
            network_backend=self._network,  # type: ignore[arg-type]
        )

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()

    def get(
        self,
        target: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        most: int,
        wanted: Callable[[int, Mapping[str, str]], bool] = lambda status, headers: True,
    ) -> Answer:
        """Request a path of the site.

        Parameters
        ----------
        target : path and query, percent-encoded
        timeout : seconds from connecting to the last byte
        most : bytes of the body, as it is sent and unpacked; the rest is cut off
        wanted : called with status and headers; whether the body is read

        Raises
        ------
        NoAnswer : if there is no connection, or no status in time
        """
        began = time.monotonic()
        self._network.begin(began + timeout)
        while True:
            try:
                return self._get(target, headers, began, timeout, most, wanted)
            except _Stale:
                if self._network.connected:  # a new connection failed in the same way
                    raise NoAnswer("the connection was closed without an answer") from None

    def _get(
        self,
        target: str,
        headers: Mapping[str, str],
        began: float,
        timeout: float,
        most: int,
        wanted: Callable[[int, Mapping[str, str]], bool],
    ) -> Answer:
        with _failures(timeout):
            response = self._pool.handle_request(self._request(target, headers))
        try:
            found = _by_name(response.headers)
            body = _Body(response.iter_stream(), found, most if wanted(response.status, found) else 0)
            try:
                with _failures(timeout):
                    body.read()
            except (NoAnswer, _Stale) as error:
                body.note, body.failed = str(error) or "the body broke off", True
                body.late = isinstance(error, NoAnswer) and error.late
        finally:
            with suppress(Exception):
                response.close()
        return Answer(
            response.status,
            found,
            bytes(body.data),
            body.size,
            body.received,
            time.monotonic() - began,
            body.note,
            body.failed,
            body.late,
        )

    def _request(self, target: str, headers: Mapping[str, str]) -> Any:
        """Return the request of httpcore; it goes to the site, whatever the target is."""
        import httpcore
        import httpx

        site = self.site
        made = httpx.Request(
            "GET", f"{site}{target}", headers={"Accept-Encoding": "gzip", "Connection": "keep-alive", **headers}
        )
        url = httpcore.URL(
            scheme=site.scheme.encode(), host=site.host.encode(), port=site.port, target=made.url.raw_path
        )
        return httpcore.Request("GET", url, headers=made.headers.raw)


def _by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; each is read as UTF-8, or as Latin-1 if it is none."""
    import httpx

    found: dict[str, str] = {}
    for pair in headers:
        ((name, value),) = httpx.Headers([pair]).items()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


class _Body:
    """Reads a body within its limits. State: grows until its end, or until a limit is reached."""

    def __init__(self, chunks: Iterable[bytes], headers: Mapping[str, str], most: int) -> None:
        self.chunks, self.most = chunks, most
        length = headers.get("content-length", "")
        self.stated = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else -1
        self.coding = headers.get("content-encoding", "").strip().lower()
        self.data = bytearray()
        self.received, self.note, self.failed, self.late = 0, "", False, False
        self.is_whole = self.is_cut = self.is_open = False  # open: a packed body whose end has not come

    @property
    def size(self) -> int:
        if self.is_whole or self.stated >= 0:
            return self.received if self.is_whole else self.stated
        return self.most if self.is_cut else 0

    def read(self) -> None:
        unpack = self._unpacker()
        if not self.most and not 0 <= self.stated <= _DRAINED:
            return  # closing the connection costs less than the body
        limit = self.most or _DRAINED
        for chunk in self.chunks:
            self.received += len(chunk)
            if self.most and unpack is not None:
                self.data += unpack(chunk, self.most + 1 - len(self.data))
            if self.received > limit or len(self.data) > limit:
                del self.data[self.most :]
                self.received, self.is_cut = min(self.received, limit), True
                self.note = f"cut off after {self.most:,} bytes" if self.most else ""
                return
        self.is_whole = True
        if self.is_open:
            raise NoAnswer("the body broke off")

    def _unpacker(self) -> Callable[[bytes, int], bytes] | None:
        if self.coding in ("", "identity"):
            return lambda chunk, most: chunk
        if self.coding not in ("gzip", "x-gzip", "deflate"):
            self.note = f"the body is packed as {self.coding[:40]!r}, which was not asked for"
            return None
        wbits = 47 if self.coding != "deflate" else zlib.MAX_WBITS
        packed = zlib.decompressobj(wbits)

        def unpack(chunk: bytes, most: int) -> bytes:
            nonlocal packed
            found = b""
            while chunk and len(found) < most:
                if packed.eof:
                    if not chunk.startswith(b"\x1f"):  # padding after the last member
                        break
                    packed = zlib.decompressobj(wbits)
                try:
                    found += packed.decompress(chunk, most - len(found))
                except zlib.error:
                    raise NoAnswer("the body can't be unpacked") from None
                chunk = packed.unused_data
            self.is_open = not packed.eof
            return found

        return unpack


class _Stale(Exception):
    """The connection was closed before an answer came, as a server may do with one that it has kept open."""


@contextmanager
def _failures(timeout: float) -> Iterator[None]:
    """Raise what httpcore and httpx report as NoAnswer, with one text for one cause."""
    import httpcore
    import httpx

    try:
        yield
    except httpcore.TimeoutException:
        raise NoAnswer(f"no end within {timeout:g} s", late=True) from None
    except httpcore.ConnectError as error:
        why = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
        raise NoAnswer(f"no connection: {why}") from None
    except (httpcore.ReadError, httpcore.WriteError):
        raise _Stale from None
    except httpcore.RemoteProtocolError as error:
        if "without sending" in str(error) or "without response" in str(error):
            raise _Stale from None
        raise NoAnswer(f"no valid HTTP: {error}") from None
    except (httpcore.ProtocolError, httpcore.NetworkError, httpx.InvalidURL, UnicodeError) as error:
        raise NoAnswer(f"no valid HTTP: {error}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Below httpcore
# ---------------------------------------------------------------------------------------------------------------------


class _Network:
    """A network backend of httpcore whose streams obey the deadline of the request."""

    def __init__(self) -> None:
        self.deadline = 0.0
        self.connected = False

    def begin(self, deadline: float) -> None:
        """Begin a request."""
        self.deadline, self.connected = deadline, False

    def left(self) -> float:
        """Return the seconds until the deadline.

        Raises
        ------
        httpcore.ReadTimeout : if it has passed
        """
        import httpcore

        require_running()
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left

    def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
        """See ``httpcore.NetworkBackend``."""
        import httpcore

        self.connected = True
        options["timeout"] = self.left()
        return _Stream(self, httpcore.SyncBackend().connect_tcp(host, port, **options))

    def sleep(self, seconds: float) -> None:
        """See ``httpcore.NetworkBackend``; between tries to connect, of which there is one."""
        time.sleep(seconds)


class _Stream:
    """A stream of httpcore that obeys a deadline instead of a timeout of its own."""

    def __init__(self, network: _Network, stream: Any) -> None:
        self._network, self._stream = network, stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        import httpcore

        while True:
            try:
                data: bytes = self._stream.read(max_bytes, timeout=min(self._network.left(), _SLICE))
                return data
            except httpcore.ReadTimeout:
                self._network.left()  # raises at the deadline

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=self._network.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        started = self._stream.start_tls(ssl_context, server_hostname, timeout=self._network.left())
        return _Stream(self._network, started)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@cache
def _ssl_context() -> Any:
    import httpx

    return httpx.create_ssl_context()

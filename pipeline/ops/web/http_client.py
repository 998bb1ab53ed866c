"""One connection to one site: every request has a deadline and a largest size, and no redirect is followed.

httpx limits the time of each read, so that a server which sends a byte a second is never given up. Here all reads and
writes of a request, with its connection and its headers, end at one deadline.
"""

# Rejected: asyncio.timeout around httpx.AsyncClient, which needs an event loop a thread, and fails in notebooks, whose
# thread has one that runs; httpx.HTTPTransport, which takes no network backend.

from __future__ import annotations

import http.cookiejar
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
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
    """No complete answer came; the text gives the reason."""


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
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    size: int
    received: int
    seconds: float
    note: str = ""
    failed: bool = False


class HttpClient:
    """Requests to one site over one connection, which is kept open; for one thread at a time.

    No proxy of the environment is used, no cookie is kept, no password is taken from ``.netrc``.
    """

    def __init__(self, site: Site) -> None:
        import httpx  # an optional dependency, slow to import

        self.site = site
        self._network = _Network()
        jar = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.Client(transport=_transport(site, self._network), cookies=jar, trust_env=False)
        self._client.headers.clear()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

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
        request = self._client.build_request(
            "GET", f"{self.site}{target}", headers={"Accept-Encoding": "gzip", "Connection": "keep-alive", **headers}
        )
        with _failures(timeout):
            response = self._client.send(request, stream=True)
        try:
            found = {name.lower(): value for name, value in response.headers.items()}
            body = _Body(response, found, most if wanted(response.status_code, found) else 0)
            try:
                with _failures(timeout):
                    body.read()
            except (NoAnswer, _Stale) as error:
                body.note, body.failed = str(error) or "the body broke off", True
        finally:
            with suppress(Exception):
                response.close()
        seconds = time.monotonic() - began
        return Answer(
            response.status_code, found, bytes(body.data), body.size, body.received, seconds, body.note, body.failed
        )


class _Body:
    """Reads a body within its limits. State: grows until its end, or until a limit is reached."""

    def __init__(self, response: Any, headers: Mapping[str, str], most: int) -> None:
        self.response, self.most = response, most
        length = headers.get("content-length", "")
        self.stated = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else -1
        self.coding = headers.get("content-encoding", "").strip().lower()
        self.data = bytearray()
        self.received, self.note, self.failed = 0, "", False
        self.is_whole = self.is_cut = False

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
        for chunk in self.response.iter_raw():
            self.received += len(chunk)
            if self.most and unpack is not None:
                self.data += unpack(chunk, self.most + 1 - len(self.data))
            if self.received > limit or len(self.data) > limit:
                del self.data[self.most :]
                self.received, self.is_cut = min(self.received, limit), True
                self.note = f"cut off after {self.most:,} bytes" if self.most else ""
                return
        self.is_whole = True

    def _unpacker(self) -> Callable[[bytes, int], bytes] | None:
        if self.coding in ("", "identity"):
            return lambda chunk, most: chunk
        if self.coding not in ("gzip", "x-gzip", "deflate"):
            self.note = f"the body is packed as {self.coding[:40]!r}, which was not asked for"
            return None
        packed = zlib.decompressobj(wbits=47 if self.coding != "deflate" else zlib.MAX_WBITS)

        def unpack(chunk: bytes, most: int) -> bytes:
            try:
                return packed.decompress(chunk, max(most, 1))
            except zlib.error:
                raise NoAnswer("the body can't be unpacked") from None

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
        raise NoAnswer(f"no end within {timeout:g} s") from None
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
# Below httpx
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


def _transport(site: Site, network: _Network) -> Any:
    """Return a transport of httpx that connects to one site, whatever the URL of a request is."""
    import httpcore
    import httpx

    pool = httpcore.ConnectionPool(
        ssl_context=_ssl_context() if site.scheme == "https" else None,
        max_connections=1,
        network_backend=network,  # type: ignore[arg-type]
    )

    class Stream(httpx.SyncByteStream):
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            yield from self._stream

        def close(self) -> None:
            self._stream.close()

    class Transport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            url = httpcore.URL(
                scheme=site.scheme.encode(),
                host=site.host.encode(),
                port=site.port,
                target=request.url.raw_path,
            )
            sent = httpcore.Request(request.method, url, headers=request.headers.raw, content=b"")
            answered = pool.handle_request(sent)
            return httpx.Response(answered.status, headers=answered.headers, stream=Stream(answered.stream))

        def close(self) -> None:
            pool.close()

    return Transport()

"""A web site of 300 pages on loopback with every kind of broken link, and what a crawl of it must find.

:class:`Site` serves it from threads of this process and counts the requests; :func:`truth` is the table of its links.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

__all__ = ["SECTIONS", "Server", "Site", "truth"]

SECTIONS = 10
PNG = b"\x89PNG\r\n\x1a\n"


BOMB = gzip.compress(b"<a href='/in-bomb'>x</a>" + b" " * 20_000_000 + b"<a href='/behind-bomb'>", 1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        self.server.agents.add(self.headers.get("User-Agent", ""))
        self.server.times.append(time.monotonic())
        with contextlib.suppress(OSError):
            self.server.answer(self)

    def send(
        self, status: int, body: bytes | str = b"", kind: str = "text/html; charset=utf-8", **headers: str
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A server of this process; ``requests`` counts the paths that were asked for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Callable[[Handler], None] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.times: list[float] = []
        self.closing = threading.Event()
        if answer is not None:
            self.answer = answer  # type: ignore[method-assign]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, request: Handler) -> None:
        request.send(200, "<p>here")

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that close their end

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


def page(*links: str, head: str = "") -> str:
    return f"<!doctype html><html><head>{head}</head><body>{''.join(links)}</body></html>"


def a(href: str) -> str:
    return f'<p><a href="{href}">x</a>'


ROBOTS = "User-agent: *\nDisallow: /\n\nUser-agent: pipeline\nDisallow: /private/\nAllow: /private/open\n"


class Site(Server):
    """The site.

    Parameters
    ----------
    other : the address of another one, which nothing may be asked of
    pages : in each of 10 sections: 28 make 291 pages, and 80 odd links
    slow : whether there are links to what takes for ever
    """

    def __init__(self, other: str, *, pages: int = 28, slow: bool = False) -> None:
        super().__init__()
        self.other, self.pages, self.slow = other, pages, slow

    def odd_links(self) -> list[str]:
        """The links of /odd."""
        port = self.server_port
        places = [
            *("missing", "gone410", "error", "busy", "forbidden", "closes", "garbage", "short", "badzip", "bomb"),
            *("endless", "large", "text", "latin1", "base/", "r/ok", "r/chain", "r/loop", "r/self", "r/many", "r/off"),
            *(
                "r/slashes",
                "r/none",
                "r/bad",
                "r/ftp",
                "r/password",
                "r/dead",
                "r/private",
                "private/x",
                "private/open",
            ),
            *("calendar/1", "session?id=1", "deep/", "longer?x=1", "brotli", "noscript", "r/upper", "r/tab", "r/mail"),
            *("r/script", "r/letter", "r/idn", "cutzip", "members"),
        ]
        if self.slow:
            places += ["slowbody", "slowhead"]
        return [
            *map(a, places),
            *map(a, ["mailto:a@example.org", "tel:+1", "ftp://127.0.0.1/x", "javascript:void(0)", "data:text/html,x"]),
            *map(a, ["http://[bad", "http://127.0.0.1:99999/", f"http://u:secret@127.0.0.1:{port}/page/0/0"]),
            *map(a, [f"{self.other}/direct", f"https://127.0.0.1:{port}/tls", f"http://localhost:{port}/name"]),
            a(f"//{self.other.removeprefix('http://')}/slashes"),
            a(f"/\\{self.other.removeprefix('http://')}/backslash"),
            *map(a, ["/page/./0/../0/0#part", f"HTTP://127.0.0.1:{port}/%70age/0/0", "  /page/0/0\n", "?", "#top"]),
            '<img src="/img/dead.png" srcset="/img/0.png 1x, /img/dead2.png 2x"><script src="/dead.js"></script>',
            '<link rel="stylesheet" href="/dead.css"><iframe src="/dead-frame"></iframe><link rel="icon" href="/icon">',
            '<video poster="/poster.png"><source src="/film.mp4"></video><object data="/thing"></object>',
            "<script>var x = '<a href=\"/in-script\">'</script><!-- <a href='/in-comment'> -->",
            '<meta http-equiv="refresh" content="5; url=/refreshed">',
            a("/" + "y" * 3000),
        ]

    def answer(self, request: Handler) -> None:
        path, _, query = request.path.partition("?")
        names = [name for name in path.split("/") if name]
        first = names[0] if names else ""
        name = re.sub(r"\W", "_", first) if first else "index"
        handler = getattr(self, f"do_{name}", None)
        if handler is not None:
            handler(request, names[1:], query)
        else:
            request.send(404, page(a("/only-on-404")))

    def do_index(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(200, page(*(a(f"section/{s}") for s in range(SECTIONS)), a("odd")))

    def do_robots_txt(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(200, ROBOTS, "text/plain")

    def do_section(self, request: Handler, rest: list[str], query: str) -> None:
        (s,) = rest
        request.send(
            200, page(*(a(f"../page/{s}/{i}") for i in range(self.pages)), a("/"), f'<img src="/img/{s}.png">')
        )

    def do_page(self, request: Handler, rest: list[str], query: str) -> None:
        s, i = rest
        body = page(a("/"), a(str((int(i) + 1) % self.pages)), a(f"/dead/{s}"), f'<img src="/img/{s}.png">')
        request.send(200, gzip.compress(body.encode()), Content_Encoding="gzip")

    def do_odd(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(200, page(*self.odd_links()))

    def do_img(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(404 if "dead" in rest[0] else 200, PNG, "image/png")

    def do_gone410(self, request: Handler, *_: Any) -> None:
        request.send(410)

    def do_error(self, request: Handler, *_: Any) -> None:
        request.send(500)

    def do_busy(self, request: Handler, *_: Any) -> None:
        request.send(503, Retry_After="1")

    def do_forbidden(self, request: Handler, *_: Any) -> None:
        request.send(403)

    def do_closes(self, request: Handler, *_: Any) -> None:
        request.close_connection = True

    def do_garbage(self, request: Handler, *_: Any) -> None:
        request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        request.close_connection = True

    def do_short(self, request: Handler, *_: Any) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 500\r\n\r\n<a href='/cut'>")
        request.close_connection = True

    def do_badzip(self, request: Handler, *_: Any) -> None:
        request.send(200, b"\x1f\x8b\x08no gzip", Content_Encoding="gzip")

    def do_cutzip(self, request: Handler, *_: Any) -> None:
        request.send(200, gzip.compress(page(a("/cut")).encode())[:-9], Content_Encoding="gzip")

    def do_members(self, request: Handler, *_: Any) -> None:
        data = b"".join(gzip.compress(a(f"/in-{name}").encode()) for name in ("first", "second"))
        request.send(200, data + bytes(8), Content_Encoding="gzip")

    def do_bomb(self, request: Handler, *_: Any) -> None:
        request.send(200, BOMB, Content_Encoding="gzip")

    def do_brotli(self, request: Handler, *_: Any) -> None:
        request.send(200, b"\x0b\x02\x80<a href='/in-brotli'>\x03", Content_Encoding="br")

    def do_endless(self, request: Handler, *_: Any) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<a href='/in-endless'>")
        while not self.closing.is_set():
            request.wfile.write(b"<p>more" * 1000)

    def _slowly(self, request: Handler, data: bytes) -> None:
        for byte in data:
            if self.closing.wait(0.05):
                break
            request.wfile.write(bytes([byte]))

    def do_slowbody(self, request: Handler, *_: Any) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<a href='/in-slow'>")
        self._slowly(request, b"x" * 10_000)

    def do_slowhead(self, request: Handler, *_: Any) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._slowly(request, b"X-Long: " + b"x" * 10_000)

    def do_large(self, request: Handler, *_: Any) -> None:
        request.send(200, page(a("/in-large"), " " * 300_000, a("/behind-large")))

    def do_text(self, request: Handler, *_: Any) -> None:
        request.send(200, page(a("/in-text")), "text/plain")

    def do_latin1(self, request: Handler, *_: Any) -> None:
        request.send(200, page(a("caf\xe9?q=\xe9")).encode("latin-1"), "text/html; charset=iso-8859-1")

    def do_base(self, request: Handler, *_: Any) -> None:
        request.send(200, page(a("relative"), head='<base href="/elsewhere/">'))

    def do_noscript(self, request: Handler, *_: Any) -> None:
        request.send(200, page("<noscript><a href='/in-noscript'></noscript><svg><a xlink:href='/in-svg'></a></svg>"))

    def do_calendar(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(200, page(a(f"/calendar/{int(rest[0]) + 1}")))

    def do_session(self, request: Handler, rest: list[str], query: str) -> None:
        n = int(parse_qs(query)["id"][0]) * 2
        request.send(200, page(a(f"/session?id={n}"), a(f"/session?id={n + 1}")))

    def do_deep(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(200, page(a("deep/")))

    def do_longer(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(200, page(a(f"/longer?{query}{'1' * 700}")))

    def do_private(self, request: Handler, rest: list[str], query: str) -> None:
        request.send(200, page(a("/in-private")))

    def do_r(self, request: Handler, rest: list[str], query: str) -> None:
        (name, *more) = rest
        n = int(more[0]) if more else 0
        places = {
            "ok": "/page/1/1#part",
            "chain": f"/r/chain/{n + 1}" if n < 3 else "../../page/2/2",
            "loop": f"/r/loop/{1 - n}",
            "self": "/r/self",
            "many": f"/r/many/{n + 1}",
            "off": f"{self.other}/redirected",
            "slashes": f"//{self.other.removeprefix('http://')}/redirected",
            "bad": "http://[bad",
            "ftp": "ftp://127.0.0.1/x",
            "password": f"http://u:secret@127.0.0.1:{self.server_port}/page/0/1",
            "dead": "/missing",
            "private": "/private/y",
            "upper": f"HTTP://127.0.0.1:{self.server_port}/page/3/3",
            "tab": "/page/\t0/0",
            "mail": "mailto:a@example.org",
            "script": "javascript:void(0)",
            "letter": "/ü".encode().decode("latin-1"),
            "idn": "http://bücher.example/".encode().decode("latin-1"),
        }
        request.send(302, **({"Location": places[name]} if name in places else {}))


def truth(site: Site) -> dict[str, tuple[str, int, str]]:
    """URL -> result, status and the beginning of the reason, with ``depth: 3, page_bytes: 200kB``."""
    url = site.url
    found: dict[str, tuple[str, int, str]] = {f"{url}/": ("ok", 200, "")}
    found |= {f"{url}/section/{s}": ("ok", 200, "") for s in range(SECTIONS)}
    found |= {f"{url}/page/{s}/{i}": ("ok", 200, "") for s in range(SECTIONS) for i in range(site.pages)}
    found |= {f"{url}/dead/{s}": ("dead", 404, "Not Found") for s in range(SECTIONS)}
    found |= {f"{url}/img/{s}.png": ("ok", 200, "") for s in range(SECTIONS)}
    ok = ["odd", "large", "text", "latin1", "base/", "private/open"]
    ok += ["calendar/1", "calendar/2", "session?id=1", "session?id=2", "session?id=3", "deep/", "deep/deep/"]
    ok += ["longer?x=1", f"longer?x=1{'1' * 700}"]
    ok += ["endless", "bomb", "brotli", "noscript", "r/ok", "r/chain", "r/upper", "members"]
    found |= {f"{url}/{name}": ("ok", 200, "") for name in ok}
    for name, reason in {
        "large": "cut off after 200,000 bytes",
        "endless": "cut off after 200,000 bytes",
        "bomb": "cut off after 200,000 bytes",
        "brotli": "the body is packed as 'br'",
    }.items():
        found[f"{url}/{name}"] = "ok", 200, reason
    missing = ["missing", "img/dead.png", "img/dead2.png", "dead.js", "dead.css", "dead-frame", "icon", "poster.png"]
    missing += [
        "film.mp4",
        "thing",
        "refreshed",
        "r/dead",
        "in-large",
        "in-endless",
        "in-bomb",
        "in-noscript",
        "in-svg",
    ]
    missing += ["elsewhere/relative", "caf%C3%A9?q=%E9", "in-private", "r/letter", "in-first", "in-second"]
    found |= {f"{url}/{name}": ("dead", 404, "Not Found") for name in missing}
    found |= {
        f"{url}/gone410": ("dead", 410, "Gone"),
        f"{url}/error": ("dead", 500, "Internal Server Error"),
        f"{url}/busy": ("dead", 503, "Service Unavailable"),
        f"{url}/forbidden": ("dead", 403, "Forbidden"),
        f"{url}/closes": ("dead", 0, "the connection was closed without an answer"),
        f"{url}/garbage": ("dead", 0, "no valid HTTP"),
        f"{url}/short": ("dead", 200, "the body broke off"),
        f"{url}/badzip": ("dead", 200, "the body can't be unpacked"),
        f"{url}/cutzip": ("dead", 200, "the body broke off"),
        f"{url}/r/loop": ("dead", 302, "redirects in a loop"),
        f"{url}/r/self": ("dead", 302, "redirects in a loop"),
        f"{url}/r/none": ("dead", 302, "redirects to no URL"),
        f"{url}/r/bad": ("dead", 302, "redirects to what is no valid URL"),
        f"{url}/r/tab": ("dead", 302, "redirects to what is no valid URL"),
        f"{url}/r/mail": ("skipped", 302, "redirects to what mailto: is not requested"),
        f"{url}/r/script": ("skipped", 302, "redirects to what javascript: is not requested"),
        f"{url}/r/idn": ("off-site", 302, "redirects to another site"),
        f"{url}/r/many": ("skipped", 302, "limit: 5 redirects"),
        f"{url}/r/off": ("off-site", 302, "redirects to another site"),
        f"{url}/r/slashes": ("off-site", 302, "redirects to another site"),
        f"{url}/r/ftp": ("skipped", 302, "redirects to what ftp: is not requested"),
        f"{url}/r/password": ("skipped", 302, "redirects to what has a user name or password"),
        f"{url}/r/private": ("skipped", 302, "robots.txt disallows it"),
        f"{url}/private/x": ("skipped", 0, "robots.txt disallows it"),
        f"{url}/{'y' * 3000}"[:2000]: ("skipped", 0, "is longer than 2,000 characters"),
        f"http://***@127.0.0.1:{site.server_port}/page/0/0": ("skipped", 0, "has a user name or password"),
        "mailto:a@example.org": ("skipped", 0, "mailto: is not requested"),
        "tel:+1": ("skipped", 0, "tel: is not requested"),
        "ftp://127.0.0.1/x": ("skipped", 0, "ftp: is not requested"),
        "http://[bad": ("dead", 0, "is no valid URL"),
        "http://127.0.0.1:99999/": ("dead", 0, "is no valid URL"),
        f"{site.other}/direct": ("off-site", 0, ""),
        f"{site.other}/slashes": ("off-site", 0, ""),
        f"{site.other}/backslash": ("off-site", 0, ""),
        f"https://127.0.0.1:{site.server_port}/tls": ("off-site", 0, ""),
        f"http://localhost:{site.server_port}/name": ("off-site", 0, ""),
    }
    if site.slow:
        found[f"{url}/slowbody"] = "dead", 200, "no end within"
        found[f"{url}/slowhead"] = "dead", 0, "no end within"
    return found

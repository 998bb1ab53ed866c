"""A web service that knows the pets of people, slowly: ``python configs/pets.py`` compares back ends on it.

Other commands run while it is there: ``python configs/pets.py pipeline run configs/pets.yaml --backend threads``.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).parent
COMPARE = ["compare", str(HERE / "pets.yaml"), "--backends", "threads,processes", "--workers", "16"]


@contextmanager
def service(path: Path, delay: float = 0.03) -> Iterator[str]:
    """The address of a service that answers ``/pets?owner=ID`` from a CSV file, each time after ``delay`` seconds."""
    pets: dict[str, list[dict[str, object]]] = defaultdict(list)
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            pets[row["owner"]].append({"name": row["name"], "kind": row["kind"], "age": int(row["age"])})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            time.sleep(delay)
            (owner,) = parse_qs(urlsplit(self.path).query)["owner"]
            body = json.dumps(pets.get(owner, [])).encode()
            self.send_response(200 if owner in pets else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main(arguments: list[str]) -> int:
    command = arguments[1:] if arguments[:1] == ["pipeline"] else arguments or COMPARE
    with service(HERE.parent / "data" / "pets" / "pets.csv") as address:
        started = [sys.executable, "-m", "pipeline", *command, "--set", f"service={address}"]
        return subprocess.run(started, env=os.environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

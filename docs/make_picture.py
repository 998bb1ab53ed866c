"""Make docs/report.png, the picture of a report on the README: a comparison, and its page in a headless browser.

    python docs/make_picture.py

Its tasks wait, as for a server, so that the machine need not be quiet. It needs chromium. What the terminal shows
of the same comparison is printed, for the README.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pipeline
from pipeline.report.terminal import comparison_text

FUNCTIONS = """
import time

def ask(city):
    time.sleep(0.25)
    return {"city": city, "degrees": 10 + city % 7}

def mean(answers):
    return sum(answer["degrees"] for answer in answers) / len(answers)
"""
FILE = """
version: 1
name: cities
modules: [./cities.py]
steps:
  asked: {call: "cities:ask", over: {city: {range: 24}}}
  mean: {call: "cities:mean", args: {answers: "${asked}"}}
outputs:
  mean: {to: json, path: mean.json}
"""
FLAGS = ("--no-sandbox", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--hide-scrollbars", "--virtual-time-budget=5000")  # fmt: skip
SIZE = "1100,450"
LARGEST = 150_000  # bytes


def screenshot(page: Path, to: Path, profile: Path) -> None:
    """Write the first screen of a page as PNG."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("make_picture needs chromium: apt-get install chromium")
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", f"--screenshot={to}", f"--window-size={SIZE}"]
    subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)


def main() -> None:
    """Compare back ends on the file, and write the picture beside this script."""
    picture = Path(__file__).with_name("report.png").resolve()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cities.py").write_text(FUNCTIONS)
        (folder / "cities.yaml").write_text(FILE)
        found = pipeline.load(folder / "cities.yaml").compare(
            backends=["threads", "processes"], workers=2, runs=folder / "runs", tell=print
        )
        screenshot(Path(found.folder) / "report.html", picture, folder / "profile")
        size = picture.stat().st_size
        if size >= LARGEST:
            raise SystemExit(f"{picture} has {size:,} bytes; at most {LARGEST:,} are wanted: use a smaller SIZE")
        print(f"{picture}: {size:,} bytes\n\n{comparison_text(found)}")


if __name__ == "__main__":
    sys.exit(main())

"""What the program prints can't change a terminal, wherever the text comes from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.backends.events import Note
from pipeline.report.people_stream import PeopleStream
from pipeline.report.progress import LiveTable

EVIL = "\x1b[31m\x9b2J\u202e\x07"
"""An escape sequence, one of the C1 block, a mark that turns the direction of text, a bell."""

SHOWN = "\\x1b[31m\\x9b2J\\u202e\\x07"
MODULE = """
def use(n, evil, fail):
    print("printed", evil)
    if fail:
        raise ValueError("failed " + evil)
    return evil
"""


def controls(text: str) -> set[str]:
    return {letter for letter in text if not letter.isprintable()} - {"\n", "\t"}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in a folder with a file full of such characters; return all that it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    text = EVIL.encode("unicode_escape").decode()
    (tmp_path / "a.yaml").write_text(
        f'version: 1\nname: "a"\nmodules: [./mine.py]\nparams: {{evil: "{text}", fail: false}}\nsteps:\n'
        '  f: {call: "mine:use", over: {n: ["${evil}", 2]}, args: {evil: "${evil}", fail: "${fail}"}}\n'
        '  g: {call: "mine:use", matrix: {m: [x]}, args: {n: "${f}", evil: "${evil}", fail: false}}\n'
        'outputs: {f: {to: json, path: "out/${key}.json"}}\nkeep: [g]\n'
    )

    def run(*arguments: str, code: int = 0) -> str:
        assert cli.main(list(arguments)) == code
        return "".join(capsys.readouterr())

    return run


def test_no_command_prints_control_characters(command: Callable[..., str], tmp_path: Path) -> None:
    ran = command("run", "a.yaml", "--backend", "serial")
    failed = command("run", "a.yaml", "--backend", "serial", "--set", "fail=true", "--debug", code=1)
    others = [
        command("check", "a.yaml"),
        command("check", "a.yaml", "--resolved"),
        command("check", f"{EVIL}.yaml", code=2),
        command("show", "a.yaml", "f"),
        command("show", "a.yaml", f"g[{EVIL}]", code=2),
        command("graph", "a.yaml"),
        command("runs"),
        command("diff", "a", "a~1"),
        command("run", "a.yaml", "--no-such", EVIL, code=2),
        command(EVIL, code=2),
    ]
    assert f"printed {SHOWN}" in ran
    assert f"failed {SHOWN}" in failed.splitlines()[-1]
    assert "Traceback" in failed
    assert [text for text in (ran, failed, *others) if controls(text)] == []


def test_the_live_table_cleans_all_but_its_own_codes() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = Terminal()
    with LiveTable(PeopleStream(file, lambda text: text.replace("hunter2", "***"))) as table:
        table(Note(f"note {EVIL} hunter2"))
        print(f"beside {EVIL} hunter2")
    text = file.getvalue()
    assert f"note {SHOWN} ***" in text
    assert f"beside {SHOWN} ***" in text
    assert "\x1b[31m" not in text
    assert not controls(text) & set("\x9b\u202e\x07")

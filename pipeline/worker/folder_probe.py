"""Whether a worker sees a folder of the client, as the same user."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["is_seen_by", "look"]


def look(token: str, content: str, uid: int) -> str:
    """Return the name of a file that this process wrote beside the client's; empty if it does not see that, or can't.

    Parameters
    ----------
    token, content : path and content of a file of the client
    uid : the user that the client is
    """
    path = Path(token)
    try:
        if os.geteuid() != uid or os.lstat(path).st_uid != uid or path.read_text() != content:
            return ""
        name = f".seen-{secrets.token_hex(8)}"
        os.close(os.open(path.with_name(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:
        return ""
    return name


def is_seen_by(folder: str, ask: Callable[[str, str, int], Iterable[str]]) -> bool:
    """Return whether all workers see a folder, and write to it as this user.

    Parameters
    ----------
    folder : that exists
    ask : calls :func:`look` with these arguments on every worker, and returns what they return
    """
    token, content = Path(folder, f".probe-{secrets.token_hex(8)}"), secrets.token_hex(16)
    seen: list[str] = []
    try:
        with open(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(content)
        seen = list(ask(str(token), content, os.geteuid()))
        return all(name and os.lstat(token.with_name(name)).st_uid == os.geteuid() for name in seen)
    except OSError:  # the client can't write there itself, or does not see what a worker wrote
        return False
    finally:
        for path in (token, *(token.with_name(name) for name in seen if name)):
            with contextlib.suppress(OSError):
                path.unlink()

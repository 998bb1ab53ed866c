"""The folder of this machine in which Pipeline keeps facts and results between runs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["local_cache_folder"]


def local_cache_folder() -> Path | None:
    """Return the local cache folder, made with mode 0700 if it did not exist; None if it can't be used.

    It is ``$PIPELINE_CACHE``, else ``$XDG_CACHE_HOME/pipeline``, else ``~/.cache/pipeline``. A folder of another user,
    or one that others may write to, is not used, since it could hold what others made. Nothing is raised: a home folder
    that can't be written only means that nothing is kept.
    """
    folder = _configured()
    if folder is None:
        return None
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    ours = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if ours and stat.S_ISDIR(status.st_mode) else None


def _configured() -> Path | None:
    if given := os.environ.get("PIPELINE_CACHE"):
        return Path(given).absolute()
    xdg = Path(os.environ.get("XDG_CACHE_HOME") or "")
    if xdg.is_absolute():  # a relative one is to be ignored, as the XDG specification has it
        return xdg / "pipeline"
    home = Path(os.path.expanduser("~"))
    return home / ".cache" / "pipeline" if home.is_absolute() else None

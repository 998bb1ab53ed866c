"""The key that a manager and its workers share: read from a file that nobody else can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import ConfigError

__all__ = ["read_authkey"]

_LEAST, _MOST = 16, 4_096  # bytes
_MAKE = "(umask 077; openssl rand -hex 32 > {})"


def read_authkey(path: str | os.PathLike[str], option: str = "authkey_file") -> bytes:
    """Return the key in a file, without white space around it.

    Parameters
    ----------
    option : the name of the option that gives the path, for messages

    Raises
    ------
    ConfigError : if it can't be read, others can read it, or it is too short to be a secret
    """
    name, make = os.fspath(path), _MAKE.format(os.fspath(path))
    try:
        # a pipe that nobody writes to would be waited for
        descriptor = os.open(Path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            data = os.read(descriptor, _MOST + 1) if stat.S_ISREG(status.st_mode) else None
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise ConfigError(f"{option}: {name}: there is no such file; make it: {make}") from error
    except OSError as error:
        raise ConfigError(f"{option}: {name}: can't be read: {error.strerror}") from error
    if data is None:
        raise ConfigError(f"{option}: {name}: is no regular file; make one: {make}")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"{option}: {name}: others can read or write it (mode {mode:04o}); make it your own: chmod 600 {name}"
        )
    key = data.strip()
    if not _LEAST <= len(key) <= _MOST:
        raise ConfigError(
            f"{option}: {name}: got {len(key):,} bytes; a key has {_LEAST} to {_MOST:,} bytes; make one: {make}"
            if len(data) <= _MOST
            else f"{option}: {name}: is longer than {_MOST:,} bytes; make one: {make}"
        )
    return key

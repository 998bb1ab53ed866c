"""The command line: argv -> one public call -> text and an exit code.

What a command prints is made in ``report/``. Nothing here imports numpy or dask before a file is loaded, so that
``--help`` and errors in a file are answered quickly (a test checks ``sys.modules``).

program   Run the program: the exit code, messages for errors.
signals   Ctrl-C and SIGTERM as exceptions that end the program once.
session   What commands share: common options, the state of one call, loading a file.
run       ``run``, ``compare``, ``check``
show      ``show``, ``debug``
graph     ``graph``
explain   ``explain``
history   ``runs``, ``diff``, ``report``
verify    ``verify``
cache     ``cache``
tour      ``tour``
worker    ``worker``
language  ``ops``, ``schema``
"""

from __future__ import annotations

from pipeline.cli.program import main
from pipeline.cli.signals import Terminated

__all__ = ["Terminated", "main"]

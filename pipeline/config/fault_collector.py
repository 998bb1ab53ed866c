"""Collecting the faults of a file, so that all of them can be told at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ConfigError, Fault, Location

__all__ = ["ConfigFault", "FaultCollector"]

_MOST = 200
"""More faults than this say nothing new, and the copies of one step may all have the same."""


class ConfigFault(Exception):
    """A fault that ends what is being read; :meth:`FaultCollector.caught` collects it.

    Parameters
    ----------
    consequence : whether it only follows from a fault that is noted already, and would only hide that one
    """

    def __init__(self, location: Location, path: str, message: str, *, consequence: bool = False) -> None:
        self.fault, self.consequence = Fault(location, path, message), consequence
        super().__init__(str(self.fault))


class FaultCollector:
    """The faults found so far. One object lives as long as one file is being loaded."""

    def __init__(self) -> None:
        self._found: dict[Fault, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, location: Location, path: str, message: str) -> None:
        """Note one fault; the same one twice counts once."""
        if len(self._found) < _MOST:
            self._found.setdefault(Fault(location, path, message))

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Note the :class:`ConfigFault` that ends the block, and go on behind it."""
        try:
            yield
        except ConfigFault as wrong:
            if not wrong.consequence:
                self.add(wrong.fault.location, wrong.fault.path, wrong.fault.message)

    def raised(self) -> None:
        """End here if anything was found.

        Raises
        ------
        ConfigError : with every fault
        """
        if self._found:
            raise ConfigError(self._found)

"""The errors of a file, collected so that all of them are reported at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ConfigError, Fault, Location

__all__ = ["ConfigFault", "FaultCollector"]

_MOST = 200  # more say nothing new: all instances of a step may have the same error


class ConfigFault(Exception):
    """One error of a file, which ends what is being read; :meth:`FaultCollector.caught` collects it.

    Parameters
    ----------
    consequence : whether it only follows from an error that is noted already, and is not reported
    """

    def __init__(self, location: Location, path: str, message: str, *, consequence: bool = False) -> None:
        self.fault, self.consequence = Fault(location, path, message), consequence
        super().__init__(str(self.fault))


class FaultCollector:
    """The errors found so far. One object lives as long as one file is being loaded."""

    def __init__(self) -> None:
        self._found: dict[Fault, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, location: Location, path: str, message: str) -> None:
        """Note one error; the same one twice counts once."""
        if len(self._found) < _MOST:
            self._found.setdefault(Fault(location, path, message))

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Note the :class:`ConfigFault` that ends the block, and continue after it."""
        try:
            yield
        except ConfigFault as error:
            if not error.consequence:
                self.add(error.fault.location, error.fault.path, error.fault.message)

    def raise_if_any(self) -> None:
        """Raise everything that was found.

        Raises
        ------
        ConfigError : with every error
        """
        if self._found:
            raise ConfigError(self._found)

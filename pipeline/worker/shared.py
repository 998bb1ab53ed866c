"""Numbers and arrays that the tasks of a run share, in whatever process of this machine they run: ``pipeline.shared``.

    from pipeline import shared

    seen = shared.Value("seen", "q")  # at the top of a module


    def count(path):
        with seen.get_lock():
            seen.value += 1

An object is known by its name: each process of a run that makes ``seen`` gets the same one. At the start of a run it
has its initial value; after the run the process that started it can still read it. Outside a run it belongs to its
process alone. A step whose function uses one needs ``pure: false``: else it may be run again, or not at all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from pipeline.worker import shared_store
from pipeline.worker.shared_store import Lock, Store

__all__ = ["Array", "Value"]

_TYPES: dict[str, Any] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}
"""Type codes, as in ``multiprocessing``."""

_CTYPES = (*_TYPES.values(), ctypes.c_bool)


# ---------------------------------------------------------------------------------------------------------------------
# What users make
# ---------------------------------------------------------------------------------------------------------------------


class _Shared:
    """An object with a name. State: the run's memory that it was found in last."""

    _given: tuple[Any, Any]  # its type, and its initial value or size

    def __init__(self, name: str, type_: Any, initial: Any, what: str, *, lock: bool) -> None:
        if not isinstance(name, str) or not name or len(quote(name, safe="")) > 200:
            raise ValueError(f"shared object: got {name!r}; its name is a text of up to 200 letters")
        if not isinstance(lock, bool):
            raise TypeError(f"shared object {name!r}: lock is True or False; each object has a lock of its own")
        self.name = name
        self._type, self._initial = type_, bytes(initial)
        self._what = f"shared.{type(self).__name__}({name!r}, {what})"[:240]
        self._has_lock = lock
        self._store: Store | None = None
        self._object: Any = None
        self._lock: Lock | None = None

    def __repr__(self) -> str:
        return f"<{self._what}>"

    def __reduce__(self) -> Any:
        return _again, (type(self), self.name, self._given, self._has_lock)

    def get_obj(self) -> Any:
        """Return the ``ctypes`` object itself, whose access is not synchronized.

        Raises
        ------
        RuntimeError : on a back end that can't have it, or in a step without ``pure: false``
        """
        step = shared_store.step_without()
        if step:
            raise RuntimeError(
                f"{self._what} is used by step {step!r}, whose tasks may be run again or left out: "
                "write 'pure: false' on the step"
            )
        if self._store is not shared_store.current():
            self._find()
        return self._object

    def _find(self) -> None:
        with shared_store.GUARD:
            store = shared_store.current()
            if store.refused:
                raise RuntimeError(
                    f"{self._what} can't be used on back end {store.refused!r}, whose workers may be on several "
                    "machines; use processes, pool or threads, or return what is counted as a result"
                )
            memory = store.memory(self.name, self._what, self._initial)
            self._object = self._type.from_buffer(memory.bytes, shared_store.HEAD.size)
            self._lock, self._store = memory.lock, store
            shared_store.bind(self)

    def unbind(self) -> None:
        """Forget the memory: it is another one now."""
        self._store = self._object = self._lock = None

    def get_lock(self) -> Lock:
        """Return its lock, to be held in a ``with`` block around several accesses.

        Raises
        ------
        AttributeError : it was made with ``lock=False``
        """
        if not self._has_lock:
            raise AttributeError(f"{self._what} has no lock: it was made with lock=False")
        self.get_obj()
        assert self._lock is not None
        return self._lock

    @contextmanager
    def _locked(self) -> Iterator[Any]:
        found = self.get_obj()
        if not self._has_lock or self._lock is None:
            yield found
        else:
            with self._lock:
                yield found


class Value(_Shared):
    """A number, or one character, that all tasks of a run share.

    A single access to ``value`` is synchronized; ``+=`` is two, so hold the lock around it.

    Parameters
    ----------
    name : which one it is; the same in every process
    type_ : a type code as in ``multiprocessing`` (``q``: 64-bit integer, ``d``: 64-bit float), or a type of ``ctypes``
    initial : at the start of each run; default: 0
    lock : False: access is not synchronized, and there is no lock

    Raises
    ------
    TypeError : there is no such type, or ``initial`` is not of it

    >>> seen = Value("seen", "q", 5)
    >>> with seen.get_lock():
    ...     seen.value += 1
    >>> seen.value
    6
    """

    def __init__(self, name: str, type_: Any, initial: Any = None, *, lock: bool = True) -> None:
        kind, self._given = _ctype(name, type_), (type_, initial)
        super().__init__(name, kind, kind() if initial is None else kind(initial), _type_name(type_), lock=lock)

    @property
    def value(self) -> Any:
        """Its value now."""
        with self._locked() as found:
            return found.value

    @value.setter
    def value(self, new: Any) -> None:
        with self._locked() as found:
            found.value = new


class Array(_Shared):
    """Numbers or characters of one type that all tasks of a run share; ``numpy.frombuffer(x.get_obj())`` is a view.

    Parameters
    ----------
    name, type_, lock : see :class:`Value`
    size_or_initial : how many, which are 0 at the start of each run; or a sequence of what they are then

    Raises
    ------
    TypeError : there is no such type, or what is in the sequence is not of it

    >>> sums = Array("sums", "d", 3)
    >>> sums[1] = 2.5
    >>> list(sums)
    [0.0, 2.5, 0.0]
    """

    def __init__(self, name: str, type_: Any, size_or_initial: int | Sequence[Any], *, lock: bool = True) -> None:
        kind, self._given = _ctype(name, type_), (type_, size_or_initial)
        if isinstance(size_or_initial, int):
            if size_or_initial < 1:
                raise ValueError(f"shared.Array {name!r}: got a size of {size_or_initial}; it is 1 or more")
            whole = kind * size_or_initial
            initial = whole()
        else:
            whole = kind * max(1, len(size_or_initial))
            initial = whole(*size_or_initial)
        self._n = len(initial)
        super().__init__(name, whole, initial, f"{_type_name(type_)}, {self._n}", lock=lock)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        with self._locked() as found:
            return found[index]

    def __setitem__(self, index: Any, new: Any) -> None:
        with self._locked() as found:
            found[index] = new

    def __iter__(self) -> Iterator[Any]:
        return iter(self[:])


def _again(kind: type[_Shared], name: str, given: tuple[Any, Any], lock: bool) -> Any:
    """Return the object with this name in another process."""
    make: Any = kind
    return make(name, *given, lock=lock)


def _ctype(name: str, type_: Any) -> Any:
    if isinstance(type_, str) and type_ in _TYPES:
        return _TYPES[type_]
    if type_ in _CTYPES:
        return type_
    raise TypeError(
        f"shared object {name!r}: got the type {type_!r}; allowed: {', '.join(_TYPES)}, and numbers of ctypes"
    )


def _type_name(type_: Any) -> str:
    return repr(type_) if isinstance(type_, str) else f"ctypes.{type_.__name__}"

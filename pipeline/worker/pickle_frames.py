"""A value as a pickle, and its large buffers apart."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle

__all__ = ["frames_of"]


def frames_of(value: Any, apart: int, *, by_value: bool = False) -> list[Any]:
    """Return the pickle of a value, and its buffers of ``apart`` bytes or more, which are not copied.

    cloudpickle does what pickle can't: lambdas, classes of a notebook.

    Parameters
    ----------
    by_value : whether what is defined in ``__main__`` is put into the pickle: another process has another one
    """
    try:
        frames = _frames(value, pickle.dumps, apart)
    except Exception:  # noqa: BLE001 - if cloudpickle fails as well, its error is the better message
        return _frames(value, cloudpickle.dumps, apart)
    return _frames(value, cloudpickle.dumps, apart) if by_value and b"__main__" in frames[0] else frames


def _frames(value: Any, dumps: Any, apart: int) -> list[Any]:
    buffers: list[memoryview] = []

    def keep_in_pickle(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < apart:
            return True
        buffers.append(raw)
        return False

    return [dumps(value, protocol=5, buffer_callback=keep_in_pickle), *buffers]

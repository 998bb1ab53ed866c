"""Whether the workers of a back end see a folder of this machine as the same user."""

from __future__ import annotations

from typing import Any

__all__ = ["shared_folder"]


def shared_folder(backend: Any, folder: str) -> bool:
    """Return whether all workers of a back end, which must be open, can read and write a folder as this user.

    If not, the client must do it: :func:`pipeline.worker.client_entries.kept_by_client`. Workers that join later are
    not asked: one that does not see the folder keeps nothing.

    Parameters
    ----------
    backend : one with a method ``sees_folder`` has workers elsewhere; those of any other are of this machine and user
    folder : absolute path; it exists
    """
    ask = getattr(backend, "sees_folder", None)
    return True if ask is None else bool(ask(folder))

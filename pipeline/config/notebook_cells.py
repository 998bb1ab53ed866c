"""Whether this process is the kernel of a notebook, and which of its cells runs now."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["in_notebook", "running_cell"]


def _shell() -> Any:
    """Return IPython's shell of this process; None outside IPython, which is not imported for it."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return getattr(_shell(), "kernel", None) is not None


def running_cell() -> int:
    """Return the number of the cell that runs now, which grows with each cell; 0 outside IPython."""
    return int(getattr(_shell(), "execution_count", 0))

"""``python -m chaos``: see :mod:`chaos.campaign`, which its processes can import."""

from __future__ import annotations

import sys

from chaos.campaign import main

if __name__ == "__main__":
    sys.exit(main())

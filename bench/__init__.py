"""How fast Pipeline is against the same work written by hand: ``python -m bench``. See README.md."""

"""Compare the speed of Pipeline with the same work written by hand: ``python -m bench``. See README.md."""

"""The operations: plain functions over collections.

``sources.py``, ``array.py``, ``frame.py`` and ``calls.py`` hold one function an op, named as the op; what an op takes
and what its parameters mean stands in its signature (``pipeline/signatures.py``). A function takes its inputs as
collections, its parameters as keywords, and returns a collection: it never sees YAML, references or a Graph.
"""

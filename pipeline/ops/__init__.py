"""The operations: plain functions over collections.

One function an op, named as the op; its signature (``pipeline/signatures``) says what it takes and, as ``home``, where
it stands. A function takes its inputs as collections, its parameters as keywords, and returns a collection: it never
sees YAML, references or a Graph. Where to look:

* ``sources``: which files there are (``paths``, ``searching``), arrays (``stored``, ``npy``), tables (``tables`` for
  Parquet, ``delimited`` for CSV, ``records`` for JSON, over blocks of ``lines``); ``made`` up ones
* ``arrays``: a file a group of ops. They stand on ``dims``, ``pieces``, ``partials``, and, where only the run knows a
  length, on ``lengths`` and ``runlabels``
* ``frames``: the same; ``grouping`` builds what the tasks of ``groups`` do. They stand on ``partitions``, ``columns``
  (their expressions) and ``casting``
* ``elementwise``: expressions. ``targets`` (arrays, columns, scalars) with ``alignment`` (dims); ``evaluation``, with
  ``operators`` and ``functions``
* ``calls``: functions and programs of the user's; what they share are ``mapping`` and ``arguments``
* here: what kinds of values (``values``) and of columns (``types``) there are, and the ways from one kind to another:
  ``conversions`` (to_array, to_items), ``rows`` (to_frame)
"""

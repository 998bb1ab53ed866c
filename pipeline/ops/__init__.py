"""The operations: plain functions over collections.

One function an op, named as the op; its signature (``pipeline/signatures``) says what it takes and, as ``home``, where
it stands. A function takes its inputs as collections, its parameters as keywords, and returns a collection: it never
sees YAML, references or a Graph. Where to look:

* files: ``paths`` and ``searching`` (which ones there are), ``stored`` and ``npy`` (arrays), ``tables`` (Parquet),
  ``delimited`` (CSV), ``records`` (JSON), ``lines`` (blocks of text); made up: ``sources``, ``timeseries``, ``loading``
* arrays: ``array`` gathers them; ``reductions``, ``quantiles``, ``histograms``, ``scans``, ``windows``, ``overlap``,
  ``shapes``, ``stacking``, ``labelled``; linear algebra: ``algebra``, ``contraction``, ``factors``. They stand on
  ``chunking``, ``dims``, ``pieces``, ``partials``, and, where only the run knows a length, ``lengths``, ``runlabels``
* frames: ``frame`` gathers them; ``cleaning``, ``dealing`` (repartition, map_partitions), ``grouping`` (builds) and
  ``groups`` (its tasks), ``periods`` (resample), ``moving`` (rolling), ``joining``, ``sorting``. They stand on
  ``partitions``, ``columns`` (their expressions), ``types`` and ``casting``
* from one kind to another: ``rows`` (to_frame), ``conversions`` (to_array, to_items); what kinds there are: ``values``
* expressions: ``targets`` (arrays, columns, scalars), ``alignment`` (dims), ``evaluation``, ``operators``,
  ``functions``, ``texts``, ``times``, ``kinds``
* functions and programs of the user's: ``calls``, ``commands``, ``trees``; what they share: ``mapping``, ``arguments``
"""

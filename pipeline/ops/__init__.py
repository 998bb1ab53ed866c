"""The ops: one op, one obvious file.

arrays/
calls/
collections   The kinds of values while a Graph is being built.
column_types  Column types: what a stored type becomes in a frame, and how a column gets there.
conversions   ``to_array`` and ``to_items``; with ``to_frame`` (``rows.py``) the only places where the kind of a value c
elementwise/
frames/
sources/
to_frame      ``to_frame``: rows made of arrays, items and values.
"""

"""Evaluates expressions over arrays, columns, coordinates and scalars, with the same results for each.

sql         Expressions over columns as SQL: walks the tree.
sql_types   Values of expressions as SQL: constants, conversions, kinds.
sql_arithmetic  ``+ - * / // % **`` as SQL, of times, too.
sql_numbers  Arithmetic of numbers as SQL.
sql_comparisons  Comparisons and ``in`` as SQL.
sql_choices  ``where fill minimum maximum clip`` and conversions as SQL.
sql_functions  Functions of numbers and texts as SQL.
sql_times   Functions of times as SQL.
sql_zones   Local times of zones, and times as text, as SQL.
definitions  Which operations are defined for which kinds of values.
targets     Entry points: evaluate an expression over arrays, coordinates, or scalars.
alignment   Arrays: checks that dims and labels match, gives operands equal chunks, makes one task per chunk.
evaluation  Arrays: walks the tree of an expression over values in memory.
operators   Arrays: arithmetic, comparisons and ``in`` for values in memory.
functions   Arrays: functions of numbers, choices and conversions; the table of all functions.
calendar_times  Times of calendars that numpy lacks.
time_units  Times and durations of different units in one: none wraps around.
texts       Coordinates: functions of text.
times       Arrays: functions of times; of coordinates, with time zones.
kinds       Kinds of values, missing values.
scalars     A single value in the type that expressions use; pandas is imported only for values that need it.
"""

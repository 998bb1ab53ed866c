"""Evaluates expressions over arrays, columns, coordinates and scalars, with the same results for each.

targets     Entry points: evaluate an expression over arrays, columns of a partition, coordinates, or scalars.
alignment   Arrays: checks that dims and labels match, gives operands equal chunks, makes one task per chunk.
evaluation  Walks the tree of an expression over values in memory.
operators   Arithmetic, comparisons and ``in`` for values in memory.
functions   Functions of numbers, choices and conversions; the table of all functions.
calendar_times  Times of calendars that numpy lacks.
texts       Functions of text.
times       Functions of times, with and without time zone.
kinds       Kinds of values, missing values, and conversion from pandas.
"""

"""See below.

alignment   Elementwise operations on named arrays: which dims go together, and one dask task a chunk.
evaluation  The evaluation of expressions: one walk, and one meaning, for arrays and for columns.
functions   The functions of expressions: numbers, choices, conversions; those of texts and times stand in files of thei
kinds       What the values inside an expression are: their kinds, missing values, and the way into and out of pandas.
operators   What the operators of expressions mean for values in memory: numbers, texts, times and columns of them.
targets     Expressions on the kinds of values: arrays (one task a chunk), columns (a partition at a time), coordinates,
texts       The functions of text columns. What is missing stays missing; where true or false is asked, it is false.
times       The functions of times: naive ones on numpy, zoned ones on pandas, calendars of climate models on their obje
"""

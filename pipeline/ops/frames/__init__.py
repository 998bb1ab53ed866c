"""Ops on frames: each takes and returns a Frame (tasks, keys of its partitions, an empty frame), and computes nothing.

Ops
select             select, filter, assign, concat.
cleaning           rename, astype, fillna, dropna.
groupby            groupby, value_counts.
merge              merge.
sort               sort_values, set_index, nlargest, nsmallest, drop_duplicates.
repartition        repartition, map_partitions.
resample           resample.
rolling            rolling.

What they share
aggregation_tasks  The tasks of groupby and resample: partial aggregates of each group, combined and finished.
cast               Convert a column to another type; a value that does not fit fails the run.
columns            Expressions over the columns of a frame.
partitions         The tasks of partitions: one for each, shuffles, gathers.
"""

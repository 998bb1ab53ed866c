"""Ops on frames: each takes and returns a Frame (tasks, keys of its partitions, a schema), and computes nothing.

Ops
select             select, filter, assign, concat.
cleaning           rename, astype, fillna, dropna.
groupby            groupby, value_counts.
known_values       pivot, dummies, cut.
describe           describe.
merge              merge.
merge_asof         merge_asof.
sampling           head, sample.
sort               sort_values, set_index, nlargest, nsmallest, drop_duplicates.
nested             explode, unnest, melt.
map_partitions     A function of the user's over each partition.
repartition        repartition.
sql_query            sql: a statement of the user's.
resample           resample.
periods            Regular periods of time: their numbers and starts.
rolling            rolling: windows of so many rows, or so much time.
window             window: columns from the rows of the same group.

What they share
aggregates         Aggregate expressions taken apart; their types.
aggregation_plan   What the tasks of groupby and resample know.
aggregation_sql    Their statements.
aggregation_tasks  The tasks: partial aggregates of each group, combined and finished.
cast               Convert a column to another type; a value that does not fit fails the run.
text_casts         Values from text.
columns            Expressions over the columns of a frame.
join_tasks         The tasks of merge: pairs of row numbers, then the rows.
moving_aggregates  Aggregates of many windows over the same values.
pairing            Which rows of two frames meet in one task: all of a small side, or equal keys.
partitions         The tasks of partitions: one for each, shuffles, gathers.
"""

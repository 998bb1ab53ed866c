"""See below.

aggregation_tasks  What the tasks of groupby and resample do: the state of some rows by group, states put together, the
cast               From one type of columns to another: every value fits, or the run says which one does not.
cleaning           Columns and rows put right: rename, astype, fillna, dropna. One task a partition; rows keep their ord
columns            Expressions over the columns of a frame: their types while building, their values inside tasks.
groupby            groupby: partial aggregates a partition, combined in a tree of eight, finished in one last task.
merge              merge: the hash join.
partitions         Frames as keys and tasks: what the frame ops share below the collections.
repartition        Partitions themselves: how many there are, how long each one is, and a function of the user's over th
resample           resample of frames: groupby over regular periods of a time column, the periods without rows included.
rolling            rolling of frames: aggregates over the rows, or the time, that lead up to each row or lie around it.
select             ``select filter assign concat``: columns and rows as they are, one task a partition.
sort               Row order, and what follows from it: sort_values, set_index, nlargest, nsmallest, drop_duplicates.
"""

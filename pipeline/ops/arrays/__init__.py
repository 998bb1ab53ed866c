"""Ops on arrays: each function takes and returns ``xarray.DataArray`` over dask, and computes nothing.

Ops
algebra             matmul, tensordot, einsum, solve, fft.
blocks              rechunk, map_blocks.
decompositions      qr, svd, svd_compressed.
histograms          histogram.
label_changes       align, set_labels.
labelled            sel, take, groupby, resample.
overlap             map_overlap.
quantiles           quantile, median.
reductions          sum, mean, std, var, min, max, any, all, average.
reshaping           transpose, reshape, roll, pad.
scans               cumsum, argmin, argmax, topk.
stacking            stack, concatenate.
windows             rolling, coarsen.

What they share
block_tasks         Builds dask arrays from tasks: a task per block, tree reductions, blocks joined from parts.
contraction         Sums of products over named axes, for algebra and decompositions.
deferred_labels     Coordinates whose labels are computed in the run.
dims                Dims by name, checks of inputs, coordinates of results.
partial_aggregates  Aggregates of groups and windows of numpy arrays; partial results that can be merged.
sums                Sums and means of blocks: whole numbers exactly, floats in float64.
unknown_chunks      Dims whose length is unknown until run time: starts of chunks, slices, equal chunks of two arrays.
"""

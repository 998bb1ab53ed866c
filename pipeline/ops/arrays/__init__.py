"""See below.

algebra             Linear algebra and signals: ``matmul tensordot einsum solve fft``; factorisations stand in ``factors
block_tasks         Arrays made of tasks: a task a block, and spans of positions put together from the blocks that hold
blocks              ``rechunk map_blocks``: chunks themselves, and a function of the user's over each of them.
contraction         Sums of products of arrays over labelled axes: what ``matmul tensordot einsum`` and the factorisatio
decompositions      Factorisations of matrices: ``svd svd_compressed qr``.
deferred_labels     Labels along a dim that only the run knows: the ids of a table's rows, which lie beside the matrix m
dims                Dims by name: what array ops share.
histograms          ``histogram``: how many values lie in each of some bins.
labelled            Array operations along labels: ``sel take groupby resample``.
overlap             ``map_overlap``: a function of the user's over each chunk and what lies around it.
partial_aggregates  Aggregates in numpy: of groups, by partial results that can be merged, and of moving windows.
quantiles           Array operations that need the values along a dim in order: ``quantile median``.
reductions          Reductions over named dims: ``sum mean std var min max any all average``.
reshaping           Array operations that move values and compute none: ``transpose reshape pad roll``.
scans               Array operations along one axis, block after block: ``cumsum argmin argmax topk``.
stacking            Several arrays as one: ``stack concatenate``.
unknown_chunks      Lengths that only the run knows: those of the rows that a filter leaves, once they are an array's; c
windows             Array operations over windows: ``rolling coarsen``.
"""

"""A minimal script on a LocalCluster: the imports of the collections, a cluster with dashboard, one task.

Run as a script by ``fixed.py``, with the number of workers as its argument.
"""

from __future__ import annotations

import sys

import dask.array
import dask.dataframe
import distributed
import xarray

LOADED = (dask.array, dask.dataframe, distributed, xarray)


def main(n_workers: int) -> None:
    cluster = distributed.LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )
    with cluster, distributed.Client(cluster) as client:
        print(client.submit(abs, -1).result())


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""On the scheduler: the plugins that a client has registered there go when the client goes, however it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distributed import SchedulerPlugin

__all__ = ["NAME", "take"]

NAME = "pipeline-{}"
"""The name of the worker plugin of a client, by its id."""


class _Lease(SchedulerPlugin):
    """Removes the worker plugins of one client, and itself, when the scheduler has lost the client.

    Parameters
    ----------
    client : its id
    plugins : names; those that another client has leased, too, stay
    """

    def __init__(self, client: str, plugins: Sequence[str]) -> None:
        self.name = f"pipeline-lease-{client}"
        self.client, self.plugins = client, plugins

    def remove_client(self, scheduler: Any, client: str) -> None:
        if client == self.client:
            scheduler.remove_plugin(name=self.name)
            others = [p.plugins for p in scheduler.plugins.values() if isinstance(p, _Lease)]
            _remove(scheduler, [name for name in self.plugins if not any(name in plugins for plugins in others)])


def take(client: str, plugins: Sequence[str], *, dask_scheduler: Any) -> None:
    """Lease plugins to a client; remove those of clients that were lost before there were leases."""
    lease = _Lease(client, plugins)
    if lease.name in dask_scheduler.plugins:  # with the plugins that it had until now
        dask_scheduler.remove_plugin(name=lease.name)
    dask_scheduler.add_plugin(lease, name=lease.name)
    prefix = NAME.format("Client-")
    ours = [name for name in dask_scheduler.worker_plugins if name.startswith(prefix)]
    living = {NAME.format(name) for name in dask_scheduler.clients}
    _remove(dask_scheduler, [name for name in ours if name not in living])


def _remove(scheduler: Any, plugins: Sequence[str]) -> None:
    for name in plugins:
        if name in scheduler.worker_plugins:
            scheduler.loop.add_callback(scheduler.unregister_worker_plugin, comm=None, name=name)
        if name in scheduler.plugins:
            scheduler.remove_plugin(name=name)

"""XdsClients and their watchers, for end-to-end tests that look at what a client is told."""

from __future__ import annotations

import queue
import threading

from meshsdk.bootstrap import load_bootstrap
from meshsdk.model.snapshot import ResolvedCluster, Snapshot
from meshsdk.xds_client.client import XdsClient
from meshsdk.xds_client.timing import Timing
from tests.e2e.processes import until
from tests.e2e.scripted_ads import PATIENCE

QUICK = Timing(resource_timeout=0.5, backoff_initial=0.05, backoff_max=0.2, connect_timeout=2.0)
PATIENT = Timing(backoff_initial=0.05, backoff_max=0.2)


def bootstrap(*addresses, transport="sotw", **fields):
    """A bootstrap with servers in order of preference."""
    servers = [{"server_uri": address, "channel_creds": [{"type": "insecure"}]} for address in addresses]
    mesh = {"transport": transport, **fields.pop("meshsdk", {})}
    return load_bootstrap({"xds_servers": servers, "node": {"id": "n1"}, "meshsdk": mesh, **fields}, {})


class Watcher:
    """Collects what a watch is told."""

    def __init__(self, client, target="xds:///orders"):
        self.results = queue.SimpleQueue()
        self.threads = set()
        self.watch = client.watch(target, self._put)

    def _put(self, result):
        self.threads.add(threading.current_thread().name)
        self.results.put(result)

    def next(self):
        """Waits for what is told next."""
        return self.results.get(timeout=PATIENCE)

    def snapshot(self):
        """Waits for the next result, which must be a snapshot."""
        result = self.next()
        assert isinstance(result, Snapshot), result
        return result

    def quiet(self):
        """Says whether nothing is left to read."""
        return self.results.empty()


def ports(snapshot, name="orders"):
    """The ports of a cluster's endpoints."""
    resolved = snapshot.clusters[name]
    assert isinstance(resolved, ResolvedCluster), resolved
    found = resolved.leaves[0].endpoints.localities
    return sorted(int(e.address.rpartition(":")[2]) for locality in found for e in locality.endpoints)


def row(client, kind_name, name="orders"):
    """The ledger's row of one resource."""
    return next(row for row in client.ledger() if row.kind.name == kind_name and row.name == name)


def xds_threads():
    """The client's own threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("meshsdk-")]


class Clients:
    """Makes clients that are closed at the end, and leave no thread behind."""

    def __init__(self):
        self.made = []

    def __call__(self, *addresses, timing=PATIENT, **fields):
        """Makes a client of the servers at these addresses."""
        self.made.append(XdsClient(bootstrap(*addresses, **fields), timing=timing))
        return self.made[-1]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for client in self.made:
            client.close()
        until(lambda: not xds_threads(), "the client's threads have ended")

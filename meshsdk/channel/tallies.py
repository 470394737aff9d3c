"""Which tally the calls to each endpoint of one cluster are counted in: one for each locality of each leaf cluster.

Owned by a `ClusterBalancer`, under its rule. A cluster that nobody calls has none.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshsdk.channel.pool import PooledBackend
from meshsdk.lb.selection import Selection
from meshsdk.model.resources import EdsSource, Locality
from meshsdk.model.snapshot import Leaf, ResolvedCluster
from meshsdk.xds_client.load_counts import LoadCounts, Place, Tally

Naming = tuple[tuple[str, str, str], ...]


def naming(cluster: ResolvedCluster) -> Naming:
    """Returns what the names of a cluster's tallies depend on, beside the localities of its endpoints."""
    return tuple((leaf.cluster.name, _service(leaf), leaf.report_to) for leaf in cluster.leaves)


def _service(leaf: Leaf) -> str:
    source = leaf.cluster.source
    return source.resource_name if isinstance(source, EdsSource) and source.resource_name != leaf.cluster.name else ""


def place_of(leaf: Leaf, locality: Locality) -> Place:
    """Returns what the calls to an endpoint of this leaf and locality are counted for."""
    return Place((leaf.report_to,) if leaf.report_to else (), leaf.cluster.name, _service(leaf), locality)


class Tallies:
    """Not thread-safe: guarded by the scope's lock."""

    __slots__ = ("_held", "_loads")

    def __init__(self, loads: LoadCounts) -> None:
        self._loads = loads
        self._held: dict[Place, Tally] = {}

    def assign(self, names: Naming, selection: Selection, backends: Mapping[str, PooledBackend]) -> None:
        """Gives each backend the tally of its place, and lets go of those that no backend has any more."""
        leaves = {name: ((server,) if server else (), service) for name, service, server in names}
        before, self._held = self._held, {}
        for group in reversed(selection.groups):  # of an address in several groups, the first one counts
            servers, service = leaves[group.cluster]
            for members in group.localities:
                found = [backends[one.address] for one in members.endpoints if one.address in backends]
                if not found:
                    continue
                place = Place(servers, group.cluster, service, members.locality)
                tally = self._held.get(place) or before.pop(place, None) or self._loads.acquire(place)
                self._held[place] = tally
                for backend in found:
                    backend.tally = tally
        self._let_go(before)

    def close(self) -> None:
        """Lets go of all."""
        held, self._held = self._held, {}
        self._let_go(held)

    def _let_go(self, tallies: Mapping[Place, Tally]) -> None:
        for tally in tallies.values():
            self._loads.release(tally)

"""What an XdsClient counts, as metrics: gRFC A78's, and ACKs, NACKs, versions and convergence.

Read at collection time by `meshsdk.channel.mesh_metrics`, on any thread; costs nothing in between. A78's label
`grpc.target` is left out: one client, and one stream for each list of servers, serves all targets of a mesh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter

from meshsdk.model.resources import Kind
from meshsdk.telemetry.accumulating import Accumulator
from meshsdk.telemetry.families import LATENCY_BOUNDS, Family, Point, Spread
from meshsdk.telemetry.families import Kind as Form
from meshsdk.telemetry.growing import Growing
from meshsdk.xds_client.client import XdsClient
from meshsdk.xds_client.link import Phase, ServerLink
from meshsdk.xds_client.names import authority_of
from meshsdk.xds_client.store import Entry, EntryStatus

_SERVER, _TYPE = "grpc.xds.server", "grpc.xds.resource_type"
_COUNTED = (
    ("grpc.xds_client.resource_updates_valid", "{resource}", "Resources received that were valid", attrgetter("valid")),
    ("grpc.xds_client.resource_updates_invalid", "{resource}", "Resources that were refused", attrgetter("invalid")),
    ("meshsdk.xds_client.acks", "{response}", "Responses accepted (ACK)", attrgetter("acks")),
    ("meshsdk.xds_client.nacks", "{response}", "Responses of which something was refused (NACK)", attrgetter("nacks")),
)


class StreamReading:
    """What was read of the streams to xDS servers so far: they end with a mesh and at every fork, their counts do not.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._failures: Growing[str] = Growing()
        self._counted: dict[str, Growing[tuple[str, str]]] = {name: Growing() for name, *_ in _COUNTED}
        self._convergence: Growing[int] = Growing()

    def families(self, clients: Iterable[XdsClient]) -> Iterator[Family]:
        """Reads the clients of all meshes; those that watch nothing have nothing to tell."""
        running = [one for client in clients if (one := client.running) is not None]
        links = [link for one in running for link in one.session.links()]
        yield from self._servers(links)
        for name, unit, words, counts in _COUNTED:
            grown = self._counted[name]
            for link in links:
                here = link.config.uri
                found = {(here, _type(kind)): count for kind, count in counts(link.tally).items() if count}
                grown.take(link.tally, found)
            points = tuple(Point({_SERVER: server, _TYPE: what}, count) for (server, what), count in grown.sums.items())
            yield Family(name, Form.COUNTER, unit, words, points)
        entries = [entry for one in running for entry in one.session.store.entries()]
        yield Family("grpc.xds_client.resources", Form.GAUGE, "{resource}", "xDS resources by state", _states(entries))
        versions = [one.session.versions().items() for one in running]
        points = tuple(Point({"grpc.target": target}, version) for one in versions for target, version in one)
        words = "Version of the configuration in force: how often it has changed since it was first complete"
        yield Family("meshsdk.target.snapshot_version", Form.GAUGE, "{version}", words, points)
        yield from self._spread([one.driver.convergence for one in running])

    def _servers(self, links: list[ServerLink]) -> Iterator[Family]:
        connected: dict[str, int] = {}
        for link in links:
            server = link.config.uri
            self._failures.take(link.tally, {server: link.tally.failures})
            if link.phase is not Phase.IDLE:  # a fallback that nobody needs is neither connected nor not (A71)
                connected[server] = max(connected.get(server, 0), int(not link.unreachable))
        points = tuple(Point({_SERVER: server}, up) for server, up in connected.items())
        yield Family("grpc.xds_client.connected", Form.GAUGE, "{bool}", "Whether the xDS server can be reached", points)
        points = tuple(Point({_SERVER: server}, count) for server, count in self._failures.sums.items())
        words = "How often an xDS server went from healthy to unhealthy"
        yield Family("grpc.xds_client.server_failure", Form.COUNTER, "{failure}", words, points)

    def _spread(self, accumulators: Iterable[Accumulator]) -> Iterator[Family]:
        """Sums histograms: each bucket by its index, and the total of all values by -1."""
        for one in accumulators:
            spread = one.read()
            self._convergence.take(one, {-1: spread.total, **dict(enumerate(spread.counts))})
        if sums := dict(self._convergence.sums):
            total = sums.pop(-1)
            whole = Point({}, Spread(tuple(int(count) for count in sums.values()), total))
            words = "From taking in a change to its being in force for calls"
            yield Family("meshsdk.xds_client.convergence", Form.HISTOGRAM, "s", words, (whole,), LATENCY_BOUNDS)


def _states(entries: Iterable[Entry]) -> tuple[Point, ...]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        if entry.key.kind is not Kind.INSTANCES:
            authority = authority_of(entry.key.name)
            counts["#old" if authority is None else authority, _state(entry), _type(entry.key.kind)] += 1
    names = ("grpc.xds.authority", "grpc.xds.cache_state", _TYPE)
    return tuple(Point(dict(zip(names, labels, strict=True)), count) for labels, count in counts.items())


def _state(entry: Entry) -> str:
    """Returns A78's word for an entry; A88's `timeout` for one that no server gives an answer about."""
    if entry.status is EntryStatus.PRESENT:
        return "acked"
    if entry.status is EntryStatus.INVALID:
        return "nacked" if entry.resource is None else "nacked_but_cached"
    if entry.status is EntryStatus.ABSENT:
        return "does_not_exist"
    return "requested" if entry.status is EntryStatus.REQUESTED else "timeout"


def _type(kind: Kind) -> str:
    return kind.value.removeprefix("type.googleapis.com/")

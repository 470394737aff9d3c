"""What a registry knows of the instances of each service, and who is told of it. Pure: `now` comes in.

Called by `registry` under its lock. Nacos pushes all instances of a service with every change; a view finds what
changed and hands that to the mirrors of those who watch. It doubts two things that Nacos tells and that are often not
so:

- a service whose instances are all gone at once ("push empty"): asked about again before it is believed;
- after a new connection, instances that the server does not know yet: it may have restarted, and their owners come
  back within moments. They are kept for the grace period.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from meshsdk.discovery.mirror import Mirror
from meshsdk.discovery.nacos.hosts import NO_UNIT, cluster_of
from meshsdk.discovery.nacos.wire import JsonObject
from meshsdk.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Host:
    """One instance as Nacos has it, and the service it is of."""

    app: str
    raw: JsonObject


class Taken(Enum):
    """What became of a listing."""

    SETTLED = "it is what is told now"
    DOUBTED = "it is empty and nothing was: ask again"
    KEPT = "some that it lacks are kept until the grace period ends"
    STALE = "it is older than what is known"


@dataclass(eq=False, slots=True)
class Watcher:
    """Who is told. `listed`: has had its first listing, and is told of changes since."""

    app: str  # "" for all
    unit: str
    mirror: Mirror[Host]
    listed: bool = False


@dataclass(eq=False, slots=True)
class View:
    """One service. `hosts` is what watchers know; `epoch` the connection on which it is subscribed, 0 for none."""

    app: str
    watchers: list[Watcher] = field(default_factory=list)
    hosts: dict[str, Host] = field(default_factory=dict)
    epoch: int = 0
    clusters: str = ""  # as it is subscribed
    known: bool = False  # it has been listed at least once
    keep_until: float = 0.0  # end of the grace period
    _pushed: int = 0  # the server's clock at the last listing, milliseconds

    def wanted_clusters(self) -> str:
        """Returns the clusters to subscribe to: the units that are watched, or "" for all."""
        units = {watcher.unit for watcher in self.watchers}
        if not units or "" in units:
            return ""
        try:
            return ",".join(sorted(map(cluster_of, units)))
        except RegistryError:  # a unit that Nacos cannot have: the mirror finds that nothing is in it
            return NO_UNIT

    def subscribed(self, epoch: int, clusters: str, now: float, grace: float) -> None:
        """It is subscribed on a connection, and its listing comes next."""
        if epoch != self.epoch:
            self._pushed = 0
            self.keep_until = now + grace if self.known else 0.0
        self.epoch, self.clusters = epoch, clusters

    def listing(self, info: JsonObject, now: float, *, sure: bool = False) -> Taken:
        """Takes all instances as the server tells them; `sure` where it was asked a second time."""
        stamp = info.get("lastRefTime")
        stamp = stamp if isinstance(stamp, int) else 0
        if stamp < self._pushed:
            return Taken.STALE
        self._pushed = stamp
        listed = _hosts(self.app, info)
        missing = {key: host for key, host in self.hosts.items() if key not in listed}
        if missing and now < self.keep_until:
            self._tell({**listed, **missing})
            return Taken.KEPT
        if missing and not listed and not sure:
            return Taken.DOUBTED
        self._tell(listed)
        return Taken.SETTLED

    def _tell(self, hosts: dict[str, Host]) -> None:
        before, self.hosts, self.known = self.hosts, hosts, True
        put = {key: host for key, host in hosts.items() if before.get(key) != host}
        removed = [key for key in before if key not in hosts]
        for watcher in self.watchers:
            if watcher.listed:
                watcher.mirror.change(put, removed)
            elif watcher.app:
                watcher.listed = True
                watcher.mirror.reset(hosts)


def _hosts(app: str, info: JsonObject) -> dict[str, Host]:
    """Returns the instances of a listing by a key that a person would look for; equal keys are told apart."""
    found: dict[str, Host] = {}
    raw = info.get("hosts")
    for each in raw if isinstance(raw, list) else ():
        host: Mapping[str, object] = each if isinstance(each, dict) else {}
        name = f"{app}#{host.get('clusterName')}#{host.get('ip')}:{host.get('port')}"
        key, serial = name, 1
        while key in found:
            serial += 1
            key = f"{name}#{serial}"
        found[key] = Host(app, dict(host))
    return found

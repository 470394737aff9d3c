"""The lease table: who is registered, until when, and what changes when something happens. Pure: `now` comes in.

Called by `registration`, which adds persistence and watchers. One instance, named by (app, id), has one lease; a new
registration takes the place of the old one, whose lease is void from then on.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from meshsdk.model.instance import Instance, InstanceState


@dataclass(frozen=True, slots=True)
class Lease:
    """`expires`: the moment, on the caller's clock, at which the instance goes unless renewed. `ttl` in seconds."""

    id: str
    ttl: int
    expires: float
    instance: Instance


@dataclass(frozen=True, slots=True)
class Change:
    """One instance that appeared, changed or went. `after` is None where it went, `before` where it is new."""

    before: Instance | None
    after: Instance | None

    @property
    def instance(self) -> Instance:
        """The instance, as it is or as it was."""
        found = self.after or self.before
        if found is None:
            raise ValueError("a change without an instance")
        return found


class LeaseTable:
    """Instances by application and by lease. Guarded by the plane's lock.

    Renewals are cheap: the heap of deadlines keeps an entry per lease, which is put back when it turns out to be stale.
    """

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._instances: dict[str, dict[str, Instance]] = {}
        self._deadlines: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def instances(self) -> Mapping[str, Mapping[str, Instance]]:
        """All instances: application -> id -> instance. A live view; an application without instances is not in it."""
        return MappingProxyType(self._instances)

    def find(self, lease_id: str) -> Lease | None:
        """Returns the lease, or None."""
        return self._leases.get(lease_id)

    def holds(self, app: str, identifier: str) -> bool:
        """Tells whether the instance is registered."""
        return (app, identifier) in self._ids

    def register(self, lease_id: str, instance: Instance, ttl: int, now: float) -> Change:
        """Puts `instance` under a new lease of `ttl` seconds; a lease it had before is void."""
        key = (instance.app, instance.id)
        before = self._instances.get(instance.app, {}).get(instance.id)
        old = self._ids.pop(key, None)
        if old is not None:
            del self._leases[old]
        self._leases[lease_id] = Lease(lease_id, ttl, now + ttl, instance)
        self._ids[key] = lease_id
        self._instances.setdefault(instance.app, {})[instance.id] = instance
        heapq.heappush(self._deadlines, (now + ttl, lease_id))
        return Change(before, instance)

    def renew(self, lease_id: str, now: float) -> Lease | None:
        """Gives the lease its full time again; None where it is void or has lapsed."""
        lease = self._leases.get(lease_id)
        if lease is None or lease.expires <= now:
            return None
        renewed = self._leases[lease_id] = replace(lease, expires=now + lease.ttl)
        return renewed

    def set_state(self, lease_id: str, state: InstanceState, now: float) -> Change | None:
        """Changes the instance's state; None where the lease is void or has lapsed. Does not renew."""
        lease = self._leases.get(lease_id)
        if lease is None or lease.expires <= now:
            return None
        after = replace(lease.instance, state=state)
        self._leases[lease_id] = replace(lease, instance=after)
        self._instances[after.app][after.id] = after
        return Change(lease.instance, after)

    def release(self, lease_id: str) -> Change | None:
        """Removes the lease and its instance; None where there is no such lease."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return None
        instance = lease.instance
        del self._ids[instance.app, instance.id]
        group = self._instances[instance.app]
        del group[instance.id]
        if not group:
            del self._instances[instance.app]
        return Change(instance, None)

    def expire(self, now: float) -> list[tuple[str, Change]]:
        """Removes every lease whose time is over; returns (lease id, change) for each."""
        gone: list[tuple[str, Change]] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, lease_id = heapq.heappop(self._deadlines)
            lease = self._leases.get(lease_id)
            if lease is None:
                continue
            if lease.expires > now:  # renewed since
                heapq.heappush(self._deadlines, (lease.expires, lease_id))
                continue
            change = self.release(lease_id)
            if change is not None:
                gone.append((lease_id, change))
        return gone

    def next_deadline(self) -> float | None:
        """Returns the earliest moment at which `expire` may have something to do; None with no leases."""
        return self._deadlines[0][0] if self._deadlines else None

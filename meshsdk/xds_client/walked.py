"""What one walk of `resolve` found, cluster by cluster, so that the next one looks only at what changed since. Pure.

Made by `resolve`, kept in `Resolution.walked` and given back to `resolve` with the keys that changed. A target that
routes to 1,000 clusters then pays for the one whose endpoints moved; the others stay the very objects they were.
Frozen: an earlier walk stays right for the store as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import MappingProxyType

from meshsdk.model.resources import Listener, VirtualHost
from meshsdk.model.snapshot import BrokenCluster, Key, Resolution, ResolvedCluster, Snapshot
from meshsdk.xds_client.store import canonical_key


@dataclass(frozen=True, slots=True)
class Part:
    """What a cluster that routes name came to, and the keys that were looked at for it.

    `missing` and `awaited` as in `Resolution` and `resolve`.
    """

    cluster: ResolvedCluster | BrokenCluster
    wanted: frozenset[Key]
    missing: frozenset[Key]
    awaited: bool


@dataclass(frozen=True, slots=True)
class Walked:
    """A complete walk. `head`: the keys that led to the virtual host. `readers`: which clusters looked at a key."""

    head: frozenset[Key]
    snapshot: Snapshot
    parts: Mapping[str, Part]
    readers: Mapping[Key, tuple[str, ...]]
    wanted: frozenset[Key]
    missing: frozenset[Key]
    awaited: frozenset[str]

    @classmethod
    def of(
        cls, target: str, listener: Listener, host: VirtualHost, head: Iterable[Key], parts: Mapping[str, Part]
    ) -> Walked:
        """Puts the parts together."""
        readers: dict[Key, tuple[str, ...]] = {}
        for name, part in parts.items():
            for key in part.wanted:
                key = canonical_key(key)  # noqa: PLW2901 - changes are told by the names that the store has
                readers[key] = (*readers.get(key, ()), name)
        clusters = MappingProxyType({name: part.cluster for name, part in parts.items()})
        head = frozenset(head)
        return cls(
            head=head,
            snapshot=Snapshot(target, listener, host, clusters),
            parts=parts,
            readers=readers,
            wanted=head.union(*(part.wanted for part in parts.values())),
            missing=frozenset().union(*(part.missing for part in parts.values())),
            awaited=frozenset(name for name, part in parts.items() if part.awaited),
        )

    def touched(self, changed: AbstractSet[Key]) -> set[str] | None:
        """Returns the clusters to look at again, None if the way to the clusters may be another one."""
        if any(canonical_key(key) in changed for key in self.head):
            return None
        return {name for key in changed for name in self.readers.get(key, ())}

    def stepped(self, fresh: Mapping[str, Part]) -> Walked:
        """Returns the walk with some parts exchanged. Costs those, unless other keys are wanted or lacking now."""
        parts, known, snapshot, missing = {**self.parts, **fresh}, self.parts, self.snapshot, self.missing
        if any(part.wanted != known[name].wanted for name, part in fresh.items()):
            return Walked.of(snapshot.target, snapshot.listener, snapshot.virtual_host, self.head, parts)
        if any(part.missing != known[name].missing for name, part in fresh.items()):
            missing = frozenset().union(*(part.missing for part in parts.values()))
        moved = {name: part.cluster for name, part in fresh.items() if part.cluster != known[name].cluster}
        if moved:
            snapshot = replace(snapshot, clusters=MappingProxyType({**snapshot.clusters, **moved}))
        awaited = self.awaited - fresh.keys() | {name for name, part in fresh.items() if part.awaited}
        return replace(self, snapshot=snapshot, parts=parts, missing=missing, awaited=awaited)

    def resolution(self) -> Resolution:
        """Returns what it comes to: nothing is published while a resource is awaited."""
        return Resolution(None if self.awaited else self.snapshot, self.wanted, self.missing, self)

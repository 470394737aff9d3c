"""The endpoints of one target, kept up to date: what EDS and LEDS resources are made of. Pure.

Owned by `endpoint_sets`, one for each target that a client asks for. Written so that gRPC's own clients take the
result: localities have weights (without one a locality gets no calls), no two endpoints share an address, all
priorities are 0 (gRFC A27). An instance that changes costs one encoding, not a look at the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import quote

from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf.any_pb2 import Any

from controlplane.model.service import Workload
from controlplane.server.framing import heading
from controlplane.server.globs import collection_of
from controlplane.translate.endpoints import Instances, Member, of_instance, of_workload
from controlplane.translate.listener import ads
from controlplane.translate.names import ENDPOINT
from controlplane.translate.run import Run
from controlplane.translate.targets import Target
from meshsdk.model.instance import Instance
from meshsdk.model.resources import Locality

_WEIGHTS = 2**32 - 1  # the weights of a priority's localities must sum up to no more
_GROUPS = b"\x12"  # field 2 of ClusterLoadAssignment: endpoints
_DIGESTS = 1 << 128
_COLLECTIONS = "xdstp:///envoy.config.endpoint.v3.LbEndpoint"


class Single(NamedTuple):
    """One LEDS resource. `collection`: the key of the glob collection it is in."""

    name: str
    collection: str
    value: bytes


class _Group:
    """The members of one locality. `weight` and `digest` are sums."""

    __slots__ = ("collection", "digest", "prefix", "run", "size", "weight")

    def __init__(self, cluster: str, locality: Locality) -> None:
        place = ":".join(quote(part, safe="") for part in _parts(locality)) if any(_parts(locality)) else "-"
        self.prefix = f"{_COLLECTIONS}/{quote(cluster, safe='')}/{quote(place, safe='')}/"
        self.collection = collection_of(self.prefix)
        self.run = Run()
        self.weight = self.digest = self.size = 0

    def count(self, member: Member, sign: int) -> None:
        self.weight += sign * member.weight
        self.digest = (self.digest + sign * member.digest) % _DIGESTS
        self.size += sign

    def single(self, address: str, member: Member) -> Single:
        return Single(self.prefix + quote(address, safe=""), self.collection, member.value)


class Roster:
    """Who belongs to a target. Mutable; guarded by the lock of the instances.

    `workloads`: those of all WorkloadEntries. Of two instances on one address the younger one is alive, and an
    instance stands before a workload.
    """

    def __init__(self, target: Target, workloads: Iterable[Workload], instances: Instances) -> None:
        self.target = target
        self._groups: dict[Locality, _Group] = {}
        self._shown: dict[str, Member] = {}  # by address
        self._claims: dict[str, tuple[Instance, ...]] = {}  # instances by address
        self._listed = dict(
            of_workload(workload, target.port) for workload in target.listed or workloads if target.has(workload)
        )
        self._moved: dict[str, Single | None] | None = (
            None  # singles changed since they were taken, if anyone takes them
        )
        for instance in _selected(target, instances):
            self._claims[instance.address] = (*self._claims.get(instance.address, ()), instance)
        for address in {**self._listed, **self._claims}:
            self._settle(address)

    def change(self, before: Instance | None, after: Instance | None) -> bool:
        """Takes the change of one instance; returns whether the endpoints differ now."""
        addresses: dict[str, None] = {}
        if before is not None and self.target.has_instance(before):
            addresses[before.address] = None
            self._claim(before, present=False)
        if after is not None and self.target.has_instance(after):
            addresses[after.address] = None
            self._claim(after, present=True)
        moved = [self._settle(address) for address in addresses]
        return any(moved)

    def _claim(self, instance: Instance, *, present: bool) -> None:
        others = [
            each
            for each in self._claims.get(instance.address, ())
            if (each.app, each.id) != (instance.app, instance.id)
        ]
        if present:
            others.append(instance)
        if others:
            self._claims[instance.address] = tuple(others)
        else:
            self._claims.pop(instance.address, None)

    def _settle(self, address: str) -> bool:
        """Shows who is to be shown on an address; returns whether that is something new."""
        claims = self._claims.get(address)
        member = of_instance(max(claims, key=_age)) if claims else self._listed.get(address)
        known = self._shown.get(address)
        if member == known:
            return False
        if known is not None:
            self._hide(address, known)
        if member is not None:
            self._show(address, member)
        return True

    def _hide(self, address: str, member: Member) -> None:
        del self._shown[address]
        group = self._groups[member.locality]
        group.run.remove(address)
        group.count(member, -1)
        if self._moved is not None:
            self._moved[group.single(address, member).name] = None
        if not group.size:
            del self._groups[member.locality]

    def _show(self, address: str, member: Member) -> None:
        self._shown[address] = member
        group = self._groups.get(member.locality)
        if group is None:
            group = self._groups[member.locality] = _Group(self.target.name, member.locality)
        group.run.put(address, member.value)
        group.count(member, 1)
        if self._moved is not None:
            single = group.single(address, member)
            self._moved[single.name] = single

    # -- EDS --------------------------------------------------------------------------------------------------------

    def assignment(self) -> tuple[str, list[bytes]]:
        """Returns (version, parts of the serialised ClusterLoadAssignment) with all endpoints in it.

        The version is a hash of the set of endpoints, so that the parts need not be read for it.
        """
        parts = [endpoint_pb2.ClusterLoadAssignment(cluster_name=self.target.name).SerializeToString()]
        version = hashlib.blake2b(parts[0], digest_size=8)
        for head, group in self._heads():
            pieces = group.run.joined()
            said = head.SerializeToString(deterministic=True)
            parts += [heading(_GROUPS, len(said) + sum(map(len, pieces))), said, *pieces]
            version.update(said + group.digest.to_bytes(16, "big") + group.size.to_bytes(8, "big"))
        return version.hexdigest(), parts

    # -- LEDS -------------------------------------------------------------------------------------------------------

    def skeleton(self, suffix: str = "") -> tuple[bytes, tuple[str, ...]]:
        """Returns the serialised ClusterLoadAssignment that names a collection per locality, and their names.

        `suffix`: context parameters of those names.
        """
        message = endpoint_pb2.ClusterLoadAssignment(cluster_name=self.target.name)
        names: list[str] = []
        for head, group in self._heads():
            # One endpoint's weight is one small resource; it need not be the EDS resource of everyone as well.
            alone = len(self._groups) == 1
            head.load_balancing_weight.value = 1 if alone else _rounded(head.load_balancing_weight.value)
            names.append(f"{group.prefix}*{suffix}")
            head.leds_cluster_locality_config.leds_collection_name = names[-1]
            head.leds_cluster_locality_config.leds_config.CopyFrom(ads())
            message.endpoints.append(head)
        return message.SerializeToString(deterministic=True), tuple(names)

    def singles(self) -> list[Single]:
        """Returns all endpoints; from now on `take_moved` tells what changes."""
        self._moved = {}
        return [self._groups[member.locality].single(address, member) for address, member in self._shown.items()]

    def take_moved(self) -> dict[str, Single | None]:
        """Returns the endpoints that changed since the last call, by name; None for those that are gone."""
        moved, self._moved = self._moved or {}, {}
        return moved

    def forget_singles(self) -> list[str]:
        """Returns the names of all endpoints, and follows their changes no more."""
        names = [single.name for single in self.singles()]
        self._moved = None
        return names

    # -- both -------------------------------------------------------------------------------------------------------

    def _heads(self) -> Iterator[tuple[endpoint_components_pb2.LocalityLbEndpoints, _Group]]:
        """Yields each locality without its endpoints.

        It weighs what its members in use weigh, so that calls spread evenly over all members.
        """
        weights = {locality: max(1, group.weight) for locality, group in self._groups.items()}
        total = sum(weights.values())
        for locality in sorted(self._groups):
            weight = weights[locality]
            head = endpoint_components_pb2.LocalityLbEndpoints()
            head.locality.SetInParent()  # gRPC refuses a group without a locality, be it an empty one
            head.locality.region, head.locality.zone, head.locality.sub_zone = _parts(locality)
            head.load_balancing_weight.value = (
                weight if total <= _WEIGHTS else max(1, weight * (_WEIGHTS // 2) // total)
            )
            yield head, self._groups[locality]


def load_assignment(target: Target, workloads: Iterable[Workload], instances: Instances) -> Any:
    """Returns the EDS resource of a target as it is now, packed."""
    _, parts = Roster(target, workloads, instances).assignment()
    return Any(type_url=ENDPOINT, value=b"".join(parts))


def _rounded(weight: int) -> int:
    """Returns a weight with its eight highest bits alone: less than one per cent lower."""
    low = max(0, weight.bit_length() - 8)
    return weight >> low << low


def _parts(locality: Locality) -> tuple[str, str, str]:
    return locality.region, locality.zone, locality.sub_zone


def _age(instance: Instance) -> tuple[float, str]:
    return instance.started_at, instance.id


def _selected(target: Target, instances: Instances) -> Iterator[Instance]:
    groups = instances.values() if target.app is None else [instances.get(target.app, {})]
    return (instance for group in groups for instance in group.values() if target.has_instance(instance))

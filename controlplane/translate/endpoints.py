"""The EDS resource of a target. Pure, but for the memo of encoded instances.

Written so that gRPC's own clients take it: localities have weights (without one a locality gets no calls), no two
endpoints share an address, all priorities are 0 (gRFC A27).

The resource is put together from the serialised endpoints: protobuf lets fields of a message stand in any order, so a
message is the concatenation of its parts. One instance of 10,000 that changes costs one encoding and one join.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf.any_pb2 import Any

from controlplane.model.names import split_address
from controlplane.model.service import ServicePort, Workload
from controlplane.translate.names import ENDPOINT, ENDPOINT_METADATA
from controlplane.translate.targets import Target
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.model.resources import Locality

Instances = Mapping[str, Mapping[str, Instance]]  # application -> id -> instance
_WEIGHTS = 2**32 - 1  # the weights of a priority's localities must sum up to no more
_GROUPS = b"\x12"  # field 2 of ClusterLoadAssignment: endpoints
_MEMBERS = b"\x12"  # field 2 of LocalityLbEndpoints: lb_endpoints


class _Member(NamedTuple):
    """One endpoint. `weight`: what it adds to its locality while in use. `body`: as a field of its locality."""

    locality: Locality
    weight: int
    body: bytes


class EndpointEncoder:
    """Builds EDS resources, and keeps each instance's part so that one changed instance costs one encoding.

    Guarded by the lock of the instances. `forget` drops what is gone.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Instance, _Member]] = {}

    def forget(self, app: str, identifier: str) -> None:
        """Drops what is kept of an instance that is gone."""
        self._known.pop((app, identifier), None)

    def assignment(self, target: Target, workloads: Iterable[Workload], instances: Instances) -> Any:
        """Returns the EDS resource `target.name`, packed. `workloads`: those of all WorkloadEntries."""
        members: dict[str, _Member] = {}
        for workload in target.listed or workloads:
            if target.has(workload):
                address, member = _of_workload(workload, target.port)
                members[address] = member
        holders: dict[str, Instance] = {}
        for instance in _selected(target, instances):
            holder = holders.setdefault(instance.address, instance)
            if holder is instance or _age(instance) > _age(holder):  # of two on one address the younger is alive
                holders[instance.address] = instance
                members[instance.address] = self._of_instance(instance)
        return Any(type_url=ENDPOINT, value=_joined(target.name, members))

    def _of_instance(self, instance: Instance) -> _Member:
        key = (instance.app, instance.id)
        known = self._known.get(key)
        if known is None or known[0] is not instance:
            known = self._known[key] = (instance, _encode(instance))
        return known[1]


def _age(instance: Instance) -> tuple[float, str]:
    return instance.started_at, instance.id


def _selected(target: Target, instances: Instances) -> Iterator[Instance]:
    groups = instances.values() if target.app is None else [instances.get(target.app, {})]
    return (instance for group in groups for instance in group.values() if target.has_instance(instance))


def _of_workload(workload: Workload, port: ServicePort | None) -> tuple[str, _Member]:
    number = workload.ports.get(port.name, port.target_port or port.number) if port else 0
    host = f"[{workload.address}]" if ":" in workload.address else workload.address
    message = _endpoint(workload.address, number, workload.weight, health_check_pb2.HEALTHY)
    if workload.labels:
        message.metadata.filter_metadata[ENDPOINT_METADATA].update({"labels": dict(workload.labels)})
    return f"{host}:{number}", _Member(workload.locality, workload.weight, _body(message))


def _encode(instance: Instance) -> _Member:
    parts = split_address(instance.address)
    if parts is None:
        raise ValueError(f"the registration service let the address {instance.address!r} pass")
    draining = instance.state is InstanceState.DRAINING
    health = health_check_pb2.DRAINING if draining else health_check_pb2.HEALTHY
    message = _endpoint(parts[0], parts[1], instance.weight, health)
    facts: dict[str, object] = {}
    if instance.started_at:
        facts["started_at"] = instance.started_at
    if instance.labels:
        facts["labels"] = dict(instance.labels)
    if facts:
        message.metadata.filter_metadata[ENDPOINT_METADATA].update(facts)
    return _Member(Locality(instance.region, instance.zone), 0 if draining else instance.weight, _body(message))


def _endpoint(address: str, port: int, weight: int, health: int) -> endpoint_components_pb2.LbEndpoint:
    message = endpoint_components_pb2.LbEndpoint(health_status=health)
    message.endpoint.address.socket_address.address = address
    message.endpoint.address.socket_address.port_value = port
    message.load_balancing_weight.value = weight
    return message


def _body(message: endpoint_components_pb2.LbEndpoint) -> bytes:
    return _field(_MEMBERS, message.SerializeToString(deterministic=True))


def _field(tag: bytes, body: bytes) -> bytes:
    """Returns a length-delimited protobuf field."""
    length = len(body)
    head = bytearray(tag)
    while length > 127:  # noqa: PLR2004 - seven bits in each byte of a varint
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + body


def _joined(name: str, members: Mapping[str, _Member]) -> bytes:
    """Returns the ClusterLoadAssignment of the members by locality.

    A locality weighs what its members in use weigh, so that calls spread evenly over all members.
    """
    groups: dict[Locality, list[_Member]] = {}
    for address in sorted(members):
        member = members[address]
        groups.setdefault(member.locality, []).append(member)
    weights = {locality: max(1, sum(member.weight for member in group)) for locality, group in groups.items()}
    total = sum(weights.values())
    parts = [endpoint_pb2.ClusterLoadAssignment(cluster_name=name).SerializeToString()]
    for locality in sorted(groups):
        weight = weights[locality]
        head = endpoint_components_pb2.LocalityLbEndpoints()
        head.locality.SetInParent()  # gRPC refuses a group without a locality, be it an empty one
        head.locality.region, head.locality.zone, head.locality.sub_zone = (
            locality.region,
            locality.zone,
            locality.sub_zone,
        )
        head.load_balancing_weight.value = weight if total <= _WEIGHTS else max(1, weight * (_WEIGHTS // 2) // total)
        bodies = [member.body for member in groups[locality]]
        parts.append(_field(_GROUPS, b"".join([head.SerializeToString(), *bodies])))
    return b"".join(parts)

"""One endpoint as LbEndpoint: a workload of the configuration, or an instance of a registry. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2

from controlplane.model.names import split_address
from controlplane.model.service import ServicePort, Workload
from controlplane.translate.names import ENDPOINT_METADATA
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.model.resources import Locality

Instances = Mapping[str, Mapping[str, Instance]]  # application -> id -> instance
_DIGEST_BYTES = 16


class Member(NamedTuple):
    """One endpoint. `weight`: what it adds to its locality while in use. `value`: the serialised LbEndpoint.

    `digest`: hash of the value, 128 bits; summed up, a hash of a set of endpoints.
    """

    locality: Locality
    weight: int
    value: bytes
    digest: int


def of_workload(workload: Workload, port: ServicePort | None) -> tuple[str, Member]:
    """Returns the address (`host:port`) of a workload under a service's port, and its endpoint."""
    number = workload.ports.get(port.name, port.target_port or port.number) if port else 0
    host = f"[{workload.address}]" if ":" in workload.address else workload.address
    message = _endpoint(workload.address, number, workload.weight, health_check_pb2.HEALTHY)
    if workload.labels:
        message.metadata.filter_metadata[ENDPOINT_METADATA].update({"labels": dict(workload.labels)})
    return f"{host}:{number}", _member(workload.locality, workload.weight, message)


def of_instance(instance: Instance) -> Member:
    """Returns the endpoint of an instance; a draining one adds nothing to its locality."""
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
    return _member(Locality(instance.region, instance.zone), 0 if draining else instance.weight, message)


def _endpoint(address: str, port: int, weight: int, health: int) -> endpoint_components_pb2.LbEndpoint:
    message = endpoint_components_pb2.LbEndpoint(health_status=health)
    message.endpoint.address.socket_address.address = address
    message.endpoint.address.socket_address.port_value = port
    message.load_balancing_weight.value = weight
    return message


def _member(locality: Locality, weight: int, message: endpoint_components_pb2.LbEndpoint) -> Member:
    value = message.SerializeToString(deterministic=True)
    digest = hashlib.blake2b(value, digest_size=_DIGEST_BYTES).digest()
    return Member(locality, weight, value, int.from_bytes(digest, "big"))

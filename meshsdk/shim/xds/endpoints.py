"""Endpoints as Envoy reads them: an EDS resource that names LEDS collections, and one LbEndpoint for each endpoint."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import quote

from envoy.config.core.v3 import address_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.resources import ClusterEndpoints, LocalityEndpoints

_MILLION = 1_000_000
_HEALTH = {
    Health.HEALTHY: health_check_pb2.HEALTHY,
    Health.DRAINING: health_check_pb2.DRAINING,
    Health.UNHEALTHY: health_check_pb2.UNHEALTHY,
    Health.DEGRADED: health_check_pb2.DEGRADED,
}


def dialled(address: str) -> bool:
    """Tells whether Envoy can dial an address in EDS: an IP and a port, or a Unix socket; it resolves no names."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def set_address(message: address_pb2.Address, address: str) -> None:
    """Writes `ip:port`, `[v6]:port` or `unix:path`."""
    if address.startswith("unix:"):
        message.pipe.path = address.removeprefix("unix:")
        return
    host, _, port = address.rpartition(":")
    message.socket_address.address = host.strip("[]")
    message.socket_address.port_value = int(port)


def lb_endpoint(endpoint: Endpoint) -> bytes:
    """Returns a serialised LbEndpoint."""
    message = endpoint_components_pb2.LbEndpoint(health_status=_HEALTH[endpoint.health])
    set_address(message.endpoint.address, endpoint.address)
    message.load_balancing_weight.value = endpoint.weight
    if endpoint.hash_key:  # gRFC A76; Envoy's own key for it
        message.metadata.filter_metadata["envoy.lb"].update({"hash_key": endpoint.hash_key})
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def segment(address: str) -> str:
    """Returns an address as the last segment of a resource name."""
    return quote(address, safe="")


def assignment(name: str, endpoints: ClusterEndpoints, collections: Sequence[tuple[LocalityEndpoints, str]]) -> bytes:
    """Returns a serialised ClusterLoadAssignment: each locality with the name of the collection that fills it."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    message.policy.overprovisioning_factor.value = round(endpoints.overprovisioning * 100)
    for drop in endpoints.drops:
        overload = message.policy.drop_overloads.add(category=drop.category)
        overload.drop_percentage.numerator = min(drop.per_million, _MILLION)
        overload.drop_percentage.denominator = 2  # FractionalPercent.MILLION
    for group, collection in collections:
        place = message.endpoints.add(priority=group.priority)
        where = group.locality
        place.locality.region, place.locality.zone, place.locality.sub_zone = where.region, where.zone, where.sub_zone
        place.load_balancing_weight.value = group.weight
        config = place.leds_cluster_locality_config
        config.leds_collection_name = collection
        config.leds_config.ads.SetInParent()
        config.leds_config.resource_api_version = 2  # ApiVersion.V3
    data: bytes = message.SerializeToString(deterministic=True)
    return data

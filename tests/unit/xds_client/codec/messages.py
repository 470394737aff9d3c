"""Builds serialised xDS resources for the codec's tests, from the JSON form of their messages."""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as _aggregate  # noqa: F401 - types of Any fields
from envoy.extensions.filters.http.adaptive_concurrency.v3 import adaptive_concurrency_pb2 as _adaptive  # noqa: F401
from envoy.extensions.filters.http.admission_control.v3 import admission_control_pb2 as _admission  # noqa: F401
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as _fault  # noqa: F401
from envoy.extensions.filters.http.grpc_field_extraction.v3 import config_pb2 as _extraction  # noqa: F401
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as _mutation  # noqa: F401
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2 as _local  # noqa: F401
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2 as _limit  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2 as _router  # noqa: F401
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2 as _session  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2 as _manager,
)
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2 as _cookie  # noqa: F401
from envoy.extensions.http.stateful_session.header.v3 import header_pb2 as _header  # noqa: F401
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (  # noqa: F401
    client_side_weighted_round_robin_pb2 as _weighted,
)
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2 as _least  # noqa: F401
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2 as _maglev  # noqa: F401
from envoy.extensions.load_balancing_policies.pick_first.v3 import pick_first_pb2 as _first  # noqa: F401
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2 as _random  # noqa: F401
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2 as _ring  # noqa: F401
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2 as _round  # noqa: F401
from envoy.extensions.load_balancing_policies.subset.v3 import subset_pb2 as _subset  # noqa: F401
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2 as _wrr  # noqa: F401
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as _previous  # noqa: F401
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2 as _raw  # noqa: F401
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as _tls  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as _options  # noqa: F401
from google.protobuf import json_format
from xds.type.v3 import typed_struct_pb2 as _struct  # noqa: F401

Json = dict[str, Any]
EXTENSIONS = "type.googleapis.com/envoy.extensions."
ROUTER: Json = {"name": "router", "typed_config": {"@type": f"{EXTENSIONS}filters.http.router.v3.Router"}}
ADS: Json = {"ads": {}}


def serialised(message_type: Any, fields: Json) -> bytes:
    """Returns a message given in JSON form, as bytes that are the same for the same fields."""
    return json_format.ParseDict(fields, message_type()).SerializeToString(deterministic=True)


def route_config(*hosts: Json, **fields: Any) -> bytes:
    """Returns a RouteConfiguration `orders`."""
    return serialised(route_pb2.RouteConfiguration, {"name": "orders", "virtual_hosts": list(hosts), **fields})


def host(*routes: Json, **fields: Any) -> Json:
    """Returns a virtual host for every domain."""
    return {"name": "all", "domains": ["*"], "routes": list(routes), **fields}


def to(cluster: str, **match: Any) -> Json:
    """Returns a route to one cluster, for every path unless `match` says otherwise."""
    return {"match": {"prefix": "", **match}, "route": {"cluster": cluster}}


def manager(**fields: Any) -> Json:
    """Returns an HttpConnectionManager that asks for the routes `orders` by RDS; None takes a field out."""
    settings = {
        "@type": f"{EXTENSIONS}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "rds": {"config_source": ADS, "route_config_name": "orders"},
        "http_filters": [ROUTER],
        **fields,
    }
    return {key: value for key, value in settings.items() if value is not None}


def listener(hcm: Json | None = None, **fields: Any) -> bytes:
    """Returns a Listener `orders`."""
    settings = {"name": "orders", "api_listener": {"api_listener": hcm or manager()}, **fields}
    return serialised(listener_pb2.Listener, {key: value for key, value in settings.items() if value is not None})


def cluster(**fields: Any) -> bytes:
    """Returns an EDS Cluster `orders`; None takes a field out."""
    settings = {"name": "orders", "type": "EDS", "eds_cluster_config": {"eds_config": ADS}, **fields}
    return serialised(cluster_pb2.Cluster, {key: value for key, value in settings.items() if value is not None})


def lb_policy(kind: str, **fields: Any) -> Json:
    """Returns an entry of LoadBalancingPolicy.policies, `kind` being what follows `load_balancing_policies.`."""
    config = {"@type": f"{EXTENSIONS}load_balancing_policies.{kind}", **fields}
    return {"typed_extension_config": {"name": kind, "typed_config": config}}


def endpoint(address: str = "10.0.0.1", port: int = 80, **fields: Any) -> Json:
    """Returns an LbEndpoint."""
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}, **fields}


def locality(*endpoints: Json, zone: str = "a", weight: int = 1, priority: int = 0, **fields: Any) -> Json:
    """Returns a LocalityLbEndpoints."""
    return {
        "locality": {"zone": zone},
        "lb_endpoints": list(endpoints),
        "load_balancing_weight": weight,
        "priority": priority,
        **fields,
    }


def leds(name: str = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders/-/*", **fields: Any) -> Json:
    """Returns a LedsClusterLocalityConfig."""
    return {"leds_config": ADS, "leds_collection_name": name, **fields}


def lb_endpoint(address: str = "10.0.0.1", port: int = 80, **fields: Any) -> bytes:
    """Returns an LbEndpoint, as it is a resource of a LEDS collection."""
    return serialised(endpoint_components_pb2.LbEndpoint, endpoint(address, port, **fields))


def assignment(*localities: Json, **fields: Any) -> bytes:
    """Returns a ClusterLoadAssignment `orders`."""
    return serialised(
        endpoint_pb2.ClusterLoadAssignment, {"cluster_name": "orders", "endpoints": list(localities), **fields}
    )

"""xDS names and extension names that translation and clients agree on (design.md section 3)."""

from __future__ import annotations

FIELD_EXTRACTION = "envoy.filters.http.grpc_field_extraction"
ENDPOINT_METADATA = "meshsdk"  # filter_metadata key of LbEndpoint: started_at, labels

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def cluster_name(host: str, subset: str) -> str:
    """Returns `orders`, or `orders|v2` for a subset. Neither part can hold a "|" (config.names)."""
    return f"{host}|{subset}" if subset else host

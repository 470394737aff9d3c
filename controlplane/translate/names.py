"""xDS names and extension names that translation and clients agree on (design.md section 3)."""

from __future__ import annotations

FIELD_EXTRACTION = "envoy.filters.http.grpc_field_extraction"
ENDPOINT_METADATA = "meshsdk"  # filter_metadata key of LbEndpoint: started_at, labels
REGISTRY_CLUSTER = "meshsdk.clusters.registry"  # cluster_type; its TypedStruct is of the type below
REGISTRY_CLUSTER_TYPE = "type.googleapis.com/meshsdk.clusters.registry.v1.RegistryCluster"

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def cluster_name(host: str, subset: str, unit: str = "") -> str:
    """Returns `orders`, `orders|v2` for a subset, `orders||east` and `orders|v2|east` for those in a unit.

    No part can hold a "|" (model.names). A unit `east+central` is east with central standing in for it.
    """
    parts = [host, subset, unit]
    while not parts[-1]:
        parts.pop()
    return "|".join(parts)


def stand_in(unit: str, other: str) -> str:
    """Returns the unit's part of the name of a cluster where `other` stands in for `unit`."""
    return f"{unit}+{other}"


def by_interface(name: str) -> str:
    """Returns the name of that form of a cluster whose endpoints interface-level discovery finds, CDS and EDS alike."""
    return f"{name}@interface"


def by_both(name: str) -> str:
    """Returns the name of that form of a cluster where interface-level discovery stands in for the application's."""
    return f"{name}@both"

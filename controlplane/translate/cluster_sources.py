"""Where the endpoints of a cluster come from: EDS, DNS, a registry the client watches itself, or other clusters. Pure.

Decides it for one caller and writes it into the CDS resource. Used by `clusters`; load balancing is none of its matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as aggregate_pb2
from xds.type.v3 import typed_struct_pb2

from controlplane.model.configuration import Configuration
from controlplane.model.discovery import DiscoveryPolicy, EndpointsFrom
from controlplane.model.service import Resolution, ServiceEntry
from controlplane.translate.listener import ads
from controlplane.translate.names import REGISTRY_CLUSTER, REGISTRY_CLUSTER_TYPE, by_both, by_interface
from controlplane.translate.packing import packed
from controlplane.translate.targets import application, selector
from controlplane.translate.view import View
from meshsdk.model.migration import Migration


@dataclass(frozen=True, slots=True)
class Eds:
    """The EDS resource `name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Dns:
    """One address, resolved by the client (gRFC A37)."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Registry:
    """Instances of `app` that carry `labels`, from the client's own registry of that name. `unit` "": of all units."""

    registry: str
    app: str
    unit: str
    labels: Mapping[str, str]
    interface: str = ""
    migration: Migration = Migration.APPLICATION_FIRST


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Other clusters, of which each stands in for those before it (gRFC A37)."""

    clusters: tuple[str, ...]


Source = Eds | Dns | Registry | Aggregate


def sources(
    name: str, host: str, labels: Mapping[str, str], unit: str, configuration: Configuration, view: View
) -> dict[str, Source]:
    """Returns the clusters that stand for `name` with their sources, those that others are made of first.

    A service that migrates has one cluster for each mode, whichever is called (`called`): grpcio's core does not
    survive that a cluster of one name turns into an aggregate, and whoever is switched over finds both.

    Args:
        name: of the cluster.
        host: whose cluster it is.
        labels: of the subset.
        unit: whose instances it has; "" for all units that take calls.
        configuration: all of it.
        view: the caller.
    """
    entry = configuration.services.get(host)
    if entry and entry.resolution is Resolution.DNS:
        return {name: _dns(host, entry)}
    policy = configuration.discovery_of(host)
    app = application(host, configuration)
    if policy is None or app is None:
        return {name: Eds(name)}
    if _direct(policy, host, unit, configuration, view):
        wanted = {key: value for key, value in selector(host, configuration).items() if key != "app"}
        _, migration = chosen(policy, view)
        return {name: Registry(policy.registry, app, unit, {**wanted, **labels}, policy.interface, migration)}
    if not policy.interface:
        return {name: Eds(name)}
    second = by_interface(name)
    return {name: Eds(name), second: Eds(second), by_both(name): Aggregate((name, second))}


def called(name: str, host: str, unit: str, configuration: Configuration, view: View) -> str:
    """Returns which of the clusters that stand for `name` is called."""
    policy = configuration.discovery_of(host)
    if policy is None or not policy.interface or _direct(policy, host, unit, configuration, view):
        return name
    _, migration = chosen(policy, view)
    if migration is Migration.FORCE_INTERFACE:
        return by_interface(name)
    return by_both(name) if migration is Migration.APPLICATION_FIRST else name


def _direct(policy: DiscoveryPolicy, host: str, unit: str, configuration: Configuration, view: View) -> bool:
    endpoints, _ = chosen(policy, view)
    units = configuration.units.get(host)
    # A registry knows units, not which are drained: all units but those come from the control plane.
    whole = bool(units and units.drained and not unit)
    return endpoints is EndpointsFrom.REGISTRY and view.registry_clusters and not whole


def chosen(policy: DiscoveryPolicy, view: View) -> tuple[EndpointsFrom, Migration]:
    """Returns what a policy says for a caller."""
    for consumer in policy.consumers:
        if view.carries(consumer.source_labels):
            return consumer.endpoints or policy.endpoints, consumer.migration or policy.migration
    return policy.endpoints, policy.migration


def _dns(host: str, entry: ServiceEntry) -> Dns:
    port = entry.ports[0]
    number = port.target_port or port.number
    if not entry.workloads:
        return Dns(host, number)
    workload = entry.workloads[0]
    return Dns(workload.address, workload.ports.get(port.name, number))


def apply_source(message: cluster_pb2.Cluster, source: Source) -> None:
    """Writes the source into a cluster that has a name."""
    if isinstance(source, Eds):
        message.type = cluster_pb2.Cluster.EDS
        message.eds_cluster_config.eds_config.CopyFrom(ads())
        message.eds_cluster_config.service_name = source.name
    elif isinstance(source, Dns):
        message.type = cluster_pb2.Cluster.LOGICAL_DNS
        message.load_assignment.cluster_name = message.name
        endpoint = message.load_assignment.endpoints.add().lb_endpoints.add().endpoint
        endpoint.address.socket_address.address = source.address
        endpoint.address.socket_address.port_value = source.port
    elif isinstance(source, Registry):
        message.cluster_type.name = REGISTRY_CLUSTER
        message.cluster_type.typed_config.CopyFrom(packed(_registry(source)))
    else:
        message.cluster_type.name = "envoy.clusters.aggregate"
        message.cluster_type.typed_config.CopyFrom(packed(aggregate_pb2.ClusterConfig(clusters=source.clusters)))


def _registry(source: Registry) -> typed_struct_pb2.TypedStruct:
    message = typed_struct_pb2.TypedStruct(type_url=REGISTRY_CLUSTER_TYPE)
    message.value.update({"registry": source.registry, "app": source.app, "unit": source.unit})
    if source.interface:
        message.value.update({"interface": source.interface, "migration": source.migration.value})
    if source.labels:
        message.value.update({"labels": dict(source.labels)})
    return message

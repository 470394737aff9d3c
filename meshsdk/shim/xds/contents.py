"""What the Envoy of a shim is to have at one moment: frozen, made anew for each change, shared by all streams. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from meshsdk.model.resources import ClusterEndpoints, Locality

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LB_ENDPOINT = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint"


def _nothing() -> Mapping[str, bytes]:
    return MappingProxyType({})


def _none() -> Mapping[str, ClusterEndpoints]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Contents:
    """Serialised resources by name; equal ones of successive contents are the same object where that was cheap.

    `endpoints`: of each cluster that takes its endpoints from EDS, by the cluster's name.
    """

    listeners: Mapping[str, bytes] = field(default_factory=_nothing)
    routes: Mapping[str, bytes] = field(default_factory=_nothing)
    clusters: Mapping[str, bytes] = field(default_factory=_nothing)
    endpoints: Mapping[str, ClusterEndpoints] = field(default_factory=_none)

    def of(self, type_url: str) -> Mapping[str, bytes]:
        """Returns the resources of one of the types that are passed on as they are."""
        return {LISTENER: self.listeners, ROUTE: self.routes, CLUSTER: self.clusters}[type_url]


@dataclass(frozen=True, slots=True)
class Place:
    """Names one collection of endpoints: those of a locality in a priority of a cluster."""

    cluster: str
    locality: Locality
    priority: int


@dataclass(frozen=True, slots=True)
class Request:
    """What Envoy says (DeltaDiscoveryRequest). `known`: names it holds from an earlier stream."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """One resource of a response."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """What Envoy is told (DeltaDiscoveryResponse); each resource is new, and so is its version, the nonce."""

    type_url: str
    nonce: str
    given: tuple[Given, ...] = ()
    removed: tuple[str, ...] = ()

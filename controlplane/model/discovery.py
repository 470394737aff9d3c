"""What DiscoveryPolicy says: where the clients of a service get its endpoints from. Values and look-ups only."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.migration import Migration

EVERY_HOST = "*"


class EndpointsFrom(enum.Enum):
    """Who tells a client the endpoints."""

    REGISTRY = "REGISTRY"  # the registry itself, where the client can watch one (meshsdk.registry_clusters)
    CONTROL_PLANE = "CONTROL_PLANE"  # EDS


@dataclass(frozen=True, slots=True)
class Consumer:
    """What is different for callers that carry all `source_labels`; None: as the policy says."""

    source_labels: Mapping[str, str]
    endpoints: EndpointsFrom | None = None
    migration: Migration | None = None


@dataclass(frozen=True, slots=True)
class DiscoveryPolicy:
    """`meshsdk.io/v1alpha1` DiscoveryPolicy.

    `hosts`: services, or only `*` for every one that is not named by another policy. `registry`: a name of the
    client's own bootstrap (`meshsdk.registries`). `app`: the application in the registry, "" for the one of the host.
    `interface`: the gRPC service whose interface-level entries count as `migration` says; "" for none.
    `consumers` are tried in order; the first whose labels the caller has counts.
    """

    id: ResourceId
    hosts: tuple[str, ...]
    endpoints: EndpointsFrom
    registry: str = "default"
    app: str = ""
    interface: str = ""
    migration: Migration = Migration.APPLICATION_FIRST
    consumers: tuple[Consumer, ...] = ()
    origin: Origin = field(default=Origin("", 0), compare=False)

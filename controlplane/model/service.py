"""Services and their workloads: what ServiceEntry and WorkloadEntry say."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.resources import Locality


class Resolution(enum.Enum):
    """How a service's endpoints are found."""

    STATIC = "STATIC"  # those listed, or those the selector finds
    DNS = "DNS"  # one name, resolved by the client (LOGICAL_DNS, gRFC A37)
    NONE = "NONE"  # nothing listed: the workloads that the selector finds


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a service. `target_port` is the port of its workloads where that differs."""

    number: int
    name: str
    protocol: str
    target_port: int | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """One place where a service runs. `address`: an IP address, or a host name with `Resolution.DNS`.

    `ports` maps a service port's name to this workload's own port.
    """

    address: str
    ports: Mapping[str, int]
    labels: Mapping[str, str]
    locality: Locality
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """`networking.istio.io/v1` ServiceEntry. Every host is one service of the mesh, of its own xDS names.

    `selector`: labels that pick WorkloadEntries and registered instances; None where `workloads` are listed.
    """

    id: ResourceId
    hosts: tuple[str, ...]
    ports: tuple[ServicePort, ...]
    workloads: tuple[Workload, ...]
    resolution: Resolution
    selector: Mapping[str, str] | None
    external: bool = False
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class WorkloadEntry:
    """`networking.istio.io/v1` WorkloadEntry."""

    id: ResourceId
    workload: Workload
    origin: Origin = field(default=Origin("", 0), compare=False)

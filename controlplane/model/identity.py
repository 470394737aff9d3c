"""Who a configuration resource is and where it was written. Used by every resource; decides nothing."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ResourceKind(enum.Enum):
    """The kinds the control plane reads: Istio's first, then those of `meshsdk.io/v1alpha1`."""

    SERVICE_ENTRY = "ServiceEntry"
    WORKLOAD_ENTRY = "WorkloadEntry"
    VIRTUAL_SERVICE = "VirtualService"
    DESTINATION_RULE = "DestinationRule"
    UNIT_POLICY = "UnitPolicy"
    DISCOVERY_POLICY = "DiscoveryPolicy"
    TRAFFIC_SWITCH = "TrafficSwitch"
    SHIM_SET = "ShimSet"
    CALL_POLICY = "CallPolicy"
    RATE_LIMIT = "RateLimit"


@dataclass(frozen=True, slots=True)
class ResourceId:
    """Names one resource, as in Kubernetes: two documents with one id are a conflict."""

    kind: ResourceKind
    namespace: str
    name: str

    def __str__(self) -> str:
        """Returns `Kind/name`, with the namespace where it is not `default`."""
        if self.namespace == "default":
            return f"{self.kind.value}/{self.name}"
        return f"{self.kind.value}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in a file. `line` counts from 1; `path` is the field, as in `spec.http[0].route`."""

    file: str
    line: int
    path: str = ""

    def __str__(self) -> str:
        """Returns `file:line`."""
        return f"{self.file}:{self.line}"

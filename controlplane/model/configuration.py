"""The configuration in force: all resources, found by host. Built by `config.merge`, read by `translate`. Frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.model.policy import DestinationRule
from controlplane.model.service import ServiceEntry, WorkloadEntry
from controlplane.model.traffic import VirtualService

Resource = ServiceEntry | WorkloadEntry | VirtualService | DestinationRule


@dataclass(frozen=True, slots=True)
class Configuration:
    """Resources by the host they speak of. Of two that claim one host the first counts; `config` refuses such."""

    services: Mapping[str, ServiceEntry] = field(default_factory=dict)
    virtual_services: Mapping[str, VirtualService] = field(default_factory=dict)
    rules: Mapping[str, DestinationRule] = field(default_factory=dict)
    workloads: tuple[WorkloadEntry, ...] = ()

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> Configuration:
        """Indexes `resources`."""
        services: dict[str, ServiceEntry] = {}
        virtual: dict[str, VirtualService] = {}
        rules: dict[str, DestinationRule] = {}
        workloads: list[WorkloadEntry] = []
        for resource in resources:
            if isinstance(resource, ServiceEntry):
                for host in resource.hosts:
                    services.setdefault(host, resource)
            elif isinstance(resource, VirtualService):
                if resource.applies:
                    for host in resource.hosts:
                        virtual.setdefault(host, resource)
            elif isinstance(resource, DestinationRule):
                rules.setdefault(resource.host, resource)
            else:
                workloads.append(resource)
        return cls(services, virtual, rules, tuple(workloads))

    def hosts(self) -> frozenset[str]:
        """Returns every host that is configured, or sent to, or spoken of."""
        sent_to = {
            destination.host
            for service in self.virtual_services.values()
            for route in service.routes
            for destination in route.destinations
        }
        return frozenset(self.services) | frozenset(self.virtual_services) | frozenset(self.rules) | sent_to

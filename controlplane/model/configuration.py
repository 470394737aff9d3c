"""The configuration in force: all resources, found by host. Built by `config.merge`, read by `translate`. Frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from controlplane.model.call_policy import CallPolicy, EffectivePolicy
from controlplane.model.discovery import EVERY_HOST, DiscoveryPolicy
from controlplane.model.policy import DestinationRule
from controlplane.model.rate_limits import RateLimit
from controlplane.model.service import ServiceEntry, WorkloadEntry
from controlplane.model.shims import ShimSet
from controlplane.model.switching import TrafficSwitch
from controlplane.model.traffic import VirtualService
from controlplane.model.units import UnitPolicy

_T = TypeVar("_T")
Resource = (
    ServiceEntry
    | WorkloadEntry
    | VirtualService
    | DestinationRule
    | UnitPolicy
    | DiscoveryPolicy
    | TrafficSwitch
    | ShimSet
    | RateLimit
    | CallPolicy
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Resources by the host they speak of. Of two that claim one host the first counts; `config` refuses such.

    `discovery` may have one policy under `*`, for every host that has none of its own. `switches` and `shim_sets` speak
    of nodes, not of hosts; they are in the order of their sources, the highest first, as are `calls` of one host.
    `rate_limits`: by their domain.
    """

    services: Mapping[str, ServiceEntry] = field(default_factory=dict)
    virtual_services: Mapping[str, VirtualService] = field(default_factory=dict)
    rules: Mapping[str, DestinationRule] = field(default_factory=dict)
    workloads: tuple[WorkloadEntry, ...] = ()
    units: Mapping[str, UnitPolicy] = field(default_factory=dict)
    discovery: Mapping[str, DiscoveryPolicy] = field(default_factory=dict)
    switches: tuple[TrafficSwitch, ...] = ()
    shim_sets: tuple[ShimSet, ...] = ()
    rate_limits: Mapping[str, RateLimit] = field(default_factory=dict)
    calls: Mapping[str, tuple[CallPolicy, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> Configuration:
        """Indexes `resources`."""
        listed = list(resources)
        return cls(
            services=_first((host, each) for each in listed if isinstance(each, ServiceEntry) for host in each.hosts),
            virtual_services=_first(
                (host, each)
                for each in listed
                if isinstance(each, VirtualService) and each.applies
                for host in each.hosts
            ),
            rules=_first((each.host, each) for each in listed if isinstance(each, DestinationRule)),
            workloads=tuple(each for each in listed if isinstance(each, WorkloadEntry)),
            units=_first((host, each) for each in listed if isinstance(each, UnitPolicy) for host in each.services),
            discovery=_first(
                (host, each) for each in listed if isinstance(each, DiscoveryPolicy) for host in each.hosts
            ),
            switches=tuple(each for each in listed if isinstance(each, TrafficSwitch)),
            shim_sets=tuple(each for each in listed if isinstance(each, ShimSet)),
            rate_limits=_first((each.domain, each) for each in listed if isinstance(each, RateLimit)),
            calls=_grouped(each for each in listed if isinstance(each, CallPolicy)),
        )

    def hosts(self) -> frozenset[str]:
        """Returns every host that is configured, or sent to, or spoken of."""
        sent_to = {each.host for service in self.virtual_services.values() for each in service.targets()}
        asked = {
            policy.service.rate_limit.cluster
            for policies in self.calls.values()
            for policy in policies
            if policy.service.rate_limit and policy.service.rate_limit.cluster
        }
        named = (self.services, self.virtual_services, self.rules, self.units, self.discovery, self.calls)
        found = (*named, sent_to, asked)
        return frozenset().union(*found) - {EVERY_HOST}

    def discovery_of(self, host: str) -> DiscoveryPolicy | None:
        """Returns the policy for a host: its own, else the one for all."""
        return self.discovery.get(host) or self.discovery.get(EVERY_HOST)

    def calls_of(self, host: str) -> EffectivePolicy:
        """Returns what all CallPolicies of a host say together; nothing where there is none."""
        return EffectivePolicy.of(self.calls.get(host, ()))


def _grouped(policies: Iterable[CallPolicy]) -> dict[str, tuple[CallPolicy, ...]]:
    found: dict[str, tuple[CallPolicy, ...]] = {}
    for policy in policies:
        found[policy.host] = (*found.get(policy.host, ()), policy)
    return found


def _first(claims: Iterable[tuple[str, _T]]) -> dict[str, _T]:
    found: dict[str, _T] = {}
    for host, resource in claims:
        found.setdefault(host, resource)
    return found

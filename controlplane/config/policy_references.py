"""Whether a UnitPolicy or a DiscoveryPolicy fits to the hosts that it names. Called by `references`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.config.problems import Problem
from controlplane.model.configuration import Configuration, Resource
from controlplane.model.discovery import EVERY_HOST, DiscoveryPolicy, EndpointsFrom
from controlplane.model.identity import Origin
from controlplane.model.names import UNIT_LABEL
from controlplane.model.service import Resolution, ServiceEntry
from controlplane.model.traffic import HttpRoute, VirtualService
from controlplane.model.units import UnitPolicy, UnitScope

MOST_ROUTES = 20_000  # of one host, in one view


def named_hosts(resource: Resource) -> Iterator[tuple[str, Origin]]:
    """Yields the hosts that a policy names, each with its place."""
    if isinstance(resource, UnitPolicy):
        for service in resource.services.values():
            yield service.host, service.origin
    elif isinstance(resource, DiscoveryPolicy):
        place = Origin(resource.origin.file, resource.origin.line, "spec.hosts")
        for host in resource.hosts:
            if host != EVERY_HOST:
                yield host, place


def misfits(resource: Resource, configuration: Configuration) -> Iterator[Problem]:
    """Yields what cannot be done as these resources say."""
    if isinstance(resource, UnitPolicy):
        yield from _without_units(resource, configuration)
    elif isinstance(resource, DiscoveryPolicy):
        for host, place in named_hosts(resource):
            entry = configuration.services.get(host)
            if entry:
                yield from _not_in_a_registry(resource, host, entry, place)
    elif isinstance(resource, VirtualService) and resource.applies:
        yield from _routes_in_units(resource, configuration)


def _without_units(policy: UnitPolicy, configuration: Configuration) -> Iterator[Problem]:
    for service in policy.services.values():
        entry = configuration.services.get(service.host)
        if entry is None:
            continue
        if entry.resolution is Resolution.DNS:
            what = f"{entry.id} in {entry.origin} resolves {service.host} by DNS, which knows no units"
            yield Problem(service.origin, what)
        elif entry.workloads and not any(UNIT_LABEL in workload.labels for workload in entry.workloads):
            what = f"no endpoint of {entry.id} in {entry.origin} has the label {UNIT_LABEL}: every unit would be empty"
            yield Problem(service.origin, what)


def _not_in_a_registry(policy: DiscoveryPolicy, host: str, entry: ServiceEntry, place: Origin) -> Iterator[Problem]:
    if entry.workloads or entry.resolution is Resolution.DNS:
        what = "lists its endpoints" if entry.workloads else "is resolved by DNS"
        yield Problem(place, f"{host} is not discovered in a registry: {entry.id} in {entry.origin} {what}")
        return
    app = entry.selector.get("app") if entry.selector is not None else host
    if policy.app and entry.selector is not None and app not in {None, policy.app}:
        place = Origin(place.file, place.line, "spec.app")
        yield Problem(place, f"{entry.id} in {entry.origin} selects the application {app}, not {policy.app}")
    wanted = {policy.endpoints, *(consumer.endpoints for consumer in policy.consumers)}
    if EndpointsFrom.REGISTRY in wanted and not (policy.app or app):
        what = f"{entry.id} in {entry.origin} selects instances of any application; give spec.app"
        yield Problem(place, what)


def _routes_in_units(service: VirtualService, configuration: Configuration) -> Iterator[Problem]:
    for route in service.routes:
        policies = _keyed(route, configuration)
        if len(policies) > 1:
            names = " and ".join(str(policy.id) for policy in policies[:2])
            yield Problem(route.origin, f"the destinations are closed services of {names}, whose keys may disagree")
    total = max(route_count(host, configuration) for host in service.hosts)
    if total > MOST_ROUTES:
        what = "the rules, the keys of the UnitPolicy and the methods of CallPolicies"
        yield Problem(service.origin, f"{what} make about {total} routes; at most {MOST_ROUTES} are served")


def route_count(host: str, configuration: Configuration) -> int:
    """Returns about how many routes a service has: for each match, test on a key and path of a CallPolicy one."""
    service = configuration.virtual_services.get(host)
    total = 0 if service else 1
    for route in service.routes if service else ():
        tests = sum(
            len(policy.sources)
            * sum(len(rule.exact) + len(rule.prefixes) + len(rule.integers) for rule in policy.rules)
            for policy in _keyed(route, configuration)
        )
        total += max(1, len(route.matches)) * (tests + 1)
    return total * (1 + len(configuration.calls_of(host).paths))


def _keyed(route: HttpRoute, configuration: Configuration) -> list[UnitPolicy]:
    found: dict[str, UnitPolicy] = {}
    for destination in route.destinations:
        policy = configuration.units.get(destination.host)
        if policy and policy.services[destination.host].scope is UnitScope.CLOSED:
            found[str(policy.id)] = policy
    return list(found.values())

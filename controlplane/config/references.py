"""Checks across resources: dangling references, and two resources that claim one thing. Pure.

A host without a dot may be an application that registers later, so an unknown one is a warning; an unknown host with
a dot, and an unknown subset, are refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from controlplane.config.call_policy_references import called_hosts, idle, unfit
from controlplane.config.documents import Entry, origin
from controlplane.config.policy_references import misfits, named_hosts
from controlplane.config.problems import Problem
from controlplane.config.steering_conflicts import contradictions
from controlplane.model.call_policy import CallPolicy
from controlplane.model.configuration import Configuration
from controlplane.model.discovery import DiscoveryPolicy
from controlplane.model.identity import Origin, ResourceId
from controlplane.model.policy import DestinationRule
from controlplane.model.rate_limits import RateLimit
from controlplane.model.service import ServiceEntry
from controlplane.model.traffic import Destination, VirtualService
from controlplane.model.units import UnitPolicy


def conflicts(entries: Iterable[Entry]) -> Iterator[Problem]:
    """Yields a problem for each resource that repeats another's identity or claims another's host."""
    ids: dict[ResourceId, Entry] = {}
    hosts: dict[tuple[type, str], Entry] = {}
    for entry in entries:
        first = ids.setdefault(entry.id, entry)
        if first is not entry:
            yield Problem(origin(entry), f"{entry.id} is defined before, in {origin(first)}")
            continue
        for host in claims(entry):
            holder = hosts.setdefault((type(entry.resource), host), entry)
            if holder is not entry:
                claimed = "domain" if isinstance(entry.resource, RateLimit) else "host"
                what = f"{entry.id} and {holder.id} (in {origin(holder)}) are both for the {claimed} {host}"
                yield Problem(origin(entry), f"conflict: {what}; merge them into one")


def claims(entry: Entry) -> tuple[str, ...]:
    """Returns the hosts, or the domain, that a resource claims among those of its kind."""
    resource = entry.resource
    if isinstance(resource, DestinationRule):
        return (resource.host,)
    if isinstance(resource, RateLimit):
        return (resource.domain,)
    if isinstance(resource, UnitPolicy):
        return tuple(resource.services)
    if isinstance(resource, ServiceEntry | DiscoveryPolicy) or (
        isinstance(resource, VirtualService) and resource.applies
    ):
        return resource.hosts
    return ()


def _unknown(host: str, place: Origin) -> tuple[Problem | None, Problem | None]:
    if "." in host:
        return Problem(place, f"unknown host {host}: no ServiceEntry has it"), None
    return None, Problem(
        place, f"no ServiceEntry has the host {host}: it is served once an application registers as {host}"
    )


def dangling(
    entries: Iterable[Entry], configuration: Configuration, registered: Collection[str] = ()
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Returns (problems, warnings) about hosts, subsets and ports that resources name.

    Args:
        entries: the resources to look at.
        configuration: all of them together, to look names up in.
        registered: applications known from the registration service; naming them is no reason to warn.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for entry in entries:
        for host, destination, place in _mentions(entry):
            if host not in configuration.services and host not in registered:
                problem, warning = _unknown(host, place)
                if problem:
                    problems.append(problem)
                    continue
                if warning:
                    warnings.append(warning)
            if destination:
                problems.extend(_wrong_part(destination, configuration))
        problems.extend(misfits(entry.resource, configuration))
        problems.extend(contradictions(entry.resource, configuration))
        if isinstance(entry.resource, CallPolicy):
            problems.extend(unfit(entry.resource, configuration))
            warnings.extend(idle(entry.resource, configuration))
    return tuple(problems), tuple(warnings)


def named(entry: Entry) -> frozenset[str]:
    """Returns the hosts that a resource refers to."""
    return frozenset(host for host, _, _ in _mentions(entry))


def _mentions(entry: Entry) -> Iterator[tuple[str, Destination | None, Origin]]:
    resource = entry.resource
    if isinstance(resource, VirtualService):
        for destination in resource.targets():
            yield destination.host, destination, destination.origin
    elif isinstance(resource, DestinationRule):
        place = Origin(resource.origin.file, resource.origin.line, "spec.host")
        yield resource.host, None, place
    elif isinstance(resource, CallPolicy):
        for host, place in called_hosts(resource):
            yield host, None, place
    for host, place in named_hosts(resource):
        yield host, None, place


def _wrong_part(destination: Destination, configuration: Configuration) -> Iterator[Problem]:
    place = destination.origin
    if destination.subset:
        rule = configuration.rules.get(destination.host)
        if rule is None:
            text = f"unknown subset {destination.subset}: no DestinationRule is for the host {destination.host}"
            yield Problem(place, text)
        elif rule.subset(destination.subset) is None:
            known = ", ".join(subset.name for subset in rule.subsets) or "none"
            text = f"unknown subset {destination.subset} of {destination.host}; {rule.id} in {rule.origin} has: {known}"
            yield Problem(place, text)
    service = configuration.services.get(destination.host)
    if destination.port and service and destination.port != service.ports[0].number:
        yield Problem(place, f"port {destination.port} is not served; {service.id} serves {service.ports[0].number}")

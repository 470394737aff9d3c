"""How a plane fares, in JSON-like values: counts, problems, warnings, feeds, upstreams and the store.

Called by the admin interface, the metrics, `meshctl serve` and the embedded control plane. Reads, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from controlplane.config.problems import Problem
from controlplane.model.identity import ResourceKind
from controlplane.model.service import Resolution
from controlplane.plane import Plane
from meshsdk.model.migration import Migration

_MAX_CONFLICTS = 20  # shown; the others are counted


def warnings(plane: Plane) -> tuple[str, ...]:
    """Returns what is in force and has no effect, waits for something, or is in conflict."""
    with plane.lock:
        own = plane.configured.accepted.warnings(plane.apps)
        found = (*own, *_unused(plane), *_empty_side(plane), *_stopped(plane))
        return (*map(str, found), *_hidden(plane))


def _unused(plane: Plane) -> Iterator[Problem]:
    """Yields a warning for each application whose instances register and get no calls."""
    services = plane.configured.accepted.configuration.services
    for app, group in plane.instances.items():
        service = services.get(app)
        if service and (service.workloads or service.resolution is Resolution.DNS):
            what = "lists its endpoints" if service.workloads else "is resolved by DNS"
            yield Problem(
                service.origin, f"{len(group)} registered instances of {app} get no calls: {service.id} {what}"
            )


def _empty_side(plane: Plane) -> Iterator[Problem]:
    """Yields a warning for each service whose policy forces clients to entries that nobody registered."""
    for host, policy in plane.configured.accepted.configuration.discovery.items():
        modes = {policy.migration, *(each.migration for each in policy.consumers)} if policy.interface else set()
        for mode, name in (
            (Migration.FORCE_INTERFACE, policy.interface),
            (Migration.FORCE_APPLICATION, policy.app or host),
        ):
            if mode in modes and name not in plane.instances:
                what = f"nobody is registered as {name}: with {mode.name} the calls of clients on EDS to {host} fail"
                yield Problem(policy.origin, what)


def _stopped(plane: Plane) -> Iterator[Problem]:
    """Yields a warning for each rollout of shims that was stopped because too many failed."""
    origins = {each.id: each.origin for each in plane.configured.accepted.configuration.shim_sets}
    for key, fares in plane.shim_sets().items():
        if fares.phase.is_stop and key in origins:
            yield Problem(origins[key], f"{key}: {fares}")


def _hidden(plane: Plane) -> Iterator[str]:
    conflicts = plane.instances.conflicts()
    yield from map(str, islice(conflicts, _MAX_CONFLICTS))
    more = sum(1 for _ in conflicts)
    if more:
        yield f"{more} more instances are hidden by those of a registry that comes before"


def troubles(plane: Plane) -> tuple[str, ...]:
    """Returns why something is not as it should be: refused configuration, registries and stores that are away."""
    with plane.lock:
        found = [str(problem) for problem in plane.configured.problems]
    store = plane.shared_store()
    if store is not None and (problem := store.problem()):
        found.append(f"{problem}; the last known state stays in force, and nothing can be changed")
    for feed in plane.feeds:
        status = feed.status()
        if not status.up:
            kept = "its last known instances stay" if status.listed else "none of its instances is known yet"
            found.append(f"registry {status.name} ({status.url}): {status.problem or 'has not answered yet'}; {kept}")
    for upstream in plane.upstreams:
        fares = upstream.status()
        found.extend(f"{fares.name}: {problem}" for problem in fares.problems)
    return tuple(found)


def status(plane: Plane) -> dict[str, object]:
    """Returns all of it."""
    with plane.lock:
        kinds = {kind.value: 0 for kind in ResourceKind}
        for entry in plane.configured.accepted.entries:
            kinds[entry.id.kind.value] += 1
        counts = {
            "resources": kinds,
            "services": len(plane.hosts()),
            "views": plane.views,
            **plane.registered(),
            "applications": len(plane.instances),
            "instances": sum(map(len, plane.instances.values())),
            "shims": len(plane.instances.shims()),
        }
        feeds = [_feed(plane, index) for index in range(len(plane.feeds))]
    store = plane.shared_store()
    return {
        **counts,
        "in_force": not plane.configured.problems,
        "store_health": {"problem": store.problem(), **store.facts()} if store is not None else {},
        "feeds": feeds,
        "upstreams": [
            {"url": fares.name, "up": fares.up, "resources": fares.resources, "problems": list(fares.problems)}
            for fares in (upstream.status() for upstream in plane.upstreams)
        ],
        "problems": list(troubles(plane)),
        "warnings": list(warnings(plane)),
    }


def _feed(plane: Plane, index: int) -> dict[str, object]:
    found = plane.feeds[index].status()
    return {
        "name": found.name,
        "url": found.url,
        "up": found.up,
        "problem": found.problem,
        "applications": found.applications,
        "instances": found.instances,
        "skipped": found.skipped,
        "doubted": found.doubted,
    }

"""What may be registered with this control plane: what any registry takes, and what xDS needs beyond it. Pure.

Called by the registrars and the feeds. Everything here comes from outside and ends up in every client.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.model.names import HOST, split_address
from meshsdk.discovery.limits import instance_problem, revision_problem
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, Revision


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts over the whole control plane, and the span of a lease in seconds."""

    instances: int = 500_000
    watchers: int = 10_000
    revisions: int = 50_000
    shortest_lease: int = 1
    longest_lease: int = 3_600
    default_lease: int = 15  # where the instance asks for 0


class Refused(RegistryError):
    """A request breaks a rule (`full` False), or the control plane has as much as it takes (`full` True)."""

    def __init__(self, what: str, *, full: bool = False) -> None:
        self.full = full
        super().__init__(what)


def app_problem(app: str) -> str:
    """Returns why an application cannot be served under this name, or "": it becomes an xDS resource name."""
    if HOST.fullmatch(app):
        return ""
    return f"app: {app[:80]!r} is not a name of letters, digits, -, _ and . of at most 253 characters"


def endpoint_problem(instance: Instance) -> str:
    """Returns why an instance that a registry took cannot be served over xDS, or ""."""
    if problem := app_problem(instance.app):
        return problem
    if split_address(instance.address) is None:
        return f"address: {instance.address[:80]!r} is not IP:PORT; peers dial it as it is, and xDS takes no host names"
    return ""


def check_app(app: str) -> None:
    """Refuses what cannot be an application's name. Raises Refused."""
    if problem := app_problem(app):
        raise Refused(problem)


def check_instance(instance: Instance) -> None:
    """Refuses an instance that peers could not use, or that is too large. Raises Refused."""
    if problem := endpoint_problem(instance) or instance_problem(instance):
        raise Refused(problem)


def lease_time(asked: int, limits: Limits) -> int:
    """Returns the time of a lease in seconds. Raises Refused outside the limits."""
    if asked == 0:
        return limits.default_lease
    if not limits.shortest_lease <= asked <= limits.longest_lease:
        raise Refused(f"ttl_seconds: expected {limits.shortest_lease} to {limits.longest_lease}, got {asked}")
    return asked


def check_revision(revision: Revision) -> None:
    """Refuses a revision that is too large or has no name. Raises Refused."""
    check_app(revision.app)
    if problem := revision_problem(revision):
        raise Refused(problem)

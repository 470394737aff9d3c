"""What may be registered: sizes, forms and counts. Pure checks with the words of the refusal.

Called by `registration`. Everything here comes from outside and ends up in every client.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.model.names import HOST, split_address
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, Revision

_MAX_WEIGHT = 65_535
_MAX_LABELS = 64
_MAX_LABEL_NAME = 317  # Kubernetes: prefix of 253, "/", name of 63
_MAX_LABEL_VALUE = 1_024
_MAX_TEXT = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Counts over the whole control plane, and the span of a lease in seconds."""

    instances: int = 500_000
    watchers: int = 10_000
    revisions: int = 50_000
    methods: int = 5_000  # of one revision
    options: int = 64 * 1024  # characters of one method's options
    shortest_lease: int = 1
    longest_lease: int = 3_600
    default_lease: int = 15  # where the instance asks for 0


class Refused(RegistryError):
    """A request breaks a rule (`full` False), or the control plane has as much as it takes (`full` True)."""

    def __init__(self, what: str, *, full: bool = False) -> None:
        self.full = full
        super().__init__(what)


def check_app(app: str) -> None:
    """Refuses what cannot be an application's name: it becomes an xDS resource name."""
    if not HOST.fullmatch(app):
        raise Refused(f"app: {app[:80]!r} is not a name of letters, digits, -, _ and . of at most 253 characters")


def check_instance(instance: Instance) -> None:
    """Refuses an instance that peers could not use, or that is too large. Raises Refused."""
    check_app(instance.app)
    for name, text in (
        ("id", instance.id),
        ("revision", instance.revision),
        ("unit", instance.unit),
        ("region", instance.region),
        ("zone", instance.zone),
    ):
        if len(text) > _MAX_TEXT:
            raise Refused(f"{name}: longer than {_MAX_TEXT} characters")
    if not instance.id:
        raise Refused("id: must not be empty; it tells this instance from the others of its app")
    if split_address(instance.address) is None:
        raise Refused(
            f"address: {instance.address[:80]!r} is not IP:PORT; peers dial it as it is, and xDS takes no host names"
        )
    if not 1 <= instance.weight <= _MAX_WEIGHT:
        raise Refused(f"weight: expected 1 to {_MAX_WEIGHT}, got {instance.weight}")
    if not (math.isfinite(instance.started_at) and instance.started_at >= 0):
        raise Refused("started_at: expected unix seconds")
    _check_labels(instance.labels)


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MAX_LABELS:
        raise Refused(f"labels: at most {_MAX_LABELS}, got {len(labels)}")
    for name, value in labels.items():
        if not 1 <= len(name) <= _MAX_LABEL_NAME:
            raise Refused(f"labels: a name has 1 to {_MAX_LABEL_NAME} characters")
        if len(value) > _MAX_LABEL_VALUE:
            raise Refused(f"labels: the value of {name} is longer than {_MAX_LABEL_VALUE} characters")


def lease_time(asked: int, limits: Limits) -> int:
    """Returns the time of a lease in seconds. Raises Refused outside the limits."""
    if asked == 0:
        return limits.default_lease
    if not limits.shortest_lease <= asked <= limits.longest_lease:
        raise Refused(f"ttl_seconds: expected {limits.shortest_lease} to {limits.longest_lease}, got {asked}")
    return asked


def check_revision(revision: Revision, limits: Limits) -> None:
    """Refuses a revision that is too large or has no name. Raises Refused."""
    check_app(revision.app)
    if not 1 <= len(revision.revision) <= _MAX_TEXT:
        raise Refused(f"revision: has 1 to {_MAX_TEXT} characters")
    if len(revision.methods) > limits.methods:
        raise Refused(f"methods: at most {limits.methods}, got {len(revision.methods)}")
    for method in revision.methods:
        if not method.name.startswith("/") or method.name.count("/") != 2 or len(method.name) > 2 * _MAX_TEXT:  # noqa: PLR2004
            raise Refused(f"methods: {method.name[:80]!r} is not /package.Service/Method")

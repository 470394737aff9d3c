"""The Registry port: what meshsdk needs of a service registry, in three small parts and their sum.

Called by `meshsdk.lifecycle` (`Registrar`, `Catalog`) and by whoever follows instances (`Feed`). Implemented by
`memory`, `controlplane` and the adapters of real registries. Never decides when to renew or what to do in an outage:
that is the caller's state machine. All methods may block for a bounded time and may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision


class LeaseLapsed(RegistryError):
    """The registry does not know the lease (it ran out, or the registry lost its data): register again."""


class MalformedEntry(RegistryError):
    """The registry has answered, with an entry that cannot be read; the text names its key. It is no outage."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Keeps one instance registered while it is renewed within `ttl` seconds, the registry's word on it."""

    id: str
    ttl: float


class Registrar(Protocol):
    """Keeps this process's instance registered. All raise RegistryError when the registry refuses or is away."""

    def register(self, instance: Instance, ttl: float) -> Lease:
        """Creates or replaces `(instance.app, instance.id)` under a new lease of about `ttl` seconds."""

    def renew(self, lease: Lease) -> Lease:
        """Prolongs the lease by its ttl. Raises LeaseLapsed."""

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """Changes the state that watchers see. Raises LeaseLapsed."""

    def deregister(self, lease: Lease) -> None:
        """Removes the instance at once; a lease that is gone already is no error."""


class Catalog(Protocol):
    """What applications serve. All raise RegistryError when the registry refuses or is away."""

    def publish_revision(self, revision: Revision) -> None:
        """Stores what `(app, revision)` contains; storing it again changes nothing."""

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """Returns the content of a revision, None if it was never published. Raises MalformedEntry too."""

    def map_service(self, service: str) -> tuple[str, ...]:
        """Returns the applications (sorted) that serve the gRPC service `pkg.Service`, by their published revisions."""


class Watch(Protocol):
    """One running subscription."""

    @property
    def skipped(self) -> int:
        """How many entries that others left it cannot use at present."""

    def cancel(self) -> None:
        """Ends it; idempotent. A delivery under way may still finish."""


class Feed(Protocol):
    """Follows instances."""

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Watch:
        """Calls `on_increment` with all instances of `app` (reset), then with every change, one call at a time.

        `app` "" follows all applications, `unit` "" every unit. A watch of all ends each listing with the mark
        `Increment("", reset=True)`: applications not told since the last mark are gone. Outages are bridged inside;
        what changed meanwhile follows them, as increments or as a reset.
        """


class Registry(Registrar, Catalog, Feed, Protocol):
    """A whole registry."""

    def close(self) -> None:
        """Ends all watches and connections; idempotent. Leases stay until they lapse."""

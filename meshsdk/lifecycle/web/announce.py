"""`meshsdk.announce`: an instance in the registry whose server is not of grpc (a web application, any other program).

The service it returns drains as that of `serve` does; stopping the server, once it has, is the caller's business.
`uvicorn_hooks` and `gunicorn_hooks` do so for these two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshsdk.bootstrap import Bootstrap
from meshsdk.discovery.registry import Registry
from meshsdk.interceptors.activity import Activity
from meshsdk.lifecycle.offer import Identity, Sources, make_offer
from meshsdk.lifecycle.plan import PlanOptions, make_plan
from meshsdk.lifecycle.presence import Presence
from meshsdk.lifecycle.serve_sync import LEASE_SECONDS
from meshsdk.lifecycle.server_parts import ServerParts
from meshsdk.lifecycle.service import Service

if TYPE_CHECKING:
    from typing_extensions import Unpack


def announce(  # noqa: PLR0913 - a public entry: everything is given by name
    *,
    app: str,
    address: str,
    metadata: Mapping[str, str] | None = None,
    unit: str = "",
    zone: str = "",
    weight: int = 1,
    bootstrap: Bootstrap | None = None,
    registry: Registry | None = None,
    activity: Activity | None = None,
    **options: Unpack[PlanOptions],
) -> Service:
    """Registers an instance of `app` at `address` (`host:port`) and returns its service.

    Arguments as for `serve`. `activity`: counts the calls, so that a drain waits for them; see `activity`. Without
    it a drain waits for `DrainTiming.quiet` alone. Raises ConfigurationError.
    """
    plan = make_plan(options)
    identity = Identity(app, address, metadata, unit, zone, weight)
    parts = ServerParts(handlers={}, unlisted=(), activity=activity)
    offer = make_offer(identity, parts, Sources(bootstrap, registry))
    return Service(_Elsewhere(), Presence(offer, LEASE_SECONDS), plan).start()


class _Elsewhere:
    """A `Host` for a server that its owner starts and stops."""

    def start(self) -> None:
        """See `Host`."""

    def running(self) -> bool:
        """See `Host`."""
        return True

    def step_aside(self) -> None:
        """See `Host`."""

    def stop(self, grace: float | None) -> None:
        """See `Host`."""

"""The control plane's registration service as a registry (`registration.proto` over a grpc channel).

Called by `meshsdk.lifecycle` with a channel to the control plane. Carries, and bridges broken watches; when to renew
and what to do in an outage is decided by the caller.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import SplitResult

import grpc

from meshsdk.discovery import registration_codec as codec
from meshsdk.discovery import registration_pb2 as pb
from meshsdk.discovery import registration_pb2_grpc as services
from meshsdk.discovery.following import Following, RegistryClosed
from meshsdk.discovery.registry import Lease, LeaseLapsed, MalformedEntry
from meshsdk.discovery.watches import Watches
from meshsdk.errors import ConfigurationError, RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_LOG = logging.getLogger("meshsdk.discovery")
_Answer = TypeVar("_Answer")
_MAX_TOLD = 1000  # problems of entries remembered per watch, so that each is logged once
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_PORT = 65_535
_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # A control plane that restarted is found within seconds, where gRPC would wait up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3000),
    # How long core waits for a connection to come up: one taken by a server that is just going must not cost 20 s.
    ("grpc.min_reconnect_backoff_ms", 3000),
    # A control plane that vanished without a FIN is noticed while a watch idles.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # core counts a minute for an answer, whatever the line above says
    # Its own connection: a channel shared with others would share their backoff too.
    ("grpc.use_local_subchannel_pool", 1),
)


class ControlPlaneAway(RegistryError):
    """The control plane did not answer, or cannot do so now: another one may."""


class ControlPlaneRegistry:
    """Implements `meshsdk.discovery.registry.Registry` on `channel`, which it owns and closes.

    `server` names the control plane in messages; `timeout` is seconds per call.
    """

    def __init__(self, channel: grpc.Channel, server: str, timeout: float = 3.0) -> None:
        self._channel = channel
        self.server = server
        self._timeout = timeout
        self._stub = services.RegistrationStub(channel)
        self._watches: Watches[Following] = Watches(f"of control plane {server}")

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. The control plane may grant another ttl (whole seconds)."""
        request = pb.RegisterRequest(instance=codec.instance_to_wire(instance), ttl_seconds=max(1, round(ttl)))
        return _lease(self._ask("register", self._stub.Register, request))

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`."""
        return _lease(self._ask("renew", self._stub.Renew, pb.RenewRequest(lease_id=lease.id)))

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        request = pb.SetStateRequest(lease_id=lease.id, state=codec.state_to_wire(state))
        self._ask("set the state at", self._stub.SetState, request)

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        try:
            self._ask("deregister from", self._stub.Deregister, pb.DeregisterRequest(lease_id=lease.id))
        except LeaseLapsed:
            _LOG.debug("lease %s had lapsed before it was given back", lease.id)

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`."""
        self._ask("publish a revision at", self._stub.PublishRevision, codec.revision_to_wire(revision))

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        request = pb.GetRevisionRequest(app=app, revision=revision)
        try:
            answer: pb.Revision = self._ask("get a revision from", self._stub.GetRevision, request)
        except LeaseLapsed:
            return None
        try:
            return codec.revision_from_wire(answer)
        except RegistryError as error:
            words = f"control plane {self.server}: revision {revision!r} of {app!r}: {error}"
            raise MalformedEntry(words) from None

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        request = pb.MapServiceRequest(service=service)
        answer: pb.MapServiceResponse = self._ask("map a service at", self._stub.MapService, request)
        return tuple(sorted(answer.apps))

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Following:
        """See `Feed`. Called on a thread of the watch; a broken stream is opened anew with backoff."""
        stream = _StreamWatch(self._stub, pb.WatchRequest(app=app, unit=unit), on_increment)
        return self._watches.begin(Following(f"watch of app {app!r} at control plane {self.server}", stream.follow))

    def close(self) -> None:
        """See `Registry`."""
        self._watches.close()
        self._channel.close()

    def _ask(self, verb: str, method: Callable[..., _Answer], request: object) -> _Answer:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            text = f"cannot {verb} control plane {self.server}: {error.code().name}: {error.details()}"
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise LeaseLapsed(text) from None
            raise (ControlPlaneAway if error.code() in _AWAY else RegistryError)(text) from None
        except ValueError as error:  # grpc's word for a closed channel
            raise RegistryError(f"cannot {verb} control plane {self.server}: {error}") from None


class _StreamWatch:
    """What one watch does with its streams. Owned by the thread of its `Following`."""

    def __init__(
        self, stub: services.RegistrationStub, request: pb.WatchRequest, on_increment: Callable[[Increment], None]
    ) -> None:
        self._stub = stub
        self._request = request
        self._on_increment = on_increment
        self._told: frozenset[str] = frozenset()  # problems of entries already logged
        self._parts: list[Increment] = []  # of an increment whose last message has not come

    def follow(self, following: Following) -> None:
        """Reads one stream to its end. Raises RegistryError as `Following` wants it."""
        self._parts = []
        try:
            call = self._stub.Watch(self._request)
            following.interruptible(call.cancel)
            for message in call:
                following.settled()
                self._deliver(message)
        except grpc.RpcError as error:
            raise RegistryError(f"{error.code().name}: {error.details()}") from None
        except ValueError as error:  # the channel is closed: so is the registry
            raise RegistryClosed(str(error)) from None
        raise RegistryError("the stream ended")

    def _deliver(self, message: pb.Increment) -> None:
        increment, problems = codec.increment_from_wire(message)
        for problem in problems:
            if problem not in self._told and len(self._told) < _MAX_TOLD:
                self._told |= {problem}
                _LOG.warning("instance skipped: %s", problem)
        self._parts.append(increment)
        if message.more:
            return
        increment, self._parts = codec.joined(self._parts), []
        try:
            self._on_increment(increment)
        except Exception:  # noqa: BLE001 - the listener's bug must not end the watch, nor pass unseen
            _LOG.exception("a watcher of app %r failed on an increment", increment.app)


def _lease(answer: pb.Lease) -> Lease:
    return Lease(answer.id, float(max(1, answer.ttl_seconds)))


def address_of(url: SplitResult) -> str:
    """Returns the HOST:PORT of `grpc://HOST:PORT`; ConfigurationError says in a few words what is wrong."""
    if "@" in url.netloc:
        raise ConfigurationError("a control plane knows no user and no password")
    if url.path.strip("/") or url.query or url.fragment:
        raise ConfigurationError("nothing goes with the address")
    found = _ADDRESS.fullmatch(url.netloc)
    if found is None or not 0 < int(found[1]) <= _MAX_PORT:
        raise ConfigurationError(f"{url.netloc!r} is not HOST:PORT")
    return url.netloc


def open_url(url: SplitResult) -> ControlPlaneRegistry:
    """Returns the registration service at `grpc://HOST:PORT`, in plain text; ConfigurationError in a few words."""
    address = address_of(url)
    return ControlPlaneRegistry(grpc.insecure_channel(address, CHANNEL_OPTIONS), address)

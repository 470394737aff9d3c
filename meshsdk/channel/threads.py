"""The synchronous scope: links over `grpc.Channel`, a monitor thread, and calls that wait on a condition."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from meshsdk.channel.load_asking import Asked, ask_all
from meshsdk.channel.pool import endpoint_target
from meshsdk.channel.scope import Scope, Source
from meshsdk.channel.stack import Target
from meshsdk.lb.backend import Connectivity
from meshsdk.model.resources import Locality
from meshsdk.model.snapshot import Snapshot, Unresolvable

if TYPE_CHECKING:
    from meshsdk.channel.rate_limit_client import ThreadRateLimitClient

Options = Sequence[tuple[str, Any]]

# grpc_connectivity_state of core: IDLE 0, CONNECTING 1, READY 2, TRANSIENT_FAILURE 3, SHUTDOWN 4.
_READY = 2
_STATES = (Connectivity.IDLE, Connectivity.CONNECTING, Connectivity.READY, Connectivity.FAILED, Connectivity.FAILED)


class SyncLink:
    """A `grpc.Channel` to one address.

    grpc has no public way to read the state of a synchronous channel without a polling thread per channel
    (`subscribe`); `_channel.check_connectivity_state` is what that thread itself calls, costs 0.4 us and never blocks.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        """Takes ownership of the channel."""
        self.channel = channel
        self._check = check = channel._channel.check_connectivity_state  # type: ignore[attr-defined] # noqa: SLF001
        self.ready: Callable[[], bool] = lambda: bool(check(False) == _READY)  # noqa: FBT003 - grpc's try_to_connect

    def probe(self) -> Connectivity:
        """Tells the state now; wakes an idle channel."""
        return _STATES[self._check(True)]  # noqa: FBT003 - grpc's try_to_connect

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()


def endpoint_options(authority: str, options: Options) -> list[tuple[str, Any]]:
    """Channel arguments of a connection: the target's own :authority (as native xDS), no service config from DNS.

    Connections are made ahead of need and retried in the background, so a black-holed address is given up sooner, and
    one that comes back is found sooner, than by core's defaults (20 s, 1 s, 120 s). `options` override them.
    """
    return [
        ("grpc.default_authority", authority),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # which is also how long core waits for a connection to come up
        ("grpc.initial_reconnect_backoff_ms", 250),
        ("grpc.max_reconnect_backoff_ms", 30_000),
        *options,
    ]


class ThreadScope(Scope):
    """The scope of all synchronous channels of a mesh.

    Thread rules: calls of any thread wait on `changed`, which shares `lock`; the monitor thread is the only one that
    looks. The thread starts with the first target.
    """

    def __init__(
        self, source: Source, local: Locality, seed: int, credentials: grpc.ChannelCredentials | None, options: Options
    ) -> None:
        """`credentials` None: plaintext."""

        def dial(address: str, authority: str) -> SyncLink:
            arguments = endpoint_options(authority, options)
            where = endpoint_target(address)
            if credentials is None:
                return SyncLink(grpc.insecure_channel(where, arguments))
            return SyncLink(grpc.secure_channel(where, credentials, arguments))

        super().__init__(source, dial, local, seed)
        self.rate_limits: ThreadRateLimitClient | None = None  # set once by the mesh, before any target is opened
        self.changed = threading.Condition(self.lock)
        self._wake = threading.Event()
        self._closed = False
        self._monitor: threading.Thread | None = None
        self._asking: threading.Thread | None = None

    def open(self, name: str, authority: str) -> Target:
        """See `Scope.open`; starts the monitor."""
        with self.lock:
            target = super().open(name, authority)
            if self._monitor is None:
                self._monitor = threading.Thread(target=self._run, name="meshsdk-connections", daemon=True)
                self._monitor.start()
            return target

    def close(self) -> None:
        """See `Scope.close`; the monitor ends."""
        self._closed = True
        self._wake.set()
        if self.rate_limits is not None:
            self.rate_limits.close()
        super().close()
        if self._monitor is not None and self._monitor is not threading.current_thread():
            self._monitor.join()

    def hurry(self) -> None:
        """A call waits: look again now, and quickly from here on."""
        self._hurry()
        self._wake.set()

    def wake(self) -> None:
        """Lets every waiting call look whether it still has something to wait for."""
        with self.changed:
            self.changed.notify_all()

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            self._wake.wait(self.look())

    def _ask(self, asked: Sequence[Asked], period: float) -> bool:
        if self._asking is not None and self._asking.is_alive():
            return False
        self._asking = threading.Thread(target=ask_all, args=(asked, period), name="meshsdk-load", daemon=True)
        self._asking.start()
        return True

    def _deliver(self, target: Target, resolution: Snapshot | Unresolvable) -> None:
        target.adopt(resolution)
        self.hurry()

    def _changed(self) -> None:
        self.changed.notify_all()

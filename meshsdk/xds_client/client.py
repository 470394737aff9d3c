"""XdsClient: the thread-safe face of the xDS client, one for each mesh.

Channels watch targets on it. It starts its driver thread at the first watch, shares one stream per list of servers
among all targets, and is quiet while the process forks. It decides nothing about the protocol.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshsdk.bootstrap import Bootstrap, ServerConfig, Transport
from meshsdk.errors import LifecycleError
from meshsdk.model.resources import Kind, RuntimeLayer
from meshsdk.model.snapshot import Key, Snapshot, Unresolvable
from meshsdk.version import VERSION
from meshsdk.xds_client.codec import decode
from meshsdk.xds_client.direct import read_target
from meshsdk.xds_client.driver import Driver, Stream, Subscriber
from meshsdk.xds_client.feeds import Feeds, NoFeeds
from meshsdk.xds_client.intake import Decode
from meshsdk.xds_client.last_good import LastGoodFiles
from meshsdk.xds_client.layer import layer_target
from meshsdk.xds_client.link import LinkState
from meshsdk.xds_client.load_counts import LoadCounts
from meshsdk.xds_client.load_reporter import LoadReporter
from meshsdk.xds_client.machine import nothing_saved
from meshsdk.xds_client.names import Target, authority_of
from meshsdk.xds_client.recording import recorder
from meshsdk.xds_client.registry_names import checking
from meshsdk.xds_client.resolve import resolve
from meshsdk.xds_client.session import Resolve, Result, Session
from meshsdk.xds_client.store import Entry, EntryStatus
from meshsdk.xds_client.stream import AdsStream, StreamEvent
from meshsdk.xds_client.timing import Timing
from meshsdk.xds_client.wire import REGISTRY_CLUSTERS_FEATURE, node_message

OnResolution = Callable[[Snapshot | Unresolvable], None]
OnLayer = Callable[[RuntimeLayer | None], None]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One resource as `meshsdk doctor` and CSDS show it. `ignored`: field paths accepted and without effect here."""

    kind: Kind
    name: str
    status: EntryStatus
    version: str
    problem: str
    server: str
    ignored: tuple[str, ...]


class Watch:
    """A target or runtime layer being watched; made by `XdsClient.watch` and `watch_runtime`."""

    def __init__(self, client: XdsClient, number: int, target: Target, on_result: Callable[[Result], None]) -> None:
        self._client = client
        self._number = number
        self._target = target
        self._on_result = on_result
        self._cancelled = False  # set once by any thread, read by the driver

    def cancel(self) -> None:
        """Ends the watch; no callback begins after this returns, except one that is beginning. May be repeated."""
        if not self._cancelled:
            self._cancelled = True
            self._client._forget(self._number)  # noqa: SLF001 - two halves of one thing

    def _subscriber(self) -> Subscriber:
        return Subscriber(self._number, self._target, self._on_result, lambda: not self._cancelled)


class XdsClient:
    """Watches targets through the control plane, and the service registries (`feeds`), that `bootstrap` names.

    `timing`, `decode` and `resolve` are for tests. `_lock` guards `_running`, `_watches`, `_forking` and `_closed`.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        *,
        feeds: Feeds | None = None,
        timing: Timing | None = None,
        decode: Decode = decode,
        resolve: Resolve = resolve,
    ) -> None:
        self._bootstrap = bootstrap
        self._feeds = feeds or NoFeeds()
        self._timing = timing or Timing()
        self._decode = checking(decode, bootstrap.mesh.registries)
        self._resolve = resolve
        self.loads = LoadCounts(self._servers_of)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._watches: dict[int, Watch] = {}
        self._running: _Running | None = None
        self._forking = False
        self._closed = False

    def watch(self, target: str, on_resolution: OnResolution) -> Watch:
        """Watches `xds:///name`, `xds://authority/name`, `mesh:///name` or `mesh://registry/name`.

        `on_resolution` is called on the driver thread: first when the configuration is complete, or known to be out of
        reach, then on each change. It must not block. Raises ConfigurationError for a target that cannot be, and
        LifecycleError after `close`.
        """

        def tell(result: Result) -> None:
            if not isinstance(result, RuntimeLayer):
                on_resolution(result)

        return self._watch(read_target(target, self._bootstrap), tell)

    def watch_runtime(self, name: str, on_layer: OnLayer) -> Watch:
        """Watches the runtime layer (RTDS) called `name`, by which the control plane steers this process.

        `on_layer` is called on the driver thread with each layer in force, and with None when the server has none (it
        took it back, or does not know of such things). It is not called while nothing is known, and must not block.
        Raises LifecycleError after `close`.
        """

        def tell(result: Result) -> None:
            if isinstance(result, RuntimeLayer):
                on_layer(result)
            elif isinstance(result, Unresolvable) and result.absent:
                on_layer(None)

        return self._watch(layer_target(name), tell)

    def _watch(self, target: Target, on_result: Callable[[Result], None]) -> Watch:
        watch = Watch(self, next(self._numbers), target, on_result)
        with self._lock:
            if self._closed:
                raise LifecycleError(f"cannot watch {target.text}: this mesh is closed")
            self._watches[watch._number] = watch  # noqa: SLF001 - two halves of one thing
            if not self._forking:
                self._start().driver.subscribe(watch._subscriber())  # noqa: SLF001
        return watch

    def progress(self, target: str) -> str:
        """Says what a target is waiting for, from which server, and the last error; for messages to users."""
        running = self._running
        if running is None:
            return f"{target} is not being watched"
        return running.session.progress(target)

    def ledger(self) -> tuple[LedgerRow, ...]:
        """Returns every resource asked for and what became of it, by kind and name."""
        running = self._running
        if running is None:
            return ()
        rows = [_row(entry) for entry in running.session.store.entries()]
        return tuple(sorted(rows, key=lambda row: (row.kind.value, row.name)))

    def dump(self) -> Dump:
        """Returns everything this client knows of the resources it wants, for CSDS (gRFC A40)."""
        node = node_message(self._bootstrap.node, VERSION)
        running = self._running
        if running is None:
            return Dump(node, (), (), ())
        session = running.session
        store, now = session.store, time.monotonic()
        entries = ((entry, max(0.0, now - store.changed(entry.key))) for entry in store.entries())
        return Dump(
            node,
            tuple(sorted(entries, key=lambda one: (one[0].key.kind.value, one[0].key.name))),
            tuple(session.servers()),
            tuple((target, session.progress(target)) for target in session.targets()),
        )

    def entry(self, key: Key) -> Entry | None:
        """Returns what is known of one resource, with its bytes; None for one that nothing wants. Frozen."""
        running = self._running
        return None if running is None else running.session.store.get(key)

    @property
    def running(self) -> _Running | None:
        """What is at work since the first watch, for metrics; None before it, after `close` and during a fork."""
        return self._running

    def close(self) -> None:
        """Ends all watches, streams and threads; may be repeated, from any thread."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
            self._watches.clear()
        if running is not None:
            running.reporter.close()
            running.driver.stop()
        self._feeds.stop()

    def before_fork(self) -> None:
        """Ends streams and threads for the moment of a fork: a child of a process with threads inside gRPC may abort.

        Watches stay; what they were told stays in force. `after_fork` goes on.
        """
        with self._lock:
            self._forking = True
            running, self._running = self._running, None
        if running is not None:
            running.reporter.close()
            running.driver.stop()
        self._feeds.stop()

    def after_fork(self) -> None:
        """Goes on in the parent after `before_fork`, with the same watches."""
        with self._lock:
            self._forking = False
            if not self._closed:
                for watch in list(self._watches.values()):
                    self._start().driver.subscribe(watch._subscriber())  # noqa: SLF001 - two halves of one thing

    def _servers_of(self, target: str) -> tuple[str, ...]:
        """Returns the URIs of the servers that the configuration of a target comes from."""
        read = read_target(target, self._bootstrap)
        if read.source is not None:
            return ()
        authority = self._bootstrap.authorities.get(authority_of(read.listener) or "")
        servers = authority.servers if authority is not None and authority.servers else self._bootstrap.servers
        return tuple(server.uri for server in servers)

    def _forget(self, number: int) -> None:
        with self._lock:
            if self._watches.pop(number, None) is not None and self._running is not None:
                self._running.driver.unsubscribe(number)

    def _start(self) -> _Running:
        """Starts the driver if it is not running. Called with the lock held."""
        if self._running is None:
            self._running = self._assemble()
            self._feeds.start(self._running.driver.tell)
            self._running.driver.start()
        return self._running

    def _assemble(self) -> _Running:
        bootstrap = self._bootstrap
        files = LastGoodFiles(bootstrap.mesh.cache_dir, bootstrap) if bootstrap.mesh.cache_dir else None
        session = Session(
            bootstrap,
            self._decode,
            self._resolve,
            random.random,
            timing=self._timing,
            last_good=files.load if files is not None else nothing_saved,
            registry_words=self._feeds.words,
        )
        node = node_message(bootstrap.node, VERSION)
        if bootstrap.mesh.registries:
            node.client_features.append(REGISTRY_CLUSTERS_FEATURE)
        reporter = LoadReporter(self.loads, node, random.random)
        recording = recorder(os.environ)

        def open_stream(server: ServerConfig, transport: Transport, post: Callable[[StreamEvent], None]) -> Stream:
            tap = recording.stream(server.uri, transport.value) if recording is not None else None
            stream = AdsStream(server, transport, post, self._timing.connect_timeout, reporter.let_go, tap)
            if stream.channel is not None:
                reporter.carry(server.uri, stream.channel)
            return stream

        return _Running(session, Driver(session, open_stream, node, files, self._feeds), reporter)


@dataclass(frozen=True, slots=True)
class Dump:
    """What an `XdsClient` knows: its Node message, each entry with its age in seconds, its servers, and its targets.

    Each target comes with words on how far its resolution is.
    """

    node: Any
    entries: tuple[tuple[Entry, float], ...]
    servers: tuple[LinkState, ...]
    targets: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Running:
    session: Session
    driver: Driver
    reporter: LoadReporter


def _row(entry: Entry) -> LedgerRow:
    ignored = () if entry.resource is None else entry.resource.ignored
    return LedgerRow(
        entry.key.kind, entry.key.name, entry.status, entry.version, entry.problem, entry.server, tuple(ignored)
    )

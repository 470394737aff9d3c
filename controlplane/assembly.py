"""A whole control plane in one object: plane, xDS server with registration, admin interface, keeper.

Made by `meshctl serve` and by `embedded`. The one place that knows all of them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from controlplane.admin.address import split_address
from controlplane.admin.api import Api
from controlplane.admin.server import AdminServer
from controlplane.gate import Awaited, Gate
from controlplane.keeper import Keeper
from controlplane.loads.book import LoadBook
from controlplane.plane import REGISTERED, Plane
from controlplane.ratelimit.limiter import Limiter
from controlplane.ratelimit.opening import open_counters
from controlplane.registries.feed import Feed, without_protection
from controlplane.registries.service import RegistrationService
from controlplane.server.load_stats import LoadStatsService
from controlplane.server.rate_limits import RateLimitService
from controlplane.server.service import XdsServer
from controlplane.server.status import ClientInfo, Event, EventKind
from controlplane.sources.upstream import Upstream
from controlplane.sources.wire import KINDS
from controlplane.store.open import open_store
from controlplane.store.shared import SharedStore
from meshsdk.discovery.opening import open_registry
from meshsdk.errors import ConfigurationError
from meshsdk.model.registry_url import shown_url

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Options:
    """What a control plane is made of.

    `directory`: YAML files to follow, or None. `store`: `memory`, `sqlite:PATH` or `etcd://HOST:PORT[,HOST:PORT]`.
    `xds`: `HOST:PORT` of xDS and registration; port 0 for any. `admin`: the same for the admin interface; None for
    none. `registries`: `NAME=URL`, the highest first. `sources`: `xds://HOST:PORT` of other control planes, the highest
    first. `debounce`: seconds of quiet, and at most, between a change and its push. `patience`: seconds at the start
    for registries and sources to tell what they have, before clients are answered without; None for no limit.
    `load_reports`: whose calls are counted: `own`, of clients that say that they can report them, or `all`.
    `rate_limit_store`: where the rate limit service counts: `memory`, or `redis://HOST:PORT/DB` for several replicas.
    """

    directory: Path | None = None
    store: str = "memory"
    xds: str = "127.0.0.1:0"
    admin: str | None = None
    registries: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    debounce: tuple[float, float] = (0.02, 0.5)
    patience: float | None = None
    load_reports: str = "own"
    rate_limit_store: str = "memory"


class ControlPlane:
    """Runs from `start` to `stop`. Owned by one thread; `plane` may be used from any.

    Raises:
        ConfigurationError: files, addresses or URLs cannot be used.
        StoreError: the store cannot be opened.
    """

    def __init__(self, options: Options) -> None:
        self._wanted = split_address(options.xds)
        self._patience = options.patience
        self._keeper = Keeper(time.monotonic)
        with ExitStack() as undo:
            feeds = [undo.enter_context(closing(feed)) for feed in _feeds(options.registries, self._keeper)]
            upstreams = [Upstream(url, self._keeper.wake) for url in _distinct(options.sources)]
            counters = open_counters(options.rate_limit_store)  # connects to nothing yet
            store = open_store(options.store)
            undo.callback(store.close)
            if isinstance(store, SharedStore):
                store.start(self._keeper.wake)
            self.plane = Plane(
                options.directory,
                store,
                time.monotonic,
                self._keeper.wake,
                feeds=feeds,
                upstreams=upstreams,
                all_report=options.load_reports == "all",
            )
            self._admin = AdminServer(options.admin) if options.admin is not None else None
            undo.pop_all()
        self._gate = Gate(_awaited(self.plane), exempt=KINDS)
        self._registration = RegistrationService(self.plane.registrar)
        self._book = LoadBook(time.time())
        self._loads = LoadStatsService(self._book, self.plane.hosts)
        self._limiter = Limiter(self.plane.rate_limits, counters)
        self._rate_limits = RateLimitService(self._limiter)
        self._xds = XdsServer(
            self.plane.cache,
            services=[self._registration.add_to, self._loads.add_to, self._rate_limits.add_to],
            on_event=self._note,
            debounce=options.debounce,
            held=self._gate.held,
        )
        self._about = {"config": str(options.directory) if options.directory else "", "store": options.store}
        self.xds_address = ""  # known once started

    @property
    def admin_address(self) -> str | None:
        """Where the admin interface listens; None without one."""
        return self._admin.address if self._admin else None

    def start(self, ended: threading.Event | None = None) -> None:
        """Begins to serve; returns once feeds and upstreams have told what they have, or the patience is over.

        Until then xDS clients are refused with UNAVAILABLE (`gate`); registration and the admin interface are there.
        Once `ended` is set it returns at once, with clients still refused: what is left to do is `stop`.

        Raises:
            ConfigurationError: an address cannot be listened on; all is stopped.
        """
        host, port = self._wanted
        bound = f"[{host}]" if ":" in host else host
        try:
            self._keeper.start(self.plane, self._sweep)
            self.xds_address = f"{bound}:{self._xds.start(f'{bound}:{port}')}"
            if self._admin:
                figures = self._limiter.figures
                self._admin.start(
                    Api(self.plane, self._xds.clients, self._facts, self._xds.counters, self._book, figures)
                )
            for feed in self.plane.feeds:
                feed.start()
            for upstream in self.plane.upstreams:
                upstream.start()
            if self._gate.wait(self._patience, ended or threading.Event()):
                self.plane.flush()  # also waits for the round of the keeper that has heard the last of them
                self._gate.open()
        except BaseException:
            self.stop()
            raise

    def stop(self, grace: float = 1.0) -> None:
        """Ends all of it: calls under way have `grace` seconds. Idempotent."""
        if self._admin:
            self._admin.stop()
        self._registration.close()
        self._loads.close()
        self._rate_limits.close()
        self._xds.stop(grace)
        self._keeper.stop()
        self.plane.close()

    def clients(self) -> tuple[ClientInfo, ...]:
        """Returns the open xDS streams."""
        return self._xds.clients()

    def _note(self, event: Event) -> None:
        """Keeps in mind who was connected, for reports. On the server's thread."""
        if event.kind is EventKind.OPENED:
            self._book.connected(event.client, event.node.id, event.node.user_agent, time.time())
        elif event.kind is EventKind.CLOSED:
            self._book.disconnected(event.client, time.time())

    def _sweep(self) -> None:
        self.plane.sweep(lambda: [client.view for client in self._xds.clients()], self._xds.asking)

    def _facts(self) -> dict[str, object]:
        """Returns what status says of this object itself. On the admin interface's threads."""
        addresses = {"xds": self.xds_address, "admin": self.admin_address}
        limits = {"rate_limit_store": self._limiter.figures().store.problem}
        return {**addresses, **self._about, **limits, "waiting_for": self._gate.waiting_for()}


def _awaited(plane: Plane) -> list[Awaited]:
    feeds = (Awaited(f"registry {feed.name}", feed.wait_listed, partial(_feed_problem, feed)) for feed in plane.feeds)
    upstreams = (
        Awaited(f"source {each.name}", each.wait_told, partial(_upstream_problem, each)) for each in plane.upstreams
    )
    return [*feeds, *upstreams]


def _feed_problem(feed: Feed) -> str:
    return feed.status().problem


def _upstream_problem(upstream: Upstream) -> str:
    return "; ".join(upstream.status().problems)


def _feeds(registries: Sequence[str], keeper: Keeper) -> Iterable[Feed]:
    names: set[str] = {REGISTERED}
    for text in registries:
        name, equals, url = text.partition("=")
        where = f"--registry {shown_url(name)}{equals}{shown_url(url)}"
        if not equals or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{where}: expected NAME=URL, such as default=etcd://127.0.0.1:2379")
        if name in names:
            raise ConfigurationError(f"{where}: the name {name} was given before")
        names.add(name)
        plain, period = without_protection(url, where)
        yield Feed(name, url, open_registry(plain, where), keeper.wake, period)


def _distinct(sources: Sequence[str]) -> Sequence[str]:
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigurationError(f"--source {source} was given twice")
    return sources

"""The control plane's figures in Prometheus' text format, for `GET /metrics` on the admin address.

Called by `api` for each scrape; asks the plane and the server, keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from controlplane import health
from controlplane.admin.rate_limit_metrics import rate_limit_metrics
from controlplane.plane import Plane
from controlplane.ratelimit.limiter import LimitFigures
from controlplane.server.status import ClientInfo, Counters
from meshsdk.errors import ConfigurationError

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
except ModuleNotFoundError as error:
    raise ConfigurationError("metrics need prometheus_client: pip install 'meshsdk[controlplane]'") from error

_SHIMS = ["shim_set", "are"]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Makes the text. Thread-safe as its sources are.

    `clients`: the open xDS streams. `counters`: what the xDS server has counted since it started. `figures`: what the
    rate limit service has decided.
    """

    def __init__(
        self,
        plane: Plane,
        clients: Callable[[], Iterable[ClientInfo]],
        counters: Callable[[], Counters],
        figures: Callable[[], LimitFigures] = LimitFigures,
    ) -> None:
        self._plane = plane
        self._clients = clients
        self._counters = counters
        self._figures = figures

    def text(self) -> bytes:
        """Returns all metrics as of now."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return bytes(generate_latest(registry))

    def collect(self) -> Iterator[Metric]:
        """Yields the families; called by prometheus_client."""
        yield from self._of_clients()
        yield from self._of_plane()
        yield from rate_limit_metrics(self._figures())

    def describe(self) -> list[Metric]:
        """Returns nothing: a registry lives for one scrape."""
        return []

    def _of_clients(self) -> Iterator[Metric]:
        counted = self._counters()
        streams = _gauge("xds_streams", "Open xDS streams by transport", ["transport"])
        for transport, count in sorted(counted.streams.items()):
            streams.add_metric([transport], count)
        yield streams
        rejecting = sum(any(each.rejected for each in client.subscriptions) for client in self._clients())
        yield _plain("xds_rejecting_streams", "Open xDS streams whose newest answer to some type is a NACK", rejecting)
        nacks = CounterMetricFamily("meshsdk_xds_nacks", "NACKs by resource type", labels=["type"])
        for type_url, count in sorted(counted.nacks.items()):
            nacks.add_metric([type_url.rpartition(".")[2].rpartition("/")[2]], count)
        yield nacks
        for name, words, value in (
            ("streams_opened", "xDS streams ever opened", counted.opened),
            ("streams_refused", "xDS streams ended because of what the client sent", counted.refused),
            ("messages_sent", "xDS responses sent", counted.messages),
            ("sent_bytes", "Bytes of xDS responses sent", counted.bytes),
            ("stale_requests", "xDS requests that answered no response, or one before the last", counted.stale),
        ):
            yield CounterMetricFamily(f"meshsdk_xds_{name}", words, value)

    def _of_plane(self) -> Iterator[Metric]:
        found = health.status(self._plane)
        resources = _gauge("resources", "Configuration resources in force by kind", ["kind"])
        kinds = found["resources"]
        for kind, count in kinds.items() if isinstance(kinds, Mapping) else ():
            resources.add_metric([kind], count)
        yield resources
        for name, words in (
            ("services", "Services that are served"),
            ("applications", "Applications with instances, registered or from a feed"),
            ("instances", "Instances that are served"),
            ("leases", "Leases of the registration service"),
            ("revisions", "Revisions that are kept"),
            ("watchers", "Watch streams of the registration service"),
            ("views", "Different views of the configuration that clients have"),
        ):
            yield _plain(name, words, _number(found[name]))
        yield _plain(
            "configuration_in_force", "1 if the newest configuration is in force", int(bool(found["in_force"]))
        )
        for name in ("problems", "warnings"):
            lines = found[name]
            yield _plain(
                name, f"{name.capitalize()} that meshctl status lists", len(lines) if isinstance(lines, list) else 0
            )
        yield from self._of_shim_sets()
        yield from self._of_others()

    def _of_shim_sets(self) -> Iterator[Metric]:
        shims = _gauge("shims", "Shims of a ShimSet: all, that run its version, that are ready, that failed", _SHIMS)
        for key, fares in self._plane.shim_sets().items():
            name = key.name if key.namespace == "default" else f"{key.namespace}/{key.name}"
            for what in ("shims", "updated", "ready", "failed"):
                shims.add_metric([name, "all" if what == "shims" else what], getattr(fares, what))
        yield shims

    def _of_others(self) -> Iterator[Metric]:
        up = _gauge("feed_up", "1 while a registry (--registry) is followed", ["feed"])
        instances = _gauge("feed_instances", "Instances that a registry has told", ["feed"])
        skipped = _gauge("feed_skipped", "Instances of a registry that cannot be served", ["feed"])
        doubted = _gauge("feed_doubted", "Instances that are kept though a registry says that they are gone", ["feed"])
        for feed in self._plane.feeds:
            fares = feed.status()
            up.add_metric([fares.name], int(fares.up))
            instances.add_metric([fares.name], fares.instances)
            skipped.add_metric([fares.name], fares.skipped)
            doubted.add_metric([fares.name], fares.doubted)
        upstreams = _gauge("upstream_up", "1 while another control plane (--source) is followed", ["upstream"])
        for upstream in self._plane.upstreams:
            state = upstream.status()
            upstreams.add_metric([state.name], int(state.up))
        yield from (up, instances, skipped, doubted, upstreams)
        store = self._plane.shared_store()
        yield _plain("store_up", "1 while the store can be read and written", int(store is None or not store.problem()))


def _gauge(name: str, words: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"meshsdk_{name}", words, labels=labels)


def _plain(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"meshsdk_{name}", words, value)


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0.0

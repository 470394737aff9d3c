"""The Prometheus endpoint of a process: every family, read as it is scraped. Needs the extra `meshsdk[prometheus]`.

Started by `switch` where a port is given. Names follow OpenTelemetry's rules for Prometheus: dots become underscores,
units become suffixes, counters end in `_total`. Pages are made one at a time: a scrape that comes while one is under
way waits for it, and gets the same page.
"""

from __future__ import annotations

import gzip
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from meshsdk.errors import ConfigurationError
from meshsdk.telemetry.families import Family, Kind, Source, Spread

_LOG = logging.getLogger(__name__)
_EFFORT = 1  # of gzip: metrics shrink to a twentieth even so, in a fifth of the time
_SUFFIXES = {"s": "seconds", "By": "bytes"}


class MetricsEndpoint:
    """`GET /metrics` on one address, served by a daemon thread. `port` is the one it got."""

    def __init__(self, address: str, port: int, source: Source) -> None:
        """Binds at once. `port` 0: any free one. Raises ConfigurationError where it cannot listen."""
        registry = CollectorRegistry()
        registry.register(Families(source))
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except OSError as error:
            raise ConfigurationError(
                f"Prometheus endpoint: cannot listen on {address}:{port}: {error.strerror or error}; "
                "choose another MESHSDK_METRICS_PORT"
            ) from error
        self._server.set_app(Pages(registry))
        self.address = address
        self.port: int = self._server.server_port

    def abandon(self) -> None:
        """In a forked child: closes the parent's socket here, where nothing serves it."""
        self._server.socket.close()

    def close(self) -> None:
        """Stops serving and frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Pages:
    """The WSGI application: whole pages, each made once for all who ask while it is made. Any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._others = make_wsgi_app(registry)
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, bool], Future[bytes]] = {}  # guarded by _lock
        self._making = threading.Lock()  # held while a page is made

    def __call__(self, environ: Mapping[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        """Answers a request; what is no scrape of everything is left to prometheus_client."""
        if environ["REQUEST_METHOD"] != "GET" or environ.get("QUERY_STRING") or environ["PATH_INFO"] != "/metrics":
            answer: Iterable[bytes] = self._others(dict(environ), respond)
            return answer
        encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        zipped = "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "").lower()
        page = self._shared((kind, zipped), encode)
        respond("200 OK", [("Content-Type", kind), *([("Content-Encoding", "gzip")] if zipped else [])])
        return [page]

    def _shared(self, key: tuple[str, bool], encode: Callable[[CollectorRegistry], bytes]) -> bytes:
        with self._lock:
            found = self._under_way.get(key)
            page = self._under_way.setdefault(key, Future())
        if found is not None:
            return found.result()
        try:
            with self._making:
                text = encode(self._registry)
            page.set_result(gzip.compress(text, _EFFORT) if key[1] else text)
        except BaseException as error:
            page.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._under_way[key]
        return page.result()


class Families(Collector):
    """A collector for prometheus_client's registries: families in its words."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Reads everything once."""
        return (_written(family) for family in self._source() if family.points)

    def describe(self) -> list[Metric]:
        """Names nothing in advance: prometheus_client would read everything to find the names."""
        return []


def _written(family: Family) -> Metric:
    suffix = _SUFFIXES.get(family.unit, "")
    name = family.name.replace(".", "_") + (f"_{suffix}" if suffix else "")
    labels = sorted({label for point in family.points for label in point.labels})
    names = [label.replace(".", "_") for label in labels]
    kinds: dict[Kind, Callable[..., Any]] = {
        Kind.COUNTER: CounterMetricFamily,
        Kind.GAUGE: GaugeMetricFamily,
        Kind.HISTOGRAM: HistogramMetricFamily,
    }
    written = kinds[family.kind](name, family.words, labels=names)
    for point in family.points:
        values = [point.labels.get(label, "") for label in labels]
        if isinstance(point.value, Spread):
            written.add_metric(values, _buckets(family.bounds, point.value.counts), point.value.total)
        else:
            written.add_metric(values, point.value)
    return written  # type: ignore[no-any-return]  # one of three


def _buckets(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, int]]:
    return list(zip((*(repr(bound) for bound in bounds), "+Inf"), accumulate(counts), strict=True))

"""A control plane that says again what a recording holds (`MESHSDK_XDS_RECORD`). Started by `meshsdk.testing.replay`.

Each stream that a client opens is given the next recorded stream of its kind: a response goes out as soon as the client
has asked for that type as often as the recorded client had when it came. It carries, and knows nothing of resources.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from meshsdk.errors import ConfigurationError
from meshsdk.xds_client.recording import Recorded, read

if TYPE_CHECKING:
    from typing_extensions import Self

_METHODS = {"sotw": "StreamAggregatedResources", "delta": "DeltaAggregatedResources"}
_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_PATIENCE = 0.5  # seconds between looks at whether a client is still there
_MOST_STREAMS = 64  # at once; each has two threads
_LOG = logging.getLogger(__name__)
_FORMS: dict[tuple[str, bool], Any] = {  # by transport, and whether the client sent it
    ("sotw", True): discovery_pb2.DiscoveryRequest,
    ("sotw", False): discovery_pb2.DiscoveryResponse,
    ("delta", True): discovery_pb2.DeltaDiscoveryRequest,
    ("delta", False): discovery_pb2.DeltaDiscoveryResponse,
}


class _Asked:
    """How often a stream's client has changed what it asks for, by type. Guarded by `changed`."""

    def __init__(self, transport: str) -> None:
        self.changed = threading.Condition()
        self.times: Counter[str] = Counter()
        self.ended = False
        self._transport = transport
        self._names: dict[str, frozenset[str]] = {}

    def hear(self, message: bytes) -> None:
        """A request has come."""
        if self._transport == "delta":
            delta = discovery_pb2.DeltaDiscoveryRequest.FromString(message)
            kind, new = delta.type_url, bool(delta.resource_names_subscribe)
            new = new or kind not in self._names
            self._names[kind] = frozenset()
        else:
            whole = discovery_pb2.DiscoveryRequest.FromString(message)
            kind, names = whole.type_url, frozenset(whole.resource_names)
            new = self._names.get(kind) != names
            self._names[kind] = names
        with self.changed:
            self.times[kind] += new
            self.changed.notify_all()

    def end(self) -> None:
        """The client is gone."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()


class Replay:
    """Serves a recording on a free loopback port until it is closed. A context manager; safe from any thread.

    At most 64 streams at once; more are refused with RESOURCE_EXHAUSTED.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError for a file that is no recording, has no stream, or one that cannot be replayed."""
        streams: dict[int, list[Recorded]] = {}
        for number, one in enumerate(read(path), 1):
            _check(one, f"{path}:{number}")
            streams.setdefault(one.stream, []).append(one)
        if not streams:
            raise ConfigurationError(f"{path} holds no stream")
        for stream, said in streams.items():
            if len({one.transport for one in said}) > 1:
                raise ConfigurationError(f"{path}: stream {stream} is of two transports; every stream has one")
            if not any(one.client for one in said):
                raise ConfigurationError(f"{path}: stream {stream} has no message of its client, who speaks first")
        self._streams = list(streams.values())
        self._lock = threading.Lock()
        self._given: Counter[str] = Counter()
        self.transport = self._streams[-1][0].transport
        if len({stream[0].transport for stream in self._streams}) > 1:
            words = "%s has streams of both transports: its bootstrap asks for %s, the last one's, and sees only those"
            _LOG.warning(words, path, self.transport)
        pool = futures.ThreadPoolExecutor(_MOST_STREAMS)
        options = [("grpc.so_reuseport", 0)]
        self._server = grpc.server(pool, options=options, maximum_concurrent_rpcs=_MOST_STREAMS)
        handlers: Any = {
            name: grpc.stream_stream_rpc_method_handler(self._handler(transport))
            for transport, name in _METHODS.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def bootstrap(self, node: str = "replay") -> dict[str, Any]:
        """Returns a gRPC bootstrap for clients of it."""
        return {
            "xds_servers": [{"server_uri": self.address, "channel_creds": [{"type": "insecure"}]}],
            "node": {"id": node},
            "meshsdk": {"transport": self.transport},
        }

    def close(self) -> None:
        """Ends it."""
        self._server.stop(0.1).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _next(self, transport: str) -> list[Recorded]:
        """Returns the next stream of a kind; when all were given, the last one again."""
        ours = [one for one in self._streams if one[0].transport == transport]
        with self._lock:
            number = self._given[transport]
            self._given[transport] += 1
        return ours[min(number, len(ours) - 1)] if ours else []

    def _handler(self, transport: str) -> Any:
        def handle(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            asked = _Asked(transport)
            context.add_callback(asked.end)
            threading.Thread(target=_listen, args=(requests, asked), daemon=True).start()
            yield from _said(self._next(transport), asked, transport)
            with asked.changed:
                while not asked.ended:
                    asked.changed.wait(_PATIENCE)

        return handle


def _check(one: Recorded, place: str) -> None:
    form = _FORMS[one.transport, one.client]
    try:
        named = bool(form.FromString(one.message).type_url)
    except DecodeError:
        named = False
    if not named:
        raise ConfigurationError(f"{place}: its message is no {form.DESCRIPTOR.name} that names a type")


def _listen(requests: Iterable[bytes], asked: _Asked) -> None:
    try:
        for message in requests:
            asked.hear(message)
    except grpc.RpcError:
        pass  # the client is gone, which the context has told
    finally:
        asked.end()


def _said(stream: list[Recorded], asked: _Asked, transport: str) -> Iterator[bytes]:
    """Yields the recorded responses, each when it is its time."""
    then = _Asked(transport)
    for one in stream:
        if one.client:
            then.hear(one.message)
            continue
        kind = _FORMS[transport, False].FromString(one.message).type_url
        with asked.changed:
            while asked.times[kind] < then.times[kind] and not asked.ended:
                asked.changed.wait(_PATIENCE)
            if asked.ended:
                return
        yield one.message

"""A control plane that says again what a recording holds (`MESHSDK_XDS_RECORD`). Started by `meshsdk.testing.replay`.

Each stream that a client opens is given the next recorded stream of its kind: a response goes out as soon as the client
has asked for that type as often as the recorded client had when it came. It carries, and knows nothing of resources.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from meshsdk.errors import ConfigurationError
from meshsdk.xds_client.recording import Recorded, read

if TYPE_CHECKING:
    from typing_extensions import Self

_METHODS = {"sotw": "StreamAggregatedResources", "delta": "DeltaAggregatedResources"}
_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_PATIENCE = 0.5  # seconds between looks at whether a client is still there


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
    """Serves a recording on a free loopback port until it is closed. A context manager; safe from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError for a file that is no recording, or has no stream."""
        streams: dict[int, list[Recorded]] = {}
        for one in read(path):
            streams.setdefault(one.stream, []).append(one)
        if not streams:
            raise ConfigurationError(f"{path} holds no stream")
        self._streams = list(streams.values())
        self._lock = threading.Lock()
        self._given: Counter[str] = Counter()
        self.transport = self._streams[-1][0].transport
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
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
        kind = discovery_pb2.DeltaDiscoveryResponse.FromString(one.message).type_url if transport == "delta" else ""
        kind = kind or discovery_pb2.DiscoveryResponse.FromString(one.message).type_url
        with asked.changed:
            while asked.times[kind] < then.times[kind] and not asked.ended:
                asked.changed.wait(_PATIENCE)
            if asked.ended:
                return
        yield one.message

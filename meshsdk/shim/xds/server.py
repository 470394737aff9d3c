"""The local ADS server: delta only, on a Unix socket that only this user may open. The I/O around `machine`.

Started by `running`. Serves any number of Envoys at once, as there are two during a hot restart.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from meshsdk.errors import LifecycleError
from meshsdk.shim.xds.contents import Contents, Request
from meshsdk.shim.xds.machine import DeltaStream
from meshsdk.shim.xds.wire import decode_request, encode_response

_LOG = logging.getLogger("meshsdk.shim")
_STREAMS = 8  # at once; each holds a thread
_LARGEST_REQUEST = 16 * 1024 * 1024  # bytes: names of all clusters, asked for at once
_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class AdsServer:
    """Methods are for any thread. `_lock` guards `_contents`, `_queues` and `_refusals`."""

    def __init__(self, path: Path) -> None:
        """`path`: of the socket, in a directory that only this user may enter."""
        self._path = path
        self._lock = threading.Lock()
        self._contents = Contents()
        self._queues: dict[int, queue.SimpleQueue[Request | Contents | None]] = {}
        self._refusals: dict[int, dict[str, str]] = {}  # stream -> type -> words; replaced, not changed
        self._numbers = itertools.count(1)
        options = [("grpc.max_receive_message_length", _LARGEST_REQUEST), ("grpc.max_concurrent_streams", _STREAMS)]
        self._pool = ThreadPoolExecutor(_STREAMS, thread_name_prefix="meshsdk-shim-ads")
        self._server = grpc.server(self._pool, options=options, maximum_concurrent_rpcs=_STREAMS)
        handler: Any = grpc.stream_stream_rpc_method_handler(self._stream)  # bytes in, bytes out
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": handler}),)
        )

    def start(self) -> None:
        """Listens. Raises LifecycleError."""
        self._path.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as error:
            raise LifecycleError(f"cannot listen on {self._path}: {error}") from None
        self._server.start()
        self._path.chmod(0o600)

    def publish(self, contents: Contents) -> None:
        """Every Envoy is to have this from now on."""
        with self._lock:
            self._contents = contents
            for one in self._queues.values():
                one.put(contents)

    @property
    def refusals(self) -> list[str]:
        """What Envoys do not take at present, in words."""
        with self._lock:
            found = {f"{_short(kind)}: {words}" for one in self._refusals.values() for kind, words in one.items()}
        return sorted(found)

    def stop(self) -> None:
        """Ends streams and threads; may be repeated."""
        with self._lock:
            for one in self._queues.values():
                one.put(None)
        self._server.stop(0).wait(5)
        self._pool.shutdown(wait=False)

    def _stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        events: queue.SimpleQueue[Request | Contents | None] = queue.SimpleQueue()
        number = next(self._numbers)
        with self._lock:
            self._queues[number] = events
            machine = DeltaStream(number, self._contents)
        context.add_callback(lambda: events.put(None))
        reader = threading.Thread(target=_read, args=(requests, events), name="meshsdk-shim-ads-reader", daemon=True)
        reader.start()
        try:
            while _handle(machine, events):
                for response in machine.take(time.monotonic()):
                    yield encode_response(response)
                self._note(number, dict(machine.refusals))
        finally:
            with self._lock:
                del self._queues[number]
                self._refusals.pop(number, None)

    def _note(self, number: int, refusals: dict[str, str]) -> None:
        with self._lock:
            before = self._refusals.get(number, {})
            self._refusals[number] = refusals
        for kind, words in refusals.items():
            if before.get(kind) != words:
                _LOG.warning("Envoy refuses what it is told (%s): %s; what it had stays in force", _short(kind), words)


def _handle(machine: DeltaStream, events: queue.SimpleQueue[Request | Contents | None]) -> bool:
    """Waits for what is next, or until the machine has something to do; False: the stream is over."""
    deadline = machine.deadline()
    timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        event = events.get(timeout=timeout)
        while event is not None:
            if isinstance(event, Contents):
                machine.publish(event)
            else:
                machine.receive(event)
            event = events.get_nowait()
    except queue.Empty:
        return True
    return False


def _read(requests: Iterator[bytes], events: queue.SimpleQueue[Request | Contents | None]) -> None:
    """Brings requests to the stream's thread. One that cannot be read ends the stream: Envoy comes again."""
    try:
        for data in requests:
            events.put(decode_request(data))
    except (grpc.RpcError, DecodeError) as error:
        _LOG.debug("ADS stream of Envoy ended: %s", error)
    except Exception:  # noqa: BLE001 - grpcio raises a bare Exception when the server stops under an iterator
        _LOG.debug("ADS stream of Envoy ended", exc_info=True)
    events.put(None)


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2]

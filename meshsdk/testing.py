"""For users' tests and demos: a mesh inside the process, with no files, no fixed ports and no waiting.

    with meshsdk.testing.FakeMesh() as mesh:
        mesh.serve("orders", lambda server: add_OrdersServicer_to_server(FakeOrders(), server))
        stub = OrdersStub(mesh.channel("xds:///orders"))

Everything in it is real: a control plane (`controlplane.embedded`, started by name; it needs the extra `controlplane`),
servers on loopback, the SDK's own channels. `ManualClock` moves what takes its time in a mesh; `replay` stands in for
the control plane with what was recorded of one (`MESHSDK_XDS_RECORD=FILE`).
"""

from __future__ import annotations

import importlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from meshsdk.errors import ConfigurationError
from meshsdk.facade import Mesh
from meshsdk.replay import Replay

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ControlPlane", "FakeMesh", "ManualClock", "Replay", "control_plane", "replay"]

_WORKERS = 8  # threads of a fake server
_nodes = itertools.count(1)


class ControlPlane:
    """A control plane that runs in this process. Usable from any thread."""

    def __init__(self, embedded: Any) -> None:
        """Wraps a running `controlplane.embedded.Embedded`."""
        self._embedded = embedded

    @property
    def address(self) -> str:
        """`HOST:PORT` of xDS and of the registration service."""
        address: str = self._embedded.xds_address
        return address

    def bootstrap(
        self,
        app: str = "",
        *,
        node: str | None = None,
        labels: Mapping[str, str] | None = None,
        section: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Returns a gRPC bootstrap for a client of this control plane.

        `app` is the calling application (what `sourceLabels: {app: ...}` matches), `node` an id of its own unless
        given, `section` the `meshsdk` section.
        """
        named = {"app": app} if app else {}
        return {
            "xds_servers": [
                {"server_uri": self.address, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
            ],
            "node": {
                "id": node or f"{app or 'test'}-{next(_nodes)}",
                "cluster": app or "test",
                "metadata": {"LABELS": {**named, **(labels or {})}},
            },
            **({"meshsdk": dict(section)} if section else {}),
        }

    def mesh(self, app: str = "", *, labels: Mapping[str, str] | None = None) -> Mesh:
        """Returns a mesh of the calling application `app`; close it, or use it as a context manager."""
        return Mesh(self.bootstrap(app, labels=labels))

    def apply(self, yaml: str) -> None:
        """Applies resources. Raises ConfigurationError with `file:line: path: what is wrong`; nothing changes then."""
        self._embedded.apply(yaml)

    def delete(self, kind: str, name: str) -> None:
        """Deletes an applied resource."""
        self._embedded.delete(kind, name)

    def stop(self) -> None:
        """Stops it. Idempotent."""
        self._embedded.stop()


@contextmanager
def control_plane(config: str | Path | None = None) -> Iterator[ControlPlane]:
    """Runs a control plane in this process. `config`: YAML text (with a line break), a file, or a directory to follow.

    Raises ConfigurationError for configuration that cannot be used, or where the extra is not installed.
    """
    try:
        embedded = importlib.import_module("controlplane.embedded")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the embedded control plane needs {error.name!r}: pip install 'meshsdk[controlplane]'"
        ) from error
    running = ControlPlane(embedded.start(config))
    try:
        yield running
    finally:
        running.stop()


class ManualClock:
    """A clock that stands still until it is moved. Safe from any thread.

    A mesh with it (`FakeMesh(clock=...)`) measures by it what takes its time in production: how long an outlier is
    ejected, slow start, drains that were announced, token buckets. Deadlines of calls, backoffs and timeouts stay real.
    """

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        """`start`: unix seconds."""
        self._start = start
        self._lock = threading.Lock()
        self._passed = 0.0

    def time(self) -> float:
        """Unix seconds."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds since it was made, and a day: never 0, as little as a machine's own."""
        return 86_400.0 + self._passed

    def advance(self, seconds: float) -> None:
        """Moves it on. Raises ValueError for a step backwards. Meshes notice at their next look, within 0.3 s."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back: advance({seconds})")
        with self._lock:
            self._passed += seconds


class FakeMesh:
    """Services inside this process, each with servers of its own on loopback. A context manager; any thread.

    `yaml` holds further resources (VirtualService, DestinationRule, CallPolicy ...); a service is known once it has
    been `serve`d or `add`ed.
    """

    def __init__(self, yaml: str = "", *, app: str = "test", clock: ManualClock | None = None) -> None:
        """`app`: the calling application. Raises ConfigurationError without the extra `controlplane`."""
        self._lock = threading.Lock()
        self._servers: dict[str, grpc.Server] = {}  # by address; guarded by _lock
        self._services: dict[str, dict[str, Mapping[str, str]]] = {}  # labels by address; guarded by _lock
        self._opened = control_plane()
        self._plane = self._opened.__enter__()
        self.mesh = Mesh(self._plane.bootstrap(app), clock=clock)
        if yaml.strip():
            try:
                self._plane.apply(yaml)
            except BaseException:
                self.close()
                raise

    def serve(self, name: str, add: Callable[[grpc.Server], object], *, labels: Mapping[str, str] | None = None) -> str:
        """Starts another server of a service; `add` adds servicers to it. Returns its address."""
        server = grpc.server(futures.ThreadPoolExecutor(_WORKERS))
        add(server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        with self._lock:
            self._servers[address] = server
        self.add(name, address, labels=labels)
        return address

    def add(self, name: str, address: str, *, labels: Mapping[str, str] | None = None) -> None:
        """Adds an endpoint that something else serves, or nothing does."""
        with self._lock:
            self._services.setdefault(name, {})[address] = dict(labels or {})
            self._publish(name)

    def remove(self, name: str, address: str) -> None:
        """Takes an endpoint out of a service, and stops its server if it is one of ours. Raises KeyError."""
        with self._lock:
            del self._services[name][address]
            self._publish(name)
            server = self._servers.pop(address, None)
        if server is not None:
            server.stop(0.5).wait()

    def apply(self, yaml: str) -> None:
        """Adds or changes resources. Raises ConfigurationError with `file:line: path: what is wrong`."""
        self._plane.apply(yaml)

    def channel(self, target: str, options: Sequence[tuple[str, Any]] | None = None) -> grpc.Channel:
        """Returns a channel such as `meshsdk.channel` gives."""
        return self.mesh.channel(target, options)

    def aio_channel(self, target: str, options: Sequence[tuple[str, Any]] | None = None) -> grpc.aio.Channel:
        """Returns a channel such as `meshsdk.aio.channel` gives."""
        return self.mesh.aio_channel(target, options)

    def bootstrap(self, app: str = "") -> dict[str, Any]:
        """Returns a bootstrap for other processes and meshes."""
        return self._plane.bootstrap(app)

    def close(self) -> None:
        """Ends it: channels, servers, control plane. Idempotent."""
        self.mesh.close()
        with self._lock:
            servers, self._servers = list(self._servers.values()), {}
        for ending in [server.stop(0) for server in servers]:
            ending.wait()
        self._plane.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _publish(self, name: str) -> None:
        """Called with the lock held."""
        endpoints = [
            {"address": host, "ports": {"grpc": int(port)}, "labels": dict(labels)}
            for address, labels in self._services[name].items()
            for host, _, port in [address.rpartition(":")]
        ]
        self._plane.apply(
            json.dumps(
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "ServiceEntry",
                    "metadata": {"name": name},
                    "spec": {
                        "hosts": [name],
                        "ports": [{"number": 80, "name": "grpc", "protocol": "GRPC"}],
                        "resolution": "STATIC",
                        "endpoints": endpoints,
                    },
                }
            )
        )


def replay(path: str | Path) -> Replay:
    """Serves a recording of a control plane's streams (`MESHSDK_XDS_RECORD=FILE`) to whoever takes its bootstrap.

        with meshsdk.testing.replay("xds.jsonl") as plane, meshsdk.Mesh(plane.bootstrap()) as mesh: ...

    One file a process; a forked child appends `.PID` unless `{pid}` is in the name. Raises ConfigurationError for a
    file that is none, or cannot be replayed.
    """
    return Replay(Path(path))

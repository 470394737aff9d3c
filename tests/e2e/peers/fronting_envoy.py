"""A stock Envoy before gRPC backends: sessions by the cookie `sid`, calls spread by reported load. All of it static."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from tests.e2e.processes import Process, program, until

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


class FrontingEnvoy:
    """One Envoy. Owned by the test that made it."""

    def __init__(self, backend_ports: Sequence[int], folder: Path) -> None:
        """Starts Envoy and waits until it serves."""
        address_file, bootstrap = folder / "envoy.admin", folder / "envoy.json"
        bootstrap.write_text(json.dumps(_bootstrap(backend_ports)))
        self._process = Process(
            program("envoy"),
            *("--config-path", bootstrap, "--admin-address-path", address_file, "--use-dynamic-base-id"),
            *("--concurrency", "1", "--log-level", "warning"),
        )
        try:
            self._admin = until(lambda: address_file.exists() and address_file.read_text(), "Envoy's admin")
            until(lambda: "LIVE" in self.admin("/ready"), "Envoy to be live")
            statuses = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
        except AssertionError as error:
            self._process.stop()
            raise AssertionError(f"{error}\n{self._process.errors}") from error
        port = statuses[0]["local_address"]["socket_address"]["port_value"]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def admin(self, path: str) -> str:
        """Returns the text of an admin page."""
        with contextlib.closing(http.client.HTTPConnection(self._admin, timeout=5)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def call(self, cookie: str | None = None) -> tuple[str, str | None]:
        """Calls through Envoy, maybe with a cookie line; returns who answered and the cookie that was set."""
        metadata = () if cookie is None else (("cookie", cookie),)
        stub = self._channel.unary_unary("/test.Echo/Say")
        answer, call = stub.with_call(b"", timeout=10, metadata=metadata, wait_for_ready=True)
        told: dict[str, Any] = dict(call.initial_metadata())
        return answer.decode(), told.get("set-cookie")

    def stop(self) -> None:
        """Ends Envoy."""
        self._channel.close()
        self._process.stop()


def _address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name: str, kind: str, **config: Any) -> dict:
    return {"name": f"envoy.{name}", "typed_config": {"@type": f"{_EXTENSIONS}.{kind}", **config}}


def _cluster(ports: Sequence[int]) -> dict:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    by_load = _typed(
        "load_balancing_policies.client_side_weighted_round_robin",
        "load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        blackout_period="0s",
        weight_update_period="0.1s",
    )
    return {
        "name": "backends",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_balancing_policy": {"policies": [{"typed_extension_config": by_load}]},
        "load_assignment": {
            "cluster_name": "backends",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in ports]}],
        },
    }


def _bootstrap(ports: Sequence[int]) -> dict:
    session = _typed(
        "http.stateful_session.cookie",
        "http.stateful_session.cookie.v3.CookieBasedSessionState",
        cookie={"name": "sid", "path": "/"},
    )
    manager = _typed(
        "filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="fronting",
        codec_type="HTTP2",
        route_config={
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backends"}}],
                }
            ]
        },
        http_filters=[
            _typed(
                "filters.http.stateful_session",
                "filters.http.stateful_session.v3.StatefulSession",
                session_state=session,
            ),
            _typed("filters.http.router", "filters.http.router.v3.Router"),
        ],
    )
    return {
        "node": {"id": "fronting", "cluster": "peers"},
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [
                {"name": "fronting", "address": _address(0), "filter_chains": [{"filters": [manager]}]},
            ],
            "clusters": [_cluster(ports)],
        },
    }

"""A stock Envoy whose `ratelimit` HTTP filter asks a rate limit service by the metadata `x-user`. All of it static."""

from __future__ import annotations

import contextlib
import http.client
import json
from pathlib import Path

import grpc

from tests.e2e.processes import Process, program, until

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


class LimitedEnvoy:
    """One Envoy before a gRPC backend on `backend_port`. Owned by the test that made it."""

    def __init__(self, limits_port: int, backend_port: int, domain: str, folder: Path) -> None:
        """Starts Envoy and waits until it serves."""
        address_file, bootstrap = folder / "envoy.admin", folder / "envoy.json"
        bootstrap.write_text(json.dumps(_bootstrap(limits_port, backend_port, domain)))
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

    def call(self, user: str) -> grpc.StatusCode:
        """Calls the backend through Envoy as a user; returns how that ended."""
        method = self._channel.unary_unary("/test.Echo/Say")
        try:
            method(b"", timeout=10, metadata=(("x-user", user),), wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def stop(self) -> None:
        """Ends Envoy."""
        self._channel.close()
        self._process.stop()


def _address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _filters(domain: str) -> list[dict]:
    limits = {
        "@type": f"{_EXTENSIONS}.filters.http.ratelimit.v3.RateLimit",
        "domain": domain,
        "timeout": "10s",
        "failure_mode_deny": True,
        "rate_limited_as_resource_exhausted": True,
        "rate_limit_service": {
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "limits"}},
        },
    }
    router = {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"}
    return [
        {"name": "envoy.filters.http.ratelimit", "typed_config": limits},
        {"name": "envoy.filters.http.router", "typed_config": router},
    ]


def _bootstrap(limits_port: int, backend_port: int, domain: str) -> dict:
    by_user = {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend", "rate_limits": [{"actions": [by_user]}]}}
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "limited",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": _filters(domain),
    }
    listener = {
        "name": "limited",
        "address": _address(0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "node": {"id": "limited", "cluster": "peers"},
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [listener],
            "clusters": [_cluster("limits", limits_port), _cluster("backend", backend_port)],
        },
    }

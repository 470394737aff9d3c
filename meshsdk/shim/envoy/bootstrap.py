"""The file that an Envoy of a shim starts from: who it is, its admin socket, and the shim as its ADS. Pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def envoy_bootstrap(node: str, app: str, zone: str, admin: Path, *, ads: Path) -> bytes:
    """Returns the JSON of an Envoy bootstrap; `admin` and `ads` are Unix sockets."""
    source = {"ads": {}, "resource_api_version": "V3"}
    cluster: dict[str, Any] = {
        "name": "meshsdk-shim",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            _OPTIONS: {
                "@type": f"type.googleapis.com/{_OPTIONS}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "meshsdk-shim",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(ads)}}}}]}],
        },
    }
    bootstrap = {
        "node": {"id": node, "cluster": app, "locality": {"zone": zone}},
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "meshsdk-shim"}}],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {"clusters": [cluster]},
    }
    return json.dumps(bootstrap).encode()

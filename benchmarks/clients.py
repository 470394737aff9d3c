"""Idle clients of each kind with their configuration from one control plane: what B2 and B3 compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.children import Child, worker
from benchmarks.envoy import Envoy, client_side

NATIVE = "native xds:///, pick_first"
NATIVE_LAZY = "native xds:///, ring_hash"
ENVOY_SOTW = "Envoy, SotW"
ENVOY_DELTA = "Envoy, delta"
ENVOY_LEDS = "Envoy, delta + LEDS"
MESH_SOTW = "meshsdk, SotW"
MESH_DELTA = "meshsdk, delta"
MESH_LEDS = "meshsdk, delta + LEDS"
MESH_REGISTRY = "meshsdk, registry-direct"
ALL = (NATIVE, NATIVE_LAZY, ENVOY_SOTW, ENVOY_DELTA, ENVOY_LEDS, MESH_SOTW, MESH_DELTA, MESH_LEDS, MESH_REGISTRY)
MESH = (MESH_SOTW, MESH_DELTA, MESH_LEDS, MESH_REGISTRY)

LAZY_NOTE = (
    "All endpoints are alive (127.0.0.0/8, one process accepts for all). gRPC clients get pick_first, native and ours, "
    "so one connection: native round_robin would connect to every endpoint, at 1.3x the CPU and 3x the memory of its "
    "pick_first (tried at 1,000 and 5,000). Native with ring_hash and no call made has no connection at all: its "
    "cheapest form. Envoy has round_robin and connects when called. Native speaks SotW."
)


@dataclass(frozen=True, slots=True)
class Client:
    """A running client: its process, and the node whose resources it gets."""

    variant: str
    node: str
    pid: int


def is_proxy(variant: str) -> bool:
    """Whether it is an Envoy."""
    return variant in (ENVOY_SOTW, ENVOY_DELTA, ENVOY_LEDS)


_POLICIES = {ENVOY_SOTW: "round_robin", ENVOY_DELTA: "round_robin", ENVOY_LEDS: "round_robin", NATIVE_LAZY: "ring_hash"}
_SOURCES = {ENVOY_LEDS: "leds", MESH_LEDS: "leds", MESH_REGISTRY: "registry"}
_KINDS = {NATIVE: "native", NATIVE_LAZY: "idle"}


def bootstrap(control_plane: int, node: str, **section: Any) -> dict[str, Any]:
    """Returns gRPC's bootstrap, with our section if there is one."""
    return {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{control_plane}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": node, "cluster": "benchmarks"},
        **({"meshsdk": section} if section else {}),
    }


class World:
    """A control plane and endpoints that accept connections: everything that clients need."""

    def __init__(self, plane: Child, endpoints: Child) -> None:
        """Takes running workers."""
        self.plane = plane
        self.port: int = plane.answer()["port"]
        self._endpoint_port: int = endpoints.answer()["port"]

    def publish(self, variant: str, node: str, size: int, services: int = 1) -> None:
        """Gives a node `services` services of `size` endpoints each."""
        proxy = is_proxy(variant)
        resources = {
            "proxy": proxy,
            "policy": _POLICIES.get(variant, "pick_first"),
            "size": size,
            "services": services,
            "port": self._endpoint_port,
            "source": _SOURCES.get(variant, "eds"),
        }
        self.plane.ask(do="publish", node=node, resources=resources)

    @contextmanager
    def client(self, variant: str, node: str) -> Iterator[Client]:
        """Runs a client until it is connected and has acknowledged everything."""
        if is_proxy(variant):
            running: Callable[[], Any] = lambda: Envoy(  # noqa: E731 - two ways to start
                client_side(node, self.port, delta=variant != ENVOY_SOTW)
            )
        else:
            running = lambda: self._holder(variant, node)  # noqa: E731 - see above
        with running() as process:
            self.plane.ask(do="acknowledged", node=node)
            yield Client(variant, node, process.pid)

    def _holder(self, variant: str, node: str) -> Child:
        section: dict[str, Any] = {"transport": "sotw" if variant == MESH_SOTW else "delta"} if variant in MESH else {}
        if variant == MESH_REGISTRY:
            section["registries"] = {"bench": {"url": f"grpc://127.0.0.1:{self.port}"}}
        config = json.dumps(bootstrap(self.port, node, **section))
        child = worker("holder", _KINDS.get(variant, "mesh"), env={"GRPC_XDS_BOOTSTRAP_CONFIG": config})
        try:
            child.answer()
        except BaseException:
            child.stop()
            raise
        return child


@contextmanager
def world() -> Iterator[World]:
    """Runs a control plane and endpoints."""
    with worker("control_plane") as plane, worker("any_address") as endpoints:
        yield World(plane, endpoints)

"""What a running process is told about itself, as RTDS resources: TrafficSwitch and ShimSet for one node. Pure.

`envoy.service.runtime.v3.Runtime` with a layer of plain values, which any xDS client can read. Called by `steering`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from envoy.service.runtime.v3 import rtds_pb2

from controlplane.model.shims import Order
from controlplane.model.switching import Turns

TRAFFIC_SWITCH, SHIM = "meshsdk.traffic_switch", "meshsdk.shim"


def runtime(turns: Turns, order: Order) -> Iterator[rtds_pb2.Runtime]:
    """Yields the resources of a node."""
    switch = {"client": turns.client, "server": turns.server, "decided": list(turns.decided)}
    yield _runtime(TRAFFIC_SWITCH, switch)
    yield _runtime(SHIM, {"version": order.version, "shim_set": order.shim_set, "generation": order.generation})


def _runtime(name: str, layer: Mapping[str, object]) -> rtds_pb2.Runtime:
    message = rtds_pb2.Runtime(name=name)
    message.layer.update(layer)
    return message

"""How single resources fare, as the `status` of `meshctl get`: TrafficSwitches and ShimSets. Called by `api`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.config.documents import Entry
from controlplane.model.shims import ShimSet
from controlplane.model.switching import TrafficSwitch
from controlplane.plane import Plane
from controlplane.server.node import Node
from controlplane.server.status import ClientInfo
from controlplane.server.type_urls import RUNTIME


def statuses(
    entries: Iterable[Entry], plane: Plane, clients: Callable[[], Iterable[ClientInfo]]
) -> list[dict[str, object] | None]:
    """Returns the status of each resource; None for those that have none."""
    listed = list(entries)
    switches = any(isinstance(entry.resource, TrafficSwitch) for entry in listed)
    nodes = _steered(clients()) if switches else ()
    sets = plane.shim_sets()
    found: list[dict[str, object] | None] = []
    for entry in listed:
        status = sets.get(entry.id) if isinstance(entry.resource, ShimSet) else None
        if isinstance(entry.resource, TrafficSwitch):
            found.append({"nodes": _selected(entry.resource, nodes)})
        else:
            found.append(status.as_json() if status else None)
    return found


def _steered(clients: Iterable[ClientInfo]) -> Iterable[Node]:
    """Returns the connected nodes that ask what they are to do, each once."""
    found = {
        (client.node.id, client.node.app): client.node
        for client in clients
        if any(each.type_url == RUNTIME for each in client.subscriptions)
    }
    return found.values()


def _selected(switch: TrafficSwitch, nodes: Iterable[Node]) -> int:
    return sum(switch.selects(node.id, node.app, {"app": node.app, **node.labels}) for node in nodes)

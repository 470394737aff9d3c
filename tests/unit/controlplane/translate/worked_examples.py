"""Golden examples: YAML beside the xDS it becomes, as JSON.

Used by test_golden. `python -m tests.unit.controlplane.translate.worked_examples` writes the JSON anew; look at the
difference before committing it.
"""

from __future__ import annotations

import json
from pathlib import Path

from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401 - json_format looks it up
    http_connection_manager_pb2,
)
from google.protobuf import json_format

from controlplane.config.directory import load_file
from controlplane.config.merge import merge
from controlplane.translate.clusters import clusters
from controlplane.translate.listener import listener
from controlplane.translate.roster import load_assignment
from controlplane.translate.routes import route_configuration
from controlplane.translate.targets import Target, targets
from controlplane.translate.view import DEFAULT_VIEW, view_of
from meshsdk.model.instance import Instance, InstanceState

FOLDER = Path(__file__).parent / "golden"
INSTANCES = {
    "orders": {
        "a": Instance("orders", "a", "10.1.0.1:50051", labels={"version": "v1"}, zone="a", region="eu"),
        "b": Instance("orders", "b", "10.1.0.2:50051", labels={"version": "v2"}, weight=2, started_at=1700000000.5),
        "c": Instance("orders", "c", "10.1.0.3:50051", labels={"version": "v2"}, state=InstanceState.DRAINING),
        "d": Instance("orders", "d", "10.1.0.4:50051", labels={"version": "v2"}, state=InstanceState.STARTING),
    }
}
VIEWS = {
    "routes for a stock client": DEFAULT_VIEW,
    "routes for a meshsdk client of app web": view_of({"app": "web"}, "web", "meshsdk"),
}


def assignment(target: Target) -> endpoint_pb2.ClusterLoadAssignment:
    """Returns the endpoints of a target as a message."""
    message = endpoint_pb2.ClusterLoadAssignment()
    load_assignment(target, [], INSTANCES).Unpack(message)
    return message


def translated(example: Path) -> dict[str, object]:
    """Returns everything an example becomes: title -> xDS resource as JSON."""
    configuration = merge(load_file(example)).configuration
    found: dict[str, object] = {}
    for host in sorted(configuration.hosts()):
        found[f"listener {host}"] = listener(host, configuration)
        for title, view in VIEWS.items():
            found[f"{title}: {host}"] = route_configuration(host, configuration, view)
        for cluster in clusters(host, configuration, DEFAULT_VIEW):
            found[f"cluster {cluster.name}"] = cluster
        for target in targets(host, configuration):
            found[f"endpoints {target.name}"] = assignment(target)
    return {title: json_format.MessageToDict(message) for title, message in found.items()}


def examples() -> list[Path]:
    """Returns the examples."""
    return sorted(FOLDER.glob("*.yaml"))


if __name__ == "__main__":
    for path in examples():
        path.with_suffix(".json").write_text(json.dumps(translated(path), indent=1) + "\n")
        print(path.with_suffix(".json"))

"""TrafficSwitch from YAML. Called by `documents`; two that contradict each other are found by `steering_conflicts`."""

from __future__ import annotations

from controlplane.config.fields import Field, Record
from controlplane.model.identity import ResourceId
from controlplane.model.names import HOST
from controlplane.model.switching import EVERY_APP, TrafficSwitch

_MOST_INSTANCES = 10_000


def on_or_off(field: Field) -> bool:
    """Reads `on` or `off`, quoted or not: YAML 1.1 takes the bare words for booleans."""
    if field.node.kind == "boolean":
        return field.boolean()
    text = field.text()
    if text.lower() not in {"on", "off"}:
        field.refuse(f"expected on or off, got {text!r}")
    return text.lower() == "on"


def application(field: Field) -> str:
    """Reads the name of an application, or `*` for all."""
    return EVERY_APP if field.node.text == EVERY_APP else field.matching(HOST, 'the name of an application, or "*"')


def traffic_switch(spec: Field, identity: ResourceId) -> TrafficSwitch:
    """Reads a TrafficSwitch's spec. Raises FieldRefused."""
    record = spec.record(("app", "instances", "labels", "percentage", "client", "server"))
    client, server = record.read("client", on_or_off), record.read("server", on_or_off)
    if client is None and server is None:
        spec.refuse("expected client, server or both: it switches nothing")
    return TrafficSwitch(
        id=identity,
        app=application(record.require("app")),
        instances=_instances(record),
        labels=record.read("labels", _labels) or {},
        percentage=record.read("percentage", lambda item: item.number(0, 100)),
        client=client,
        server=server,
        origin=spec.origin,
    )


def _instances(record: Record) -> frozenset[str]:
    field = record.get("instances")
    if field is None:
        return frozenset()
    found: set[str] = set()
    for item in field.items(1, _MOST_INSTANCES):
        name = item.text()
        if name in found:
            item.refuse(f"{name} is listed twice")
        found.add(name)
    return frozenset(found)


def _labels(field: Field) -> dict[str, str]:
    found = field.labels()
    if not found:
        field.refuse("must not be empty; leave it out for nodes with any labels")
    return found

"""DiscoveryPolicy from YAML. Called by `documents`; references to hosts are checked by `policy_references`."""

from __future__ import annotations

from controlplane.config.fields import Field
from controlplane.config.service import host
from controlplane.model.discovery import EVERY_HOST, Consumer, DiscoveryPolicy, EndpointsFrom
from controlplane.model.identity import ResourceId
from controlplane.model.names import FIELD_PATH, HOST
from meshsdk.model.migration import Migration

_ENDPOINTS = {each.value: each for each in EndpointsFrom}
_MIGRATIONS = {each.value: each for each in Migration}


def _hosts(field: Field) -> tuple[str, ...]:
    items = field.items(1, 10_000)
    if any(item.node.text == EVERY_HOST for item in items):
        if len(items) > 1:
            field.refuse('"*" is every host, so it stands alone')
        return (EVERY_HOST,)
    names = tuple(host(item) for item in items)
    for index, item in enumerate(items):
        if names[index] in names[:index]:
            item.refuse(f"{names[index]} is listed twice")
    return names


def _consumer(field: Field, interface: str | None) -> Consumer:
    record = field.record(("sourceLabels", "endpoints", "migration"))
    labels = record.require("sourceLabels")
    migration = record.get("migration")
    if migration and interface is None:
        migration.refuse("needs spec.interface: without it there is nothing to migrate from")
    found = Consumer(
        source_labels=labels.labels(),
        endpoints=record.read("endpoints", lambda item: item.choice(_ENDPOINTS)),
        migration=migration.choice(_MIGRATIONS) if migration else None,
    )
    if not found.source_labels:
        labels.refuse("must not be empty: it would be every caller, which is what spec itself speaks of")
    if found.endpoints is None and found.migration is None:
        field.refuse("expected endpoints, migration or both")
    return found


def discovery_policy(spec: Field, identity: ResourceId) -> DiscoveryPolicy:
    """Reads a DiscoveryPolicy's spec. Raises FieldRefused."""
    record = spec.record(("hosts", "registry", "endpoints", "app", "interface", "migration", "consumers"))
    hosts = _hosts(record.require("hosts"))
    app, interface, migration = record.get("app"), record.get("interface"), record.get("migration")
    for given in (app, interface):
        if given and (hosts == (EVERY_HOST,) or len(hosts) > 1):
            given.refuse("needs a policy for one host only")
    service = interface.matching(FIELD_PATH, "the name of a gRPC service such as shop.Orders") if interface else None
    if migration and service is None:
        migration.refuse("needs interface: without it there is nothing to migrate from")
    consumers = record.get("consumers")
    return DiscoveryPolicy(
        id=identity,
        hosts=hosts,
        endpoints=record.require("endpoints").choice(_ENDPOINTS),
        registry=record.read("registry", lambda item: item.matching(HOST, "the name of a registry")) or "default",
        app=app.matching(HOST, "the name of an application") if app else "",
        interface=service or "",
        migration=migration.choice(_MIGRATIONS) if migration else Migration.APPLICATION_FIRST,
        consumers=tuple(_consumer(item, service) for item in consumers.items(0, 1_000)) if consumers else (),
        origin=spec.origin,
    )

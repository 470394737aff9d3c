"""What `serve` is asked to offer, checked and made into values: the instance, its revision, and how it is told.

Called by `serve_sync` and `serve_aio` with the user's arguments; every mistake in them ends here, in words, before
anything was started.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import grpc

from meshsdk.bootstrap import Bootstrap, Node, load_bootstrap
from meshsdk.discovery.default_registry import open_default_registry
from meshsdk.discovery.limits import address_problem, instance_problem
from meshsdk.discovery.registry import Registry
from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.activity import Activity
from meshsdk.lifecycle.revision import revision_of
from meshsdk.lifecycle.server_parts import ServerParts, activity_of, named_handlers
from meshsdk.model.instance import Instance, InstanceState, Revision


@dataclass(frozen=True, slots=True)
class Identity:
    """The user's words on an instance: labels are `metadata`, "" means as the bootstrap's node says."""

    app: str
    address: str
    metadata: Mapping[str, str] | None = None
    unit: str = ""
    zone: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Offer:
    """Everything that a service starts with. `opened`: the registry is the service's own, to be closed with it.

    `activity` is None for a server without `server_interceptors()`. `has_health`: the server has a health service
    of the application's.
    """

    instance: Instance
    revision: Revision
    services: tuple[str, ...]
    registry: Registry
    opened: bool
    activity: Activity | None
    has_health: bool


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the offer comes from, next to the server itself. `services`: for servers that hide their handlers."""

    bootstrap: Bootstrap | None = None
    registry: Registry | None = None
    services: Mapping[str, object] | None = None
    interceptors: Iterable[object] = ()


def make_offer(identity: Identity, parts: ServerParts | None, sources: Sources) -> Offer:
    """Builds the offer. Raises ConfigurationError (BootstrapError without a registry to be found)."""
    if sources.registry is None:
        bootstrap: Bootstrap | None = sources.bootstrap or load_bootstrap(None, os.environ)
    else:
        bootstrap = sources.bootstrap
    handlers = _handlers(parts, sources.services)
    revision = revision_of(identity.app, handlers)
    instance = _instance(identity, revision.revision, bootstrap)
    return Offer(
        instance=instance,
        revision=revision,
        services=tuple(sorted({name.split("/")[1] for name in handlers})),
        registry=sources.registry or open_default_registry(cast("Bootstrap", bootstrap)),
        opened=sources.registry is None,
        activity=activity_of(sources.interceptors) or (parts.activity if parts else None),
        has_health="/grpc.health.v1.Health/Check" in handlers,
    )


def _handlers(parts: ServerParts | None, services: Mapping[str, object] | None) -> Mapping[str, object]:
    if services is not None:
        return {**(parts.handlers if parts else {}), **named_handlers(services)}
    if parts is None:
        raise ConfigurationError(
            "serve() cannot read the methods of this server: grpcio "
            f"{grpc.__version__} keeps them where meshsdk does not know, or it is no grpc server; "
            'pass services={"pkg.Service": servicer} and interceptors= as given to the server'
        )
    if parts.unlisted:
        raise ConfigurationError(
            f"serve() cannot list the methods of the generic handlers {', '.join(parts.unlisted)}; "
            'pass services={"pkg.Service": servicer} with what they serve, or services={} to leave them unpublished'
        )
    return parts.handlers


def _instance(identity: Identity, revision: str, bootstrap: Bootstrap | None) -> Instance:
    node = bootstrap.node if bootstrap else Node()
    instance = Instance(
        app=identity.app,
        id=uuid.uuid4().hex,  # of this process and this call: a fork or a restart never takes over another's lease
        address=_resolved(identity),
        revision=revision,
        unit=identity.unit,
        region=node.locality.region,
        zone=identity.zone or node.locality.zone,
        weight=identity.weight,
        labels=MappingProxyType({**_node_labels(node), **_checked_labels(identity.metadata or {})}),
        state=InstanceState.STARTING,
        started_at=time.time(),
    )
    if problem := instance_problem(instance):
        raise ConfigurationError(f"serve(app={identity.app!r}): {problem}")
    return instance


def _resolved(identity: Identity) -> str:
    """Returns the address with an IP for a host name: endpoints in xDS have IPs, and this host knows its name best."""
    if problem := address_problem(identity.address):
        raise ConfigurationError(f"serve(app={identity.app!r}): {problem}")
    host, _, port = identity.address.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        pass
    else:
        return identity.address
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(f"serve(address={identity.address!r}): the host does not resolve: {error}") from None
    ip = min(found, key=lambda entry: entry[0] is not socket.AF_INET)[4][0]  # IPv4 first: what servers bind by habit
    return f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"


def _node_labels(node: Node) -> dict[str, str]:
    labels = node.metadata.get("LABELS")  # Istio's place for the labels of a workload
    if not isinstance(labels, Mapping):
        return {}
    return {key: value for key, value in labels.items() if isinstance(value, str)}


def _checked_labels(metadata: Mapping[Any, Any]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ConfigurationError(f"serve(metadata=...): {key!r}: {value!r} must be text for text")
    return dict(metadata)

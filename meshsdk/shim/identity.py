"""Who a shim is: towards the control plane, and in the registry as its application and as itself."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from meshsdk.bootstrap import Bootstrap, Node
from meshsdk.discovery.limits import instance_problem
from meshsdk.errors import ConfigurationError
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.shim.enrolment import APP
from meshsdk.shim.settings import Settings

_LABELS = "LABELS"  # Istio's place for the labels of a workload


def identified(bootstrap: Bootstrap, settings: Settings) -> Bootstrap:
    """Returns the bootstrap with a node that has an id, and the application and its labels."""
    node = bootstrap.node
    given = node.metadata.get(_LABELS)
    labels = {"app": settings.app, **(given if isinstance(given, Mapping) else {}), **settings.labels}
    metadata = MappingProxyType({**node.metadata, _LABELS: labels})
    named = replace(
        node, id=node.id or f"shim-{uuid.uuid4().hex[:16]}", cluster=node.cluster or settings.app, metadata=metadata
    )
    return replace(bootstrap, node=named)


def application(settings: Settings, node: Node) -> Instance:
    """Returns the application as it is registered first. Raises ConfigurationError."""
    instance = Instance(
        app=settings.app,
        id=uuid.uuid4().hex,  # a restart never takes over another's lease
        address=settings.address,
        unit=settings.unit,
        region=node.locality.region,
        zone=settings.zone or node.locality.zone,
        weight=settings.weight,
        labels=_labels(node),
        state=InstanceState.STARTING,
        started_at=time.time(),
    )
    return _checked(instance)


def itself(settings: Settings, node: Node) -> Instance:
    """Returns the shim as it is registered: what the control plane knows the node by, and where it listens."""
    labels = {**_labels(node), "meshsdk.io/app": settings.app, "meshsdk.io/phase": "running"}
    address = settings.address or settings.outbound
    if address.startswith("unix:"):
        address = "127.0.0.1:1"  # nobody dials it, and an instance has an address
    instance = Instance(
        app=APP,
        id=node.id,
        address=address,
        unit=settings.unit,
        region=node.locality.region,
        zone=settings.zone or node.locality.zone,
        labels=MappingProxyType(labels),
        state=InstanceState.STARTING,
        started_at=time.time(),
    )
    return _checked(instance)


def _labels(node: Node) -> Mapping[str, str]:
    found = node.metadata.get(_LABELS)
    pairs = found.items() if isinstance(found, Mapping) else ()
    return MappingProxyType({str(key): value for key, value in pairs if isinstance(value, str)})


def _checked(instance: Instance) -> Instance:
    if problem := instance_problem(instance):
        raise ConfigurationError(f"cannot register {instance.app!r}: {problem}")
    return instance

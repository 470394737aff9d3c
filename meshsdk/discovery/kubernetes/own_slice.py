"""The EndpointSlice by which an instance registers itself. Pure; called by `registry`.

It is labelled as one of the Service named like the application, so that whoever follows that Service's slices (this
adapter, kube-proxy, a stock Envoy gateway) sees the instance, with conditions that say the same as its state. The pod
owns it: Kubernetes' garbage collector removes it with the pod, which is how the registration lapses. A token in an
annotation is the lease: who registers the same instance anew writes another, and the old lease is void.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, replace

from meshsdk.discovery.entries import instance_from_text, instance_to_text
from meshsdk.discovery.kubernetes.api import JsonObject
from meshsdk.discovery.kubernetes.slices import BODY, MANAGED_BY, OURS, SERVICE
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

LEASE = "meshsdk.io/lease"  # annotation
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Owner:
    """The pod that an instance runs in."""

    namespace: str
    name: str
    uid: str


def check_app(app: str) -> None:
    """Raises RegistryError for an application that cannot be the value of a label."""
    if not _LABEL_VALUE.fullmatch(app):
        raise RegistryError(f"app {app[:80]!r}: in Kubernetes a name has at most 63 letters, digits, '.', '_', '-'")


def digest(*parts: str) -> str:
    """Returns a short name for what the parts name together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def own_name(app: str, identifier: str) -> str:
    """Returns the name of the slice of an instance."""
    return f"meshsdk-{digest('instance', app, identifier)}"


def own_slice(instance: Instance, token: str, owner: Owner) -> JsonObject:
    """Returns the slice of an instance; `token` is its lease's. RegistryError for an app that is no label's value."""
    check_app(instance.app)
    host, _, port = instance.address.rpartition(":")
    host = host.strip("[]")
    pod = {"kind": "Pod", "namespace": owner.namespace, "name": owner.name, "uid": owner.uid}
    endpoint: JsonObject = {"addresses": [host], "conditions": conditions_of(instance.state), "targetRef": pod}
    if instance.zone:
        endpoint["zone"] = instance.zone
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": own_name(instance.app, instance.id),
            "namespace": owner.namespace,
            "labels": {SERVICE: instance.app, MANAGED_BY: OURS},
            "annotations": {BODY: instance_to_text(instance).decode(), LEASE: token},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}],
        },
        "addressType": _family(host),
        "endpoints": [endpoint],
        "ports": [{"name": "grpc", "protocol": "TCP", "port": int(port), "appProtocol": "kubernetes.io/h2c"}],
    }


def with_state(found: JsonObject, state: InstanceState) -> JsonObject:
    """Returns the slice `found` with its instance in another state. RegistryError where it is no instance's slice."""
    instance = instance_from_text(annotation_of(found, BODY).encode())
    metadata, endpoints = found.get("metadata"), found.get("endpoints")
    if not isinstance(metadata, dict) or not isinstance(endpoints, list) or not endpoints:
        raise RegistryError("the slice of the instance was changed by somebody else into what is none")
    text = instance_to_text(replace(instance, state=state)).decode()
    return {
        **found,
        "metadata": {**metadata, "annotations": {BODY: text, LEASE: annotation_of(found, LEASE)}},
        "endpoints": [{**(endpoints[0] if isinstance(endpoints[0], dict) else {}), "conditions": conditions_of(state)}],
    }


def annotation_of(item: JsonObject, name: str) -> str:
    """Returns an annotation, "" if there is none."""
    metadata = item.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    value = annotations.get(name) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else ""


def conditions_of(state: InstanceState) -> JsonObject:
    """Returns a state as an endpoint's conditions."""
    return {
        "ready": state is InstanceState.ONLINE,
        "serving": state in {InstanceState.ONLINE, InstanceState.DRAINING},
        "terminating": state in {InstanceState.DRAINING, InstanceState.OFFLINE},
    }


def _family(host: str) -> str:
    try:
        return f"IPv{ipaddress.ip_address(host).version}"
    except ValueError:
        return "FQDN"

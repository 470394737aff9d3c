"""EndpointSlices (discovery.k8s.io/v1) as values. Pure; called by `slices_watch` and `own_slice`.

Only what discovery needs is read. A slice that cannot be used says why in `problem` and has no endpoints; fields that
this does not know are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshsdk.discovery.entries import instance_from_text
from meshsdk.discovery.kubernetes.api import JsonObject
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

SERVICE = "kubernetes.io/service-name"  # label: the Service that a slice belongs to
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"  # label
OURS = "meshsdk.io"  # value of MANAGED_BY in slices that instances wrote themselves
BODY = "meshsdk.io/instance"  # annotation: the instance as JSON, of slices that instances wrote themselves
_MAX_ENDPOINTS = 1000  # of one slice, by the API
_GRPC_PROTOCOLS = frozenset({"grpc", "kubernetes.io/h2c"})
_FAMILIES = frozenset({"IPv4", "IPv6", "FQDN"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a slice. `state` is what its conditions say; `pod` its name, "" if it is none."""

    address: str
    state: InstanceState = InstanceState.ONLINE
    zone: str = ""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """One EndpointSlice. `own`: the instance that wrote it, with its one endpoint; None where Kubernetes did."""

    name: str
    app: str
    endpoints: tuple[Endpoint, ...] = ()
    own: Instance | None = None
    problem: str = ""


def slice_of(name: str, item: JsonObject, port: str) -> Slice:
    """Reads a slice. `port`: name or number of the port to call, "" to find it."""
    app = ""
    try:
        metadata = _object(item.get("metadata"), "metadata")
        labels = _object(metadata.get("labels") or {}, "labels")
        app = str(labels.get(SERVICE) or "")
        if labels.get(MANAGED_BY) != OURS:
            return Slice(name, app, _endpoints(item, port))
        endpoints = _endpoints(item, "")
        return Slice(name, app, endpoints, _author(metadata, app, endpoints))
    except RegistryError as error:
        return Slice(name, app, problem=str(error))


def _author(metadata: JsonObject, app: str, endpoints: tuple[Endpoint, ...]) -> Instance:
    """Returns the instance that wrote a slice."""
    instance = instance_from_text(str(_object(metadata.get("annotations"), "annotations").get(BODY)).encode())
    if [(instance.app, instance.address)] != [(app, endpoint.address) for endpoint in endpoints]:
        raise RegistryError(f"its annotation is about {instance.app} at {instance.address}, its endpoints are not")
    return instance


def _endpoints(item: JsonObject, port: str) -> tuple[Endpoint, ...]:
    family = str(item.get("addressType"))
    if family not in _FAMILIES:
        raise RegistryError(f"addressType {family!r} is none of {', '.join(sorted(_FAMILIES))}")
    listed = item.get("endpoints")
    if listed is None:  # how the API writes an empty list
        return ()
    if not isinstance(listed, list) or len(listed) > _MAX_ENDPOINTS:
        raise RegistryError(f"endpoints is not a list of at most {_MAX_ENDPOINTS}")
    if not listed:
        return ()
    number = _port(item.get("ports"), port)
    return tuple(_endpoint(_object(each, "an endpoint"), family, number) for each in listed)


def _endpoint(raw: JsonObject, family: str, port: int) -> Endpoint:
    addresses = raw.get("addresses")
    if not (isinstance(addresses, list) and addresses and isinstance(addresses[0], str) and addresses[0]):
        raise RegistryError("an endpoint has no address")
    # "addresses: consumers should treat these as fungible": the first one stands for all.
    host = f"[{addresses[0]}]" if family == "IPv6" else addresses[0]
    target = _object(raw.get("targetRef") or {}, "targetRef")
    pod = target.get("name") if target.get("kind") == "Pod" else ""
    state = _state(_object(raw.get("conditions") or {}, "conditions"))
    return Endpoint(f"{host}:{port}", state, str(raw.get("zone") or ""), str(pod or ""))


def _state(conditions: JsonObject) -> InstanceState:
    """Conditions as the API defines them: an unknown `ready` is true, an unknown `serving` is `ready`."""
    ready = conditions.get("ready")
    if ready is None or ready is True:
        return InstanceState.ONLINE
    serving = conditions.get("serving") is True
    if conditions.get("terminating") is True:
        return InstanceState.DRAINING if serving else InstanceState.OFFLINE
    return InstanceState.STARTING


def _port(raw: object, wanted: str) -> int:
    ports = [each for each in raw if isinstance(each, dict)] if isinstance(raw, list) else []
    ports = [each for each in ports if each.get("protocol") in (None, "TCP") and type(each.get("port")) is int]
    if wanted:
        found = [each for each in ports if wanted in (each.get("name"), str(each["port"]))]
    else:
        found = (
            [each for each in ports if str(each.get("appProtocol")) in _GRPC_PROTOCOLS]
            or [each for each in ports if str(each.get("name") or "").partition("-")[0] == "grpc"]
            or ports
        )
    if len(found) == 1:
        return int(found[0]["port"])
    names = ", ".join(f"{each.get('name') or ''}:{each['port']}" for each in ports) or "none"
    what = f"one is {wanted!r}" if wanted else "one is known to be gRPC (appProtocol, name); say port=NAME"
    raise RegistryError(f"of its TCP ports ({names}) not exactly {what}")


def _object(value: object, name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise RegistryError(f"{name} is not an object")
    return value

"""Instances as Consul's services and back. Pure.

An instance is a service of the application's name, with a check of its time to live. What Consul has no field for is
in the service's metadata, whose values Consul limits to 512 bytes and whose number to 64:

    meshsdk             "1", the form of all this
    meshsdk_id, meshsdk_revision, meshsdk_unit, meshsdk_region, meshsdk_zone, meshsdk_state, meshsdk_started_at
    meshsdk_labels_0 .. the labels as JSON, cut into pieces

Services that others registered have no such metadata: they are instances too, with the address, weight, tags and
metadata that they have. The check of an instance that is not ONLINE says `warning`, which keeps others from it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from meshsdk.discovery import limits
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

Entry = Mapping[str, Any]  # one of health/service/NAME: Node, Service, Checks
_FORM = "1"
_TEXTS = ("id", "revision", "unit", "region", "zone")
_MAX_VALUE = 512  # bytes of a metadata value
_MAX_PAIRS = 64
_OWN_PAIRS = len(_TEXTS) + 3  # and the form, state, started_at
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-][A-Za-z0-9._:-]{0,127}")
_CRITICAL, _WARNING, _PASSING = "critical", "warning", "passing"


def service_id(instance: Instance) -> str:
    """Returns the service's id on its agent: unique for (app, id), and plain enough to stand in a URL."""
    if _PLAIN_ID.fullmatch(instance.id):
        return f"{instance.app}:{instance.id}"
    return f"{instance.app}::{hashlib.sha256(instance.id.encode()).hexdigest()[:32]}"


def status_of(state: InstanceState) -> str:
    """Returns what the check of an instance says while it is renewed."""
    return _PASSING if state is InstanceState.ONLINE else _WARNING


def registration(instance: Instance, check: str, ttl: float, deregister_after: float) -> bytes:
    """Returns the body of agent/service/register; RegistryError for what does not fit into Consul's metadata."""
    host, _, port = instance.address.rpartition(":")
    return json.dumps(
        {
            "ID": service_id(instance),
            "Name": instance.app,
            "Address": host.strip("[]"),
            "Port": int(port),
            "Meta": _meta(instance),
            "Weights": {"Passing": instance.weight, "Warning": 0},
            "Check": {
                "CheckID": check,
                "Name": "meshsdk: renewed by the instance",
                "Notes": instance.state.value,  # so that a change of state is a change of the check
                "TTL": f"{ttl:g}s",
                "Status": status_of(instance.state),
                "DeregisterCriticalServiceAfter": f"{deregister_after:g}s",
            },
        }
    ).encode()


def _meta(instance: Instance) -> dict[str, str]:
    meta = {"meshsdk": _FORM, "meshsdk_state": instance.state.value}
    if instance.started_at:
        meta["meshsdk_started_at"] = repr(float(instance.started_at))
    for name in _TEXTS:
        if value := getattr(instance, name):
            if len(value.encode()) > _MAX_VALUE:
                raise RegistryError(f"{name} has more than the {_MAX_VALUE} bytes of a value in Consul")
            meta[f"meshsdk_{name}"] = value
    text = json.dumps(dict(instance.labels), separators=(",", ":"), sort_keys=True) if instance.labels else ""
    pieces = [text[start : start + _MAX_VALUE] for start in range(0, len(text), _MAX_VALUE)]
    if len(pieces) > _MAX_PAIRS - _OWN_PAIRS:
        most = (_MAX_PAIRS - _OWN_PAIRS) * _MAX_VALUE
        raise RegistryError(f"the labels have {len(text)} bytes as JSON, Consul's metadata has room for {most}")
    meta.update({f"meshsdk_labels_{number}": piece for number, piece in enumerate(pieces)})
    return meta


def key_of(entry: Entry) -> str:
    """Returns what names an entry in the whole of Consul: `NODE/SERVICE_ID`."""
    return f"{node_of(entry)}/{_text(_part(entry, 'Service'), 'ID')}"


def node_of(entry: Entry) -> str:
    """Returns the name of the node that an entry is on."""
    return _text(_part(entry, "Node"), "Node")


def lives(entry: Entry) -> bool:
    """Whether no check of the service or its node is critical (its time to live is over, maintenance, a dead node)."""
    return _CRITICAL not in _statuses(entry)


def version_of(entry: Entry) -> object:
    """Returns what is equal for two readings of an entry if and only if nothing about the entry changed."""
    service, node = _part(entry, "Service"), _part(entry, "Node")
    return service.get("ModifyIndex"), node.get("ModifyIndex"), tuple(_statuses(entry))


def instance_of(entry: Entry) -> Instance:
    """Decodes an entry; RegistryError says in words what is not acceptable."""
    service, node = _part(entry, "Service"), _part(entry, "Node")
    meta = service.get("Meta") or {}
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise RegistryError("Meta is not an object of strings")
    host, port = _text(service, "Address") or _text(node, "Address"), service.get("Port")
    if not host or not isinstance(port, int) or not port:
        raise RegistryError("it has no address or no port")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    form = meta.get("meshsdk")
    if form is None:
        instance = _foreign(entry, meta, address)
    elif form == _FORM:
        instance = _own(_text(service, "Service"), meta, address, _weight(service, _PASSING))
    else:
        raise RegistryError(f"it is written in form {form!r} of a later meshsdk")
    if problem := limits.instance_problem(instance):
        raise RegistryError(problem)
    return instance


def _own(app: str, meta: Mapping[str, str], address: str, weight: int) -> Instance:
    texts = {name: meta.get(f"meshsdk_{name}", "") for name in _TEXTS}
    try:
        state = InstanceState(meta.get("meshsdk_state", ""))
        started_at = float(meta.get("meshsdk_started_at", "0"))
        labels = json.loads(_joined(meta) or "{}")
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"its metadata cannot be read: {error}") from None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise RegistryError("its labels are not an object of strings")
    return Instance(
        app,
        address=address,
        weight=weight,
        labels=MappingProxyType(labels),
        state=state,
        started_at=started_at,
        **texts,
    )


def _joined(meta: Mapping[str, str]) -> str:
    pieces: list[str] = []
    while (piece := meta.get(f"meshsdk_labels_{len(pieces)}")) is not None:
        pieces.append(piece)
    return "".join(pieces)


def _foreign(entry: Entry, meta: Mapping[str, str], address: str) -> Instance:
    service, node = _part(entry, "Service"), _part(entry, "Node")
    labels: dict[str, str] = {}
    tags = service.get("Tags")
    for tag in tags if isinstance(tags, list) else []:
        name, _, value = str(tag).partition("=")
        labels[name] = value
    labels.update(meta)
    labels.pop("", None)
    locality = _part(service, "Locality")  # since Consul 1.17
    return Instance(
        _text(service, "Service"),
        key_of(entry),  # ids are unique on one node only
        address,
        region=str(locality.get("Region") or node.get("Datacenter") or ""),
        zone=str(locality.get("Zone") or ""),
        weight=_weight(service, _WARNING if _WARNING in _statuses(entry) else _PASSING),
        labels=MappingProxyType(labels),
    )


def _weight(service: Mapping[str, Any], status: str) -> int:
    """Returns the weight for a status; Consul's 0 (for `warning`) is the least there is here."""
    weight = _part(service, "Weights").get("Warning" if status == _WARNING else "Passing", 1)
    if not isinstance(weight, int):
        raise RegistryError(f"weight {weight!r} is not a number")
    return max(1, weight)


def _statuses(entry: Entry) -> Iterable[str]:
    return [str(check.get("Status")) for check in _checks(entry)]


def _checks(entry: Entry) -> list[Mapping[str, Any]]:
    checks = entry.get("Checks") or []
    return [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []


def _part(entry: Entry, name: str) -> Mapping[str, Any]:
    part = entry.get(name)
    return part if isinstance(part, dict) else {}


def _text(part: Mapping[str, Any], name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""

"""Instances, revisions and the service mapping as entries of a key-value registry: key layout and JSON text. Pure.

Used by every adapter whose registry keeps keys and bytes (etcd, ZooKeeper, ...), and by the control plane's store in
such a registry, so that all of them read each other's entries. Keys, below the prefix:

    instances/{app}/{unit or "-"}/{id}    held by a lease or session
    revisions/{app}/{revision}            stored once
    services/{service}/{app}              the mapping from gRPC services to applications

Every segment is percent-encoded. The unit is a part of the key so that one range holds what one unit may see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote, unquote

from meshsdk.discovery import limits
from meshsdk.discovery.registry import MalformedEntry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState, MethodInfo, Revision

DEFAULT_PREFIX = "/meshsdk"
NO_UNIT = "-"  # the segment of instances without a unit; a unit of that name is written "%2D"
_SPECIAL: Mapping[str, str] = {NO_UNIT: "%2D", ".": "%2E", "..": "%2E%2E"}  # dots mean other nodes in ZooKeeper's paths
_MAX_INSTANCE = 128 * 1024  # bytes; 64 labels of the largest size, and more
_MAX_REVISION = 4 * 1024 * 1024  # bytes
_MAX_PROBLEM = 300  # characters of somebody's entry in a message
_TYPES: Mapping[str, tuple[type, ...]] = {
    "app": (str,),
    "id": (str,),
    "address": (str,),
    "revision": (str,),
    "unit": (str,),
    "region": (str,),
    "zone": (str,),
    "weight": (int,),
    "labels": (dict,),
    "state": (str,),
    "started_at": (int, float),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Makes and reads keys. `prefix` starts with "/" and does not end with one."""

    prefix: str = DEFAULT_PREFIX

    def instances(self, app: str = "", unit: str = "") -> str:
        """Returns the prefix (with its last "/") of all instances, of an application's, or of those in a unit."""
        segments = ["instances", *([app] if app else []), *([unit] if app and unit else [])]
        return "/".join([self.prefix, *map(_segment, segments), ""])

    def instance(self, instance: Instance) -> str:
        """Returns the key of an instance."""
        unit = _segment(instance.unit) if instance.unit else NO_UNIT
        return f"{self.prefix}/instances/{_segment(instance.app)}/{unit}/{_segment(instance.id)}"

    def revision(self, app: str, revision: str) -> str:
        """Returns the key of a revision's content."""
        return f"{self.prefix}/revisions/{_segment(app)}/{_segment(revision)}"

    def services(self, service: str) -> str:
        """Returns the prefix (with its last "/") of the applications that serve a gRPC service."""
        return f"{self.prefix}/services/{_segment(service)}/"

    def service(self, service: str, app: str) -> str:
        """Returns the key that says that `app` serves `service`."""
        return f"{self.services(service)}{_segment(app)}"

    def instance_of(self, key: str) -> tuple[str, str, str]:
        """Returns (app, unit, id) of an instance's key; RegistryError for any other key."""
        head = f"{self.prefix}/instances/"
        parts = key[len(head) :].split("/") if key.startswith(head) else []
        if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - app, unit, id
            raise RegistryError(f"the key is not {head}APP/UNIT/ID")
        app, unit, identifier = parts
        return unquote(app), "" if unit == NO_UNIT else unquote(unit), unquote(identifier)


def _segment(text: str) -> str:
    return _SPECIAL.get(text) or quote(text, safe="")


def last_segment(key: str) -> str:
    """Returns what the last segment of a key stands for (the application of a `service` key)."""
    return unquote(key.rpartition("/")[2])


def services_of(revision: Revision) -> list[str]:
    """Returns the gRPC services (`pkg.Service`, sorted) whose methods a revision has."""
    return sorted({method.name.split("/")[1] for method in revision.methods})


def instance_to_text(instance: Instance) -> bytes:
    """Encodes an instance as JSON; fields that are empty are left out."""
    values = {name: getattr(instance, name) for name in _TYPES}
    values["labels"] = dict(instance.labels)
    values["state"] = instance.state.value
    return _json({name: value for name, value in values.items() if value or name == "state"})


def instance_from_text(raw: bytes) -> Instance:
    """Decodes an instance; RegistryError says in words what is not acceptable. Unknown fields are skipped."""
    values = _object(raw, _MAX_INSTANCE)
    known: dict[str, object] = {}
    for name, types in _TYPES.items():
        if name not in values:
            continue
        value = values[name]
        if not isinstance(value, types) or isinstance(value, bool):
            raise RegistryError(f"{name} is {_short(value)}, not {' or '.join(each.__name__ for each in types)}")
        known[name] = value
    labels = known.get("labels", {})
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise RegistryError("labels has a value that is not a string")
    known["labels"] = MappingProxyType(labels)
    known["state"] = _state(known.get("state", InstanceState.ONLINE.value))
    if lacking := [name for name in ("app", "id", "address") if not known.get(name)]:
        raise RegistryError(f"{', '.join(lacking)} missing")
    instance = Instance(**known)  # type: ignore[arg-type]  # each field's type was checked by _TYPES
    if problem := limits.instance_problem(instance):
        raise RegistryError(problem)
    return instance


def revision_to_text(revision: Revision) -> bytes:
    """Encodes what a revision contains as JSON."""
    methods = {method.name: dict(method.options) for method in revision.methods}
    return _json({"app": revision.app, "revision": revision.revision, "methods": methods})


def revision_from_text(raw: bytes) -> Revision:
    """Decodes a revision; MalformedEntry says in words what is not acceptable."""
    try:
        return _revision(raw)
    except RegistryError as error:
        raise MalformedEntry(str(error)) from None


def _revision(raw: bytes) -> Revision:
    values = _object(raw, _MAX_REVISION)
    app, name, methods = values.get("app"), values.get("revision"), values.get("methods")
    if not isinstance(app, str) or not isinstance(name, str) or not isinstance(methods, dict):
        raise RegistryError("a revision has app and revision (strings) and methods (an object)")
    if not all(isinstance(options, dict) for options in methods.values()):
        raise RegistryError("the options of a method are not an object")
    listed = tuple(MethodInfo(method, MappingProxyType(options)) for method, options in methods.items())
    revision = Revision(app, name, listed)
    if problem := limits.revision_problem(revision):
        raise RegistryError(problem)
    return revision


def _json(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":"), sort_keys=True).encode()


def _object(raw: bytes, most: int) -> dict[str, object]:
    if len(raw) > most:
        raise RegistryError(f"{len(raw)} bytes are more than {most}")
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"not JSON: {error}") from None
    if not isinstance(values, dict):
        raise RegistryError(f"{_short(values)} is not a JSON object")
    return values


def _state(value: object) -> InstanceState:
    try:
        return InstanceState(value)
    except ValueError:
        raise RegistryError(f"state {_short(value)} is not one of STARTING, ONLINE, DRAINING, OFFLINE") from None


def _short(value: object) -> str:
    return repr(value)[:_MAX_PROBLEM]

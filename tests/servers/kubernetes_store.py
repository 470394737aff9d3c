"""The objects behind the fake API server: resource versions, history, snapshots of lists, garbage collection. Pure.

Keeps to the API conventions ("API concepts": resource versions, retrieving large results in chunks, efficient detection
of changes). One lock is held by the caller of everything here.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A resource that the fake serves."""

    group_version: str
    kind: str
    plural: str


KINDS = {
    kind.plural: kind
    for kind in (
        Kind("v1", "Pod", "pods"),
        Kind("v1", "ConfigMap", "configmaps"),
        Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    )
}


class ApiError(Exception):
    """Becomes a Status object."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details

    def status(self) -> Json:
        """Returns the Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def expired(message: str) -> ApiError:
    """410 Gone."""
    return ApiError(410, "Expired", message)


@dataclass(frozen=True)
class Change:
    """One entry of the history: an object before and after."""

    version: int
    plural: str
    namespace: str
    before: Json | None
    after: Json | None


@dataclass
class Store:
    """All objects. `journal`: a file that keeps them over restarts, as etcd does for a real server."""

    journal: Path
    version: int = 1000
    objects: dict[tuple[str, str, str], Json] = field(default_factory=dict)  # (plural, namespace, name)
    history: deque[Change] = field(default_factory=deque)
    oldest: int = 1000  # a watch may begin here or later
    snapshots: dict[str, tuple[int, list[Json]]] = field(default_factory=dict)  # rest of a list, by continue token

    def load(self) -> None:
        """Reads the journal: the present is there, the past is not (as in a watch cache after a restart)."""
        if self.journal.exists():
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                change = json.loads(line)
                self.version = change["version"]
                key = tuple(change["key"])
                self.objects.pop(key, None)
                if change["object"] is not None:
                    self.objects[key] = change["object"]
        self.oldest = self.version

    def compact(self) -> None:
        """Forgets the past."""
        self.history.clear()
        self.snapshots.clear()
        self.oldest = self.version

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, plural: str, namespace: str, name: str) -> Json:
        """Returns an object."""
        found = self.objects.get((plural, namespace, name))
        if found is None:
            raise ApiError(404, "NotFound", f'{plural} "{name}" not found', name=name, kind=plural)
        return found

    def page(self, plural: str, namespace: str, selector: Selector, query: dict[str, str]) -> tuple[Json, list[Json]]:
        """Returns the metadata and the items of one page of a list."""
        token = query.get("continue", "")
        if token:
            if token not in self.snapshots:
                raise expired("The provided continue parameter is too old to display a consistent list result.")
            version, items = self.snapshots.pop(token)
        else:
            wanted = query.get("resourceVersion", "")
            if wanted and int(wanted) > self.version:
                raise ApiError(504, "Timeout", f"Too large resource version: {wanted}, current: {self.version}")
            version = self.version
            items = [
                item
                for (kind, space, _), item in sorted(self.objects.items())
                if kind == plural and space == namespace and selector.matches(item)
            ]
        limit = int(query.get("limit", "0") or 0)
        metadata: Json = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            rest = uuid.uuid4().hex
            self.snapshots[rest] = (version, items[limit:])
            metadata |= {"continue": rest, "remainingItemCount": len(items) - limit}
            items = items[:limit]
        return metadata, items

    def since(self, version: int, plural: str, namespace: str) -> Iterator[Change]:
        """Yields what happened to a collection after `version`."""
        if version < self.oldest:
            raise expired(f"too old resource version: {version} ({self.oldest})")
        for change in self.history:
            if change.version > version and (change.plural, change.namespace) == (plural, namespace):
                yield change

    # -- writing ----------------------------------------------------------------------------------------------------

    def create(self, plural: str, namespace: str, item: Json) -> Json:
        """POST."""
        item = copy.deepcopy(item)
        metadata = item.setdefault("metadata", {})
        name = metadata.get("name")
        _validate(plural, item)
        if (plural, namespace, name) in self.objects:
            raise ApiError(409, "AlreadyExists", f'{plural} "{name}" already exists', name=name)
        now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
        metadata["managedFields"] = [{"manager": "test", "operation": "Update"}]
        created = self._write(plural, namespace, name, item)
        self._collect()
        return created

    def replace(self, plural: str, namespace: str, name: str, item: Json) -> Json:
        """PUT."""
        found = self.get(plural, namespace, name)
        item = copy.deepcopy(item)
        if item.get("metadata", {}).get("name") != name:
            raise ApiError(400, "BadRequest", "the name of the object does not match the name on the URL")
        _validate(plural, item)
        asked = item["metadata"].get("resourceVersion")
        if asked and asked != found["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        if found.get("immutable") and item.get("data") != found.get("data"):
            raise ApiError(422, "Invalid", "field is immutable when `immutable` is set")
        for kept in ("namespace", "uid", "creationTimestamp", "managedFields"):
            item["metadata"][kept] = found["metadata"].get(kept)
        replaced = self._write(plural, namespace, name, item)
        self._collect()
        return replaced

    def delete(self, plural: str, namespace: str, name: str, options: Json) -> Json:
        """DELETE, with preconditions."""
        found = self.get(plural, namespace, name)
        for key, value in (options.get("preconditions") or {}).items():
            if value and found["metadata"].get(key) != value:
                raise ApiError(409, "Conflict", f"Precondition failed: {key} in precondition: {value}")
        self._write(plural, namespace, name, None)
        self._collect()
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _write(self, plural: str, namespace: str, name: str, item: Json | None) -> Json:
        self.version += 1
        key = (plural, namespace, name)
        before = self.objects.pop(key, None)
        gone = copy.deepcopy(before) if item is None else None
        if item is not None:
            item["metadata"]["resourceVersion"] = str(self.version)
            self.objects[key] = item
        elif gone is not None:  # the last state, with the version of the removal
            gone["metadata"]["resourceVersion"] = str(self.version)
        self.history.append(Change(self.version, plural, namespace, gone if item is None else before, item))
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"version": self.version, "key": key, "object": item}) + "\n")
        return item or {}

    def _collect(self) -> None:
        """The garbage collector: what has owners and none of them exists goes."""
        uids = {item["metadata"]["uid"] for item in self.objects.values()}
        for (plural, namespace, name), item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences") or []
            if owners and not any(owner.get("uid") in uids for owner in owners):
                self._write(plural, namespace, name, None)


class Selector:
    """A label selector: `a=b`, `a!=b`, `a in (b,c)`, `a`, `!a`, joined by commas."""

    def __init__(self, text: str) -> None:
        self._terms = [term.strip() for term in re.split(r",(?![^(]*\))", text) if term.strip()]
        for term in self._terms:
            value = re.split(r"!?==?", term)[-1]
            if "=" in term and not re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value):
                raise ApiError(400, "BadRequest", f"unable to parse requirement: invalid label value: {value!r}")

    def matches(self, item: Json) -> bool:
        """Whether an object's labels are as asked."""
        labels = item["metadata"].get("labels") or {}
        return all(self._holds(term, labels) for term in self._terms)

    @staticmethod
    def _holds(term: str, labels: dict[str, str]) -> bool:
        if found := re.fullmatch(r"(\S+) (in|notin) \((.*)\)", term):
            among = labels.get(found[1]) in [value.strip() for value in found[3].split(",")]
            return among == (found[2] == "in")
        if "!=" in term:
            name, _, value = term.partition("!=")
            return labels.get(name) != value
        if "=" in term:
            name, _, value = term.replace("==", "=").partition("=")
            return labels.get(name) == value
        return term[1:] not in labels if term.startswith("!") else term in labels


def _validate(plural: str, item: Json) -> None:
    """What the real server refuses and this project might send."""
    metadata = item.get("metadata", {})
    problems = list(_label_problems(metadata))
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", str(metadata.get("name"))):
        problems.append(f"metadata.name: Invalid value: {metadata.get('name')!r}")
    if sum(len(k) + len(v) for k, v in (metadata.get("annotations") or {}).items()) > 256 * 1024:
        problems.append("metadata.annotations: Too long: may not be more than 262144 bytes")
    owners = metadata.get("ownerReferences") or []
    if not all(owner.get(key) for owner in owners for key in ("apiVersion", "kind", "name", "uid")):
        problems.append("metadata.ownerReferences: Required value")
    if plural == "endpointslices":
        problems += _slice_problems(item)
    if plural == "configmaps" and sum(len(v) for v in (item.get("data") or {}).values()) > 1024 * 1024:
        problems.append("data: Too long: may not be more than 1048576 bytes")
    if problems:
        raise ApiError(422, "Invalid", f"{plural} is invalid: " + "; ".join(problems))


def _label_problems(metadata: Json) -> Iterator[str]:
    for name, value in (metadata.get("labels") or {}).items():
        prefix, _, short = name.rpartition("/")
        if len(prefix) > 253 or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", short):
            yield f"metadata.labels: Invalid value: {name!r}"
        if not re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", str(value)):
            yield f"metadata.labels: Invalid value: {value!r}"


def _slice_problems(item: Json) -> Iterator[str]:
    family = item.get("addressType")
    if family not in ("IPv4", "IPv6", "FQDN"):
        yield f"addressType: Unsupported value: {family!r}"
    for endpoint in item.get("endpoints") or []:
        addresses = endpoint.get("addresses") or []
        if not 1 <= len(addresses) <= 100:
            yield "endpoints[].addresses: Required value"
        for address in addresses:
            if (family == "IPv6") != (":" in address):
                yield f"endpoints[].addresses: Invalid value: {address!r}"
            if address.startswith(("127.", "169.254.")) or address in ("0.0.0.0", "::", "::1"):  # noqa: S104 - refused
                yield f"endpoints[].addresses: Invalid value: {address!r}: may not be in the loopback range"
    names = [port.get("name") or "" for port in item.get("ports") or []]
    if len(set(names)) != len(names):
        yield "ports: Duplicate value"

"""What the pods of a namespace say about themselves: labels, unit, weight, revision, start. Watched as metadata alone.

One `PodTable` per registry, shared by its watches, which are told of pods that changed. It follows the pods from the
first watch on. Without the right to see pods the endpoints are used without what the pods would add; the log says so.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from meshsdk.discovery.following import Following
from meshsdk.discovery.kubernetes.api import ApiServer, JsonObject, Refused
from meshsdk.discovery.kubernetes.place import Place
from meshsdk.discovery.kubernetes.reflector import Collection, Reflector

_LOG = logging.getLogger("meshsdk.discovery")
UNIT = "meshsdk.io/unit"  # label
WEIGHT = "meshsdk.io/weight"  # annotation
REVISION = "meshsdk.io/revision"  # annotation
STARTED_AT = "meshsdk.io/started-at"  # annotation, unix seconds; else the pod's creation
_REGION = "topology.kubernetes.io/region"  # labels that Kubernetes 1.35 copies from the node
_ZONE = "topology.kubernetes.io/zone"
_CLOSING = 2.0  # seconds to wait for a request under way
_NO_RIGHT = frozenset({401, 403})  # HTTP
_MAX_TOLD = 1000  # pods whose problem was logged
Listener = Callable[[frozenset[str]], None]


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What one pod adds to its endpoint. `problem` says which of its values are not used."""

    labels: Mapping[str, str]
    unit: str = ""
    region: str = ""
    zone: str = ""
    weight: int = 1
    revision: str = ""
    started_at: float = 0.0
    terminating: bool = False
    problem: str = ""


def facts_of(item: JsonObject) -> PodFacts:
    """Reads a pod's metadata. A value that cannot be used counts as not given, and `problem` says so."""
    raw = item.get("metadata")
    metadata = raw if isinstance(raw, dict) else {}
    labels, annotations = _texts(metadata.get("labels")), _texts(metadata.get("annotations"))
    problems: list[str] = []
    weight = annotations.get(WEIGHT, "1")
    if not (weight.isascii() and weight.isdigit() and 1 <= int(weight[:6]) <= 65535):  # noqa: PLR2004 - `limits`
        problems.append(f"annotation {WEIGHT} {weight[:40]!r} is not a number from 1 to 65535")
        weight = "1"
    started_at = _moment(metadata.get("creationTimestamp"))
    if (written := annotations.get(STARTED_AT)) is not None:
        try:
            started_at = float(written)
        except ValueError:
            problems.append(f"annotation {STARTED_AT} {written[:40]!r} is not unix seconds")
    return PodFacts(
        labels,
        unit=labels.get(UNIT, ""),
        region=labels.get(_REGION, ""),
        zone=labels.get(_ZONE, ""),
        weight=int(weight),
        revision=annotations.get(REVISION, ""),
        started_at=started_at,
        terminating=bool(metadata.get("deletionTimestamp")),
        problem="; ".join(problems),
    )


class PodTable:
    """The pods of the namespace by name. Any thread may ask; the listeners are called on the table's own."""

    def __init__(self, api: ApiServer, place: Place) -> None:
        self._lock = threading.Lock()
        self._facts: dict[str, PodFacts] = {}  # guarded by _lock
        self._listeners: set[Listener] = set()  # guarded by _lock
        self._started = False  # guarded by _lock
        self._known = threading.Event()  # the pods have been listed once, or are not watched
        self._told: set[str] = set()  # owned by the table's thread
        self._following: Following | None = None
        if place.pods:
            path = f"/api/v1/namespaces/{place.namespace}/pods"
            collection = Collection(path, place.pod_labels, metadata_only=True)
            self._reflector = Reflector(api, collection, self._replace, self._change)
            self._following = Following(f"the list of pods at {place.words}", self._follow)
        else:
            self._known.set()

    def find(self, pod: str) -> PodFacts | None:
        """Returns what is known of a pod."""
        with self._lock:
            return self._facts.get(pod)

    def attach(self, listener: Listener) -> None:
        """Tells `listener` the names of pods that changed, from now on; the first one starts the watch."""
        with self._lock:
            self._listeners.add(listener)
            start = self._following is not None and not self._started
            self._started = self._started or start
        if start and self._following is not None:
            self._following.start()

    def detach(self, listener: Listener) -> None:
        """Tells it no more; idempotent."""
        with self._lock:
            self._listeners.discard(listener)

    def wait(self, seconds: float) -> None:
        """Waits until the pods are known, at most `seconds`."""
        self._known.wait(seconds)

    def close(self) -> None:
        """Ends the watch; idempotent."""
        if self._following is not None:
            self._following.cancel()
            self._following.join(_CLOSING)

    def _follow(self, following: Following) -> None:
        try:
            self._reflector.follow(following)
        except Refused as refused:
            if refused.status in _NO_RIGHT:  # it will not come to be known soon: nobody needs to wait
                self._known.set()
            raise

    def _replace(self, items: Mapping[str, JsonObject]) -> None:
        facts = {name: self._read(name, item) for name, item in items.items()}
        with self._lock:
            old, self._facts = self._facts, facts
        changed = {name for name in old.keys() | facts.keys() if old.get(name) != facts.get(name)}
        self._known.set()
        self._tell(changed)

    def _change(self, put: Mapping[str, JsonObject], removed: list[str]) -> None:
        read = {name: self._read(name, item) for name, item in put.items()}
        with self._lock:
            changed = {name for name, facts in read.items() if self._facts.get(name) != facts}
            changed |= {name for name in removed if self._facts.pop(name, None) is not None}
            self._facts.update(read)
        self._tell(changed)

    def _tell(self, changed: set[str]) -> None:
        if not changed:
            return
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(frozenset(changed))

    def _read(self, name: str, item: JsonObject) -> PodFacts:
        facts = facts_of(item)
        if facts.problem and name not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(name)
            _LOG.warning("pod %s: %s", name, facts.problem)
        return facts


def _texts(raw: object) -> Mapping[str, str]:
    if not isinstance(raw, dict):
        return _nothing()
    return MappingProxyType({str(name): value for name, value in raw.items() if isinstance(value, str)})


def _moment(raw: object) -> float:
    """Returns unix seconds of an RFC 3339 time in UTC, which is how the API writes it; 0 for anything else."""
    try:
        return dt.datetime.strptime(str(raw), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.timezone.utc).timestamp()
    except ValueError:
        return 0.0

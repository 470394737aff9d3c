"""Keeps up with one collection of an API server: lists it, then watches it from there.

Kubernetes, "API concepts: efficient detection of changes". Called by `slices_watch` and `pods` on the thread of a
`Following`. Hands over objects as they come; what they mean is
the caller's. It never tells of a removal that the server did not tell of: a lost place (410 Gone) is found again by a
new list, which replaces the old one in one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshsdk.discovery.following import Following
from meshsdk.discovery.kubernetes.api import WHOLE, ApiServer, Event, JsonObject, Refused
from meshsdk.errors import RegistryError

_PAGE = 500  # objects, as client-go
_MAX_OBJECTS = 200_000
_GONE = 410
_TIMEOUT = 504  # of a resourceVersion that this server has not come to (yet)
_SHORT = 1.0  # seconds; a watch that ends sooner and without an event is no watch (as client-go sees it)
_MAX_WAIT = 30.0  # seconds; a server that asks for a longer pause is asked again after this
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Collection:
    """What to follow: `path` of the API, a label selector ("" for all), and whether the metadata is enough."""

    path: str
    selector: str = ""
    metadata_only: bool = False


class Reflector:
    """Follows one collection. Owned by the thread of its `Following`.

    `replace` is told of all objects by name, `change` of objects by name that came or changed and of names that are
    gone. Both must not raise.
    """

    def __init__(
        self,
        api: ApiServer,
        collection: Collection,
        replace: Callable[[Mapping[str, JsonObject]], None],
        change: Callable[[Mapping[str, JsonObject], list[str]], None],
    ) -> None:
        self._api = api
        self._collection = collection
        self._replace = replace
        self._change = change
        self._version = ""  # resourceVersion to go on from; "" asks for a list
        self._gone = 0  # places lost in a row, with nothing heard in between

    def follow(self, following: Following) -> None:
        """Follows until the server or the connection fails. Raises RegistryError as `Following` wants it."""
        try:
            while following.live:
                if not self._version:
                    version, objects = self._list()
                    self._replace(objects)
                    self._version = version
                    following.settled()
                self._watch(following)
                if self._gone > 1:
                    raise RegistryError("the server keeps forgetting the place in its history (410 Gone)")
        except Refused as refused:
            if refused.retry_after:
                following.wait(min(refused.retry_after, _MAX_WAIT))
            raise

    def _list(self) -> tuple[str, dict[str, JsonObject]]:
        """Returns the collection and its resourceVersion, page by page; whole if the server forgets it meanwhile."""
        try:
            return self._pages(_PAGE)
        except Refused as refused:
            if refused.status != _GONE:
                raise
            return self._pages(0)

    def _pages(self, size: int) -> tuple[str, dict[str, JsonObject]]:
        objects: dict[str, JsonObject] = {}
        query = {**self._query(), **({"limit": str(size)} if size else {})}
        accept = f"{METADATA_LIST},{WHOLE}" if self._collection.metadata_only else WHOLE
        while True:
            page = self._api.get("list", self._collection.path, query, accept)
            items = page.get("items")
            for item in items if isinstance(items, list) else ():
                objects[_name(item)] = item
            if len(objects) > _MAX_OBJECTS:
                raise RegistryError(f"there are more than {_MAX_OBJECTS} objects in {self._collection.path}")
            metadata = page.get("metadata")
            token = metadata.get("continue") if isinstance(metadata, dict) else None
            if not token:
                return _version(page), objects
            query = {**query, "continue": str(token)}

    def _watch(self, following: Following) -> None:
        """Follows one watch to its end, which is normal. A lost place leaves `_version` empty."""
        query = {**self._query(), "resourceVersion": self._version}
        accept = f"{METADATA},{WHOLE}" if self._collection.metadata_only else WHOLE
        try:
            stream = self._api.watch("follow", self._collection.path, query, accept)
        except Refused as refused:
            if refused.status in {_GONE, _TIMEOUT}:
                self._lose_place()
                return
            raise
        following.interruptible(stream.shutdown)
        following.settled()
        began, heard = time.monotonic(), False
        for events in stream.batches():
            heard = True
            self._take(events)
            if not self._version:
                break
        following.interruptible(None)
        if not heard and time.monotonic() - began < _SHORT and following.live:
            raise RegistryError("the server ended the watch at once")

    def _take(self, events: list[Event]) -> None:
        """Hands on what arrived together: of each object its last state."""
        put: dict[str, JsonObject] = {}
        removed: dict[str, None] = {}
        version = self._version
        problem: Event | None = None
        for event in events:
            if event.kind == "ERROR":
                problem = event
                break
            version = _version(event.object)
            if event.kind in {"ADDED", "MODIFIED"}:
                name = _name(event.object)
                put[name] = event.object
                removed.pop(name, None)
            elif event.kind == "DELETED":
                name = _name(event.object)
                put.pop(name, None)
                removed[name] = None
        if put or removed:
            self._change(put, list(removed))
        if version != self._version:
            self._gone = 0
        self._version = version
        if problem is not None:
            self._failed(problem.object)

    def _failed(self, status: JsonObject) -> None:
        if status.get("code") == _GONE:
            self._lose_place()
            return
        raise RegistryError(f"the watch failed: {status.get('code')} {str(status.get('message'))[:300]}")

    def _lose_place(self) -> None:
        self._version = ""
        self._gone += 1

    def _query(self) -> dict[str, str]:
        return {"labelSelector": self._collection.selector} if self._collection.selector else {}


def _metadata(item: object) -> dict[str, object]:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        raise RegistryError("the server sent an object without metadata")
    return metadata


def _name(item: object) -> str:
    name = _metadata(item).get("name")
    if not isinstance(name, str) or not name:
        raise RegistryError("the server sent an object without a name")
    return name


def _version(item: object) -> str:
    version = _metadata(item).get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise RegistryError("the server sent an object without a resourceVersion")
    return version

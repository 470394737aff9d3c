"""The last good resources on disk, for a start while no control plane can be reached (bootstrap `meshsdk.cache_dir`).

Written and read by the driver thread. One file for each resource, a serialised `envoy.service.discovery.v3.Resource`,
replaced atomically, so that processes of one application may share a directory; collections of endpoints have a form of
their own (`saved_collections`). Nothing read here is trusted more than what comes from a server: it goes through the
same codec.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from meshsdk.bootstrap import Bootstrap
from meshsdk.model.collection import EndpointCollection
from meshsdk.model.resources import Kind
from meshsdk.model.snapshot import Key
from meshsdk.private_file import replace_file
from meshsdk.xds_client.machine import Saved
from meshsdk.xds_client.saved_collections import SavedCollections, load
from meshsdk.xds_client.store import FROM_DISK, Entry, EntryStatus

_LOGGER = logging.getLogger(__name__)
_LARGEST_FILE = 128 * 1024 * 1024  # bytes, as for a message from a server
_MOST_FILES = 10_000


class LastGoodFiles:
    """One directory below `cache_dir` for each (servers, application): another control plane's resources never mix in.

    `_failed` and `_collections` belong to the driver thread.
    """

    def __init__(self, cache_dir: str, bootstrap: Bootstrap) -> None:
        self._directory = Path(cache_dir) / _identity(bootstrap)
        self._failed = False
        self._collections = SavedCollections()

    def load(self, key: Key) -> Saved | EndpointCollection | None:
        """Returns what was saved for a key; None if nothing was, or nothing usable."""
        try:
            if key.kind is Kind.LB_ENDPOINTS:
                return load(self._path(key), key.name)
            with self._path(key).open("rb") as file:
                data = file.read(_LARGEST_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOGGER.warning("cannot read the saved copy of %s: %s", key.name, error)
            return None
        if len(data) > _LARGEST_FILE:
            return None
        try:
            message = discovery_pb2.Resource.FromString(data)
        except DecodeError:
            _LOGGER.warning("the saved copy of %s in %s is damaged and not used", key.name, self._directory)
            return None
        if message.name != key.name or message.resource.type_url != key.kind.value:
            return None
        return Saved(message.resource.value, message.version)

    def save(self, entries: Iterable[Entry], wanted: Callable[[Key], bool] = lambda _: True) -> None:
        """Writes what is in force, removes what its server has taken back; a full disk costs a warning, no call.

        `wanted`: whether a key is still in the store; of collections that are not, nothing is kept in memory.
        """
        names = self._collections.names()
        self._collections.keep(name for name in names if wanted(Key(Kind.LB_ENDPOINTS, name)))
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for entry in entries:
                self._save(entry)
            self._failed = False
        except OSError as error:
            if not self._failed:
                _LOGGER.warning("cannot save the last good configuration in %s: %s", self._directory, error)
            self._failed = True

    def prune(self) -> None:
        """Removes the oldest files beyond a limit; called once at start, so that a directory does not grow for ever."""
        with contextlib.suppress(OSError):  # another process pruned at the same moment, or there is no directory yet
            paths = sorted(self._directory.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in paths[_MOST_FILES:]:
                path.unlink(missing_ok=True)

    def _save(self, entry: Entry) -> None:
        path = self._path(entry.key)
        if entry.resource is None:
            if entry.status is EntryStatus.ABSENT:
                path.unlink(missing_ok=True)
            return
        if isinstance(entry.resource, EndpointCollection):
            if entry.server != FROM_DISK:  # whatever members were refused for: their last good ones are in it
                self._collections.save(path, entry.resource)
            return
        if entry.status is not EntryStatus.PRESENT:
            return
        message = discovery_pb2.Resource(name=entry.key.name, version=entry.version)
        message.resource.type_url, message.resource.value = entry.key.kind.value, entry.raw
        replace_file(path, [message.SerializeToString()])

    def _path(self, key: Key) -> Path:
        digest = hashlib.sha256(f"{key.kind.value}\n{key.name}".encode()).hexdigest()
        return self._directory / f"{digest}.resource"


def _identity(bootstrap: Bootstrap) -> str:
    """What resources depend on and what stays the same over restarts; a node's id and address do not."""
    node = bootstrap.node
    labels = node.metadata.get("LABELS")
    application = labels.get("app") if isinstance(labels, dict) else None
    parts = [
        [server.uri for server in bootstrap.servers],
        {name: [server.uri for server in authority.servers] for name, authority in bootstrap.authorities.items()},
        node.cluster,
        application or node.metadata.get("app"),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

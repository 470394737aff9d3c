"""The resources a client asked for and what became of each (gRFC A88 "Cache Entry States"). Pure.

Written by `AdsMachine` alone, on the driver thread; read by `resolve` there, and by `XdsClient.ledger` and `.progress`
from any thread, which see each entry whole because an entry is frozen and replaced by one dict assignment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshsdk.model.resources import Resource
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.names import canonical

FROM_DISK = "cache"  # the `server` of an entry that the copy on disk gave


class EntryStatus(enum.Enum):
    """What the client last learned about a resource it wants."""

    REQUESTED = "requested"  # asked for, nothing heard
    PRESENT = "present"  # the server's present version is in force (A88: ACKED)
    ABSENT = "absent"  # the server does not have it (A88: DOES_NOT_EXIST)
    INVALID = "invalid"  # the server's present version was refused (A88: NACKED)
    UNREACHABLE = "unreachable"  # no server can be reached, or none answers in time (A88: TIMEOUT)


@dataclass(frozen=True, slots=True)
class Entry:
    """One wanted resource.

    `resource` is the last good one and may be set with any status (A88 keeps it unless the server's feature
    `fail_on_data_errors` says otherwise). `raw` are its bytes, `version` its version, `server` the URI it came from
    ("cache" for the copy on disk). `problem` says in words what is wrong, "" if nothing is.
    """

    key: Key
    status: EntryStatus = EntryStatus.REQUESTED
    resource: Resource | None = None
    version: str = ""
    problem: str = ""
    raw: bytes = b""
    server: str = ""

    @property
    def in_force(self) -> bool:
        """The server's present version is what is used, and nothing is wrong with it."""
        return self.status is EntryStatus.PRESENT and not self.problem

    @property
    def settled(self) -> bool:
        """A71 "cached": a server has given the resource or said that there is none."""
        if self.status is EntryStatus.INVALID:
            return self.resource is not None
        return self.status in (EntryStatus.PRESENT, EntryStatus.ABSENT)


class Store:
    """Entries by key; `xdstp:` names are found in any order of their context parameters.

    `now` is set by the session before each event: monotonic seconds, what entries are stamped with.
    """

    __slots__ = ("_changed", "_entries", "now")

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self._changed: dict[Key, float] = {}
        self.now = 0.0

    def get(self, key: Key) -> Entry | None:
        """Returns the entry, or None for a key that nothing wants."""
        return self._entries.get(key) or self._entries.get(canonical_key(key))

    def put(self, entry: Entry) -> None:
        """Adds or replaces an entry; its key must be canonical."""
        self._entries[entry.key] = entry
        self._changed[entry.key] = self.now

    def drop(self, key: Key) -> None:
        """Forgets an entry that nothing wants any more."""
        self._entries.pop(key, None)
        self._changed.pop(key, None)

    def entries(self) -> tuple[Entry, ...]:
        """Returns all entries as of one moment; safe from any thread."""
        return tuple(self._entries.values())

    def changed(self, key: Key) -> float:
        """Returns when the entry of a (canonical) key was last replaced, in monotonic seconds; 0.0 if there is none."""
        return self._changed.get(key, 0.0)


def canonical_key(key: Key) -> Key:
    """Returns the key under which the store has the resource (see `names.canonical`)."""
    name = canonical(key.name)
    return key if name == key.name else Key(key.kind, name)

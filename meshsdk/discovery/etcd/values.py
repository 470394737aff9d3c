"""What goes in and out of the etcd client: entries, listings, changes and conditions. Pure; no protobuf, no I/O.

Keys are text: bytes that are not UTF-8 (left by others) stand as surrogate escapes, so that every key survives the way
there and back. Revisions are etcd's: one number for the whole store that grows with every write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and its value. `revision` is that of its last write; `lease` keeps it, 0 for none."""

    key: str
    value: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries below a prefix, as they were at `revision` of the store `cluster`."""

    cluster: int
    revision: int
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Batch:
    """What changed below a prefix up to `revision`: the last state of every key touched. Empty: nothing, up to there.

    All changes of one transaction are in one batch.
    """

    cluster: int
    revision: int
    put: Mapping[str, Entry] = field(default_factory=lambda: MappingProxyType({}))
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Put:
    """Writes a key. `lease` 0 lets go of the lease that it had."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes a key; one that is not there is no error."""

    key: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Holds while the last write of `key` is of `revision`; 0: while there is no such key."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Equals:
    """Holds while `key` has exactly this value."""

    key: str
    value: bytes


Change = Put | Delete
Condition = Unchanged | Equals


@dataclass(frozen=True, slots=True)
class Commit:
    """The outcome of a transaction. `done`: the conditions held, and all changes are made as `revision`."""

    done: bool
    revision: int


@dataclass(frozen=True, slots=True)
class GrantedLease:
    """A lease: etcd's number, and the seconds that it lasts unless kept alive (etcd may grant more than asked)."""

    id: int
    ttl: float


def key_bytes(key: str) -> bytes:
    """Returns a key as etcd has it."""
    return key.encode("utf-8", "surrogateescape")


def key_text(raw: bytes) -> str:
    """Returns a key as text."""
    return raw.decode("utf-8", "surrogateescape")


def range_end(prefix: str) -> bytes:
    """Returns the first key after all that start with `prefix`, as etcd's `range_end`."""
    raw = key_bytes(prefix).rstrip(b"\xff")
    if not raw:
        return b"\0"  # etcd's word for "to the end"
    return raw[:-1] + bytes([raw[-1] + 1])

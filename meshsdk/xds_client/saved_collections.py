"""LEDS collections on disk: a journal for each, so that a change of one endpoint of 100,000 writes one line.

Used by `last_good` on the driver thread. A file begins with a line that names the collection; then follow lines of
members put and of ids removed, JSON arrays. A file that has doubled is written anew and replaced atomically. Processes
that share a directory append to each other's files: they follow the same servers, so their lines agree in the end.
Nothing read here is trusted: lines that cannot be are left out.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshsdk.model.collection import EndpointCollection, Member, Members
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.private_file import replace_file

_LOGGER = logging.getLogger(__name__)
_FORMAT = "meshsdk-collection-1"
_LARGEST_FILE = 256 * 1024 * 1024  # bytes; a member takes about 100
_SLACK = 64 * 1024  # bytes that a file may grow by before it is worth writing anew
_ADDRESS = re.compile(r"(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}|unix(-abstract)?:[^\0]+")
_WEIGHT_MAX = 2**32 - 1
_REMOVED, _PUT = 1, 7  # items of a line


@dataclass(frozen=True, slots=True)
class _Journal:
    """What a file is known to say, and how large it was when last written as a whole."""

    members: Members
    size: int


class SavedCollections:
    """`_journals` belongs to the driver thread."""

    def __init__(self) -> None:
        self._journals: dict[str, _Journal] = {}  # by name of the collection

    def save(self, path: Path, collection: EndpointCollection) -> None:
        """Brings the file to the state of the collection; raises OSError."""
        known = self._journals.get(collection.name)
        if known is None:
            self._write(path, collection)
            return
        put, removed = collection.members.changes_from(known.members)
        if not put and not removed:
            return
        size = _append(path, _lines(put, removed))
        if 0 < size <= 2 * known.size + _SLACK:
            self._journals[collection.name] = _Journal(collection.members, known.size)
        else:
            self._write(path, collection)

    def _write(self, path: Path, collection: EndpointCollection) -> None:
        head = _line([_FORMAT, collection.name])
        size = replace_file(path, itertools.chain([head], _lines(collection.members, ())))
        self._journals[collection.name] = _Journal(collection.members, size)

    def keep(self, names: Iterable[str]) -> None:
        """Forgets what the files of all other collections say; the files stay."""
        kept = set(names)
        self._journals = {name: journal for name, journal in self._journals.items() if name in kept}

    def names(self) -> tuple[str, ...]:
        """Returns the collections whose files this process has written."""
        return tuple(self._journals)


def load(path: Path, name: str) -> EndpointCollection | None:
    """Returns the collection that a file holds, None if there is none; raises OSError."""
    if not path.exists() or path.stat().st_size > _LARGEST_FILE:
        return None
    members: dict[str, Member] = {}
    damaged = 0
    with path.open("rb") as file:
        if _parsed(file.readline()) != [_FORMAT, name]:
            return None
        for line in file:
            items = _parsed(line)
            if len(items) == _REMOVED and isinstance(items[0], str):
                members.pop(items[0], None)
            elif (member := _member(items)) is not None:
                members[member.id] = member
            else:
                damaged += 1
    if damaged:
        _LOGGER.warning("the saved copy of %s has %d lines that cannot be read; they are left out", name, damaged)
    return EndpointCollection(name).updated(tuple(members.values()))


def _append(path: Path, lines: Iterable[bytes]) -> int:
    """Appends in one piece, behind what other processes append; returns the file's size, 0 if the file is gone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:  # somebody cleaned up
        return 0
    with os.fdopen(descriptor, "ab") as file:
        file.write(b"".join(lines))
        return file.tell()


def _lines(put: Iterable[Member], removed: Iterable[str]) -> Iterator[bytes]:
    for identifier in removed:
        yield _line([identifier])
    for identifier, one, version in put:
        health = one.health.value
        yield _line([identifier, version, one.address, one.weight, health, one.started_at, one.hash_key])


def _line(items: list[Any]) -> bytes:
    return json.dumps(items, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> list[Any]:
    """Returns the items of a line, none if it is no JSON array."""
    with suppress(ValueError, RecursionError):
        items = json.loads(line)
        if isinstance(items, list):
            return items
    return []


def _member(items: list[Any]) -> Member | None:
    if len(items) != _PUT or list(map(type, items)) != [str, str, str, int, str, float, str]:
        return None
    identifier, version, address, weight, health, started_at, hash_key = items
    sound = 0 < weight <= _WEIGHT_MAX and 0 <= started_at < float("inf") and _ADDRESS.fullmatch(address)
    try:
        state = Health(health)
    except ValueError:
        return None
    return Member(identifier, Endpoint(address, weight, state, started_at, hash_key), version) if sound else None

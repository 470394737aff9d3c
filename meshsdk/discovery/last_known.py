"""The last known instances on disk, for a start while a registry cannot be reached (bootstrap `meshsdk.cache_dir`).

Written and read by the thread of a desk. One JSON file for each set of instances and each mapping of a service,
replaced atomically, so that processes of one application may share a directory. What is read is checked as what comes
from a registry is. Connects to nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meshsdk.discovery.instance_set import Member
from meshsdk.discovery.limits import address_problem
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.resources import Locality
from meshsdk.private_file import replace_file

_LOG = logging.getLogger("meshsdk.discovery")
_LARGEST_FILE = 256 * 1024 * 1024  # bytes; a million instances
_ROW = 8  # id, address, weight, draining, started_at, revision, region, zone


class LastKnown:
    """A directory below `cache_dir` for one registry. Owned by one thread."""

    def __init__(self, cache_dir: str, registry: str) -> None:
        """`registry`: its URL; the instances of another one never mix in."""
        self._directory = Path(cache_dir) / f"registry-{_digest(registry)[:32]}"
        self._failed = False

    def instances(self, what: Sequence[object]) -> Mapping[str, Member] | None:
        """Returns the instances saved under `what` (JSON values), by id; None if nothing was, or nothing usable."""
        try:
            return dict(_member(row) for row in self._read(what) or ()) or None
        except (TypeError, ValueError) as error:
            _LOG.warning("the saved instances of %s in %s are damaged and not used: %s", what, self._directory, error)
            return None

    def applications(self, service: str) -> tuple[str, ...] | None:
        """Returns the saved mapping of a service, None if there is none."""
        found = self._read(["service", service])
        return tuple(app for app in found if isinstance(app, str)) if found is not None else None

    def save_instances(self, what: Sequence[object], members: Mapping[str, Member]) -> None:
        """Keeps a set of instances; a full disk costs a warning, no call."""
        self._write(what, [_row(identifier, member) for identifier, member in members.items()])

    def save_applications(self, service: str, apps: tuple[str, ...]) -> None:
        """Keeps a mapping."""
        self._write(["service", service], list(apps))

    def _read(self, what: Sequence[object]) -> list[Any] | None:
        try:
            with self._path(what).open("rb") as file:
                data = file.read(_LARGEST_FILE + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("cannot read the saved copy of %s: %s", what, error)
            return None
        try:
            value = json.loads(data) if len(data) <= _LARGEST_FILE else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or value.get("what") != list(what) or not isinstance(value.get("rows"), list):
            _LOG.warning("the saved copy of %s in %s is damaged and not used", what, self._directory)
            return None
        rows: list[Any] = value["rows"]
        return rows

    def _write(self, what: Sequence[object], rows: list[Any]) -> None:
        text = json.dumps({"what": list(what), "rows": rows}, separators=(",", ":"))
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self._path(what), [text.encode()])
            self._failed = False
        except OSError as error:
            if not self._failed:
                _LOG.warning("cannot save the last known instances in %s: %s", self._directory, error)
            self._failed = True

    def _path(self, what: Sequence[object]) -> Path:
        return self._directory / f"{_digest(json.dumps(list(what)))}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _row(identifier: str, member: Member) -> list[object]:
    endpoint, place = member.endpoint, member.locality
    draining = endpoint.health is Health.DRAINING
    facts = [endpoint.address, endpoint.weight, draining, endpoint.started_at, member.revision]
    return [identifier, *facts, place.region, place.zone]


def _member(row: Any) -> tuple[str, Member]:
    if not isinstance(row, list) or len(row) != _ROW:
        raise ValueError("a row of other than eight values")
    identifier, address, weight, draining, started_at, revision, region, zone = row
    texts = (identifier, address, revision, region, zone)
    if not all(isinstance(text, str) for text in texts) or not isinstance(weight, int) or weight < 1:
        raise ValueError(f"a row with values of a wrong type: {row!r:.200}")
    if problem := address_problem(address):
        raise ValueError(problem)
    health = Health.DRAINING if draining else Health.HEALTHY
    return identifier, Member(Endpoint(address, weight, health, float(started_at)), Locality(region, zone), revision)

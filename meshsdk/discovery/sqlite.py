"""A registry in one SQLite file that the processes of one machine share. For one machine; no server.

    sqlite:///PATH[?poll=SECONDS]     PATH is absolute; poll: how often a watch looks for changes, 0.1 without

Opened by `opening`. Instances are held by leases that lapse on the machine's monotonic clock; whoever looks into the
file next, a watch of any process or a registrar, removes what has lapsed. A process that dies in the middle of
anything leaves the file whole (WAL). A watch reads what changed and not the whole file.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from urllib.parse import SplitResult, quote, unquote

from meshsdk.discovery import limits
from meshsdk.discovery.entries import (
    instance_from_text,
    instance_to_text,
    revision_from_text,
    revision_to_text,
    services_of,
)
from meshsdk.discovery.following import Following, RegistryClosed
from meshsdk.discovery.mirror import Mirror
from meshsdk.discovery.registry import Lease, LeaseLapsed, MalformedEntry
from meshsdk.discovery.sqlite_file import RegistryFile
from meshsdk.discovery.url_parameters import parameters_of
from meshsdk.discovery.watches import Watches
from meshsdk.errors import ConfigurationError, RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_POLL = 0.1  # seconds
_CLOSING = 2.0  # seconds to wait for a watch that is in the middle of reading
_KEPT_CHANGES = 20_000  # a watch that is further behind reads everything anew
_MAX_BODY = 256 * 1024  # bytes; a larger one is not read from the file
_BODY = f"CASE WHEN length(body) <= {_MAX_BODY} THEN body END"
_ALL = f"SELECT app, id, {_BODY} FROM instances"  # noqa: S608 - constants
_OF_APP = f"{_ALL} WHERE app = ?"
_ONE = f"{_OF_APP} AND id = ?"


def open_url(url: SplitResult) -> SqliteRegistry:
    """Opens `sqlite:///PATH`; touches no file. ConfigurationError says what is wrong."""
    parameters = parameters_of(url, ("poll",))
    path = unquote(url.path)
    if url.netloc or not path.startswith("/") or path.endswith("/"):
        raise ConfigurationError("the path of the file must be absolute")
    path = f"/{path.lstrip('/')}"  # sqlite:////PATH, as other programs write it, is the same file
    return SqliteRegistry(path, parameters.seconds("poll", _POLL, 0.01, 60))


class SqliteRegistry:
    """Implements `meshsdk.discovery.registry.Registry` on the file at `path`, which is made by the first use.

    `poll`: seconds between two looks of a watch. `now`: a clock that all processes on the file share.
    """

    def __init__(self, path: str, poll: float = _POLL, now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._poll = poll
        self._now = now
        self._lock = threading.Lock()
        self._file: RegistryFile | None = None  # guarded by _lock; opened at the first use
        self._closed = False  # guarded by _lock
        self._watches: Watches[Following] = Watches(f"on {path}")

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. The ttl is granted as asked; RegistryError for what `limits` refuses."""
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        lease = Lease(secrets.token_hex(16), ttl)
        row = (instance.app, instance.id, lease.id, ttl, self._now() + ttl, instance_to_text(instance))

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?, ?)", row)
            _log(db, [(instance.app, instance.id)])

        self._write(write)
        return lease

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`."""
        query = "UPDATE instances SET expires = ? + ttl WHERE lease = ? AND expires > ?"

        def write(db: sqlite3.Connection) -> None:
            now = self._now()
            if not db.execute(query, (now, lease.id, now)).rowcount:
                raise LeaseLapsed(f"lease {lease.id!r} is not in {self._path}, or it ran out")

        self._write(write)
        return lease

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        query = f"SELECT app, id, {_BODY} FROM instances WHERE lease = ? AND expires > ?"  # noqa: S608 - constants

        def write(db: sqlite3.Connection) -> None:
            row = db.execute(query, (lease.id, self._now())).fetchone()
            if row is None:
                raise LeaseLapsed(f"lease {lease.id!r} is not in {self._path}, or it ran out")
            instance = _decode(_key(row[0], row[1]), row[2])
            if instance.state is not state:
                body = instance_to_text(replace(instance, state=state))
                db.execute("UPDATE instances SET body = ? WHERE lease = ?", (body, lease.id))
                _log(db, [(row[0], row[1])])

        self._write(write)

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""

        def write(db: sqlite3.Connection) -> None:
            _remove(db, "lease = ?", lease.id)

        self._write(write)

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`. RegistryError for what `limits` refuses."""
        if problem := limits.revision_problem(revision):
            raise RegistryError(problem)

        def write(db: sqlite3.Connection) -> None:
            row = (revision.app, revision.revision, revision_to_text(revision))
            db.execute("INSERT OR REPLACE INTO revisions VALUES (?, ?, ?)", row)
            pairs = [(service, revision.app) for service in services_of(revision)]
            db.executemany("INSERT OR IGNORE INTO services VALUES (?, ?)", pairs)

        self._write(write)

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        rows = self._read("SELECT body FROM revisions WHERE app = ? AND revision = ?", (app, revision))
        try:
            return revision_from_text(_bytes(rows[0][0])) if rows else None
        except RegistryError as error:
            raise MalformedEntry(f"{self._path}: revision {revision!r} of {app!r}: {error}") from None

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        rows = self._read("SELECT app FROM services WHERE service = ? ORDER BY app", (service,))
        return tuple(str(app) for (app,) in rows)

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Following:
        """See `Feed`. Called on a thread of the watch."""
        mirror: Mirror[object] = Mirror(f"registry file {self._path}", app, unit, _decode, on_increment)
        reader = _Reader(self._path, app, mirror, self._poll, self._now)
        words = f"watch of app {app!r} in registry file {self._path}"
        return self._watches.begin(Following(words, reader.follow, skipped=lambda: mirror.skipped))

    def close(self) -> None:
        """See `Registry`."""
        watches = self._watches.close()
        with self._lock:
            self._closed = True
            file, self._file = self._file, None
        for watch in watches:
            watch.join(_CLOSING)  # each has the file open
        if file is not None:
            file.close()

    def _write(self, write: Callable[[sqlite3.Connection], None]) -> None:
        with self._lock:
            file = self._opened()
            _expire(file, self._now())
            with file.writing() as db:
                write(db)

    def _read(self, query: str, values: tuple[str, ...]) -> list[tuple[object, ...]]:
        with self._lock, self._opened().reading() as db:
            return db.execute(query, values).fetchall()

    def _opened(self) -> RegistryFile:
        """Returns the connection; holds _lock. One to a file that was put aside, or of before a fork, is left."""
        if self._closed:
            raise RegistryClosed(f"the registry on {self._path} is closed")
        if self._file is not None and not self._file.usable():
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = RegistryFile(self._path, create=True)
        return self._file


class _Reader:
    """What one watch reads. Owned by the thread of its `Following`."""

    def __init__(self, path: str, app: str, mirror: Mirror[object], poll: float, now: Callable[[], float]) -> None:
        self._path = path
        self._app = app
        self._mirror = mirror
        self._poll = poll
        self._now = now
        self._was_there = False  # a file that was there and is gone is not made anew: that would be an empty registry

    def follow(self, following: Following) -> None:
        """Reads all, then what changed, until the file is gone. Raises RegistryError as `Following` wants it."""
        file = RegistryFile(self._path, create=not self._was_there)
        self._was_there = True
        try:
            version = file.version()
            _expire(file, self._now())
            serial = self._all(file)
            following.settled()
            while following.wait(self._poll):
                if not file.usable():
                    raise RegistryError("the file was removed or replaced")
                expired = _expire(file, self._now())  # by this connection: `version` tells of others' changes
                if expired or version != file.version():
                    version = file.version()
                    serial = self._changes(file, serial)
        finally:
            file.close()

    def _all(self, file: RegistryFile) -> int:
        with file.reading() as db:
            serial = _last(db)
            rows = db.execute(_OF_APP, (self._app,)) if self._app else db.execute(_ALL)
            entries = {_key(app, identifier): body for app, identifier, body in rows}
        self._mirror.reset(entries)
        return serial

    def _changes(self, file: RegistryFile, serial: int) -> int:
        """Reads what changed after `serial`; returns the serial now."""
        put: dict[str, object] = {}
        removed: list[str] = []
        with file.reading() as db:
            last = _last(db)
            if last == serial:  # a renewal
                return serial
            oldest = db.execute("SELECT min(serial) FROM changes").fetchone()[0] or last + 1
            touched = db.execute("SELECT DISTINCT app, id FROM changes WHERE serial > ?", (serial,)).fetchall()
            for app, identifier in touched:
                if self._app not in ("", app):
                    continue
                row = db.execute(_ONE, (app, identifier)).fetchone()
                if row is None:
                    removed.append(_key(app, identifier))
                else:
                    put[_key(app, identifier)] = row[2]
        if oldest > serial + 1:  # what came next is cut off already
            return self._all(file)
        self._mirror.change(put, removed)
        return last


def _expire(file: RegistryFile, now: float) -> bool:
    """Removes what has lapsed; writes only where something has. Returns whether something had."""
    with file.reading() as db:
        due = db.execute("SELECT 1 FROM instances WHERE expires <= ? LIMIT 1", (now,)).fetchone()
    if due:
        with file.writing() as db:
            _remove(db, "expires <= ?", now)
    return bool(due)


def _key(app: object, identifier: object) -> str:
    return f"{quote(str(app), safe='')}/{quote(str(identifier), safe='')}"


def _decode(key: str, raw: object) -> Instance:
    if raw is None:
        raise RegistryError(f"more than {_MAX_BODY} bytes, or nothing")
    instance = instance_from_text(_bytes(raw))
    if _key(instance.app, instance.id) != key:
        raise RegistryError(f"its body is of {_key(instance.app, instance.id)}")
    return instance


def _bytes(raw: object) -> bytes:
    if isinstance(raw, str):
        return raw.encode("utf-8", "surrogateescape")
    if not isinstance(raw, bytes):
        raise RegistryError(f"a value of type {type(raw).__name__}, not JSON text")
    return raw


def _remove(db: sqlite3.Connection, condition: str, value: object) -> None:
    """Removes the instances of a condition (one of this file's own), and logs it."""
    found = db.execute(f"SELECT app, id FROM instances WHERE {condition}", (value,)).fetchall()  # noqa: S608 - see above
    if found:
        db.execute(f"DELETE FROM instances WHERE {condition}", (value,))  # noqa: S608 - see above
        _log(db, found)


def _log(db: sqlite3.Connection, touched: Iterable[tuple[str, str]]) -> None:
    db.executemany("INSERT INTO changes (app, id) VALUES (?, ?)", touched)
    db.execute("DELETE FROM changes WHERE serial <= ?", (_last(db) - _KEPT_CHANGES,))


def _last(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return int(row[0]) if row else 0

"""The SQLite file of a registry: its schema, its connections, and what goes wrong with files in words.

Used by `sqlite`. Knows nothing of instances beyond their columns. The schema:

    instances  one row each, with its lease and the moment it lapses
    changes    a log: (app, id) of every row that was written or removed, in order; the oldest are cut off
    revisions, services   what applications serve, and who serves a gRPC service
    boot       the boot of the machine that the moments in `instances` count from

Moments are seconds of the machine's monotonic clock, which all its processes share: setting the wall clock lapses
nothing. After a reboot that clock starts anew, and no lease from before is held by anybody: they are removed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from meshsdk.errors import RegistryError

_APPLICATION = 0x6D657368  # "mesh": tells our file from any other SQLite file
_VERSION = 1
_BUSY = 3.0  # seconds to wait for another process's transaction
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_INHERITED: list[sqlite3.Connection] = []  # of a parent process; only ever added to, so that none is closed
_SCHEMA = (
    """CREATE TABLE instances (
        app TEXT NOT NULL, id TEXT NOT NULL, lease TEXT NOT NULL UNIQUE, ttl REAL NOT NULL, expires REAL NOT NULL,
        body BLOB NOT NULL, PRIMARY KEY (app, id)) WITHOUT ROWID""",
    "CREATE INDEX instances_expires ON instances (expires)",
    "CREATE TABLE changes (serial INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL, id TEXT NOT NULL)",
    "CREATE TABLE revisions (app TEXT, revision TEXT, body BLOB NOT NULL, PRIMARY KEY (app, revision)) WITHOUT ROWID",
    "CREATE TABLE services (service TEXT, app TEXT, PRIMARY KEY (service, app)) WITHOUT ROWID",
    "CREATE TABLE boot (id TEXT NOT NULL)",
    "INSERT INTO boot VALUES ('')",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


class RegistryFile:
    """One connection to the file. Used by one thread at a time. Raises RegistryError alone."""

    def __init__(self, path: str, *, create: bool) -> None:
        """Opens the file; makes it, and what belongs in it, where `create` is set and it is not there."""
        self.path = path
        with self._words("opened"):
            uri = f"file://{quote(path)}?mode={'rwc' if create else 'rw'}"
            self._db = sqlite3.connect(uri, timeout=_BUSY, isolation_level=None, check_same_thread=False, uri=True)
        try:
            self._prepare()
            found = os.stat(path)  # noqa: PTH116 - beside fstat's fields in `replaced`
        except OSError as error:
            self._db.close()
            raise RegistryError(f"registry file {path} cannot be opened: {error.strerror}") from None
        except BaseException:
            self._db.close()
            raise
        self._inode = (found.st_dev, found.st_ino)
        self._process = os.getpid()

    def _prepare(self) -> None:
        boot = _boot()
        with self._words("opened"):
            self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last moments, never the file
        with self.reading() as db:  # who only watches a file waits for nobody who writes it
            if _marks(db) == (_VERSION, _APPLICATION) and _boot_of(db) == boot:
                return
        with self._words("opened"):
            self._db.execute("PRAGMA journal_mode = WAL")
        with self.writing() as db:
            version, application = _marks(db)
            if not version and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA:
                    db.execute(statement)
            elif application != _APPLICATION:
                raise RegistryError(f"{self.path} is a SQLite file of something else, not a registry of meshsdk")
            elif version != _VERSION:
                raise RegistryError(f"registry file {self.path} has schema {version}; this version reads {_VERSION}")
            if _boot_of(db) != boot:
                db.execute("INSERT INTO changes (app, id) SELECT app, id FROM instances")
                db.execute("DELETE FROM instances")
                db.execute("UPDATE boot SET id = ?", (boot,))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees the file as it is at one moment."""
        with self._transaction("read", "BEGIN") as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes beside."""
        with self._transaction("written", "BEGIN IMMEDIATE") as db:
            yield db

    def version(self) -> int:
        """Returns a number that changes when another connection has changed the file. Cheap."""
        with self._words("read"):
            number: int = self._db.execute("PRAGMA data_version").fetchone()[0]
            return number

    def usable(self) -> bool:
        """Whether this is still the file at its path, in the process that opened it (SQLite does not survive forks)."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - asked many times a second
        except OSError:
            return False
        return self._inode == (found.st_dev, found.st_ino) and self._process == os.getpid()

    def close(self) -> None:
        """Closes the connection; one that was inherited by a fork is kept as it is, as SQLite asks."""
        if self._process == os.getpid():
            self._db.close()
        else:
            _INHERITED.append(self._db)

    @contextmanager
    def _transaction(self, done: str, begin: str) -> Iterator[sqlite3.Connection]:
        with self._words(done):
            self._db.execute(begin)
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _words(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RegistryError(f"registry file {self.path} cannot be {done}: {error}") from None


def _marks(db: sqlite3.Connection) -> tuple[int, int]:
    """Returns the version of the schema, and the number that tells whose file it is; (0, 0) of a new one."""
    version, application = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    return version, application


def _boot_of(db: sqlite3.Connection) -> str:
    boot: str = db.execute("SELECT id FROM boot").fetchone()[0]
    return boot


def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError as error:
        raise RegistryError(f"cannot read {_BOOT_ID}: {error.strerror}; sqlite:// needs Linux") from None

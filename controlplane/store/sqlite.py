"""The store in one SQLite file. Rows hold JSON; the schema is versioned by `user_version`.

The file is held for as long as the control plane runs: a second one on the same file is refused at the start instead
of both overwriting each other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.store.port import StoredLease, StoredResource, StoreError
from meshsdk.model.instance import Instance, InstanceState, MethodInfo, Revision

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE resources (
    kind TEXT, namespace TEXT, name TEXT, text TEXT NOT NULL, file TEXT NOT NULL, first_line INTEGER NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE leases (
    app TEXT, instance TEXT, id TEXT NOT NULL UNIQUE, ttl INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (app, instance)
) WITHOUT ROWID;
CREATE TABLE revisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL, revision TEXT NOT NULL, methods TEXT NOT NULL,
    UNIQUE (app, revision)
);
"""


class SqliteStore:
    """Keeps rows in the file `path`, which is made if it is not there. Guarded by the plane's lock."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        with self._errors("opened"):
            self._db = sqlite3.connect(self._path, timeout=0.5, isolation_level=None, check_same_thread=False)
        try:
            with self._errors("opened"):
                self._open()
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last moments, never the file
        self._db.execute("BEGIN EXCLUSIVE")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        self._db.execute("COMMIT")
        if version > _SCHEMA_VERSION:
            raise StoreError(f"the store {self._path} was written by a newer version (schema {version})")

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = "; another control plane uses it" if "locked" in str(error) else ""
            raise StoreError(f"the store {self._path} cannot be {done}: {error}{hint}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors("written"):
            self._db.execute("BEGIN")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str) -> list[tuple[str, ...]]:
        with self._errors("read"):
            return self._db.execute(query).fetchall()

    def resources(self) -> list[StoredResource]:
        """See Store."""
        rows = self._rows("SELECT kind, namespace, name, text, file, first_line FROM resources")
        return [
            StoredResource(ResourceId(ResourceKind(kind), namespace, name), text, file, int(line))
            for kind, namespace, name, text, file, line in rows
        ]

    def change_resources(self, put: list[StoredResource], removed: list[ResourceId]) -> None:
        """See Store."""
        with self._transaction() as db:
            db.executemany(
                "DELETE FROM resources WHERE kind = ? AND namespace = ? AND name = ?",
                ((identity.kind.value, identity.namespace, identity.name) for identity in removed),
            )
            db.executemany(
                "INSERT OR REPLACE INTO resources VALUES (?, ?, ?, ?, ?, ?)",
                ((row.id.kind.value, row.id.namespace, row.id.name, row.text, row.file, row.first_line) for row in put),
            )

    def leases(self) -> list[StoredLease]:
        """See Store."""
        rows = self._rows("SELECT id, ttl, body FROM leases")
        return [StoredLease(identity, int(ttl), _instance(body)) for identity, ttl, body in rows]

    def put_lease(self, lease: StoredLease) -> None:
        """See Store."""
        instance = lease.instance
        row = (instance.app, instance.id, lease.id, lease.ttl, _instance_body(instance))
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)", row)

    def remove_leases(self, lease_ids: list[str]) -> None:
        """See Store."""
        with self._transaction() as db:
            db.executemany("DELETE FROM leases WHERE id = ?", _ones(lease_ids))

    def revisions(self) -> list[Revision]:
        """See Store."""
        rows = self._rows("SELECT app, revision, methods FROM revisions ORDER BY number")
        return [
            Revision(app, revision, tuple(MethodInfo(name, options) for name, options in json.loads(methods)))
            for app, revision, methods in rows
        ]

    def put_revision(self, revision: Revision) -> None:
        """See Store."""
        methods = json.dumps([(method.name, dict(method.options)) for method in revision.methods])
        row = (revision.app, revision.revision, methods)
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO revisions (app, revision, methods) VALUES (?, ?, ?)", row)

    def remove_revisions(self, keys: list[tuple[str, str]]) -> None:
        """See Store."""
        with self._transaction() as db:
            db.executemany("DELETE FROM revisions WHERE app = ? AND revision = ?", keys)

    def close(self) -> None:
        """See Store."""
        with self._errors("closed"):
            self._db.close()


def _ones(values: Iterable[str]) -> Iterator[tuple[str]]:
    return ((value,) for value in values)


def _instance_body(instance: Instance) -> str:
    fields = {name: getattr(instance, name) for name in instance.__slots__}
    return json.dumps({**fields, "labels": dict(instance.labels), "state": instance.state.value})


def _instance(body: str) -> Instance:
    fields = json.loads(body)
    return Instance(**{**fields, "state": InstanceState(fields["state"])})

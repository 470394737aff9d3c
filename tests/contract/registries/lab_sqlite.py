"""SQLite: a file for each test, and a clock that all clients of the test share."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from meshsdk.discovery.sqlite import SqliteRegistry, open_url
from tests.contract.registries.lab import Feature, Lab

_NO_SERVER = "there is no server, only a file"


class Clock:
    """The machine's clock, which can be moved ahead."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        """Returns the time."""
        return time.monotonic() + self._ahead

    def move(self, seconds: float) -> None:
        """Moves it ahead."""
        self._ahead += seconds


class TheLab(Lab):
    """Each client opens the file itself, as processes do; see tests/e2e/test_sqlite_registry.py for real ones."""

    name = "sqlite"
    ttl = 15.0
    lacking = MappingProxyType(
        {
            Feature.KILL: _NO_SERVER,
            Feature.FREEZE: _NO_SERVER,
        }
    )

    def __init__(self, server: None) -> None:
        super().__init__(server)
        self._folder = Path(tempfile.mkdtemp(prefix="meshsdk-sqlite-"))
        self._clock = Clock()
        self.open().get_revision("any", "any")  # makes the file

    def connect(self) -> SqliteRegistry:
        """Returns a client with a connection of its own."""
        registry = open_url(urlsplit(self._url))
        registry._now = self._clock
        return registry

    def close(self) -> None:
        """Closes the clients and removes the file."""
        super().close()
        shutil.rmtree(self._folder)

    def elapse(self, seconds: float) -> None:
        """Moves the clock."""
        self._clock.move(seconds)

    def compact(self) -> None:
        """Cuts the whole log of changes off."""
        self._write("DELETE FROM changes")

    def put_raw(self, app: str, key_hint: str, value: bytes) -> None:
        """Writes a row that nobody's lease holds."""
        self._write("INSERT OR REPLACE INTO instances VALUES (?, ?, ?, 60, 1e12, ?)", app, key_hint, key_hint, value)
        self._write("INSERT INTO changes (app, id) VALUES (?, ?)", app, key_hint)

    def remove_raw(self, app: str, key_hint: str) -> None:
        """Removes that row."""
        self._write("DELETE FROM instances WHERE app = ? AND id = ?", app, key_hint)
        self._write("INSERT INTO changes (app, id) VALUES (?, ?)", app, key_hint)

    @property
    def _url(self) -> str:
        return f"sqlite://{self._folder}/registry.db?poll=0.02"

    def _write(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self._folder / "registry.db", timeout=5) as db:
            db.execute(statement, values)
        db.close()

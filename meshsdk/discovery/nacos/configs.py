"""Revisions and the service mapping in Nacos' configuration store. Called by `registry`.

A revision is a configuration of the group `meshsdk-revisions`. The mapping is kept as Dubbo 3 keeps it: data id = the
service's name, group `mapping`, content = applications separated by commas; so each finds the other's.

Nacos shows what was published a moment later: publishing waits until it can be read.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from meshsdk.discovery import limits
from meshsdk.discovery.entries import revision_from_text, revision_to_text, services_of
from meshsdk.discovery.nacos.place import Place
from meshsdk.discovery.nacos.session import Rejected, Session
from meshsdk.discovery.nacos.wire import JsonObject
from meshsdk.discovery.registry import MalformedEntry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Revision

_REVISIONS = "meshsdk-revisions"
_MAPPING = "mapping"
_ABSENT = 300
_PUBLISH = "publish a revision at"
_SETTLING = 0.5  # seconds after a write in which another one, made at the same time, may still replace it
_AGAIN = 1.0  # seconds after which a write that did not become readable is repeated
_LOOK = 0.02  # seconds between two looks at what was published
_PATIENCE = 10.0  # seconds for all of a revision to be readable
_MOST_APPS = 10_000


@dataclass(slots=True)
class _Attempt:
    """The last write of one mapping: what it was based on, and when (monotonic seconds)."""

    before: str | None = None
    made: float = float("-inf")


class ConfigCatalog:
    """Implements `meshsdk.discovery.registry.Catalog`. Usable from any thread."""

    def __init__(self, session: Session, place: Place) -> None:
        self._session = session
        self._place = place

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`. RegistryError for what `limits` refuses."""
        if problem := limits.revision_problem(revision):
            raise RegistryError(problem)
        deadline = time.monotonic() + _PATIENCE
        name, content = _name(revision.app, revision.revision), revision_to_text(revision).decode()
        if self._read(_PUBLISH, name, _REVISIONS) != content:
            self._write(name, _REVISIONS, content, "")
        waiting = {service: _Attempt() for service in services_of(revision)}
        while True:
            waiting = {
                service: last for service, last in waiting.items() if not self._mapped(service, revision.app, last)
            }
            if not waiting and self._read(_PUBLISH, name, _REVISIONS) == content:
                return
            if time.monotonic() > deadline:
                raise RegistryError(
                    f"cannot {_PUBLISH} {self._place.words}: what was published does not become readable"
                )
            time.sleep(_LOOK)

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        content = self._read("get a revision from", _name(app, revision), _REVISIONS)
        if not content:
            return None
        words = f"{self._place.words}: configuration {_name(app, revision)}"
        try:
            found = revision_from_text(content.encode())
        except MalformedEntry as error:
            raise MalformedEntry(f"{words}: {error}") from None
        if (found.app, found.revision) != (app, revision):
            raise MalformedEntry(f"{words} is about {found.app} {found.revision}")
        return found

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        return tuple(sorted(_apps(self._read("map a service at", service, _MAPPING))))

    def _mapped(self, service: str, app: str, last: _Attempt) -> bool:
        """Whether the mapping has the application; adds it where it has not and the last attempt cannot do it yet."""
        before = self._read(_PUBLISH, service, _MAPPING)
        apps = _apps(before)
        if app in apps:
            return time.monotonic() >= last.made + _SETTLING
        if before == last.before and time.monotonic() < last.made + _AGAIN:
            return False  # what was written is not readable yet
        last.before, last.made = before, time.monotonic()
        # Only if nobody else has written meanwhile: who comes second is refused, or (Nacos lets both create, and its
        # embedded database both write) finds within `_SETTLING` that the other's content took its place.
        expected = hashlib.md5(before.encode(), usedforsecurity=False).hexdigest() if before else ""
        try:
            self._write(service, _MAPPING, ",".join(sorted({*apps, app})), expected)
        except Rejected:
            if not expected:
                raise
        return False

    def _read(self, verb: str, name: str, group: str) -> str:
        """Returns the content of a configuration, "" where there is none."""
        try:
            answer = self._session.ask(verb, "ConfigQueryRequest", self._where(name, group))
        except Rejected as error:
            if error.code == _ABSENT:
                return ""
            raise
        return answer.body.text("content")

    def _write(self, name: str, group: str, content: str, expected: str) -> None:
        what: JsonObject = {"content": content, "casMd5": expected, "additionMap": {}}
        self._session.ask(_PUBLISH, "ConfigPublishRequest", self._where(name, group) | what)

    def _where(self, name: str, group: str) -> JsonObject:
        return {"module": "config", "tenant": self._place.namespace, "group": group, "dataId": name}


def _name(app: str, revision: str) -> str:
    """Data ids have few characters and 256 of them at most."""
    return f"{app}.{hashlib.sha256(f'{app} {revision}'.encode()).hexdigest()[:32]}"


def _apps(content: str) -> set[str]:
    return {app for app in content.split(",")[:_MOST_APPS] if app}

"""The watch of one application: a blocking query of its service. Called by `registry`, on the watch's thread.

Consul answers with the whole service each time; what changed since the last answer is found out here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from meshsdk.discovery.consul import records
from meshsdk.discovery.consul.agent import Agent, segment
from meshsdk.discovery.consul.polling import poll, service_entries
from meshsdk.discovery.consul.records import Entry
from meshsdk.discovery.following import Following
from meshsdk.discovery.mirror import Mirror

_PACE = 0.05  # seconds between two questions: changes that come together are one answer
_PLAIN = re.compile(r"[A-Za-z0-9._:/-]+")


class KnownEntries:
    """The versions of the entries that were told, by key: enough to tell what changed. Owned by the watch's thread."""

    def __init__(self) -> None:
        self._versions: dict[str, object] = {}

    def difference(self, entries: Iterable[Entry]) -> tuple[dict[str, Entry], set[str]]:
        """Takes what there is now; returns (new or changed entries by key, keys that are gone)."""
        alive = {records.key_of(entry): entry for entry in entries if records.lives(entry)}
        before, self._versions = self._versions, {key: records.version_of(entry) for key, entry in alive.items()}
        put = {key: entry for key, entry in alive.items() if before.get(key) != self._versions[key]}
        return put, before.keys() - alive.keys()


def follow_service(agent: Agent, app: str, unit: str, mirror: Mirror[Entry], following: Following) -> None:
    """Feeds `mirror` until the watch is cancelled; RegistryError when it broke."""
    line = agent.line()
    following.interruptible(line.interrupt)
    # Only the unit's instances are sent. A name that would have to be quoted in an expression is sorted out here.
    query = {"filter": f'Service.Meta["meshsdk_unit"] == "{unit}"'} if unit and _PLAIN.fullmatch(unit) else {}
    known = KnownEntries()
    try:
        for news in poll(agent, line, f"/v1/health/service/{segment(app)}", query, lambda: following.wait(_PACE)):
            entries = service_entries(news.content)
            following.settled()
            if not following.live:
                return
            if news.anew:
                known = KnownEntries()
            put, removed = known.difference(entries)
            if news.anew:
                mirror.reset(put)
            elif put or removed:
                mirror.change(put, removed)
    finally:
        line.close()

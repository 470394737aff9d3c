"""What other control planes may take from this one: its own configuration resources, served over the same xDS.

Called by the plane at each change of configuration. Only what stands in the files or was applied is offered; what came
from another control plane is not handed on, so two that follow each other cannot keep a deleted resource alive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controlplane.config.documents import Entry
from controlplane.model.identity import ResourceId
from controlplane.snapshot import Packed, ResourceCache, pack
from controlplane.sources.wire import TYPE_URLS, encode, resource_name


class Offering:
    """Keeps the configuration resources in `cache`. Guarded by the plane's lock."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache
        self._packed: dict[ResourceId, tuple[Entry, Packed]] = {}

    def offer(self, entries: Iterable[Entry]) -> None:
        """Makes `entries` all that is offered. One that did not change is not packed again."""
        self._packed = {entry.id: self._pack(entry) for entry in entries}
        self._cache.replace([packed for _, packed in self._packed.values()], types=TYPE_URLS.values())

    def _pack(self, entry: Entry) -> tuple[Entry, Packed]:
        known = self._packed.get(entry.id)
        if known is not None and (known[0] is entry or known[0].text == entry.text):
            return entry, known[1]
        packed = pack(encode(entry), resource_name(entry.id))
        # Clients subscribe to `networking.istio.io/v1/VirtualService`, and get each one in MCP's envelope.
        return entry, replace(packed, type_url=TYPE_URLS[entry.id.kind])

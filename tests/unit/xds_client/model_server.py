"""A model of an xDS server, pure: what the protocol lets a server say, in both variants. Used by the property test.

Versions are the content itself, so that an old version comes back when a change is taken back, as with servers that
hash their resources. Of a collection (LEDS), the world holds the members, and a client subscribes to their glob.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from meshsdk.model.resources import Kind
from meshsdk.xds_client.messages import DeltaRequest, Received, Request, Response, SotwRequest
from meshsdk.xds_client.names import member_of
from tests.unit.xds_client.bench import LEDS, received

World = dict[tuple[Kind, str], str]
_COMPLETE = (Kind.LISTENER, Kind.CLUSTER)


@dataclass
class ModelStream:
    """One stream: `outbox` holds responses that are on their way to the client."""

    world: World
    delta: bool
    outbox: deque[Response] = field(default_factory=deque)
    names: dict[Kind, set[str]] = field(default_factory=dict)
    nonces: dict[Kind, str] = field(default_factory=dict)
    told: dict[Kind, object] = field(default_factory=dict)  # delta: name -> version; SotW: (names, version)
    unanswered: set[str] = field(default_factory=set)  # collections asked for and not spoken of yet
    count: int = 0

    def request(self, request: Request) -> None:
        """A request arrives."""
        kind = Kind(request.kind)
        if isinstance(request, DeltaRequest):
            self._delta_request(kind, request)
        else:
            self._sotw_request(kind, request)

    def push(self, kind: Kind) -> None:
        """The world may have changed: says what this client does not know yet."""
        if kind in self.names:
            if kind is LEDS:
                self._push_members()
            elif self.delta:
                self._push_delta(kind)
            else:
                self._push_sotw(kind)

    def _sotw_request(self, kind: Kind, request: SotwRequest) -> None:
        if request.nonce != self.nonces.get(kind, ""):
            return  # stale: an answer to something older (xDS protocol, "ACK/NACK")
        first = kind not in self.names
        self.names[kind] = set(request.names)
        if first and request.version:
            self.told[kind] = (self.names[kind], request.version)
        self.push(kind)

    def _push_sotw(self, kind: Kind) -> None:
        content = {name: self.world[kind, name] for name in sorted(self.names[kind]) if (kind, name) in self.world}
        version = repr(content)
        if self.told.get(kind) == (self.names[kind], version):
            return
        self.told[kind] = (set(self.names[kind]), version)
        self._say(kind, version, tuple(received(kind, name, text) for name, text in content.items()), ())

    def _collections_request(self, request: DeltaRequest) -> None:
        known = self.told.setdefault(LEDS, dict(request.initial_versions or {}))
        names = self.names.setdefault(LEDS, set())
        for glob in (*request.unsubscribe, *(name for name in request.subscribe if name in names)):
            names.discard(glob)
            self.told[LEDS] = known = {name: text for name, text in known.items() if member_of(name)[0] != glob}
        names.update(request.subscribe)
        self.unanswered = (self.unanswered | set(request.subscribe)) & names
        self.push(LEDS)

    def _push_members(self) -> None:
        known = self.told[LEDS]
        members = {name: text for (kind, name), text in self.world.items() if kind is LEDS}
        members = {name: text for name, text in members.items() if member_of(name)[0] in self.names[LEDS]}
        fresh = [
            received(LEDS, name, text, text, named=True) for name, text in members.items() if known.get(name) != text
        ]
        removed = [name for name in known if name not in members]
        spoken = {member_of(name)[0] for name in (*members, *removed)}
        removed += sorted(self.unanswered - spoken)
        self.unanswered.clear()
        self.told[LEDS] = members
        if fresh or removed:
            self._say(LEDS, "", tuple(fresh), tuple(removed))

    def _delta_request(self, kind: Kind, request: DeltaRequest) -> None:
        if kind is LEDS:
            self._collections_request(request)
            return
        known = self.told.setdefault(kind, dict(request.initial_versions or {}))
        names = self.names.setdefault(kind, set())
        for name in request.unsubscribe:
            names.discard(name)
            known.pop(name, None)
        for name in request.subscribe:
            if name in names:
                known.pop(name, None)  # asked for again: must be sent again
            names.add(name)
            known.setdefault(name, "?")
        self.push(kind)

    def _push_delta(self, kind: Kind) -> None:
        known, fresh, removed = self.told[kind], [], []
        for name in sorted(self.names[kind]):
            text = self.world.get((kind, name))
            if text == known.get(name, None):
                continue
            known[name] = text
            if text is None:
                removed.append(name)
            else:
                fresh.append(received(kind, name, text, text, named=True))
        if fresh or removed:
            self._say(kind, "", tuple(fresh), tuple(removed))

    def _say(self, kind: Kind, version: str, resources: tuple[Received, ...], removed: tuple[str, ...]) -> None:
        self.count += 1
        self.nonces[kind] = f"{kind.name}{self.count}"
        self.outbox.append(Response(kind.value, version, self.nonces[kind], resources, removed))

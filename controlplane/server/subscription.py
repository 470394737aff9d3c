"""What one client wants of one type, what it holds of it, and what it is owed. Pure; used by `machine` alone.

Follows xDS "How the client specifies what resources to return", "Unsubscribing From Resources" and, for delta,
"Subscribing to Resources". Says *what* is owed; *when* it may be sent is the machine's decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controlplane.server.resource_map import EMPTY, Packed, ResourceMap
from controlplane.server.type_urls import WHOLE_STATE

WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class Shift:
    """How a request moved a subscription: names `added` and `dropped`, wildcard turned on or off (None: as it was)."""

    type_url: str
    added: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    wildcard: bool | None = None

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.wildcard is not None)


@dataclass(frozen=True, slots=True)
class Owed:
    """What the client lacks: resources to `put`, names `gone` from the cache, names `unknown` that never were there.

    `asked`: the client waits for an answer, which goes out at once, even with nothing in it where `answer` says so.
    """

    put: tuple[Packed, ...]
    gone: tuple[str, ...]
    unknown: tuple[str, ...]
    asked: bool


class Subscription:
    """Mutable; owned by its stream's machine, which is owned by the server's loop thread."""

    __slots__ = (
        "acked",
        "answer",
        "due",
        "has",
        "nack",
        "nack_version",
        "named_once",
        "names",
        "nonce",
        "rejected",
        "rewarm",
        "touched",
        "type_url",
        "version_acked",
        "version_sent",
        "wildcard",
    )

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.names: set[str] = set()  # explicit names, without "*"
        self.wildcard = False
        self.named_once = False  # the legacy wildcard (no names at all) ends with the first name
        self.has = EMPTY  # what was sent and is still subscribed
        self.touched: set[str] = set()  # explicit names that changed in the cache since they were last looked at
        self.due: set[str] = set()  # names to tell of, changed or not
        self.answer = False  # a response is awaited even if it is empty
        self.rewarm = False  # clusters were re-sent: a repeated request asks for everything again
        self.nonce = 0  # of the last response
        self.acked = 0  # newest nonce that the client answered
        self.version_sent = ""
        self.version_acked = ""
        self.rejected = False  # the newest answer was a NACK
        self.nack = ""  # text of the last NACK; kept after later ACKs
        self.nack_version = ""

    @property
    def awaiting(self) -> bool:
        """Whether a response is out that the client has not answered yet."""
        return self.acked < self.nonce

    @property
    def whole(self) -> bool:
        """Whether a state-of-the-world response must name everything there is.

        The protocol says so for listeners and clusters. A wildcard over any other type could not express a removal
        otherwise.
        """
        return self.wildcard or self.type_url in WHOLE_STATE

    def settle(self, nonce: int, error: str | None) -> None:
        """Books the client's answer to response `nonce`: an ACK, or a NACK with its text."""
        self.acked = max(self.acked, nonce)
        self.rejected = error is not None
        if error is not None:
            self.nack = error
            self.nack_version = self.version_sent
        elif nonce == self.nonce:
            self.version_acked = self.version_sent

    def touch(self, name: str) -> None:
        """Notes that `name` may have changed; a wildcard finds its changes by comparing maps instead."""
        if not self.wildcard and name in self.names:
            self.touched.add(name)

    # -- state of the world: each request names all that is wanted --------------------------------------------------

    def ask(self, names: Iterable[str], *, first: bool) -> Shift:
        """Takes the names of a state-of-the-world request; what is newly asked for becomes due."""
        wanted = set(names)
        self.named_once = self.named_once or bool(wanted)
        wildcard = WILDCARD in wanted or not self.named_once
        wanted.discard(WILDCARD)
        added = wanted - self.names
        dropped = self.names - wanted
        if added or first or (wildcard and not self.wildcard):
            self.answer = True
            self.due |= added
        self._forget(dropped, wildcard=wildcard)
        self.names = wanted
        return Shift(self.type_url, frozenset(added), frozenset(dropped), self._set_wildcard(wildcard))

    # -- delta: each request adds and removes -----------------------------------------------------------------------

    def shift(self, subscribe: Iterable[str], unsubscribe: Iterable[str], *, first: bool) -> Shift:
        """Takes the names of a delta request; every name in `subscribe` becomes due, known or not."""
        wanted, unwanted = set(subscribe), set(unsubscribe)
        self.named_once = self.named_once or bool(wanted)
        wildcard = self.wildcard or WILDCARD in wanted or (first and not wanted and not unwanted)
        if WILDCARD in unwanted and WILDCARD not in wanted:
            wildcard = False
        unwanted -= wanted
        wanted.discard(WILDCARD)
        dropped = self.names & unwanted
        added = wanted - self.names
        self.answer = self.answer or (wildcard and not self.wildcard)
        self.due |= wanted
        self._forget(dropped, wildcard=wildcard)
        if wildcard:
            self.due |= dropped  # xDS "Unsubscribing": say whether the wildcard still holds it
        self.names = (self.names - dropped) | wanted
        return Shift(self.type_url, frozenset(added), frozenset(dropped), self._set_wildcard(wildcard))

    def resume(self, known: Mapping[str, str], resources: ResourceMap) -> None:
        """Takes `initial_resource_versions`: what the client holds already is not sent, what is gone is said."""
        subscribed = known if self.wildcard else self.names & known.keys()
        held: list[Packed] = []
        for name in subscribed:
            packed = resources.get(name)
            if packed is None:
                self.due.add(name)
            elif packed.version == known[name]:
                held.append(packed)
                self.due.discard(name)
        self.has = self.has.updated(held)
        self.answer = self.answer and not held

    # -- what is owed -----------------------------------------------------------------------------------------------

    def owed(self, resources: ResourceMap) -> Owed | None:
        """Returns what separates the client from `resources`, or None if nothing does."""
        if self.wildcard:
            put, gone = resources.changes_from(self.has)
            if not put and not gone:
                self.has = resources  # equal by content; by identity the next comparison is shared with other streams
        elif self.touched:
            put, gone = self._touched_changes(resources)
        else:
            put, gone = (), ()
        asked = self.answer or bool(self.due)
        if not self.due:
            return Owed(put, gone, (), asked) if put or gone or asked else None
        pending = {packed.name for packed in put}
        found = [(name, resources.get(name)) for name in sorted(self.due) if name not in pending]
        put += tuple(packed for _, packed in found if packed is not None)
        unknown = tuple(name for name, packed in found if packed is None)
        return Owed(put, tuple(name for name in gone if name not in self.due), unknown, asked)

    def _touched_changes(self, resources: ResourceMap) -> tuple[tuple[Packed, ...], tuple[str, ...]]:
        put: list[Packed] = []
        gone: list[str] = []
        for name in tuple(self.touched):
            packed, held = resources.get(name), self.has.get(name)
            if packed is not None and (held is None or held.version != packed.version):
                put.append(packed)
            elif packed is None and held is not None:
                gone.append(name)
            else:
                self.touched.discard(name)
        return tuple(put), tuple(sorted(gone))

    # -- what was sent ----------------------------------------------------------------------------------------------

    def told(self, put: tuple[Packed, ...], removed: tuple[str, ...], reached: ResourceMap | None = None) -> None:
        """Books a response that carried `put` and said that `removed` are gone; `reached`: the client holds it all."""
        self.has = self.has.updated(put, removed) if reached is None else reached
        names = [packed.name for packed in put]
        for told in (names, removed):
            self.due.difference_update(told)
            self.touched.difference_update(told)
        self.answer = False

    def told_all(self, held: ResourceMap) -> None:
        """Books a state-of-the-world response after which the client holds exactly `held`."""
        self.has = held
        self.due.clear()
        self.answer = False

    def _forget(self, dropped: set[str], *, wildcard: bool) -> None:
        self.due -= dropped
        self.touched -= dropped
        if not wildcard:
            self.has = self.has.updated(removed=dropped)

    def _set_wildcard(self, wildcard: bool) -> bool | None:  # noqa: FBT001 - a setter of one flag
        """Sets the flag; returns it if that changed it."""
        if wildcard == self.wildcard:
            return None
        self.wildcard = wildcard
        if wildcard:
            self.touched.clear()
        else:
            self.has = EMPTY.updated(packed for packed in self.has if packed.name in self.names)
            self.touched = set(self.names)  # changes were found by comparing maps until now
        return wildcard

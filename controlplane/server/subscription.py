"""What one client wants of one type, what it holds of it, and what it is owed. Pure; used by `machine` alone.

Follows xDS "How the client specifies what resources to return", "Unsubscribing From Resources" and, for delta,
"Subscribing to Resources". Says *what* is owed; *when* it may be sent is the machine's decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from controlplane.server.collected import Collected, CollectionOwed, members_known
from controlplane.server.globs import Glob, glob_of
from controlplane.server.resource_map import EMPTY, Packed, ResourceMap, Snapshot
from controlplane.server.shift import Shift
from controlplane.server.type_urls import WHOLE_STATE

WILDCARD = "*"
TURNED_VERSION = "~turned"  # what the version of a resource ends with that names its collections otherwise


@dataclass(frozen=True, slots=True)
class Owed:
    """What the client lacks: resources to `put`, names `gone` from the cache, names `unknown` that never were there.

    `collections`: the same for glob collections. `asked`: the client waits for an answer, which goes out at once, even
    with nothing in it where `answer` says so.
    """

    put: tuple[Packed, ...]
    gone: tuple[str, ...]
    unknown: tuple[str, ...]
    asked: bool
    collections: tuple[CollectionOwed, ...] = ()

    @property
    def puts(self) -> bool:
        """Whether there are resources to send."""
        return bool(self.put) or any(owed.put for owed in self.collections)

    @property
    def goes(self) -> bool:
        """Whether there are resources to take away that the client was given."""
        return bool(self.gone) or any(owed.gone for owed in self.collections)


class Subscription:
    """Mutable; owned by its stream's machine, which is owned by the server's loop thread."""

    __slots__ = (
        "_asked",
        "_still",
        "acked",
        "answer",
        "collections",
        "due",
        "has",
        "mine",
        "moved",
        "nack",
        "nack_version",
        "nacks",
        "named_once",
        "names",
        "nonce",
        "rejected",
        "rewarm",
        "touched",
        "turned",
        "type_url",
        "version_acked",
        "version_sent",
        "wildcard",
    )

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self._still = Shift(type_url)  # of the many requests that only answer
        self._asked: tuple[str, ...] | None = None  # names of the last state-of-the-world request
        self.names: set[str] = set()  # explicit names, without "*" and globs
        self.wildcard = False
        self.collections: dict[str, Collected] = {}  # by the glob as the client wrote it
        self.named_once = False  # the legacy wildcard (no names at all) ends with the first name
        self.has = EMPTY  # what was sent to a wildcard: shared with other streams in step
        self.mine: dict[str, Packed] = {}  # what was sent by name and is still subscribed; empty with a wildcard
        self.touched: set[str] = set()  # explicit names that changed in the cache since they were last looked at
        self.due: set[str] = set()  # names to tell of, changed or not
        self.moved: set[str] = set()  # globs whose collection changed, or that are to be told of
        self.turned: set[str] = set()  # names whose collections this client is to know by other names than before
        self.answer = False  # a response is awaited even if it is empty
        self.rewarm = False  # clusters were re-sent: a repeated request asks for everything again
        self.nonce = 0  # of the last response
        self.acked = 0  # newest nonce that the client answered
        self.version_sent = ""
        self.version_acked = ""
        self.rejected = False  # the newest answer was a NACK
        self.nacks = 0
        self.nack = ""  # text of the last NACK; kept after later ACKs
        self.nack_version = ""

    @property
    def awaiting(self) -> bool:
        """Whether a response is out that the client has not answered yet."""
        return self.acked < self.nonce

    @property
    def waiting(self) -> bool:
        """Whether the client waits for an answer to what it asked for."""
        return self.answer or bool(self.due) or any(self.collections[text].due for text in self.moved)

    @property
    def whole(self) -> bool:
        """Whether a state-of-the-world response must name everything there is.

        The protocol says so for listeners and clusters. A wildcard over any other type could not express a removal
        otherwise.
        """
        return self.wildcard or self.type_url in WHOLE_STATE

    @property
    def size(self) -> int:
        """How many names and collections are subscribed."""
        return len(self.names) + len(self.collections)

    @property
    def held(self) -> int:
        """How many resources the client has."""
        return len(self.has) + len(self.mine) + sum(len(collected.has) for collected in self.collections.values())

    def holding(self, name: str) -> Packed | None:
        """Returns what the client has under a name."""
        return self.has.get(name) if self.wildcard else self.mine.get(name)

    def settle(self, nonce: int, error: str | None) -> None:
        """Books the client's answer to response `nonce`: an ACK, or a NACK with its text."""
        self.acked = max(self.acked, nonce)
        self.rejected = error is not None
        if error is not None:
            self.nacks += 1
            self.nack = error
            self.nack_version = self.version_sent
        elif nonce == self.nonce:
            self.version_acked = self.version_sent

    def touch(self, name: str) -> None:
        """Notes that `name` may have changed; a wildcard finds its changes by comparing maps instead."""
        if not self.wildcard and name in self.names:
            self.touched.add(name)

    def touch_collection(self, key: str) -> None:
        """Notes that a glob collection may have changed."""
        self.moved.update(text for text, collected in self.collections.items() if collected.glob.key == key)

    def retell_collections(self, texts: Iterable[str]) -> None:
        """Has all of these glob collections told once more, where they are subscribed."""
        keys = {glob.key for text in texts if (glob := glob_of(text)) is not None}
        for text, collected in self.collections.items():
            if collected.glob.key in keys:
                collected.again()
                self.moved.add(text)

    # -- state of the world: each request names all that is wanted --------------------------------------------------

    def ask(self, names: Iterable[str], *, first: bool) -> Shift:
        """Takes the names of a state-of-the-world request; what is newly asked for becomes due. Knows no globs."""
        listed = tuple(names)
        if listed == self._asked and not first:
            return self._still
        self._asked = listed
        wanted = set(listed)
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

    def shift(self, subscribe: Collection[str], unsubscribe: Collection[str], *, first: bool) -> Shift:
        """Takes the names of a delta request; every name in `subscribe` becomes due, known or not."""
        if not (subscribe or unsubscribe or first):
            return self._still
        wanted, unwanted = set(subscribe), set(unsubscribe)
        self.named_once = self.named_once or bool(wanted)
        wildcard = self.wildcard or WILDCARD in wanted or (first and not wanted and not unwanted)
        if WILDCARD in unwanted and WILDCARD not in wanted:
            wildcard = False
        unwanted -= wanted
        wanted.discard(WILDCARD)
        globs = {name: glob for name in wanted if (glob := glob_of(name)) is not None}
        wanted -= globs.keys()
        collections_added, collections_dropped = self._shift_collections(globs, unwanted)
        dropped = self.names & unwanted
        added = wanted - self.names
        self.answer = self.answer or (wildcard and not self.wildcard)
        self.due |= wanted
        self._forget(dropped, wildcard=wildcard)
        if wildcard:
            self.due |= dropped  # xDS "Unsubscribing": say whether the wildcard still holds it
        self.names = (self.names - dropped) | wanted
        return Shift(
            self.type_url,
            frozenset(added),
            frozenset(dropped),
            self._set_wildcard(wildcard),
            collections_added,
            collections_dropped,
        )

    def _shift_collections(
        self, wanted: Mapping[str, Glob], unwanted: Iterable[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Returns the keys added and dropped; two globs may stand for one collection, written differently."""
        before = {collected.glob.key for collected in self.collections.values()}
        for text in unwanted:
            if self.collections.pop(text, None) is not None:
                self.moved.discard(text)
        for text, glob in wanted.items():
            collected = self.collections.setdefault(text, Collected(glob))
            collected.again()  # whoever asks anew may have forgotten what it had
            self.moved.add(text)
        after = {collected.glob.key for collected in self.collections.values()}
        return frozenset(after - before), frozenset(before - after)

    def resume(self, known: Mapping[str, str], snapshot: Snapshot, *, forgetful: bool) -> None:
        """Takes `initial_resource_versions`: what the client holds already is not sent, what is gone is said.

        A `forgetful` client says nothing of the members of collections that it holds. What names collections is sent
        to it anew, with names for them that it did not have before the reconnection.
        """
        resources, answer = snapshot.of(self.type_url), self.answer
        subscribed = known if self.wildcard else self.names & known.keys()
        held: list[Packed] = []
        for name in subscribed:
            packed = resources.get(name)
            if forgetful and not known[name].endswith(TURNED_VERSION):
                self.turned.add(name)
            if packed is None:
                self.due.add(name)
            elif packed.version == known[name] and not (forgetful and packed.turned):
                held.append(packed)
                self.due.discard(name)
        self.told(tuple(held), ())
        self.answer = answer and not held
        if self.collections:
            for collected, members in members_known(self.collections.values(), known):
                collected.resume(members, snapshot.collection(self.type_url, collected.glob.key))

    def given(self, put: tuple[Packed, ...]) -> tuple[Packed, ...]:
        """Returns resources as this client is to have them."""
        if not self.turned:
            return put
        return tuple((packed.turned or packed) if packed.name in self.turned else packed for packed in put)

    # -- what is owed -----------------------------------------------------------------------------------------------

    def owed(self, snapshot: Snapshot) -> Owed | None:
        """Returns what separates the client from what there is, or None if nothing does."""
        if not (self.wildcard or self.touched or self.due or self.moved or self.answer):
            return None
        resources = snapshot.of(self.type_url)
        if self.wildcard:
            put, gone = resources.changes_from(self.has)
            if not put and not gone:
                self.has = resources  # equal by content; by identity the next comparison is shared with other streams
        elif self.touched:
            put, gone = self._touched_changes(resources)
        else:
            put, gone = (), ()
        collections = self._moved_collections(snapshot) if self.moved else ()
        asked = self.answer or bool(self.due) or any(owed.collected.due for owed in collections)
        if not self.due:
            if put or gone or asked or collections:
                return Owed(put, gone, (), asked, collections)
            return None
        pending = {packed.name for packed in put}
        found = [(name, resources.get(name)) for name in sorted(self.due) if name not in pending]
        put += tuple(packed for _, packed in found if packed is not None)
        unknown = tuple(name for name, packed in found if packed is None)
        return Owed(put, tuple(name for name in gone if name not in self.due), unknown, asked, collections)

    def _touched_changes(self, resources: ResourceMap) -> tuple[tuple[Packed, ...], tuple[str, ...]]:
        put: list[Packed] = []
        gone: list[str] = []
        for name in tuple(self.touched):
            packed, held = resources.get(name), self.mine.get(name)
            if packed is not None and (held is None or held.version != packed.version):
                put.append(packed)
            elif packed is None and held is not None:
                gone.append(name)
            else:
                self.touched.discard(name)
        return tuple(put), tuple(sorted(gone))

    def _moved_collections(self, snapshot: Snapshot) -> tuple[CollectionOwed, ...]:
        found: list[CollectionOwed] = []
        for text in sorted(self.moved):
            collected = self.collections[text]
            owed = collected.owed(snapshot.collection(self.type_url, collected.glob.key))
            if owed is None:
                self.moved.discard(text)
            else:
                found.append(owed)
        return tuple(found)

    # -- what was sent ----------------------------------------------------------------------------------------------

    def told(self, put: tuple[Packed, ...], removed: tuple[str, ...], reached: ResourceMap | None = None) -> None:
        """Books a response that carried `put` and said that `removed` are gone; `reached`: the client holds it all."""
        if self.wildcard:
            self.has = self.has.updated(put, removed) if reached is None else reached
        names = [packed.name for packed in put]
        for packed in () if self.wildcard else put:
            self.mine[packed.name] = packed
        for name in removed:
            self.mine.pop(name, None)
        for told in (names, removed):
            self.due.difference_update(told)
            self.touched.difference_update(told)
        self.answer = False

    def told_collection(self, owed: CollectionOwed, put: tuple[Packed, ...], *, broken: bool) -> None:
        """Books a response that carried `put` of a collection; `broken`: and said what is gone."""
        if len(put) < len(owed.put):
            owed.collected.told(put)
        elif owed.gone and not broken:
            owed.collected.told(put)
            owed.collected.due, owed.collected.lost = False, ()
        else:
            owed.collected.told_all(owed.members)
            self.moved.discard(owed.collected.glob.text)

    def told_all(self, held: ResourceMap) -> None:
        """Books a state-of-the-world response after which the client holds exactly `held`."""
        if self.wildcard:
            self.has = held
        else:
            self.mine = {packed.name: packed for packed in held}
        self.due.clear()
        self.answer = False

    def _forget(self, dropped: set[str], *, wildcard: bool) -> None:
        self.due -= dropped
        self.touched -= dropped
        self.turned -= dropped
        for name in () if wildcard else dropped:
            self.mine.pop(name, None)

    def _set_wildcard(self, wildcard: bool) -> bool | None:  # noqa: FBT001 - a setter of one flag
        """Sets the flag; returns it if that changed it."""
        if wildcard == self.wildcard:
            return None
        self.wildcard = wildcard
        if wildcard:
            self.has, self.mine = EMPTY.updated(self.mine.values()), {}
            self.touched.clear()
        else:
            self.mine, self.has = {packed.name: packed for packed in self.has if packed.name in self.names}, EMPTY
            self.touched = set(self.names)  # changes were found by comparing maps until now
        return wildcard

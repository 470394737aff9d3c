"""AdsMachine: the ADS client of one list of servers, sans-IO (xDS protocol; gRFCs A27, A57, A71, A88).

`Session` drives it: it hands in what happened, then takes `effects` and `changed`. The machine decides which server has
a stream, what is sent on it and what the answers do to the store. It reads no clock, draws no number and sends nothing.
How one connection behaves is in `link`, what is said on a stream in `subscription`, what a response does in `intake`
and, for the members of LEDS collections, in `collection_intake`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.errors import InvalidResource
from meshsdk.model.collection import EndpointCollection
from meshsdk.model.resources import Kind
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.collection_intake import CollectionIntake
from meshsdk.xds_client.intake import Decode, Intake, Outcome, Source, checked_decode
from meshsdk.xds_client.link import Phase, ServerLink
from meshsdk.xds_client.messages import KINDS, Close, DeltaRequest, Effect, Open, Request, Response, Send, SotwRequest
from meshsdk.xds_client.names import canonical
from meshsdk.xds_client.store import FROM_DISK, Entry, EntryStatus, Store
from meshsdk.xds_client.timing import Timing


@dataclass(frozen=True, slots=True)
class Saved:
    """A resource as it was kept on disk by an earlier process."""

    raw: bytes
    version: str = ""


LastGood = Callable[[Key], Saved | EndpointCollection | None]


def nothing_saved(key: Key) -> Saved | None:
    """The `LastGood` of a client without a cache."""
    del key
    return None


class AdsMachine:
    """Subscribes to keys by name on the servers in order of preference, and keeps their entries in `store`.

    `draw` gives numbers in [0, 1) for jitter. `last_good` is asked only while no server can be reached. All
    fields belong to the thread that drives the machine.
    """

    def __init__(
        self,
        servers: Sequence[ServerConfig],
        store: Store,
        decode: Decode,
        draw: Callable[[], float],
        *,
        transport: Transport = Transport.AUTO,
        timing: Timing | None = None,
        last_good: LastGood = nothing_saved,
    ) -> None:
        self._timing = timing or Timing()
        self._links = [ServerLink(config, transport, self._timing) for config in servers]
        self._reach = 0  # the least preferred server in use; those before it are in use as well (A71)
        self._store = store
        self._decode = decode
        self._draw = draw
        self._last_good = last_good
        self._wanted: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        self._leaving: set[Key] = set()  # unwanted since the last `effects`; comes back unharmed if wanted until then
        self._revision = 0  # of `_wanted`
        self._effects: list[Effect] = []
        self._changed: set[Key] = set()

    def want(self, added: Iterable[Key], dropped: Iterable[Key]) -> None:
        """Changes the subscription; keys are canonical (`store.canonical_key`). Requests leave by `effects`."""
        self._revision += 1
        for key in dropped:
            if key.name in self._wanted[key.kind]:
                self._wanted[key.kind].discard(key.name)
                self._leaving.add(key)
        added = tuple(added)
        for key in added:
            self._wanted[key.kind].add(key.name)
            self._leaving.discard(key)
            if self._store.get(key) is None:
                self._store.put(Entry(key))
        self._fall_back(added)

    def opened(self, server: int, now: float) -> None:
        """The stream's first request has left this host, so the server can be waited for (A57)."""
        link = self._links[server]
        if link.phase is Phase.OPENING:
            link.connected()
            for kind, names in self._wanted.items():
                # Collections are awaited even where they cannot be asked for: who needs them learns that none comes.
                if kind is Kind.LB_ENDPOINTS or (link.subscription is not None and link.subscription.knows(kind)):
                    self._arm(link, kind, names, now)

    def received(self, server: int, response: Response, now: float) -> None:
        """A response came: takes it over, then queues the ACK or the NACK."""
        link = self._links[server]
        if link.subscription is None:
            return
        self.opened(server, now)  # the thread that tells of it may be the slower one
        link.answered()
        kind = KINDS.get(response.type_url)
        if kind is None:
            error = f"type {response.type_url!r} was not asked for and is not known here"
            self._effects.append(Send(server, _refusal(link, response, error)))
            return
        if not link.subscription.knows(kind):
            # Not even an ACK: as the first request for its type it would ask for everything (the wildcard).
            return
        outcome = self._take_over(server, kind, response)
        if outcome.estranged:
            self._effects.append(Close(server))
            link.stop()  # and opened anew by the next `effects`
            return
        request, new = link.subscription.answer(kind, response, outcome.error, self._wanted)
        self._effects.append(Send(server, request))
        self._arm(link, kind, new, now)

    def _take_over(self, server: int, kind: Kind, response: Response) -> Outcome:
        link, wanted = self._links[server], self._wanted[kind]
        source = Source(
            server=link.config.uri,
            delta=link.delta,
            keep=not link.config.fail_on_data_errors,
            in_charge=server == self._reach,
        )
        if kind is Kind.LB_ENDPOINTS:
            outcome = CollectionIntake(self._store, self._decode, wanted, source, link.listed).apply(response)
        else:
            outcome = Intake(self._store, self._decode, kind, wanted, source).apply(response)
        link.tally.took(kind, outcome.accepted, len(outcome.reasons))
        self._changed |= outcome.changed
        for one in self._links[: self._reach + 1]:
            one.disarm(outcome.heard)
        link.unheeded |= outcome.unheeded
        if outcome.accepted and server < self._reach:
            self._return_to(server)
            outcome.estranged |= link.unheeded
        return outcome

    def closed(self, server: int, code: str, details: str, now: float) -> None:
        """The stream ended or could not be made; `code` is the name of a gRPC status ("OK" for a polite end)."""
        self._links[server].ended(code, details, now, self._draw())
        self._fall_back(self._keys())

    def tick(self, now: float) -> None:
        """Time has passed: resources that did not arrive are declared missing (A57)."""
        for link in self._links[: self._reach + 1]:
            for key in link.expire(now):
                self._declare_missing(link, key)

    def effects(self, now: float) -> list[Effect]:
        """Returns what is to be done now, in order, and forgets it."""
        for key in self._leaving:
            self._store.drop(key)
        for link in self._links if self._leaving else ():
            link.forget(self._leaving)
        self._leaving.clear()
        if not any(self._wanted.values()):
            self._release(0)
            self._reach = 0
        else:
            for server, link in enumerate(self._links[: self._reach + 1]):
                self._advance(server, link, now)
        effects, self._effects = self._effects, []
        return effects

    def changed(self) -> set[Key]:
        """Returns the keys whose entries readers should look at again, and forgets them."""
        changed, self._changed = self._changed, set()
        return changed

    def deadline(self) -> float | None:
        """When `tick` and `effects` are to be called at the latest; None: not before something happens."""
        deadlines = (link.deadline() for link in self._links[: self._reach + 1])
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def links(self) -> Sequence[ServerLink]:
        """Returns the servers in order of preference; metrics read `config`, `phase`, `unreachable` and `tally`."""
        return self._links

    def cut_off(self) -> bool:
        """Says whether every server has been tried and none can be reached."""
        return all(link.unreachable for link in self._links)

    def server(self) -> str:
        """The URI of the server that is being asked, for words to a user."""
        return self._links[self._reach].config.uri

    def problem(self, server: int | None = None) -> str:
        """Why a server, or any of those in use, cannot be reached; "" if what was tried answers."""
        links = self._links[: self._reach + 1] if server is None else [self._links[server]]
        return "; ".join(link.problem for link in links if link.problem)

    def _advance(self, server: int, link: ServerLink, now: float) -> None:
        """Opens a stream where one is due, and says what has not been said."""
        if link.phase is Phase.IDLE or (link.phase is Phase.WAITING and link.retry_at <= now):
            link.start(*self._held(link), now)
            self._effects.append(Open(server, link.transport))
        if link.subscription is None or link.said == self._revision:
            return
        link.said = self._revision
        for request, new in link.subscription.requests(self._wanted):
            self._effects.append(Send(server, request))
            self._arm(link, Kind(request.kind), new, now)
        if not link.delta:
            self._arm(link, Kind.LB_ENDPOINTS, self._wanted[Kind.LB_ENDPOINTS], now)

    def _held(self, link: ServerLink) -> tuple[dict[Kind, dict[str, str]], set[str]]:
        """Versions of what this very server gave us: another server's version would mean something else to it.

        Returns them with the names of the collections whose members' versions are in them.

        Only of what is in force. A server that took a deletion or a bad change back has an old version again, would
        find that we know it, and would stay silent, while we went on counting the resource as missing or invalid.
        """
        held: dict[Kind, dict[str, str]] = {kind: {} for kind in Kind}
        listed: set[str] = set()
        for key in self._keys():
            entry = self._store.get(key)
            if entry is None or entry.server != link.config.uri:
                continue
            if isinstance(entry.resource, EndpointCollection):
                if link.delta and not link.terse and entry.status in (EntryStatus.PRESENT, EntryStatus.INVALID):
                    held[key.kind].update(entry.resource.versions())
                    listed.add(key.name)
            elif entry.in_force:
                held[key.kind][key.name] = entry.version
        return held, listed

    def _arm(self, link: ServerLink, kind: Kind, names: AbstractSet[str], now: float) -> None:
        """A57: only on a connected stream, and only for what is not here yet."""
        if link.phase in (Phase.CONNECTED, Phase.ANSWERED):
            link.arm((key for name in names if self._awaited(key := Key(kind, name))), now)

    def _awaited(self, key: Key) -> bool:
        entry = self._store.get(key)
        return entry is not None and not entry.settled

    def _declare_missing(self, link: ServerLink, key: Key) -> None:
        entry = self._store.get(key)
        if entry is None or entry.settled:
            return
        words = f"{key.kind.name.lower()} {key.name!r} did not arrive in time from xDS server {link.config.uri}"
        if link.config.resource_timer_is_transient_error:
            late = replace(entry, status=EntryStatus.UNREACHABLE, problem=words)
        elif link.config.fail_on_data_errors:
            late = Entry(key, EntryStatus.ABSENT, problem=words)
        else:
            late = replace(entry, status=EntryStatus.ABSENT, problem=words)
        self._store.put(late)
        self._changed.add(key)

    def _fall_back(self, keys: Iterable[Key]) -> None:
        """A71: the next server is used when this one cannot be reached *and* something wanted is not here.

        When none can be reached, watchers learn of it, with the copy on disk if there is one.
        """
        if not self._links[self._reach].unreachable:
            return
        lacking = [key for key in keys if self._awaited(key)]
        if not lacking:
            return
        if self._reach + 1 < len(self._links):
            self._reach += 1
            return
        if not self.cut_off():
            return
        problem = self.problem()
        for key in lacking:
            self._mark_unreachable(key, problem)

    def _mark_unreachable(self, key: Key, problem: str) -> None:
        entry = self._store.get(key) or Entry(key)
        if entry.resource is None:
            entry = self._restored(key) or entry
        late = replace(entry, status=EntryStatus.UNREACHABLE, problem=problem)
        if late != self._store.get(key):
            self._store.put(late)
            self._changed.add(key)

    def _restored(self, key: Key) -> Entry | None:
        saved = self._last_good(key)
        if saved is None:
            return None
        if isinstance(saved, EndpointCollection):
            return Entry(key, resource=saved, server=FROM_DISK)
        try:
            name, resource = checked_decode(self._decode, key.kind, saved.raw, None)
        except InvalidResource:
            return None  # written by another release of the codec: as good as none
        if canonical(name) != key.name:
            return None
        return Entry(key, resource=resource, version=saved.version, raw=saved.raw, server=FROM_DISK)

    def _return_to(self, server: int) -> None:
        """A71: a preferred server has given a resource, so those after it are let go."""
        self._release(server + 1)
        self._reach = server

    def _release(self, first: int) -> None:
        for server in range(first, len(self._links)):
            link = self._links[server]
            if link.subscription is not None:
                self._effects.append(Close(server))
            link.forget_failures()

    def _keys(self) -> Iterator[Key]:
        return (Key(kind, name) for kind, names in self._wanted.items() for name in names)


def _refusal(link: ServerLink, response: Response, error: str) -> Request:
    """A NACK for a type that we never asked for, and so keep no state of."""
    if link.delta:
        return DeltaRequest(response.type_url, nonce=response.nonce, error=error)
    return SotwRequest(response.type_url, (), nonce=response.nonce, error=error)

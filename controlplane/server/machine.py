"""One xDS stream, seen from the server: what comes in, and which message is to go out next. Pure.

`service` feeds it decoded requests and touched names and sends what `next_reply` returns; `fetch` calls use a machine
for one round. It never packs, sends, waits or reads a clock. There is no queue: the next reply is made from the newest
snapshot when the client can take it, so a slow reader skips what it was too slow for.

The rules, in the order in which `next_reply` applies them:

1. A client that asks is answered at once: newly subscribed names, a first request, a name that does not exist (delta).
2. A change is pushed only when the client has answered (ACK or NACK) the last response of that type; clusters and
   endpoints also when they must go before an answer that cannot wait.
3. On an aggregated stream, make before break (xDS "Eventual consistency considerations"): types go out in
   `type_urls.ORDER`. Listeners and routes are pushed only when everything they may refer to is sent, and the clusters
   are acknowledged: Envoy holds that ACK back until new clusters are warm.
4. Clusters and endpoints are taken away last, when listeners and routes are sent and acknowledged. A client that
   rejected its new routes keeps the clusters of the old ones. One that names its clusters asks for the new ones only
   after it acknowledged the routes to them, and sends calls to the old ones until it has them; so it is let to drop
   those itself. Only what it still names after a while (`let_go`) it is told of.
5. A cluster sent anew takes its endpoints along, changed or not, be they one resource or a collection: Envoy finishes
   warming only when they arrive.
6. A single endpoint (LEDS) that is gone must get no calls, whatever listeners and routes are waiting for: it is taken
   away as soon as the client has taken the EDS resources that may no longer name its locality. (What was configured
   no longer is not gone in this sense: whoever fills the cache leaves its endpoints there, see `withdrawn`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.server.resource_map import EMPTY, Packed, ResourceMap, Snapshot
from controlplane.server.shift import Shift
from controlplane.server.subscription import WILDCARD, Owed, Subscription
from controlplane.server.type_urls import BREAK_ORDER, CLUSTER, ENDPOINT, FOUNDATION, LB_ENDPOINT, rank

_LONGEST_NONCE = 18  # digits; more than any stream gets to


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """`envoy.service.discovery.v3.DiscoveryRequest`. `error`: text of a NACK, None in an ACK."""

    type_url: str
    names: tuple[str, ...] = ()
    nonce: str = ""
    version: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """`envoy.service.discovery.v3.DeltaDiscoveryRequest`. `known`: initial_resource_versions."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    nonce: str = ""
    known: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One response. `removed` is for delta only: names that are gone or do not exist."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Packed, ...]
    removed: tuple[str, ...] = ()


class StreamMachine:
    """State of one stream. Mutable; owned by the server's loop thread.

    `aggregated`: several types share the stream, so their order can be kept. `chunk`: bytes of resources after which
    a response is ended and the rest follows in another (clients refuse large messages); listeners, clusters and
    wildcards in the state-of-the-world protocol cannot be split.
    """

    def __init__(self, *, delta: bool, aggregated: bool, chunk: int = 256 * 1024) -> None:
        self.delta = delta
        self.forgetful = False  # see Subscription.resume; known with the first request
        self.subscriptions: dict[str, Subscription] = {}
        self.stale = 0  # requests ignored because they answered an older response
        # (type URL, name) of what is gone and left to the client to drop
        self.withheld: frozenset[tuple[str, str]] = frozenset()
        self._overdue: frozenset[tuple[str, str]] = frozenset()  # those that it did not drop in time
        self._aggregated = aggregated
        self._chunk = chunk
        self._nonce = 0
        self._ordered: tuple[Subscription, ...] = ()

    @property
    def subscribed(self) -> int:
        """How many names the client holds subscriptions for, over all types."""
        return sum(subscription.size for subscription in self.subscriptions.values())

    def touch(self, type_url: str, name: str) -> None:
        """Notes that a resource changed. What the client does not want is no error."""
        subscription = self.subscriptions.get(type_url)
        if subscription is not None:
            subscription.touch(name)
        if self._overdue:
            self._overdue -= {(type_url, name)}

    def touch_collection(self, type_url: str, key: str) -> None:
        """Notes that a glob collection changed."""
        subscription = self.subscriptions.get(type_url)
        if subscription is not None:
            subscription.touch_collection(key)

    def let_go(self) -> None:
        """The client had time to drop what is `withheld`: from now on it may be told that it is gone."""
        self._overdue, self.withheld = self.withheld, frozenset()

    def held(self) -> Iterator[Shift]:
        """Yields the shifts that end all subscriptions."""
        for known in self.subscriptions.values():
            keys = frozenset(collected.glob.key for collected in known.collections.values())
            yield Shift(known.type_url, dropped=frozenset(known.names), wildcard=False, collections_dropped=keys)

    def booked(self) -> Iterator[Shift]:
        """Yields the shifts that make up all subscriptions, as `held` ends them."""
        for ended in self.held():
            wildcard = self.subscriptions[ended.type_url].wildcard or None
            yield Shift(ended.type_url, ended.dropped, wildcard=wildcard, collections_added=ended.collections_dropped)

    def touch_all(self) -> None:
        """Notes that anything may have changed: the stream sees another view from now on."""
        for shift in self.booked():
            for name in shift.added:
                self.touch(shift.type_url, name)
            for key in shift.collections_added:
                self.touch_collection(shift.type_url, key)

    def news(self, request: SotwRequest | DeltaRequest) -> frozenset[str]:
        """Returns the names that a request asks for beyond what is subscribed; `*` for all of the type."""
        names = request.subscribe if isinstance(request, DeltaRequest) else request.names
        known = self.subscriptions.get(request.type_url)
        if known is None:
            return frozenset(names or (WILDCARD,))
        return frozenset(names) - known.names if names else frozenset()

    # -- what comes in ----------------------------------------------------------------------------------------------

    def receive(self, request: SotwRequest | DeltaRequest, snapshot: Snapshot) -> Shift | None:
        """Takes a request; returns how the subscription moved, None if the request is stale."""
        known = self.subscriptions.get(request.type_url)
        subscription = known or self._add(request.type_url)
        shift: Shift | None
        if isinstance(request, DeltaRequest):
            shift = self._receive_delta(subscription, request, snapshot, first=known is None)
        else:
            shift = self._receive_sotw(subscription, request, snapshot.of(request.type_url), first=known is None)
        if self.withheld and shift:
            self.withheld -= {(request.type_url, name) for name in shift.dropped}
        return shift

    def _receive_sotw(
        self, subscription: Subscription, request: SotwRequest, resources: ResourceMap, *, first: bool
    ) -> Shift | None:
        # A nonce does not outlive its stream, so on a first request it means nothing. Without a nonce a client has
        # not seen our response yet: a subscription, no answer.
        current = request.nonce == str(subscription.nonce)
        if request.nonce and not first and not current:
            self.stale += 1
            return None
        answers = current and not first and subscription.awaiting
        if answers:
            subscription.settle(subscription.nonce, request.error)
        shift = subscription.ask(request.names, first=first)
        if first and subscription.wildcard and not shift.added and request.version == resources.version:
            subscription.told_all(resources)  # reconnected, and holds all there is
        elif not (first or answers or shift) and subscription.rewarm:
            subscription.rewarm = False
            subscription.due |= subscription.names
        return shift

    def _receive_delta(
        self, subscription: Subscription, request: DeltaRequest, snapshot: Snapshot, *, first: bool
    ) -> Shift:
        # Unlike state of the world, a delta request counts whatever its nonce: each carries its own increments.
        if request.nonce:
            nonce = int(request.nonce) if _is_nonce(request.nonce) else 0
            if 0 < nonce <= subscription.nonce:
                subscription.settle(nonce, request.error)
            else:
                self.stale += 1
        shift = subscription.shift(request.subscribe, request.unsubscribe, first=first)
        if first:
            subscription.resume(request.known, snapshot, forgetful=self.forgetful)
        return shift

    def _add(self, type_url: str) -> Subscription:
        subscription = self.subscriptions[type_url] = Subscription(type_url)
        self._ordered = tuple(sorted(self.subscriptions.values(), key=lambda known: rank(known.type_url)))
        return subscription

    # -- what goes out ----------------------------------------------------------------------------------------------

    def next_reply(self, snapshot: Snapshot) -> Reply | None:
        """Returns the next response, booked as sent, or None while there is nothing that may be sent."""
        laid = True  # nothing that listeners and routes may refer to is missing
        quiet = True  # nothing refers any more to what is gone
        named = True  # no locality that the client was not told of is to be found in EDS resources
        # Who asks for a route is answered at once, and still never before the clusters it may lead to.
        urgent = self._aggregated and any(known.waiting for known in self._ordered if known.type_url not in FOUNDATION)
        gone: dict[str, Owed] = {}
        for subscription in self._ordered:
            owed = subscription.owed(snapshot)
            base = self._aggregated and subscription.type_url in FOUNDATION
            single = subscription.type_url == LB_ENDPOINT
            if owed is not None:
                if owed.asked or (base and urgent) or (not subscription.awaiting and (base or laid)):
                    reply = self._reply(subscription, snapshot, owed, breaking=not base or (single and named))
                    if reply is not None:
                        return reply
                elif not base:
                    quiet = False
                if base and owed.goes and not single:
                    gone[subscription.type_url] = owed
            if base:
                unsent = owed is not None and owed.puts
                laid = laid and not unsent and not (subscription.type_url == CLUSTER and subscription.awaiting)
                named = named and not (subscription.type_url == ENDPOINT and (unsent or subscription.awaiting))
            else:
                quiet = quiet and not subscription.awaiting and not subscription.rejected
        self.withheld = self._to_drop(gone) - self._overdue if quiet else frozenset()
        return self._break(snapshot, gone) if quiet and not self.withheld else None

    def _to_drop(self, gone: Mapping[str, Owed]) -> frozenset[tuple[str, str]]:
        """Returns what is gone that a client which follows routes to clusters it names drops of its own accord."""
        clusters = self.subscriptions.get(CLUSTER)
        if clusters is None or clusters.wildcard or FOUNDATION.issuperset(self.subscriptions):
            return frozenset()
        return frozenset((type_url, name) for type_url, owed in gone.items() for name in owed.gone)

    def at_rest(self, snapshot: Snapshot) -> bool:
        """Returns whether `next_reply` would surely find nothing; cheaper, for the many requests that only say ACK."""
        for known in self._ordered:
            if known.due or known.answer or known.touched or known.moved:
                return False
            if known.wildcard and known.has is not snapshot.of(known.type_url):
                return False
        return True

    def _break(self, snapshot: Snapshot, gone: Mapping[str, Owed]) -> Reply | None:
        for type_url in BREAK_ORDER:
            owed, subscription = gone.get(type_url), self.subscriptions.get(type_url)
            if owed is not None and subscription is not None and not subscription.awaiting:
                reply = self._reply(subscription, snapshot, owed, breaking=True)
                if reply is not None:
                    return reply
        return None

    def _reply(self, subscription: Subscription, snapshot: Snapshot, owed: Owed, *, breaking: bool) -> Reply | None:
        resources = snapshot.of(subscription.type_url)
        if self.delta:
            reply = self._delta_reply(subscription, resources, owed, breaking=breaking)
        elif subscription.whole:
            reply = self._whole_reply(subscription, resources, owed, breaking=breaking)
        else:
            reply = self._partial_reply(subscription, resources, owed)
        if reply is not None:
            subscription.nonce = self._nonce
            subscription.version_sent = reply.version
            if subscription.type_url == CLUSTER:
                self._warm(reply.resources if self.delta else owed.put, snapshot)
        return reply

    def _delta_reply(
        self, subscription: Subscription, resources: ResourceMap, owed: Owed, *, breaking: bool
    ) -> Reply | None:
        put, size = self._cut(owed.put, 0)
        removed = owed.unknown + owed.gone if breaking else owed.unknown
        told = bool(put or removed or subscription.answer)
        complete = len(put) == len(owed.put)
        for part in owed.collections if complete else ():
            taken, size = self._cut(part.put, size)
            whole = len(taken) == len(part.put)
            said = part.removed(breaking=breaking) if whole else ()
            if taken or said:
                told = True
                subscription.told_collection(part, taken, broken=breaking)
                put, removed = put + part.named(taken), removed + said
            if not whole:
                break
        if not told:
            return None
        reached = resources if subscription.wildcard and complete and (breaking or not owed.gone) else None
        subscription.told(put[: len(owed.put)], removed, reached)
        put = subscription.given(put)
        if owed.collections:  # what is subscribed in two ways is told once
            put, removed = tuple({packed.name: packed for packed in put}.values()), tuple(dict.fromkeys(removed))
        return Reply(subscription.type_url, resources.version, self._next_nonce(), put, removed)

    def _whole_reply(
        self, subscription: Subscription, resources: ResourceMap, owed: Owed, *, breaking: bool
    ) -> Reply | None:
        if not (owed.asked or owed.put or (owed.gone and breaking)):
            return None
        if subscription.wildcard:
            held, everything = resources, resources.everything()
        else:
            found = (resources.get(name) for name in sorted(subscription.names))
            everything = tuple(packed for packed in found if packed is not None)
            held = EMPTY.updated(everything)
        version = resources.version
        if owed.gone and not breaking:
            kept = tuple(packed for packed in map(subscription.holding, owed.gone) if packed is not None)
            held, everything = held.updated(kept), everything + kept
            version += "~"  # not the version that the cache has now: a client must not reconnect with it unserved
        subscription.told_all(held)
        return Reply(subscription.type_url, version, self._next_nonce(), everything)

    def _partial_reply(self, subscription: Subscription, resources: ResourceMap, owed: Owed) -> Reply | None:
        # State of the world has no words for "gone" or "unknown" here; the client's timer says it (A57).
        put, _ = self._cut(owed.put, 0)
        subscription.told(put, owed.gone + owed.unknown)
        return Reply(subscription.type_url, resources.version, self._next_nonce(), put) if put else None

    def _cut(self, put: tuple[Packed, ...], size: int) -> tuple[tuple[Packed, ...], int]:
        """Returns those that fit into a response that has `size` bytes already, and how many it has then."""
        for index, packed in enumerate(put):
            if size and size + len(packed.body) > self._chunk:
                return put[:index], size
            size += len(packed.body)
        return put, size

    def _warm(self, clusters: tuple[Packed, ...], snapshot: Snapshot) -> None:
        endpoints, single = self.subscriptions.get(ENDPOINT), self.subscriptions.get(LB_ENDPOINT)
        if endpoints is None:
            return
        endpoints.rewarm = True
        resources = snapshot.of(ENDPOINT)
        for cluster in clusters:
            for name in cluster.refers:
                found = resources.get(name)
                if endpoints.holding(name) is not None and found is not None:
                    endpoints.due.add(name)
                    if single is not None:
                        single.retell_collections(found.refers)

    def _next_nonce(self) -> str:
        self._nonce += 1
        return str(self._nonce)


def _is_nonce(text: str) -> bool:
    return len(text) <= _LONGEST_NONCE and text.isascii() and text.isdigit()

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
   rejected its new routes keeps the clusters of the old ones.
5. A cluster sent anew takes its endpoints along, changed or not: Envoy finishes warming only when they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.server.resource_map import EMPTY, Packed, ResourceMap, Snapshot
from controlplane.server.subscription import Owed, Shift, Subscription
from controlplane.server.type_urls import BREAK_ORDER, CLUSTER, ENDPOINT, FOUNDATION, rank

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

    def __init__(self, *, delta: bool, aggregated: bool, chunk: int = 2 * 1024 * 1024) -> None:
        self.delta = delta
        self.subscriptions: dict[str, Subscription] = {}
        self.stale = 0  # requests ignored because they answered an older response
        self._aggregated = aggregated
        self._chunk = chunk
        self._nonce = 0
        self._ordered: tuple[Subscription, ...] = ()

    @property
    def subscribed(self) -> int:
        """How many names the client holds subscriptions for, over all types."""
        return sum(len(subscription.names) for subscription in self.subscriptions.values())

    def touch(self, type_url: str, name: str) -> None:
        """Notes that a resource changed. What the client does not want is no error."""
        subscription = self.subscriptions.get(type_url)
        if subscription is not None:
            subscription.touch(name)

    # -- what comes in ----------------------------------------------------------------------------------------------

    def receive(self, request: SotwRequest | DeltaRequest, snapshot: Snapshot) -> Shift | None:
        """Takes a request; returns how the subscription moved, None if the request is stale."""
        known = self.subscriptions.get(request.type_url)
        subscription = known or self._add(request.type_url)
        resources = snapshot.of(request.type_url)
        if isinstance(request, DeltaRequest):
            return self._receive_delta(subscription, request, resources, first=known is None)
        return self._receive_sotw(subscription, request, resources, first=known is None)

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
        self, subscription: Subscription, request: DeltaRequest, resources: ResourceMap, *, first: bool
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
            subscription.resume(request.known, resources)
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
        # Who asks for a route is answered at once, and still never before the clusters it may lead to.
        urgent = self._aggregated and any(
            known.due or known.answer for known in self._ordered if known.type_url not in FOUNDATION
        )
        gone: dict[str, Owed] = {}
        for subscription in self._ordered:
            resources = snapshot.of(subscription.type_url)
            owed = subscription.owed(resources)
            base = self._aggregated and subscription.type_url in FOUNDATION
            if owed is not None:
                if owed.asked or (base and urgent) or (not subscription.awaiting and (base or laid)):
                    reply = self._reply(subscription, snapshot, owed, breaking=not base)
                    if reply is not None:
                        return reply
                elif not base:
                    quiet = False
                if base and owed.gone:
                    gone[subscription.type_url] = owed
            if base:
                unsent = owed is not None and bool(owed.put)
                laid = laid and not unsent and not (subscription.type_url == CLUSTER and subscription.awaiting)
            else:
                quiet = quiet and not subscription.awaiting and not subscription.rejected
        return self._break(snapshot, gone) if gone and quiet else None

    def at_rest(self, snapshot: Snapshot) -> bool:
        """Returns whether `next_reply` would surely find nothing; cheaper, for the many requests that only say ACK."""
        for known in self._ordered:
            if known.due or known.answer or known.touched:
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
        put = self._cut(owed.put)
        removed = owed.unknown + owed.gone if breaking else owed.unknown
        if not (put or removed or subscription.answer):
            return None
        complete = len(put) == len(owed.put) and (breaking or not owed.gone)
        subscription.told(put, removed, resources if subscription.wildcard and complete else None)
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
            kept = tuple(packed for packed in map(subscription.has.get, owed.gone) if packed is not None)
            held, everything = held.updated(kept), everything + kept
            version += "~"  # not the version that the cache has now: a client must not reconnect with it unserved
        subscription.told_all(held)
        return Reply(subscription.type_url, version, self._next_nonce(), everything)

    def _partial_reply(self, subscription: Subscription, resources: ResourceMap, owed: Owed) -> Reply | None:
        # State of the world has no words for "gone" or "unknown" here; the client's timer says it (A57).
        put = self._cut(owed.put)
        subscription.told(put, owed.gone + owed.unknown)
        return Reply(subscription.type_url, resources.version, self._next_nonce(), put) if put else None

    def _cut(self, put: tuple[Packed, ...]) -> tuple[Packed, ...]:
        size = 0
        for index, packed in enumerate(put):
            size += len(packed.body)
            if size > self._chunk and index:
                return put[:index]
        return put

    def _warm(self, clusters: tuple[Packed, ...], snapshot: Snapshot) -> None:
        endpoints = self.subscriptions.get(ENDPOINT)
        if endpoints is None:
            return
        endpoints.rewarm = True
        resources = snapshot.of(ENDPOINT)
        for cluster in clusters:
            for name in cluster.refers:
                if endpoints.has.get(name) is not None and resources.get(name) is not None:
                    endpoints.due.add(name)

    def _next_nonce(self) -> str:
        self._nonce += 1
        return str(self._nonce)


def _is_nonce(text: str) -> bool:
    return len(text) <= _LONGEST_NONCE and text.isascii() and text.isdigit()

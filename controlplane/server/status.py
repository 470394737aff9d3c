"""What a server tells about its clients: values for `meshctl clients`, metrics and hooks. No behaviour."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.server.machine import StreamMachine
from controlplane.server.node import Node
from controlplane.server.subscription import Subscription

_FEW = 32  # names that are listed one by one
_MOST_TYPES = 64  # type URLs that NACKs are counted by


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """One type on one stream. `names`: how many were asked for by name; `asked`: which, where they are few.

    `held`: how many resources were sent.

    `pending`: a response waits for its ACK or NACK. `rejected`: the newest answer was a NACK. `nacks`: how many there
    were on this stream; `nack`: text of the last one, `nack_version` the version it was about, `nacked_at` when (unix
    seconds).
    `collections`: how many glob collections were asked for.
    """

    type_url: str
    wildcard: bool
    names: int
    held: int
    version_sent: str
    version_acked: str
    pending: bool
    rejected: bool
    nack: str
    nack_version: str
    asked: tuple[str, ...] = ()
    nacks: int = 0
    nacked_at: float = 0.0
    collections: int = 0


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """One stream. `transport`: "sotw" or "delta". `service`: "ADS" or the type URL of a separate service.

    `opened_at`: unix seconds. `peer`: the address as gRPC writes it (`ipv4:10.0.0.7:40404`).
    """

    id: int
    node: Node
    view: str
    peer: str
    transport: str
    service: str
    opened_at: float
    sent: int
    subscriptions: tuple[SubscriptionInfo, ...]


class EventKind(enum.Enum):
    """OPENED comes with a stream's first request, when its node is known."""

    OPENED = "opened"
    CLOSED = "closed"
    NACKED = "nacked"
    REFUSED = "refused"  # the server ended the stream because of what the client sent


@dataclass(frozen=True, slots=True)
class Event:
    """Given to `on_event` on the server's thread. `text`: what the client or the server said, "" if nothing."""

    kind: EventKind
    client: int
    node: Node
    peer: str
    type_url: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server did so far, for metrics.

    `streams`: open now, by transport. `messages` and `bytes`: responses sent. `nacks`: by type URL. `stale`: requests
    that answered no response, or one before the last. `refused`: streams ended because of what the client sent.
    """

    streams: Mapping[str, int]
    opened: int
    refused: int
    messages: int
    bytes: int
    nacks: Mapping[str, int]
    stale: int


class Tally:
    """Counts for `Counters`. Mutable; owned by the server's loop thread."""

    def __init__(self) -> None:
        self.opened = self.refused = self.messages = self.bytes = self.stale = 0
        self.nacks: Counter[str] = Counter()

    def note(self, event: Event) -> None:
        """Counts an event."""
        if event.kind is EventKind.OPENED:
            self.opened += 1
        elif event.kind is EventKind.REFUSED:
            self.refused += 1
        elif event.kind is EventKind.NACKED:
            known = event.type_url in self.nacks or len(self.nacks) < _MOST_TYPES
            self.nacks[event.type_url if known else "others"] += 1  # clients may make types up

    def counters(self, streams: Mapping[str, int], stale: int) -> Counters:
        """Returns all counts. `stale`: of the streams that are open; those of closed ones are known here."""
        return Counters(
            streams, self.opened, self.refused, self.messages, self.bytes, dict(self.nacks), self.stale + stale
        )


def describe(subscription: Subscription, nacked_at: float = 0.0) -> SubscriptionInfo:
    """Returns the state of one subscription as a value. `nacked_at`: unix seconds of its last NACK."""
    return SubscriptionInfo(
        type_url=subscription.type_url,
        wildcard=subscription.wildcard,
        names=len(subscription.names),
        held=subscription.held,
        version_sent=subscription.version_sent,
        version_acked=subscription.version_acked,
        pending=subscription.awaiting,
        rejected=subscription.rejected,
        nack=subscription.nack,
        nack_version=subscription.nack_version,
        asked=tuple(sorted(subscription.names)) if len(subscription.names) <= _FEW else (),
        nacks=subscription.nacks,
        nacked_at=nacked_at,
        collections=len(subscription.collections),
    )


def describe_all(machine: StreamMachine, nacked_at: Mapping[str, float]) -> tuple[SubscriptionInfo, ...]:
    """Returns the state of all subscriptions of a stream, by type. `nacked_at`: unix seconds of last NACKs, by type."""
    known = machine.subscriptions
    return tuple(describe(known[type_url], nacked_at.get(type_url, 0.0)) for type_url in sorted(known))

"""What a server tells about its clients: values for `meshctl clients`, metrics and hooks. No behaviour."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from controlplane.server.machine import StreamMachine
from controlplane.server.node import Node
from controlplane.server.subscription import Subscription


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """One type on one stream. `names`: how many were asked for by name. `held`: how many resources were sent.

    `pending`: a response waits for its ACK or NACK. `rejected`: the newest answer was a NACK. `nack`: text of the last
    NACK ever on this stream, `nack_version` the version it was about.
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


def describe(subscription: Subscription) -> SubscriptionInfo:
    """Returns the state of one subscription as a value."""
    return SubscriptionInfo(
        type_url=subscription.type_url,
        wildcard=subscription.wildcard,
        names=len(subscription.names),
        held=len(subscription.has),
        version_sent=subscription.version_sent,
        version_acked=subscription.version_acked,
        pending=subscription.awaiting,
        rejected=subscription.rejected,
        nack=subscription.nack,
        nack_version=subscription.nack_version,
    )


def describe_all(machine: StreamMachine) -> tuple[SubscriptionInfo, ...]:
    """Returns the state of all subscriptions of a stream, by type."""
    return tuple(describe(machine.subscriptions[type_url]) for type_url in sorted(machine.subscriptions))

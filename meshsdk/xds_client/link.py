"""The state machine of the connection to one xDS server: phase, transport, backoff, does-not-exist timers. Pure.

    phase      event                          next      remark
    IDLE       want something                 OPENING   a stream is started, and the first requests are sent on it
    OPENING    first request has left         CONNECTED timers start (A57: not before)
    *          response                       ANSWERED  backoff starts afresh, the server counts as reachable
    OPENING,   stream ended                   WAITING   unreachable (A57: a stream without an answer is a failure)
    CONNECTED  UNIMPLEMENTED, transport auto  IDLE      with the other transport, once
    ANSWERED   stream ended                   WAITING   no failure (A57): no time, or a backoff if it lived but shortly
    WAITING    time is up                     OPENING
    *          nothing wanted, or not needed  IDLE

Owned by `AdsMachine`, which knows about the other servers, the store and what is wanted.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.model.resources import Kind
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.stream_tally import StreamTally
from meshsdk.xds_client.subscription import DeltaSubscription, SotwSubscription, Subscription
from meshsdk.xds_client.timing import Timing

_TOO_MUCH = frozenset({"RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"})  # how servers refuse a request beyond their limits


class Phase(enum.Enum):
    """See the table above."""

    IDLE = "idle"
    OPENING = "opening"
    CONNECTED = "connected"
    ANSWERED = "answered"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class LinkState:
    """How one server fares, for people: `transport` is "delta" or "sotw", `problem` why there was no answer yet."""

    uri: str
    phase: Phase
    transport: str
    problem: str


class ServerLink:
    """One server of the list. All fields belong to the thread that drives the machine."""

    __slots__ = (
        "_attempt",
        "_auto",
        "_opened_at",
        "_swapped",
        "_timing",
        "_versions",
        "config",
        "listed",
        "phase",
        "problem",
        "retry_at",
        "said",
        "subscription",
        "tally",
        "terse",
        "timers",
        "transport",
        "unheeded",
        "unreachable",
    )

    def __init__(self, config: ServerConfig, transport: Transport, timing: Timing) -> None:
        self.config = config
        self.transport = Transport.DELTA if transport is Transport.AUTO else transport
        self.phase = Phase.IDLE
        self.subscription: Subscription | None = None  # set while a stream is there
        self.unreachable = False
        self.problem = ""  # why the last stream ended without an answer; "" once the server answers
        self.retry_at = 0.0  # meaningful in WAITING
        self.said = -1  # the revision of the wanted keys that this stream has been told
        # LEDS collections whose members the server knows us to have, from what this stream was told or brought.
        self.listed: set[str] = set()
        self.unheeded = False  # this stream said things about collections that did not count (A71)
        # The server could not take as much as the versions of all members of collections are; it never gets them again.
        self.terse = False
        self.tally = StreamTally()
        # Deadlines by key. All waits are equally long, so the dict's order of insertion is the order of deadlines.
        self.timers: dict[Key, float] = {}
        self._auto = transport is Transport.AUTO
        self._swapped = False  # the other transport has been tried since the server last answered
        self._attempt = 0
        self._opened_at = 0.0
        self._timing = timing
        self._versions: dict[Kind, str] = {}  # last accepted state-of-the-world version of each type

    @property
    def state(self) -> LinkState:
        """How the server fares; from any thread."""
        return LinkState(self.config.uri, self.phase, self.transport.value, self.problem)

    @property
    def delta(self) -> bool:
        """Says whether the present transport is the incremental one."""
        return self.transport is Transport.DELTA

    def start(self, held: Mapping[Kind, Mapping[str, str]], listed: Iterable[str], now: float) -> None:
        """A stream is being opened; `held` has the versions of what this server gave us before, by type and name.

        `listed`: the collections whose members are in `held`.
        """
        self.phase = Phase.OPENING
        self.listed = set(listed)
        self.unheeded = False
        self._opened_at = now
        self.said = -1
        if self.delta:
            self.subscription = DeltaSubscription(held)
        else:
            self.subscription = SotwSubscription(self._versions, {kind: held[kind].keys() for kind in held})

    def connected(self) -> None:
        """The first request has left this host."""
        if self.phase is Phase.OPENING:
            self.phase = Phase.CONNECTED

    def answered(self) -> None:
        """A response came: the server can be reached, whatever the response says."""
        self.phase = Phase.ANSWERED
        self.unreachable = False
        self.problem = ""
        self._attempt = 0
        self._swapped = False

    def ended(self, code: str, details: str, now: float, draw: float) -> None:
        """The stream is gone, not by our doing; `code` is the name of a gRPC status."""
        had_answered = self.phase is Phase.ANSWERED
        self.stop()
        if had_answered:
            # At most one reconnection at once within the first backoff: a server that answers and dies, again and
            # again, is not hammered.
            quick = now - self._opened_at >= self._timing.backoff_initial
            self._wait(now, 0.0 if quick else self._timing.backoff(0, draw))
            return
        if code == "UNIMPLEMENTED" and self._auto and not self._swapped:
            self._swapped = True
            self.transport = Transport.SOTW if self.delta else Transport.DELTA
            return
        self._swapped = False
        self.terse |= code in _TOO_MUCH
        self.tally.failures += not self.unreachable
        self.unreachable = True
        self.problem = f"xDS server {self.config.uri}: {code}: {details}"
        self._wait(now, self._timing.backoff(self._attempt, draw))
        self._attempt += 1

    def _wait(self, now: float, delay: float) -> None:
        self.phase = Phase.WAITING
        self.retry_at = now + delay

    def stop(self) -> None:
        """No stream any more; what the server gave us is remembered."""
        self.phase = Phase.IDLE
        self.subscription = None
        self.timers.clear()

    def forget_failures(self) -> None:
        """The link is no longer needed; a later start begins without the past's backoff."""
        self.stop()
        self.unreachable = False
        self._attempt = 0

    def arm(self, keys: Iterable[Key], now: float) -> None:
        """Starts the does-not-exist timer of each key (A57; A88 for its length)."""
        slow = self.config.resource_timer_is_transient_error
        wait = self._timing.slow_resource_timeout if slow else self._timing.resource_timeout
        for key in keys:
            self.timers.setdefault(key, now + wait)

    def forget(self, keys: AbstractSet[Key]) -> None:
        """The keys are no longer wanted."""
        self.disarm(keys)
        if self.listed:
            self.listed -= {key.name for key in keys if key.kind is Kind.LB_ENDPOINTS}

    def disarm(self, keys: AbstractSet[Key]) -> None:
        """The keys have been heard of."""
        for key in keys if self.timers else ():
            self.timers.pop(key, None)

    def expire(self, now: float) -> list[Key]:
        """Returns the keys whose time is up, and forgets them."""
        late = []
        for key, deadline in self.timers.items():
            if deadline > now:
                break
            late.append(key)
        for key in late:
            del self.timers[key]
        return late

    def deadline(self) -> float | None:
        """When `AdsMachine.tick` has something to do for this link, if nothing else happens."""
        if self.phase is Phase.WAITING:
            return self.retry_at
        return next(iter(self.timers.values()), None)

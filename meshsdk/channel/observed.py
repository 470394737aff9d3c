"""One call as its observer sees it, in the channel's words: spans, metrics and the access log of `meshsdk.telemetry`.

Held by the call's `Course`, None where nobody looks. Tells and decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshsdk.telemetry.port import OBSERVING, AttemptObservation, Attributes, CallObservation, Sight

if TYPE_CHECKING:
    from meshsdk.channel.pool import PooledBackend
    from meshsdk.channel.stack import Lane, Metadata


class Observed:
    """Owned like the `Course` that holds it. `last`: the attempt that runs, of a call that makes one at a time."""

    __slots__ = ("_cluster", "_made", "_observation", "_over", "_route", "last")

    def __init__(self, observation: CallObservation) -> None:
        """The call has begun."""
        self._observation = observation
        self._made = 0
        self._over = False
        self._route = self._cluster = ""
        self.last: AttemptObservation | None = None

    def attempt(self, lane: Lane, backend: PooledBackend, metadata: Metadata | None) -> Metadata | None:
        """An attempt is about to be made; returns the metadata to send instead. It becomes `last`."""
        self._route, self._cluster = lane.route.route.name, lane.cluster
        place = backend.tally.place
        self.last = attempt = self._observation.attempt(
            self._made, backend.endpoint.address, place.cluster, place.locality, metadata
        )
        self._made += 1
        return attempt.metadata

    def attempted(self, code: str) -> None:
        """`last` has ended; no effect where that was told."""
        last, self.last = self.last, None
        if last is not None:
            last.ended(code)

    def event(self, name: str, attributes: Attributes) -> None:
        """See `port.CallObservation`."""
        self._observation.event(name, attributes)

    def end(self, code: str, details: str) -> None:
        """The call has ended, with the attempt that runs. Only the first end counts."""
        if self._over:
            return
        self._over = True
        self.attempted(code)
        self._observation.ended(code, details, self._route, self._cluster)


def observed(target: str, method: str) -> Sight | None:
    """A call begins, in the application's context; None where nobody looks at it."""
    counter = OBSERVING.counter
    if counter is not None:
        return counter(target, method)
    observer = OBSERVING.observer
    observation = None if observer is None else observer.began(target, method)
    return None if observation is None else Observed(observation)

"""Who is told how the attempts on one endpoint end.

`EndpointWatch` is `Backend.watch` where a cluster ejects outliers or goes by the load that endpoints report; the
façades call it at the end of each attempt. It never blocks: what follows from a report is the balancer's matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from meshsdk.lb.attempt_counts import AttemptCounts
from meshsdk.lb.backend import Backend
from meshsdk.lb.endpoint_load import LoadReport, weighed
from meshsdk.lb.outlier import Detector
from meshsdk.model.policy import WeightedRoundRobin
from meshsdk.orca.codec import UnreadableReport, reported

_LOG = logging.getLogger(__name__)

Judged = tuple[Detector, AttemptCounts]
"""Who judges an endpoint, and where its attempts are counted."""


class EndpointWatch:
    """See `meshsdk.lb.backend.AttemptWatch`.

    Thread rules: read-only after init but for `_warned` and `asks` (whether to ask it out of band), which any thread
    sets; what it counts in and reports to say their own. A success costs one increment without a lock
    (`AttemptCounts`).
    """

    __slots__ = ("_backend", "_clock", "_counts", "_detector", "_made_for", "_policy", "_suspect", "_warned", "asks")

    def __init__(
        self,
        backend: Backend,
        judged: Judged | None,
        suspect: Callable[[str], None],
        policy: WeightedRoundRobin | None,
        clock: Callable[[], float],
    ) -> None:
        """`suspect` is told of an endpoint that failed too often in a row; it must not block.

        `policy`: None if reports of load count for nothing. `clock`: the one that pickers are built by.
        """
        self._backend = backend
        self._made_for = (judged, policy)
        self._detector: Detector | None = None if judged is None else judged[0]
        self._counts = AttemptCounts() if judged is None else judged[1]
        self._suspect = suspect
        self._policy = policy
        self._clock = clock
        self._warned = False
        self.asks = True

    def serves(self, judged: Judged | None, policy: WeightedRoundRobin | None) -> bool:
        """Tells whether one made with these would do the same."""
        return self._made_for == (judged, policy)

    def succeeded(self) -> None:
        """The attempt ended OK."""
        self._counts.good += 1

    def failed(self, code: str, *, local_origin: bool) -> None:
        """It ended otherwise."""
        detector = self._detector
        if detector is None:
            return
        self._counts.failed(code, lost=local_origin and detector.splits)
        if detector.due(self._counts):
            self._suspect(self._backend.endpoint.address)

    def reported(self, trailing: Sequence[Any]) -> None:
        """It ended with this trailing metadata: reads the load report in it, if there is one."""
        policy = self._policy
        if policy is None or policy.out_of_band:
            return
        try:
            report = reported(trailing)
        except UnreadableReport as error:
            self.complain(str(error))
            return
        if report is not None:
            self.told(report)

    def told(self, report: LoadReport) -> None:
        """A report came, with an answer or by itself."""
        if self._policy is not None:
            self._backend.load = weighed(report, self._backend.load, self._policy, self._clock())

    def complain(self, problem: str) -> None:
        """A report could not be read: logged once."""
        if not self._warned:
            self._warned = True
            _LOG.warning("endpoint %s: %s; its last weight stays", self._backend.endpoint.address, problem)

    def tells_nothing(self) -> None:
        """The endpoint does not serve load reports: it is not asked again on this connection."""
        self.asks = False

    def reconnected(self) -> None:
        """What it told on an earlier connection, and that it told nothing, counts no more (A58)."""
        self._backend.load = None
        self.asks = True

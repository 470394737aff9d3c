"""What a matched route does with a call: which cluster, filters and edits, which hash, or why it cannot be used.

Made by `router`, handed to the channel façade by `plan`. Never decides whether the route matches.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence

from meshsdk.model.filters import NamedFilter
from meshsdk.model.resources import Filters, Forward, NoForward, Route
from meshsdk.routing.hash_policy import compile_hash
from meshsdk.routing.in_force import Destination, destination
from meshsdk.routing.matchers import Metadata

Draw = Callable[[], float]
"""Gives uniformly distributed numbers in [0, 1)."""


class CompiledRoute:
    """A route ready for use; read-only after init.

    `forward` is None where `problem` (words for the UNAVAILABLE of the call) says why no call can take the route.
    `single`: the only cluster that can be chosen, None if there are several, none, or several ways to the one.
    `destinations`: those that can be chosen, in the order of the configuration.
    """

    __slots__ = ("_hash", "_thresholds", "_total", "destinations", "forward", "problem", "route", "single")

    def __init__(self, route: Route, filters: Sequence[NamedFilter] = (), overrides: Sequence[Filters] = ()) -> None:
        """`filters`: of the listener. `overrides`: what overrides them above the route, the least specific first.

        Raises ValueError for a hash policy whose regular expression is not acceptable.
        """
        self.route = route
        action = route.action
        weighted = [] if isinstance(action, NoForward) else [c for c in action.clusters if c.weight > 0]
        self.forward: Forward | None = None
        self.problem = ""
        if isinstance(action, NoForward):
            self.problem = action.reason
        elif not weighted:
            self.problem = f"route {route.name!r} has no cluster with a weight above 0"
        else:
            self.forward = action
        above = (*overrides, route.filters)
        self.destinations = tuple(destination(one, self.forward, filters, above) for one in weighted if self.forward)
        self._thresholds = tuple(itertools.accumulate(cluster.weight for cluster in weighted))
        self._total = self._thresholds[-1] if weighted else 0
        alike = bool(weighted) and all(one == self.destinations[0] for one in self.destinations)
        self.single = self.destinations[0].cluster if alike else None
        policies = self.forward.hash_policies if self.forward else ()
        self._hash = compile_hash(policies) if policies else None

    def destination(self, draw: Draw) -> Destination:
        """Returns where one call goes, by weight; draws at most once. Raises IndexError if `problem` is set."""
        if self.single is not None:
            return self.destinations[0]
        return self.destinations[bisect.bisect_right(self._thresholds, draw() * self._total)]

    def cluster(self, draw: Draw) -> str:
        """Returns the cluster of `destination`."""
        return self.destination(draw).cluster

    def hash(self, metadata: Metadata | None, channel_id: int) -> int | None:
        """Returns the call's 64-bit hash (gRFC A42); None if no policy produced one: the caller takes a random one."""
        return None if self._hash is None else self._hash(metadata or (), channel_id)

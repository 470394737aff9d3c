"""What single nodes are told (RTDS): a layer of the cache for each distinct verdict, under the views of those nodes.

Owned by `view_layers`. Only a node that asks for Runtime resources has a view of its own, and so a verdict. Nodes with
equal verdicts share a layer and its bytes. A verdict follows from the configuration, from the orders of the ShimSet
controller, and from what the node says of itself, so every replica of the control plane comes to the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from controlplane.model.configuration import Configuration
from controlplane.model.shims import NO_ORDER, Order
from controlplane.model.switching import Turns, turns
from controlplane.snapshot import ResourceCache, pack
from controlplane.translate.runtime import runtime
from controlplane.translate.view import View

_Verdict = tuple[Turns, Order]


class Steering:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache
        self._configuration = Configuration()
        self._orders: Mapping[str, Order] = {}
        self._layers: dict[_Verdict, str] = {}

    def configure(self, configuration: Configuration) -> None:
        """Takes another configuration; the owner stacks all views anew."""
        self._configuration = configuration

    def order(self, orders: Mapping[str, Order]) -> list[str]:
        """Takes what the shims are to run, by node id; returns for which nodes that changed: their owner stacks them.

        A layer that is used no more stays until the next `keep`: there are only few, and others may want it again.
        """
        before, self._orders = self._orders, orders
        return [node for node in {**before, **orders} if before.get(node) != orders.get(node)]

    def stack(self, view: View) -> tuple[str, ...]:
        """Returns the layers that a view has on top of those that others share, made if there are none yet."""
        if view.node is None:
            return ()
        verdict = self.verdict(view.node, view.app, dict(view.labels))
        key = self._layers.get(verdict)
        if key is None:
            key = self._layers[verdict] = f"runtime:{verdict!r}"
            self._cache.replace([pack(each) for each in runtime(*verdict)], node=key)
        return (key,)

    def verdict(self, node: str, app: str, labels: Mapping[str, str]) -> _Verdict:
        """Returns what holds for a node."""
        return turns(self._configuration.switches, node, app, labels), self._orders.get(node, NO_ORDER)

    def keep(self, used: Collection[str]) -> None:
        """Forgets the layers that no view sees."""
        over: Iterable[_Verdict] = [verdict for verdict, key in self._layers.items() if key not in used]
        for verdict in over:
            self._cache.clear(node=self._layers.pop(verdict))

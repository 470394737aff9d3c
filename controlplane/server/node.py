"""Who a client says it is: `envoy.config.core.v3.Node` as a frozen value, given to view functions and shown by status.

Made by `wire.decode_node` from a stream's first request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Node:
    """`metadata` is the node's Struct as plain JSON values. Everything here is the client's claim, not proven."""

    id: str = ""
    cluster: str = ""
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    user_agent: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """The node's labels, as Istio carries them: the strings in `metadata["LABELS"]`."""
        found = self.metadata.get("LABELS")
        if not isinstance(found, Mapping):
            return {}
        return {str(key): value for key, value in found.items() if isinstance(value, str)}

    @property
    def app(self) -> str:
        """The calling application: label `app`, else `metadata["app"]`, else the node's cluster."""
        named = self.labels.get("app") or self.metadata.get("app")
        return named if isinstance(named, str) and named else self.cluster

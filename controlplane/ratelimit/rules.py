"""The limits in force, found by a descriptor's entries. Pure.

Made by `limiter` from the configuration's RateLimits when those change; `decide` looks descriptors up in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controlplane.model.rate_limits import Limit, LimitDescriptor, RateLimit

if TYPE_CHECKING:
    from typing_extensions import Self

Entries = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a descriptor. `exact`: by key and value; `any_value`: by key, where no exact one is."""

    limit: Limit | None = None
    exact: Mapping[tuple[str, str], Node] = field(default_factory=dict)
    any_value: Mapping[str, Node] = field(default_factory=dict)

    @classmethod
    def of(cls, descriptors: Iterable[LimitDescriptor], limit: Limit | None = None) -> Self:
        """Indexes `descriptors` below one."""
        made = [(each, cls.of(each.below, each.limit)) for each in descriptors]
        return cls(
            limit,
            {(each.key, each.value): node for each, node in made if each.value},
            {each.key: node for each, node in made if not each.value},
        )


@dataclass(frozen=True, slots=True)
class Domain:
    """The limits of one domain. `headers`: answers carry RateLimit-* headers."""

    root: Node
    headers: bool = False

    def limit(self, entries: Entries) -> Limit | None:
        """Returns the limit of a descriptor with exactly these entries, in order.

        At each entry the configured value goes before any value, and there is no way back from it: as in
        envoyproxy/ratelimit.
        """
        node = self.root
        for entry in entries:
            found = node.exact.get(entry) or node.any_value.get(entry[0])
            if found is None:
                return None
            node = found
        return node.limit


@dataclass(frozen=True, slots=True)
class Rules:
    """All domains by name."""

    domains: Mapping[str, Domain] = field(default_factory=dict)

    @classmethod
    def of(cls, limits: Iterable[RateLimit]) -> Self:
        """Indexes the limits of a configuration."""
        return cls({each.domain: Domain(Node.of(each.descriptors), each.headers) for each in limits})

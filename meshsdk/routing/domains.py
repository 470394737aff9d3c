"""Which virtual host serves an authority (envoy.config.route.v3.VirtualHost.domains, gRFC A27).

Called by `xds_client.resolve`. Never looks at routes.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshsdk.model.resources import VirtualHost
from meshsdk.routing.matchers import ascii_lower

_EXACT, _SUFFIX, _PREFIX, _ANY = 3, 2, 1, 0


def best_match(authority: str, virtual_hosts: Sequence[VirtualHost]) -> VirtualHost | None:
    """Returns the host with the best domain: exact, else the longest `*suffix`, else the longest `prefix*`, else `*`.

    Case does not count; a `*` stands for at least one character; of equal domains the first host wins. None: no match.
    """
    name = ascii_lower(authority)
    best: VirtualHost | None = None
    best_rank = (-1, 0)
    for host in virtual_hosts:
        for domain in host.domains:
            rank = _rank(ascii_lower(domain), name)
            if rank is not None and rank > best_rank:
                best, best_rank = host, rank
    return best


def _rank(domain: str, name: str) -> tuple[int, int] | None:
    """How well a domain matches, comparable; None if it does not."""
    length = len(domain)
    if domain == name:
        return _EXACT, length
    if domain == "*":
        return _ANY, length
    if len(name) < length:
        return None
    if domain.startswith("*") and name.endswith(domain[1:]):
        return _SUFFIX, length
    if domain.endswith("*") and name.startswith(domain[:-1]):
        return _PREFIX, length
    return None

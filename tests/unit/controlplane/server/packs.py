"""Small resources for tests of the pure server: packed by hand, without protobuf."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from controlplane.server.globs import collection_of
from controlplane.server.resource_map import Packed, Snapshot
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LB_ENDPOINT, LISTENER, ROUTE

CDS, EDS, LDS, RDS, LEDS = CLUSTER, ENDPOINT, LISTENER, ROUTE, LB_ENDPOINT


def packed(type_url: str, name: str, version: str = "1", size: int = 8, refers: tuple[str, ...] = ()) -> Packed:
    """A resource whose version is given; a cluster refers to the endpoints of its own name."""
    digest = hashlib.blake2b(f"{name}\0{version}".encode(), digest_size=16).digest()
    return Packed(
        type_url=type_url,
        name=name,
        version=version,
        digest=int.from_bytes(digest, "big"),
        body=b"x" * size,
        sotw_head=b"",
        delta_head=b"",
        refers=(name,) if type_url == CLUSTER else refers,
        collection=collection_of(name),
    )


def snapshot(*resources: Packed) -> Snapshot:
    """A snapshot that holds just these."""
    found = Snapshot()
    for resource in resources:
        found = found.updated(resource.type_url, [resource])
    return found


def names(resources: Iterable[Packed]) -> list[str]:
    """`name` of version 1, `name@version` of any other."""
    return [found.name if found.version == "1" else f"{found.name}@{found.version}" for found in resources]

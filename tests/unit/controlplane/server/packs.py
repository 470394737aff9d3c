"""Small resources for tests of the pure server: packed by hand, without protobuf."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from controlplane.server.resource_map import EMPTY, Packed, Snapshot
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE

CDS, EDS, LDS, RDS = CLUSTER, ENDPOINT, LISTENER, ROUTE


def packed(type_url: str, name: str, version: str = "1", size: int = 8) -> Packed:
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
        refers=(name,) if type_url == CLUSTER else (),
    )


def snapshot(*resources: Packed) -> Snapshot:
    """A snapshot that holds just these."""
    by_type: dict[str, list[Packed]] = {}
    for resource in resources:
        by_type.setdefault(resource.type_url, []).append(resource)
    return Snapshot({type_url: EMPTY.updated(found) for type_url, found in by_type.items()})


def names(resources: Iterable[Packed]) -> list[str]:
    """`name` of version 1, `name@version` of any other."""
    return [found.name if found.version == "1" else f"{found.name}@{found.version}" for found in resources]

"""Which targets of an unchanged program may mean a service of the mesh. Pure; called once for each channel made."""

from __future__ import annotations

import re

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_PORT = re.compile(r"[0-9]{1,5}|[a-z][a-z0-9-]*")  # a number or a name such as `https`
_SCHEMES = frozenset(
    ("unix", "unix-abstract", "ipv4", "ipv6", "vsock", "xds", "mesh", "google-c2p", "google-c2p-experimental")
)
_LONGEST = 253  # characters, RFC 1035


def service_host(target: object) -> str | None:
    """Returns the host that a channel's target names, in lower case; None for a target that no service can match.

    `orders:50051`, `orders`, `dns:orders:50051` and `dns:///orders:50051` name the host `orders`. IP addresses, local
    hosts, other schemes and targets that name a DNS server of their own match nothing.
    """
    if not isinstance(target, str):
        return None
    scheme, colon, rest = target.partition(":")
    if colon and scheme.lower() in _SCHEMES:
        return None
    place = target
    if colon and scheme.lower() == "dns":
        place = rest.removeprefix("///") if rest.startswith("///") else rest.removeprefix("/")
    host, colon, port = place.partition(":")
    if not _HOST.fullmatch(host) or (colon and not _PORT.fullmatch(port)) or len(host) > _LONGEST:
        return None
    host = host.removesuffix(".").lower()
    if host.rpartition(".")[2].isdigit() or host == "localhost" or host.endswith(".localhost"):
        return None
    return host

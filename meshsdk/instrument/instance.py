"""As what a woven server registers: its application and its address. Pure, but for the host's own IP address.

Called by woven servers as they start.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from meshsdk.bootstrap import Node

APP = "MESHSDK_APP"
ADDRESS = "MESHSDK_ADDRESS"
_LOCAL = "127.0.0.1"


class Bound(NamedTuple):
    """A port that the program bound: the address as it gave it, and the port that it got."""

    given: str
    port: int


def app_of(environ: Mapping[str, str], node: Node) -> str:
    """Returns the application's name: MESHSDK_APP, else the node's label `app`, its metadata `app`, its cluster."""
    labels = node.metadata.get("LABELS")
    found = (
        environ.get(APP),
        labels.get("app") if isinstance(labels, Mapping) else None,
        node.metadata.get("app"),
        node.cluster,
    )
    return next((name for name in found if isinstance(name, str) and name), "")


def address_of(environ: Mapping[str, str], bound: Iterable[Bound], host: str) -> str:
    """Returns `host:port` as peers dial it, "" where the program bound no port of TCP.

    MESHSDK_ADDRESS stands before all (`host:port`, or a host, whose port is the one bound). Else it is the first port
    bound: a server on an address of its own has that one, a server on all addresses has `host`.
    """
    wanted = environ.get(ADDRESS, "")
    if _has_port(wanted):
        return wanted
    for given, port in bound:
        place = _listening_host(given)
        if place is not None and port:
            return _joined(wanted or (place or host), port)
    return ""


def own_host() -> str:
    """Returns the IP address of this host that others most likely reach; no packet is sent."""
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((somewhere, 9))
            return str(probe.getsockname()[0])
    return _LOCAL


def _has_port(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    return bool(colon and host and port.isdigit() and (":" not in host or host.startswith("[")))


def _listening_host(given: str) -> str | None:
    """Returns the host that a listening address names, "" for all addresses, None for what is not TCP."""
    if given.startswith(("unix:", "unix-abstract:", "vsock:")):
        return None
    place = given
    for scheme in ("dns:///", "dns:", "ipv4:", "ipv6:"):
        place = place.removeprefix(scheme)
    host = place.rpartition(":")[0].strip("[]")
    if host in ("", "*"):
        return ""
    if host == "localhost":
        return _LOCAL
    try:
        return "" if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host


def _joined(host: str, port: int) -> str:
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"

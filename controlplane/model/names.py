"""The forms of names, hosts and addresses that configuration and registration share. Pure checks, no lookups."""

from __future__ import annotations

import ipaddress
import re

# Hosts become xDS resource names and are joined with "|" to name subsets: neither "|" nor "/" may be in them.
HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
RESOURCE_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
SUBSET = re.compile(r"(?=.{1,128}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
# Units are joined to cluster names as `host||unit`, and two of them by "+" where one stands in for the other.
UNIT = re.compile(r"(?=.{1,63}$)[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
UNIT_LABEL = "meshsdk.io/unit"  # of a node that does not say UNIT, and of a workload of a file
HEADER = re.compile(r"(?=.{1,256}$)[A-Za-z0-9_.-]+")
FIELD_PATH = re.compile(r"(?=.{1,512}$)[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def ip(text: str) -> str | None:
    """Returns the canonical form of an IP address (a v6 one without brackets), or None where it is none."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def split_address(address: str) -> tuple[str, int] | None:
    """Splits `10.0.0.1:80` or `[::1]:80` into a canonical IP address and a port; None where it is no such thing."""
    host, colon, port = address.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or (":" in host and not host.startswith("[")):
        return None
    canonical = ip(host)
    if canonical is None or not 1 <= int(port) <= 65535:  # noqa: PLR2004 - TCP's highest port
        return None
    return canonical, int(port)

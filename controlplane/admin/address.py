"""Addresses to listen at and to ask: `HOST:PORT`. Pure; light, since every `meshctl` command imports it."""

from __future__ import annotations

import ipaddress

from meshsdk.errors import ConfigurationError


def split_address(address: str) -> tuple[str, int]:
    """Splits `HOST:PORT` (v6 hosts in brackets). Raises ConfigurationError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - TCP's highest port
        raise ConfigurationError(f"{address!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Tells whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

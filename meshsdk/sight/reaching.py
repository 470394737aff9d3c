"""Why an endpoint cannot be reached: gRPC keeps the reason to itself, so `explain` tries the address once more.

A TCP connection that is closed at once, by whoever asks (never by calls); nothing is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

_PATIENCE = 0.5  # seconds for one address
_MOST = 5  # addresses that are tried


def explain_failures(views: list[dict[str, Any]]) -> None:
    """Adds the reason to each endpoint whose connection failed, at most five; takes 2.5 s at most."""
    tried: dict[str, str] = {}
    for endpoint in _failed(views):
        address = str(endpoint["address"])
        if address not in tried:
            if len(tried) >= _MOST:
                return
            tried[address] = _reason(address)
        endpoint["why"] = f"failed: {tried[address]}"


def _failed(views: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for view in views:
        ways: list[Mapping[str, Any]] = view["ways"]
        for way in ways:
            yield from (one for one in way.get("endpoints", ()) if one["why"] == "failed")


def _reason(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return "not an address of TCP"
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except TimeoutError:
        return f"no answer within {_PATIENCE:g} s"
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return "it takes TCP connections; is it a gRPC server, with TLS as this channel has it?"

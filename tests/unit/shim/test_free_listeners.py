"""Listeners that cannot be had are named before anything is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from meshsdk.errors import LifecycleError
from meshsdk.shim.free_listeners import check_listeners
from meshsdk.shim.settings import Inbound, Settings


def _settings(*listens: str, outbound: str = "") -> Settings:
    return Settings("a", Path("/run/a"), tuple(Inbound(one, "127.0.0.1:1") for one in listens), outbound)


def test_a_port_of_another_program() -> None:
    """One that listens, even one that would share its port, has it; without it the address is free, again and again."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(LifecycleError, match=f"--inbound: cannot listen on {address}: Address already in use"):
            check_listeners(_settings(address))
        with pytest.raises(LifecycleError, match="--outbound: cannot listen"):
            check_listeners(_settings(outbound=address))
    for _ in range(2):
        check_listeners(_settings(address, outbound="unix:/run/out"))
    everywhere = f"0.0.0.0:{address.rpartition(':')[2]}"
    with pytest.raises(LifecycleError, match=address):  # twice the same, by another name
        check_listeners(_settings(everywhere, address))

"""The order in which a running shim ends."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

from meshsdk.shim.running import RunningShim


def test_the_shim_itself_is_draining_first() -> None:
    """Before the application is taken offline the registry hears that the shim is about to end."""
    order: list[str] = []
    shim = Mock(spec=RunningShim)
    shim.enrolment = Mock(drain=lambda: order.append("shim"))
    shim.presence = Mock(take_offline=lambda **_: order.append("application") or True)
    shim.settings = SimpleNamespace(app="orders", drain=SimpleNamespace(timeout=0.0))
    shim.supervision = Mock()
    shim.supervision.current.admin.counters.return_value = {}
    RunningShim._drain(shim)
    assert order == ["shim", "application"]

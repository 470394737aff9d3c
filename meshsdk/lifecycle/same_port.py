"""Leaves a port that another process listens at too (SO_REUSEPORT), without losing a connection.

Called as a drain begins. Linux gives each new connection to one of the sockets in LISTEN on a port, by a hash, and
resets what waits in the accept queue of one that closes. So: first a filter has the kernel overlook new SYNs for our
sockets (their senders try again, after a second), then our server accepts what had come before, then our sockets leave
LISTEN, and the second SYN finds the other process. Where there is no other process, or no Linux, nothing is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

_LOG = logging.getLogger("meshsdk.lifecycle")

_SO_ATTACH_FILTER = 26
_LISTEN = "0A"  # of /proc/net/tcp
_HANDSHAKES = 0.2  # seconds for those that had begun before the filter
_PATIENCE = 2.0  # seconds for the server to accept what waits
_TICK = 0.02
_UNACKED = 24  # offset of tcpi_unacked in struct tcp_info: of a listener, the length of its accept queue

# ldb [13] (TCP flags); and SYN|ACK; jeq SYN: drop; else pass. Classic BPF, which needs no privilege.
_NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def leave_shared_port(address: str) -> bool:
    """Stops listening at the port of `address`, if another process goes on doing so. Blocks for some 0.2 s then.

    Returns whether it did. Raises nothing: a drain goes on without it.
    """
    port = int(address.rpartition(":")[2])
    try:
        with contextlib.ExitStack() as stack:
            ours = [stack.enter_context(listener) for listener in _listeners(port)]
            if not ours or not _shared(ours, port):
                return False
            for listener in ours:
                _attach(listener)
            time.sleep(_HANDSHAKES)
            deadline = time.monotonic() + _PATIENCE
            while any(map(_waiting, ours)) and time.monotonic() < deadline:
                time.sleep(_TICK)
            for listener in ours:
                listener.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _LOG.warning("port %d is shared with another process and could not be left to it: %s", port, error)
        return False
    _LOG.info("port %d is left to the other process that listens there", port)
    return True


def _listeners(port: int) -> Iterator[socket.socket]:
    """Yields this process's sockets in LISTEN at the port, each under a descriptor of its own."""
    folder = Path("/proc/self/fd")
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # closed meanwhile, or no socket
            if not str(entry.readlink()).startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(entry.name)))
            if _listens_at(found, port):
                yield found
            else:
                found.close()


def _listens_at(found: socket.socket, port: int) -> bool:
    try:
        return (
            found.family in (socket.AF_INET, socket.AF_INET6)
            and bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            and found.getsockname()[1] == port
        )
    except OSError:
        return False


def _shared(ours: list[socket.socket], port: int) -> bool:
    """Whether someone else listens at each address that we listen at."""
    inodes = {str(os.fstat(listener.fileno()).st_ino) for listener in ours}
    mine: set[str] = set()
    others: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    (mine if fields[9] in inodes else others).add(fields[1])
    return bool(mine) and mine <= others


def _attach(listener: socket.socket) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _NO_SYN))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_NO_SYN), ctypes.addressof(code)))


def _waiting(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED + 4)
    queue: int = struct.unpack_from("=I", info, _UNACKED)[0]
    return queue

"""A TCP relay that counts bytes: stands between a registry and whoever talks to it."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 1 << 16


class Relay:
    """Relays 127.0.0.1:`port` to `address`. A context manager that ends it. `bytes` may be read by any thread."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Listens on a free port of loopback."""
        self._address = address
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._bytes = 0  # guarded by _lock; both ways
        self._sockets: list[socket.socket] = [self._listening]  # guarded by _lock
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bytes(self) -> int:
        """Bytes relayed so far, both ways."""
        with self._lock:
            return self._bytes

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return  # closed
            far = socket.create_connection(self._address)
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(_CHUNK):
                with self._lock:
                    self._bytes += len(chunk)
                sink.sendall(chunk)
        except OSError:
            pass  # one side is closed: so is the other
        finally:
            _shut(sink)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            _shut(one)
            one.close()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was already
        one.shutdown(socket.SHUT_RDWR)

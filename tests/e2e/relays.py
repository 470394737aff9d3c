"""A TCP relay that can be cut, also silently: nobody is told, and nothing arrives any more. For fault drills."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 1 << 16


class Relay:
    """Relays a port of loopback to `address` (`host:port`). A context manager that ends it."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._upstream = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._lock = threading.Lock()
        self._lines: list[_Line] = []  # guarded by _lock
        self._silent = False  # guarded by _lock
        self._refusing = False  # guarded by _lock
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on connections, those that are made later too, take everything and pass nothing on."""
        with self._lock:
            self._silent = True
            for line in self._lines:
                line.silent.set()

    def refuse(self) -> None:
        """Ends all connections and takes no more."""
        with self._lock:
            self._refusing = True
            for line in self._lines:
                line.close()

    def heal(self) -> None:
        """Connections that are made from now on work. Those that were `cut` stay so: their ends have to notice."""
        with self._lock:
            self._silent = self._refusing = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return  # the relay was ended
            with self._lock:
                if self._refusing:
                    near.close()
                    continue
                try:
                    line = _Line(near, self._upstream, silent=self._silent)
                except OSError:  # nobody is there: so it looks from here too
                    near.close()
                    continue
                self._lines.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._listening)
        with self._lock:
            for line in self._lines:
                line.close()


class _Line:
    """One connection and its continuation. `silent`: nothing is passed on, not even an end."""

    def __init__(self, near: socket.socket, upstream: tuple[str, int], *, silent: bool) -> None:
        self.silent = threading.Event()
        self._near = near
        self._far: socket.socket | None = None
        if silent:
            self.silent.set()
            threading.Thread(target=self._swallow, daemon=True).start()
            return
        self._far = socket.create_connection(upstream)
        for one, other in ((near, self._far), (self._far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _swallow(self) -> None:
        with contextlib.suppress(OSError):
            while self._near.recv(_CHUNK):
                pass

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # one side is closed: so is the other
            while chunk := source.recv(_CHUNK):
                if not self.silent.is_set():
                    sink.sendall(chunk)
        if not self.silent.is_set():
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends both sides."""
        _close(self._near)
        if self._far is not None:
            _close(self._far)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was already
        one.shutdown(socket.SHUT_RDWR)
    one.close()

"""A TCP relay between a channel and its backend: counts the bytes, and cuts connections at will."""

from __future__ import annotations

import socket
import threading


class Relay:
    """Relays loopback connections to `port`. `sent` counts the clients' bytes; all fields are guarded by `_lock`."""

    def __init__(self, port: int) -> None:
        """Listens at once, on a free port."""
        self._to = port
        self._lock = threading.Lock()
        self.sent = 0
        self.connections = 0  # that were made; of those, `closed` have ended
        self.closed = 0
        self._open: list[socket.socket] = []
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._run(self._accept)

    def _run(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            with self._lock:
                self.connections += 1
                self._open += [near, far]
                self._sockets += [near, far]
            self._run(self._carry, near, far, True)
            self._run(self._carry, far, near, False)

    def _carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(65536):
                if counted:
                    with self._lock:
                        self.sent += len(data)
                sink.sendall(data)
        except OSError:
            pass  # cut, or the peer reset it: both ends learn below
        if counted:
            with self._lock:
                self.closed += 1
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already gone

    def cut(self) -> None:
        """Breaks every connection, as a process does that dies."""
        with self._lock:
            cut, self._open = self._open, []
        for end in cut:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already gone

    def close(self) -> None:
        """Cuts, and takes no further connection."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        finally:
            self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""kazoo's threads and sockets, with a connection that can be cut. Made by `session`.

kazoo can end a connection only together with its session, which deletes the instances that the session holds. A
registry that is closed must leave them until they lapse.
"""

from __future__ import annotations

import socket
import ssl

from kazoo.handlers.threading import SequentialThreadingHandler


class Sockets(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """`timeout`: seconds in which a connection is made; `security`: what secures it, None for nothing.

    `made`: how many connections were made since it was last set to 0.
    """

    def __init__(self, timeout: float, security: ssl.SSLContext | None) -> None:
        super().__init__()
        self._timeout = timeout
        self._security = security
        self._cut = False  # written once, by `cut`
        self._connection: socket.socket | None = None  # written by kazoo's connection thread
        self.made = 0  # written by kazoo's connection thread

    def create_connection(self, address: tuple[str, int], hostname: str = "", **_: object) -> socket.socket:
        """Makes a connection; called by kazoo, which tries again after an OSError. Its own leaks failed ones."""
        self._refuse_if_cut()
        connection = socket.create_connection(address, self._timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._security is not None:
                connection = self._security.wrap_socket(connection, server_hostname=hostname)
            self._connection = connection
            self._refuse_if_cut()
        except BaseException:
            connection.close()
            raise
        self.made += 1
        return connection

    def cut(self) -> None:
        """Breaks the connection and lets none be made any more."""
        self._cut = True
        connection = self._connection
        if connection is not None:
            _shut(connection)

    def _refuse_if_cut(self) -> None:
        if self._cut:
            raise OSError("the connection was ended by this process")


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already

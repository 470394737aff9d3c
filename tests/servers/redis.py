"""A real Redis (Debian redis-server) for tests of the rate limit service."""

from __future__ import annotations

import socket

from tests.e2e.processes import program
from tests.servers.process import ServerProcess


class RedisServer(ServerProcess):
    """One server that keeps nothing on disk. `password`: demanded of every client."""

    kind = "Redis"

    def __init__(self, password: str = "") -> None:
        super().__init__()
        self._password = password

    @property
    def url(self) -> str:
        """What `--rate-limit-store` takes."""
        return f"redis://{self.address}/0"

    def _command(self) -> list[str]:
        settings = self.folder / "redis.conf"
        settings.write_text(f"requirepass {self._password}\n" if self._password else "")
        return [
            *(program("redis-server"), str(settings), "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", str(self.folder)),
        ]

    def _answers(self) -> bool:
        return self.say("PING").startswith((b"+PONG", b"-NOAUTH"))

    def say(self, command: str) -> bytes:
        """Sends one inline command on a connection of its own; returns what is answered at first."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            if self._password and command != "PING":
                connection.sendall(f"AUTH {self._password}\r\n".encode())
                connection.recv(100)
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(65_536)

"""A real ZooKeeper server (Debian's `zookeeper`), standalone, for contract and end-to-end tests."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

from tests.e2e.processes import program
from tests.servers.process import ServerProcess

_JAVA = Path("/usr/share/java")
# Of Debian's libzookeeper-java, whose manifest names the rest but for what TLS needs; and what writes its log.
_JARS = [_JAVA / f"{name}.jar" for name in ("zookeeper", "netty-codec", "netty-resolver", "slf4j-simple")]
_SESSION = re.compile(r"0x([0-9a-f]+)")
_TICK = 500  # milliseconds; sessions last 2 to 20 ticks


class ZooKeeperServer(ServerProcess):
    """One server, with more `settings` of its configuration file."""

    kind = "ZooKeeper"

    def __init__(self, **settings: str) -> None:
        if not _JARS[0].exists():
            raise FileNotFoundError(f"{_JARS[0]} is missing: apt-get install zookeeper")
        super().__init__()
        self._settings = settings

    def _command(self) -> list[str]:
        (self.folder / "zoo.cfg").write_text(
            f"tickTime={_TICK}\ndataDir={self.folder / 'data'}\nclientPortAddress=127.0.0.1\n"
            f"clientPort={self.port}\nadmin.enableServer=false\nmaxClientCnxns=0\n"
            "4lw.commands.whitelist=srvr,dump\nstandaloneEnabled=true\n"
            + "".join(f"{name}={value}\n" for name, value in self._settings.items()),
            encoding="utf-8",
        )
        return [
            program("java"),
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # it lives for seconds: no time for the optimizing compiler
            "-Dzookeeper.jmx.log4j.disable=true",
            "-Dzookeeper.forceSync=no",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
            *("-cp", ":".join(map(str, _JARS))),
            *("org.apache.zookeeper.server.ZooKeeperServerMain", str(self.folder / "zoo.cfg")),
        ]

    def _answers(self) -> bool:
        return "Mode: standalone" in self.ask("srvr")  # "ruok" answers before it serves

    def forget(self) -> None:
        """Removes what it stored. It must not be running."""
        shutil.rmtree(self.folder / "data")

    def sessions(self) -> set[int]:
        """Returns the ids of the sessions that it keeps."""
        return {int(found, 16) for found in _SESSION.findall(self.ask("dump").partition("ephemeral nodes dump")[0])}

    def ask(self, word: str) -> str:
        """Returns the answer to a four-letter word."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(word.encode())
            return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()

"""A real ZooKeeper server (Debian's `zookeeper`) as a child process, for contract and end-to-end tests.

Loopback only, in a directory of its own that survives `kill` and `start`, on a port that is free at first.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.e2e.processes import program, until

_JAVA = Path("/usr/share/java")
# Of Debian's libzookeeper-java, whose manifest names the rest but for what TLS needs; and what writes its log.
_JARS = [_JAVA / f"{name}.jar" for name in ("zookeeper", "netty-codec", "netty-resolver", "slf4j-simple")]
_SESSION = re.compile(r"0x([0-9a-f]+)")
_TICK = 500  # milliseconds; sessions last 2 to 20 ticks


class ZooKeeperServer:
    """One standalone server. `address` is `host:port`, the same over restarts."""

    def __init__(self, **settings: str) -> None:
        """Starts it with more `settings` and waits until it serves."""
        if not _JARS[0].exists():
            raise FileNotFoundError(f"{_JARS[0]} is missing: apt-get install zookeeper")
        self._folder = Path(tempfile.mkdtemp(prefix="meshsdk-zookeeper-"))
        self._port = free_port()
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        """Where it serves."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it on what it has stored, and waits until it serves; nothing to do where it runs."""
        if self._child is not None:
            return
        (self._folder / "zoo.cfg").write_text(
            f"tickTime={_TICK}\ndataDir={self._folder / 'data'}\nclientPortAddress=127.0.0.1\n"
            f"clientPort={self._port}\nadmin.enableServer=false\nmaxClientCnxns=0\n"
            "4lw.commands.whitelist=srvr,dump\nstandaloneEnabled=true\n"
            + "".join(f"{name}={value}\n" for name, value in self._settings.items()),
            encoding="utf-8",
        )
        with (self._folder / "log").open("wb") as log:
            self._child = subprocess.Popen(
                [
                    program("java"),
                    "-Xmx256m",
                    "-XX:+UseSerialGC",
                    "-XX:TieredStopAtLevel=1",  # it lives for seconds: no time for the optimizing compiler
                    "-Dzookeeper.jmx.log4j.disable=true",
                    "-Dzookeeper.forceSync=no",
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
                    "-cp",
                    ":".join(map(str, _JARS)),
                    "org.apache.zookeeper.server.ZooKeeperServerMain",
                    str(self._folder / "zoo.cfg"),
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(self._serves, "ZooKeeper serves")
        except AssertionError as error:
            words = f"{error}; its log ends with:\n{self._log()[-2000:]}"
            self.close()
            raise AssertionError(words) from None

    def kill(self) -> None:
        """Ends it with SIGKILL; what it stored stays."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def freeze(self) -> None:
        """Stops its threads; connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undoes `freeze`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes what it stored."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def forget(self) -> None:
        """Removes what it stored. It must not be running."""
        shutil.rmtree(self._folder / "data")

    def sessions(self) -> set[int]:
        """Returns the ids of the sessions that it keeps."""
        return {int(found, 16) for found in _SESSION.findall(self.ask("dump").partition("ephemeral nodes dump")[0])}

    def ask(self, word: str) -> str:
        """Returns the answer to a four-letter word."""
        with socket.create_connection(("127.0.0.1", self._port), 5) as connection:
            connection.sendall(word.encode())
            return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()

    def _serves(self) -> bool:
        if self._child is None or self._child.poll() is not None:
            raise AssertionError("it ended")
        return "Mode: standalone" in self.ask("srvr")  # "ruok" answers before it serves

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            os.kill(self._child.pid, number)

    def _log(self) -> str:
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    """Returns a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

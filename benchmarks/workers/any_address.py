"""Accepts connections on every address of 127.0.0.0/8 and speaks just enough HTTP/2 for gRPC to call them READY.

So a client may have 100,000 endpoints that are all alive. Bound to the loopback device: nothing outside can reach it.
Says `{"port": p}`, then serves until standard input closes.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from benchmarks.workers import stdio

# RFC 9113 section 6.5: an empty SETTINGS frame, and the acknowledgement of the peer's.
_SETTINGS, _ACKNOWLEDGED = b"\0\0\0\x04\0\0\0\0\0", b"\0\0\0\x04\x01\0\0\0\0"


class _Connection(asyncio.Protocol):
    def connection_made(self, transport):
        """Sends the server's preface."""
        self.transport = transport
        transport.write(_SETTINGS)

    def data_received(self, data):
        """Acknowledges the client's settings, once: they come first."""
        if self.transport is not None:
            self.transport.write(_ACKNOWLEDGED)
            self.transport = None


async def main() -> None:
    """Serves."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    listening.bind(("", 0))
    listening.listen(4096)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, sock=listening)
    stdio.say({"port": listening.getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())

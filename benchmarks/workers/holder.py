"""A client without calls that keeps up with its configuration: `holder native|idle|mesh`. B2 and B3 look at it.

The bootstrap comes in the environment. Says `{"ready": true}` once connected, then waits until standard input closes.
`idle`: native with a policy that does not connect before the first call; it is not waited for.
"""

from __future__ import annotations

import sys

import grpc

from benchmarks.workers import stdio

_PATIENCE = 60.0  # seconds


def main() -> None:
    """Dials `xds:///orders` and holds the channel."""
    if sys.argv[1] == "mesh":
        import meshsdk  # noqa: PLC0415 - the native client must not pay for it

        channel = meshsdk.channel("xds:///orders")
    else:
        channel = grpc.insecure_channel("xds:///orders")
    if sys.argv[1] == "idle":
        channel._channel.check_connectivity_state(True)
    else:
        grpc.channel_ready_future(channel).result(_PATIENCE)
    stdio.say({"ready": True})
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""A parent that calls `orders` as anna, forks a child that does too, and calls on. Prints who called and how it ended.

Argument: the bootstrap (JSON).
"""

from __future__ import annotations

import json
import os
import sys

import grpc

import meshsdk


def main() -> int:
    """Returns the exit code."""
    mesh = meshsdk.Mesh(json.loads(sys.argv[1]))
    method = mesh.channel("xds:///orders").unary_unary("/test.Echo/Say")

    def call(who: str) -> None:
        try:
            method(b"", timeout=20, metadata=(("x-user", "anna"),))
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        os.write(1, f"{who} {code}\n".encode())

    call("parent")
    process = os.fork()
    if process == 0:
        call("child")
        return 0
    failed = os.waitpid(process, 0)[1]
    call("parent")
    call("parent")
    mesh.close()
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())

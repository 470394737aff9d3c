"""A parent that calls `mesh:///orders`, forks twice four children that call, and goes on calling. Prints who called.

The registry is the one of the bootstrap in the environment. Every process calls over the channel that it inherited.
"""

from __future__ import annotations

import os
import sys

import meshsdk

METHOD = "/shop.Orders/Get"


def main() -> int:
    """Returns the exit code."""
    call = meshsdk.channel("mesh:///orders").unary_unary(METHOD)
    assert call(b"x", timeout=20, wait_for_ready=True) == b"x"
    os.write(1, b"parent\n")
    failed = 0
    for _ in range(2):
        children = []
        for _ in range(4):
            process = os.fork()
            if process == 0:
                assert call(b"x", timeout=20) == b"x"
                os.write(1, b"child\n")
                return 0
            children.append(process)
        assert call(b"x", timeout=20) == b"x"
        failed += sum(os.waitpid(process, 0)[1] != 0 for process in children)
    assert call(b"x", timeout=20) == b"x"
    os.write(1, b"parent\n" if not failed else b"failed\n")
    return min(failed, 100)


if __name__ == "__main__":
    sys.exit(main())

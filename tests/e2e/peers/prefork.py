"""A pre-fork server, gunicorn style: the parent has used the mesh, four children call, the parent goes on calling.

Run by tests/e2e/test_fork.py with the mesh's bootstrap in the environment: `prefork.py GENERATIONS [used|made|closed]`.
Prints one line for each process and generation: who it is and which instances answered it; exits 0 if all calls passed.
"""

from __future__ import annotations

import os
import sys

import meshsdk
from examples import orders_pb2, orders_pb2_grpc

CHILDREN = 4
TIMEOUT = 20


def use(stub: orders_pb2_grpc.OrdersStub) -> str:
    """Makes calls of every shape; returns who answered."""
    request = orders_pb2.GetRequest(order_id="42")
    seen = {stub.Get(request, timeout=TIMEOUT).served_by for _ in range(10)}
    seen.add(stub.Get.future(request, timeout=TIMEOUT).result().served_by)
    seen.update(order.served_by for order in stub.Watch(request, timeout=TIMEOUT))
    assert stub.Upload(iter([orders_pb2.Order()] * 3), timeout=TIMEOUT).orders == 3
    seen.update(order.served_by for order in stub.Chat(iter([request] * 3), timeout=TIMEOUT))
    return ",".join(sorted(seen))


def tell(*words: str) -> None:
    """Prints a line in one write: the processes share the pipe."""
    os.write(1, (" ".join(words) + "\n").encode())


def child(stub: orders_pb2_grpc.OrdersStub) -> None:
    """A worker: calls over what it inherited and over a channel of its own."""
    inherited = use(stub)
    with meshsdk.channel("xds:///orders") as channel:
        own = use(orders_pb2_grpc.OrdersStub(channel))
    tell("child", inherited, own)


def main(generations: int, before: str) -> int:
    """Forks and calls; returns the exit code."""
    stub = orders_pb2_grpc.OrdersStub(meshsdk.channel("xds:///orders"))
    if before == "used":
        tell("parent", use(stub))
    elif before == "closed":
        with meshsdk.channel("xds:///orders") as channel:
            tell("parent", use(orders_pb2_grpc.OrdersStub(channel)))
    failed = 0
    for _ in range(generations):
        children = []
        for _ in range(CHILDREN):
            process = os.fork()
            if process == 0:
                child(stub)
                return 0  # through the interpreter's own end, as a worker leaves
            children.append(process)
        tell("parent", use(stub))
        failed += sum(os.waitpid(process, 0)[1] != 0 for process in children)
        tell("parent", use(stub))
    return min(failed, 100)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))

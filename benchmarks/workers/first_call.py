"""A fresh process that makes one call: `first_call native|mesh`, with the bootstrap in the environment.

Says how long it took, seconds: `import` of the library and of a service's generated stubs, `call` from then until the
answer.
"""

from __future__ import annotations

import sys
import time

BEGAN = time.perf_counter()


def main() -> None:
    """Calls once; with a second argument, stays that many seconds: the disk cache is written after two."""
    if sys.argv[1] == "mesh":
        from meshsdk import channel as make  # noqa: PLC0415 - its time is what is measured
    else:
        from grpc import insecure_channel as make  # noqa: PLC0415 - see above
    from examples import orders_pb2, orders_pb2_grpc  # noqa: PLC0415 - see above

    imported = time.perf_counter()
    orders = orders_pb2_grpc.OrdersStub(make("xds:///orders"))
    answer = orders.Get(orders_pb2.GetRequest(order_id="x" * 100), timeout=30, wait_for_ready=True)
    ended = time.perf_counter()
    if len(answer.order_id) != 100:
        raise RuntimeError(f"the backend answered {answer!r}")
    if len(sys.argv) > 2:
        time.sleep(float(sys.argv[2]))
    import json  # noqa: PLC0415 - not part of what is measured

    print(json.dumps({"import": imported - BEGAN, "call": ended - imported}), flush=True)


if __name__ == "__main__":
    main()

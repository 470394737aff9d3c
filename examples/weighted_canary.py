"""A canary: 90 of 100 calls go to v1 and 10 to v2, then all to v2, while the client keeps calling.

Run: python -m examples.weighted_canary
"""

from __future__ import annotations

import time
from collections import Counter

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance

SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"""

SPLIT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - route:
    - {destination: {host: orders, subset: v1}, weight: %d}
    - {destination: {host: orders, subset: v2}, weight: %d}
"""


def main() -> tuple[Counter[str], Counter[str]]:
    """Counts versions at 90/10, then waits for the shift and counts again."""
    with (
        meshsdk.testing.control_plane(SUBSETS + "---" + SPLIT % (90, 10)) as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v2"),
        plane.mesh(app="web") as mesh,
        mesh.channel("xds:///orders") as channel,
    ):
        orders = orders_pb2_grpc.OrdersStub(channel)

        def versions(calls: int) -> Counter[str]:
            request = orders_pb2.GetRequest(order_id="42")
            return Counter(orders.Get(request, timeout=5).version for _ in range(calls))

        before = versions(500)
        plane.apply(SPLIT % (0, 100))
        deadline = time.monotonic() + 10
        while versions(50) != {"v2": 50} and time.monotonic() < deadline:
            time.sleep(0.05)
        after = versions(500)
    print("90/10:", dict(before), " 0/100:", dict(after))
    return before, after


if __name__ == "__main__":
    main()

"""Routing on a field of the request: users of tier "gold" get v2, all others v1.

Run: python -m examples.request_field
"""

from __future__ import annotations

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance
from examples.weighted_canary import SUBSETS

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - match:
    - params: {"user.tier": {exact: gold}}
    route:
    - destination: {host: orders, subset: v2}
  - route:
    - destination: {host: orders, subset: v1}
"""


def main() -> dict[str, str]:
    """Calls as users of three tiers and notes which version answered."""
    with (
        meshsdk.testing.control_plane(SUBSETS + "---" + RULE) as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v2"),
        plane.mesh(app="web") as mesh,
        mesh.channel("xds:///orders") as channel,
    ):
        orders = orders_pb2_grpc.OrdersStub(channel)
        answers = {}
        for tier in ("gold", "silver", ""):
            request = orders_pb2.GetRequest(order_id="42", user=orders_pb2.User(tier=tier))
            answers[tier] = orders.Get(request, timeout=5).version
    print(answers)
    return answers


if __name__ == "__main__":
    main()

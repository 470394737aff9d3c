"""Routing by the calling application: calls of app "web" get v1, calls of app "batch" get v2.

The control plane resolves `sourceLabels` for each client, so a client only ever sees its own routes.

Run: python -m examples.calling_application
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
    - sourceLabels: {app: batch}
    route:
    - destination: {host: orders, subset: v2}
  - route:
    - destination: {host: orders, subset: v1}
"""


def main() -> dict[str, str]:
    """Calls as two applications and notes which version answered each."""
    answers = {}
    with (
        meshsdk.testing.control_plane(SUBSETS + "---" + RULE) as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v2"),
    ):
        for app in ("web", "batch"):
            with plane.mesh(app=app) as mesh, mesh.channel("xds:///orders") as channel:
                orders = orders_pb2_grpc.OrdersStub(channel)
                answers[app] = orders.Get(orders_pb2.GetRequest(order_id="42"), timeout=5).version
    print(answers)
    return answers


if __name__ == "__main__":
    main()

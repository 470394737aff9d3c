"""One service calls another through the mesh: control plane, two instances and a client in one process.

Run: python -m examples.quickstart
"""

from __future__ import annotations

from collections import Counter

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance


def main() -> Counter[str]:
    """Makes 20 calls and counts which instance answered."""
    with (
        meshsdk.testing.control_plane() as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v1"),
        plane.mesh(app="web") as mesh,
        mesh.channel("xds:///orders") as channel,
    ):
        orders = orders_pb2_grpc.OrdersStub(channel)
        answers = Counter(orders.Get(orders_pb2.GetRequest(order_id="42"), timeout=5).served_by for _ in range(20))
    print(dict(answers))
    return answers


if __name__ == "__main__":
    main()

"""Streams through the mesh: server streaming, client streaming, and both ways at once.

Run: python -m examples.streaming
"""

from __future__ import annotations

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance


def main() -> tuple[list[str], int, list[str]]:
    """Makes one call of each streaming shape."""
    with (
        meshsdk.testing.control_plane() as plane,
        instance(plane, "orders-1", "v1"),
        plane.mesh(app="web") as mesh,
        mesh.channel("xds:///orders") as channel,
    ):
        orders = orders_pb2_grpc.OrdersStub(channel)
        steps = [order.order_id for order in orders.Watch(orders_pb2.GetRequest(order_id="42"), timeout=5)]
        counted = orders.Upload((orders_pb2.Order(order_id=str(n)) for n in range(10)), timeout=5).orders
        requests = (orders_pb2.GetRequest(order_id=str(n)) for n in range(3))
        answers = [order.order_id for order in orders.Chat(requests, timeout=5)]
    print(steps, counted, answers)
    return steps, counted, answers


if __name__ == "__main__":
    main()

"""The quickstart with asyncio: 20 calls at once through one `grpc.aio` channel of the mesh.

Run: python -m examples.asyncio_client
"""

from __future__ import annotations

import asyncio
from collections import Counter

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance


async def call(mesh: meshsdk.Mesh) -> Counter[str]:
    """Makes the calls on the running loop."""
    async with mesh.aio_channel("xds:///orders") as channel:
        orders = orders_pb2_grpc.OrdersStub(channel)
        calls = [orders.Get(orders_pb2.GetRequest(order_id=str(n)), timeout=5) for n in range(20)]
        return Counter([answer.served_by for answer in await asyncio.gather(*calls)])


def main() -> Counter[str]:
    """Runs the client against two instances."""
    with (
        meshsdk.testing.control_plane() as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v1"),
        plane.mesh(app="web") as mesh,
    ):
        answers = asyncio.run(call(mesh))
    print(dict(answers))
    return answers


if __name__ == "__main__":
    main()

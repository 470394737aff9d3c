"""Units: a user's calls stay where the user's data are; one line drains a unit into another.

The last two digits of the header `x-user` say which unit a user belongs to. Callers in the unit east may leave for
west; those in west may not leave; a gateway stands outside of both and finds the unit by the key.

Run: python -m examples.units
"""

from __future__ import annotations

import time

import grpc

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance

POLICY = """
apiVersion: meshsdk.io/v1alpha1
kind: UnitPolicy
metadata: {name: shop}
spec:
  units: [east, west]
  services:
  - {hosts: [orders], scope: CLOSED}
  key:
    sources:
    - header: x-user
    rules:
    - {unit: east, integers: [{from: 0, to: 49, modulo: 100}]}
    - {unit: west, integers: [{from: 50, to: 99, modulo: 100}]}
  exits:
  - {from: east, to: west}
"""
DRAIN = "  drain: {west: east}\n"


def main() -> dict[str, str]:
    """Calls from both units and from outside, and notes who answered."""
    answers = {}
    with (
        meshsdk.testing.control_plane(POLICY) as plane,
        instance(plane, "orders-east", "v1", unit="east"),
        instance(plane, "orders-west", "v1", unit="west"),
        plane.mesh(app="web", labels={"meshsdk.io/unit": "east"}) as east,
        plane.mesh(app="web", labels={"meshsdk.io/unit": "west"}) as west,
        plane.mesh(app="gateway") as gateway,
    ):

        def call(mesh: meshsdk.Mesh, key: str = "") -> str:
            with mesh.channel("xds:///orders") as channel:
                metadata = (("x-user", key),) if key else ()
                request = orders_pb2.GetRequest(order_id="42")
                try:
                    return orders_pb2_grpc.OrdersStub(channel).Get(request, timeout=5, metadata=metadata).served_by
                except grpc.RpcError as error:
                    return error.code().name

        answers["east, key 12"] = call(east, "12")
        answers["east, no key"] = call(east)
        answers["east, key 77"] = call(east, "77")
        answers["west, key 12"] = call(west, "12")
        answers["gateway, key 77"] = call(gateway, "77")
        plane.apply(POLICY + DRAIN)
        deadline = time.monotonic() + 10
        while call(gateway, "77") != "orders-east" and time.monotonic() < deadline:
            time.sleep(0.05)
        answers["gateway, key 77, west drained"] = call(gateway, "77")
    print(answers)
    return answers


if __name__ == "__main__":
    main()

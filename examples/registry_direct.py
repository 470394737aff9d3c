"""One service calls another straight from a registry, with no control plane: by application, then by gRPC service.

The registry here lives in this process (`memory://`); `etcd://`, `zookeeper://`, ... take its place by their URL.

Run: python -m examples.registry_direct
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import meshsdk
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance

BOOTSTRAP = {"node": {"id": "example"}, "meshsdk": {"registries": {"default": {"url": "memory://example"}}}}
REGISTRY = SimpleNamespace(bootstrap=lambda app: {**BOOTSTRAP, "node": {"id": app}})
TARGETS = ("mesh:///orders", "mesh:///orders.v1.Orders")


def main() -> Counter[str]:
    """Makes 10 calls to each target and counts which instance answered."""
    answers: Counter[str] = Counter()
    with instance(REGISTRY, "orders-1", "v1"), instance(REGISTRY, "orders-2", "v1"), meshsdk.Mesh(BOOTSTRAP) as mesh:
        for target in TARGETS:
            with mesh.channel(target) as channel:
                orders = orders_pb2_grpc.OrdersStub(channel)
                for _ in range(10):
                    answers[orders.Get(orders_pb2.GetRequest(order_id="42"), timeout=5).served_by] += 1
    print(dict(answers))
    return answers


if __name__ == "__main__":
    main()

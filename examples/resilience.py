"""Half of the calls are failed on purpose; of others three are let through, and the next is told when to come back.

Run: python -m examples.resilience
"""

from __future__ import annotations

from collections import Counter

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import Orders
from meshsdk.testing import FakeMesh

POLICIES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - match: [{uri: {exact: /orders.v1.Orders/Get}}]
    fault: {abort: {percentage: {value: 50}, grpcStatus: UNAVAILABLE}}
    route: [{destination: {host: orders}}]
  - route: [{destination: {host: orders}}]
---
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {name: orders}
spec:
  targetRef: {kind: Service, name: orders}
  rules:
  - match: {method: /orders.v1.Orders/Upload}
    localRateLimit: {tokenBucket: {maxTokens: 3, fillInterval: 1h}}
"""


def outcome(call) -> str:
    """Makes a call and says how it ended."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def limits(stub) -> list[str]:
    """Makes five calls, of which two are one too many; returns what the last refusal says beside its status."""
    requests = [orders_pb2.GetRequest(order_id="1")]
    seen = [outcome(lambda: stub.Upload(iter(requests), timeout=5)) for _ in range(4)]
    try:
        stub.Upload(iter(requests), timeout=5)
    except grpc.RpcError as error:
        for detail in rpc_status.from_call(error).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                seen.append(info.reason)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                seen.append("with the time to wait")
    return seen


def main() -> tuple[Counter[str], list[str]]:
    """Counts how 200 calls ended, then runs into the limit."""
    with FakeMesh() as mesh:
        for name in ("orders-1", "orders-2"):
            mesh.serve(
                "orders", lambda server, n=name: orders_pb2_grpc.add_OrdersServicer_to_server(Orders(n, "v1"), server)
            )
        mesh.apply(POLICIES)
        stub = orders_pb2_grpc.OrdersStub(mesh.channel("xds:///orders"))
        request = orders_pb2.GetRequest(order_id="42")
        faults = Counter(outcome(lambda: stub.Get(request, timeout=5)) for _ in range(200))
        limited = limits(stub)
    print(dict(faults), limited)
    return faults, limited


if __name__ == "__main__":
    main()

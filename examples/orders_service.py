"""The orders service that the examples call: it answers with its own name and version."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc

import meshsdk
from examples import orders_pb2, orders_pb2_grpc
from meshsdk.testing import ControlPlane


class Orders(orders_pb2_grpc.OrdersServicer):
    """All four call shapes."""

    def __init__(self, name: str, version: str) -> None:
        """Takes what the answers say."""
        self.name = name
        self.version = version

    def _order(self, order_id: str) -> orders_pb2.Order:
        return orders_pb2.Order(order_id=order_id, served_by=self.name, version=self.version)

    @meshsdk.rpc(idempotent=True, timeout="2s")
    def Get(self, request, context):
        """One request, one answer."""
        return self._order(request.order_id)

    def Watch(self, request, context):
        """One request, three answers."""
        for step in ("placed", "packed", "sent"):
            yield self._order(f"{request.order_id}/{step}")

    def Upload(self, request_iterator, context):
        """Counts the orders it is sent."""
        return orders_pb2.Summary(orders=sum(1 for _ in request_iterator))

    def Chat(self, request_iterator, context):
        """Answers each request at once."""
        for request in request_iterator:
            yield self._order(request.order_id)


@contextmanager
def instance(plane: ControlPlane, name: str, version: str, unit: str = "") -> Iterator[str]:
    """Runs one instance in this process, registered as app `orders` with the label `version`; gives its address."""
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=meshsdk.server_interceptors())
    orders_pb2_grpc.add_OrdersServicer_to_server(Orders(name, version), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    service = meshsdk.serve(
        server,
        app="orders",
        address=address,
        metadata={"version": version},
        unit=unit,
        bootstrap=plane.bootstrap("orders"),
        handle_signals=False,
    )
    if not service.wait_online(10):
        raise RuntimeError(f"{name} is not online after 10 s")
    try:
        yield address
    finally:
        service.stop()

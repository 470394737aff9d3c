"""Going online when the application is ready, and offline while a stream runs: the handler is told and ends it well.

Run: python -m examples.going_online
"""

from __future__ import annotations

import threading
from concurrent import futures
from urllib.request import urlopen

import grpc

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import Orders


class PatientOrders(Orders):
    """Watches for as long as the server stays online."""

    def Watch(self, request, context):
        """Tells the steps, waits for the drain, and says goodbye."""
        yield from super().Watch(request, context)
        meshsdk.draining(context).wait(timeout=30)
        yield self._order(f"{request.order_id}/go on elsewhere")


def main() -> list[str]:
    """Serves, takes one stream offline with the server, and prints what was seen on the way."""
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=meshsdk.server_interceptors())
    orders_pb2_grpc.add_OrdersServicer_to_server(PatientOrders("orders-1", "v1"), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    seen = []
    with meshsdk.testing.control_plane() as plane, plane.mesh(app="web") as mesh:
        service = meshsdk.serve(
            server,
            app="orders",
            address=address,
            ready=False,  # registered as STARTING until the application says so
            health_port=0,  # /readyz and /livez on loopback, on any port
            bootstrap=plane.bootstrap("orders"),
            handle_signals=False,
        )
        seen.append(f"online within 0.2 s: {service.wait_online(0.2)}")
        service.ready()
        seen.append(f"online when ready: {service.wait_online(10)}")
        with urlopen(f"http://{service.health_address}/readyz") as answer:
            seen.append(f"/readyz: {answer.status}")
        orders = orders_pb2_grpc.OrdersStub(mesh.channel("xds:///orders"))
        stream = orders.Watch(orders_pb2.GetRequest(order_id="42"), timeout=30)
        seen += [next(stream).order_id for _ in range(3)]
        threading.Thread(target=service.drain).start()
        seen += [order.order_id for order in stream]
        service.wait()
    print("\n".join(seen))
    return seen


if __name__ == "__main__":
    main()

"""One instance of the orders service as a process: `server.py NAME VERSION`. Drains on SIGTERM.

Bootstrap comes from GRPC_XDS_BOOTSTRAP_CONFIG, as for any service in the mesh.
"""

from __future__ import annotations

import sys
from concurrent import futures

import grpc

import meshsdk
from examples import orders_pb2_grpc
from examples.orders_service import Orders


def main(name: str, version: str) -> None:
    """Serves until it has drained."""
    server = grpc.server(futures.ThreadPoolExecutor(32), interceptors=meshsdk.server_interceptors())
    orders_pb2_grpc.add_OrdersServicer_to_server(Orders(name, version), server)
    port = server.add_insecure_port("127.0.0.1:0")
    service = meshsdk.serve(server, app="orders", address=f"127.0.0.1:{port}", metadata={"version": version})
    if not service.wait_online(10):
        sys.exit(f"{name} is not online after 10 s")
    print("online", flush=True)
    service.wait()


if __name__ == "__main__":
    main(*sys.argv[1:3])

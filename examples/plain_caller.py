"""A plain grpcio program, for `examples.unchanged_program` to run: nothing here knows of meshsdk."""

from __future__ import annotations

from collections import Counter

import grpc

from examples import orders_pb2, orders_pb2_grpc

ORDERS = orders_pb2_grpc.OrdersStub(grpc.insecure_channel("orders:50051"))

if __name__ == "__main__":
    print(dict(Counter(ORDERS.Get(orders_pb2.GetRequest(order_id="42"), timeout=5).served_by for _ in range(20))))

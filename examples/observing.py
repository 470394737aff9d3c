"""What a call leaves behind: spans of the call and its attempts, metrics for Prometheus, and a line of the access log.

Run: python -m examples.observing
"""

from __future__ import annotations

import json
import logging
import urllib.request

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import Orders
from meshsdk import telemetry
from meshsdk.testing import FakeMesh


class Lines(logging.Handler):
    """Keeps the access log's lines."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict] = []

    def emit(self, record) -> None:
        """Keeps one."""
        self.seen.append(json.loads(record.getMessage()))


def main() -> tuple[list[str], list[str], dict]:
    """Makes one call; returns the spans' names, the client's metrics, and the access log's line."""
    spans, lines = InMemorySpanExporter(), Lines()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    access = logging.getLogger("meshsdk.access")
    access.addHandler(lines)
    access.setLevel(logging.INFO)
    access.propagate = False
    telemetry.enable(traces=True, metrics=True, prometheus=0, tracer_provider=provider)
    telemetry.access_log(1.0)
    try:
        with FakeMesh() as mesh:
            mesh.serve(
                "orders", lambda server: orders_pb2_grpc.add_OrdersServicer_to_server(Orders("orders-1", "v1"), server)
            )
            stub = orders_pb2_grpc.OrdersStub(mesh.channel("xds:///orders"))
            stub.Get(orders_pb2.GetRequest(order_id="42"), timeout=5)
            with urllib.request.urlopen(f"http://127.0.0.1:{telemetry.prometheus_port()}/metrics", timeout=5) as answer:
                text = answer.read().decode()
    finally:
        telemetry.disable()
    names = [span.name for span in spans.get_finished_spans()]
    metrics = sorted({line.partition("{")[0] for line in text.splitlines() if line.startswith("grpc_client_call")})
    line = {key: lines.seen[0][key] for key in ("target", "method", "status", "attempts")}
    print(names, metrics, line)
    return names, metrics, line


if __name__ == "__main__":
    main()

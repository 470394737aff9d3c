"""What servers tell of their load, with the answers of calls and out of band: `grpc` and `grpc.aio` alike."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

import meshsdk.aio
import meshsdk.orca
from tests.contract.channel_callers import PATIENCE, LoopThread
from tests.contract.test_channel_connecting import wait

OUT_OF_BAND = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
KINDS = ("sync", "aio", "aio threads")


@dataclass
class Serving:
    """A server of one kind, with its load."""

    load: meshsdk.orca.ServerLoad
    channel: grpc.Channel

    def ask(self, method: str, request: bytes = b"") -> tuple[Any, dict[str, Any]]:
        """Makes a unary call; returns the call, or its error, and its trailing metadata."""
        try:
            call: Any = self.channel.unary_unary(f"/o.O/{method}").with_call(request, timeout=PATIENCE)[1]
        except grpc.RpcError as error:
            call = error
        return call, dict(call.trailing_metadata())

    def reports(self, interval: float = 0.0) -> Any:
        """The stream of reports."""
        request = OrcaLoadReportRequest()
        request.report_interval.FromMilliseconds(int(interval * 1000))
        stub = self.channel.unary_stream(
            OUT_OF_BAND, OrcaLoadReportRequest.SerializeToString, OrcaLoadReport.FromString
        )
        return stub(request, timeout=PATIENCE)


def _record(context: Any) -> None:
    context.set_trailing_metadata((("mine", "1"),))
    meshsdk.orca.recorder(context).application_utilization(0.25).qps(80)


def _failing(_request: bytes, context: Any) -> bytes:
    _record(context)
    context.set_code(grpc.StatusCode.DATA_LOSS)
    return b""


def _answering(request: bytes, context: Any) -> bytes:
    _record(context)
    return request


async def _aio_answering(request: bytes, context: Any) -> bytes:
    _record(context)
    return request


async def _aio_failing(_request: bytes, context: Any) -> None:
    _record(context)
    await context.abort(grpc.StatusCode.DATA_LOSS, "", context.trailing_metadata())


def _handlers(answering: Any, failing: Any) -> Any:
    methods = {
        "Answer": grpc.unary_unary_rpc_method_handler(answering),
        "Fail": grpc.unary_unary_rpc_method_handler(failing),
    }
    return grpc.method_handlers_generic_handler("o.O", methods)


async def _aio_server(kind: str, load: meshsdk.orca.ServerLoad, pool: Any) -> tuple[Any, int]:
    server = grpc.aio.server(pool, interceptors=meshsdk.aio.server_interceptors())
    pair = (_aio_answering, _aio_failing) if kind == "aio" else (_answering, _failing)
    server.add_generic_rpc_handlers((_handlers(*pair),))
    meshsdk.orca.answer_with(server, load, min_interval=0.02)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


@pytest.fixture(params=KINDS)
def serving(request, loop_thread: LoopThread) -> Iterator[Serving]:
    """A server of each kind, whose clients may ask for a report every 20 ms. It has a single thread."""
    load = meshsdk.orca.ServerLoad()
    pool = futures.ThreadPoolExecutor(1)
    if request.param == "sync":
        server = grpc.server(pool, interceptors=meshsdk.server_interceptors())
        server.add_generic_rpc_handlers((_handlers(_answering, _failing),))
        meshsdk.orca.answer_with(server, load, min_interval=0.02)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
    else:
        server, port = loop_thread.run(_aio_server(request.param, load, pool))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Serving(load, channel)
    if request.param == "sync":
        server.stop(0).wait()
    else:
        loop_thread.run(server.stop(0))
    pool.shutdown()


def told(trailing: dict[str, Any]) -> OrcaLoadReport:
    """The report in an answer, as far as a grpcio client can see it."""
    form, _, text = trailing["endpoint-load-metrics"].partition(" ")
    assert form == "BIN"
    return OrcaLoadReport.FromString(b64decode(text))


def test_a_report_goes_with_the_answer(serving: Serving) -> None:
    """Beside the handler's own trailing metadata."""
    _, trailing = serving.ask("Answer")
    assert trailing["mine"] == "1"
    assert told(trailing) == OrcaLoadReport(application_utilization=0.25, rps_fractional=80)


def test_a_report_goes_with_a_failure(serving: Serving) -> None:
    """A call that fails tells of the load too."""
    call, trailing = serving.ask("Fail")
    assert call.code() is grpc.StatusCode.DATA_LOSS
    assert told(trailing).rps_fractional == 80


def test_reports_come_out_of_band(serving: Serving) -> None:
    """The first at once, then what is true by then; streams hold no thread of the server, which still answers."""
    serving.load.cpu_utilization(0.5).named_metric("queue", 3)
    streams = [serving.reports() for _ in range(3)]
    for stream in streams:
        assert next(stream) == OrcaLoadReport(cpu_utilization=0.5, named_metrics={"queue": 3})
    serving.load.cpu_utilization(0.75)
    for stream in streams:
        while next(stream).cpu_utilization != 0.75:
            pass
    call, _ = serving.ask("Answer", b"x")
    assert call.code() is grpc.StatusCode.OK
    for stream in streams:
        stream.cancel()


def test_garbage_is_refused(serving: Serving) -> None:
    """A request that cannot be parsed ends INVALID_ARGUMENT."""
    with pytest.raises(grpc.RpcError) as refused:
        next(serving.channel.unary_stream(OUT_OF_BAND)(b"\xff", timeout=PATIENCE))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be parsed" in refused.value.details()


def test_streams_are_bounded(serving: Serving) -> None:
    """One more than the limit is refused; when one ends there is room for another."""
    streams = [serving.reports(600.0) for _ in range(100)]
    for stream in streams:
        next(stream)
    with pytest.raises(grpc.RpcError) as refused:
        next(serving.reports())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    streams[0].cancel()

    def fits() -> bool:
        try:
            next(serving.reports(600.0))
        except grpc.RpcError:
            return False
        return True

    wait(fits)


def test_an_interval_must_be_one() -> None:
    """0 s would send reports without end."""
    with pytest.raises(ValueError, match="min_interval is 0"):
        meshsdk.orca.answer_with(None, meshsdk.orca.ServerLoad(), 0)

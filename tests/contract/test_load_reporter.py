"""The thread that reports counts, over real connections, against servers that report what they were sent.

With our own load service, and with a scripted one for what servers may do wrong.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import grpc.aio
import pytest
from envoy.service.load_stats.v3 import lrs_pb2

from controlplane.loads.book import LoadBook
from controlplane.server.load_stats import LoadStatsService
from meshsdk.bootstrap import Node
from meshsdk.xds_client import load_reporter
from meshsdk.xds_client.load_counts import LoadCounts, Place
from meshsdk.xds_client.load_reporter import LoadReporter
from meshsdk.xds_client.wire import node_message
from tests.contract.channel_callers import PATIENCE, LoopThread
from tests.contract.test_channel_connecting import wait

METHOD = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats"


class Server:
    """A server of LRS. `answer` None: it does not know the service. `received`: by stream, as they came."""

    def __init__(self, answer: bytes | None, *, lingers: bool = False) -> None:
        self.received: list[list[lrs_pb2.LoadStatsRequest]] = []
        self.release = threading.Event()
        self._answer = answer
        self._lingers = lingers
        self._server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails):
        """See grpc.GenericRpcHandler."""
        if self._answer is None or details.method != METHOD:
            return None
        return grpc.stream_stream_rpc_method_handler(self._serve, lrs_pb2.LoadStatsRequest.FromString)

    def _serve(self, requests: Iterator[lrs_pb2.LoadStatsRequest], context: grpc.ServicerContext):
        received: list[lrs_pb2.LoadStatsRequest] = []
        self.received.append(received)
        received.append(next(requests))
        yield self._answer
        received.extend(requests)
        if self._lingers:
            self.release.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.stop(0).wait()


class Client:
    """A reporter with one cluster, on a connection as an ADS stream has one."""

    def __init__(self, port: int) -> None:
        self.server = f"127.0.0.1:{port}"
        self.loads = LoadCounts()
        self.reporter = LoadReporter(self.loads, node_message(Node("web-1"), "1.0"), lambda: 0.5)
        self.channel = grpc.insecure_channel(self.server)
        self.reporter.carry(self.server, self.channel)
        self.tally = self.loads.acquire(Place((self.server,), "orders", "orders-eds"))

    def close(self) -> float:
        """Ends it as an XdsClient does; returns the seconds it took."""
        began = time.monotonic()
        self.reporter.close()
        self.reporter.let_go(self.channel)
        return time.monotonic() - began


def order(seconds: float = 60.0) -> bytes:
    """What a server asks for."""
    message = lrs_pb2.LoadStatsResponse(send_all_clusters=True)
    message.load_reporting_interval.FromMilliseconds(int(seconds * 1_000))
    return message.SerializeToString()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    wait(lambda: not [one.name for one in threading.enumerate() if one.name.startswith("meshsdk-loads")])


def test_what_is_sent():
    """The first message says who reports; then come reports of what was counted, and a last one at the end."""
    with Server(order(1.0)) as server:
        client = Client(server.port)
        client.tally.succeed()
        wait(lambda: server.received and len(server.received[0]) > 1)
        client.tally.end("ABORTED", cancelled=False, retried=True, moved=False, doubled=True)
        client.close()
        ((first, report, *_, last),) = server.received
    assert (first.node.id, first.node.user_agent_name, list(first.cluster_stats)) == ("web-1", "meshsdk", [])
    assert "envoy.lrs.supports_send_all_clusters" in first.node.client_features
    (stats,) = report.cluster_stats
    assert (stats.cluster_name, stats.cluster_service_name) == ("orders", "orders-eds")
    assert stats.load_report_interval.ToSeconds() >= 1
    (locality,) = stats.upstream_locality_stats
    assert (locality.total_successful_requests, locality.total_error_requests) == (1, 0)
    assert dict(report.node.metadata) == {"meshsdk.report_number": 1}
    assert last.node.metadata["meshsdk.report_number"] == 2
    assert last.node.metadata["meshsdk.last_report"]
    (locality,) = last.cluster_stats[0].upstream_locality_stats
    assert (locality.total_error_requests, locality.total_issued_requests) == (1, 1)
    assert {metric.metric_name for metric in locality.load_metric_stats} == {
        "meshsdk.retried",
        "meshsdk.doubled",
        "meshsdk.status.ABORTED",
    }


def test_server_without_the_service():
    """A server that does not know the service is asked once, and nothing waits for it at the end."""
    with Server(None) as server:
        client = Client(server.port)
        wait(lambda: client.reporter._links and client.reporter._links[0].reports.phase.value == "refused")
        assert client.close() < load_reporter._PATIENCE


def test_server_that_answers_nonsense():
    """What is no response ends the stream, which is opened again later; the end does not wait for it."""
    with Server(b"\xff\xff\xff") as server:
        client = Client(server.port)
        wait(lambda: client.reporter._links and client.reporter._links[0].reports.phase.value == "waiting")
        client.close()


def test_server_that_does_not_end_the_stream():
    """A server that keeps a finished stream open holds up the end for a moment, and no longer."""
    with Server(order(), lingers=True) as server:
        client = Client(server.port)
        client.tally.succeed()
        assert client.close() < load_reporter._PATIENCE + load_reporter._JOIN
        assert server.received[0][-1].node.metadata["meshsdk.last_report"]


def test_connection_that_is_let_go():
    """When its ADS stream ends, what was counted is still reported on the connection, which is then closed."""
    with Server(order()) as server:
        client = Client(server.port)
        client.tally.succeed()
        client.reporter.let_go(client.channel)
        wait(lambda: not client.reporter._links)
        assert server.received[0][-1].cluster_stats[0].upstream_locality_stats[0].total_successful_requests == 1
        with pytest.raises(ValueError, match="closed channel"):
            client.channel.unary_unary("/a/b")(b"")
        client.reporter.close()


def test_two_connections_to_one_server():
    """Where two authorities have one server, counts are told once; the second connection takes over from the first."""
    with Server(order()) as server:
        client = Client(server.port)
        other = grpc.insecure_channel(client.server)
        client.reporter.carry(client.server, other)
        client.tally.succeed()
        wait(lambda: server.received)
        client.reporter.let_go(client.channel)
        wait(lambda: len(server.received) == 2)
        client.tally.succeed()
        client.reporter.close()
        client.reporter.let_go(other)
        told = [
            locality.total_successful_requests
            for received in server.received
            for message in received
            for stats in message.cluster_stats
            for locality in stats.upstream_locality_stats
        ]
        assert told == [1, 1]


class Ours:
    """Our own load service on a loop of its own."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self.book = LoadBook(time.time())
        self.service = LoadStatsService(self.book, lambda: ["orders", "users"])
        self.port = thread.run(self._start())

    async def _start(self) -> int:
        self.server = grpc.aio.server()
        self.service.add_to(self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return port

    def stop(self) -> None:
        """Stops it as the control plane does."""
        self.service.close()
        self._thread.run(self.server.stop(PATIENCE))

    def page(self):
        """What is known of the last minute."""
        return self.book.page(time.time() - 60, time.time() + 1)


@pytest.fixture
def ours(loop_thread: LoopThread) -> Iterator[Ours]:
    """A running load service."""
    running = Ours(loop_thread)
    yield running
    running.stop()


def test_into_the_book(ours: Ours):
    """What a client counts ends up in the control plane's book, as does that it told all it had."""
    client = Client(ours.port)
    client.tally.succeed()
    client.close()
    page = ours.page()
    assert {key: one.succeeded for key, one in page.counted.items()} == {("web-1", "orders"): 1}
    (stay,) = page.reporters
    assert (stay.node, stay.agent, stay.process, stay.complete) == ("web-1", "meshsdk 1.0", client.loads.process, True)


def test_client_that_must_be_told_clusters(ours: Ours):
    """A client that does not report all clusters of its own accord gets a list; one that breaks off is not complete."""
    with grpc.insecure_channel(f"127.0.0.1:{ours.port}") as channel:
        request = lrs_pb2.LoadStatsRequest()
        request.node.id = "old"
        call = channel.stream_stream(METHOD)(iter([request.SerializeToString(), b""]))
        assert list(lrs_pb2.LoadStatsResponse.FromString(next(call)).clusters) == ["orders", "users"]
        assert list(call) == []
    (stay,) = ours.page().reporters
    assert (stay.node, stay.complete) == ("old", False)


def test_report_that_never_came(ours: Ours):
    """The numbers of reports reach the book: a process that is back clears the doubt only if none is missing."""

    def told(process: str, *numbers: int) -> None:
        messages = [lrs_pb2.LoadStatsRequest() for _ in range(1 + len(numbers))]
        messages[0].node.id = "web-1"
        messages[0].node.metadata.update({"meshsdk.process": process})
        for message, number in zip(messages[1:], numbers, strict=True):
            message.node.metadata.update({"meshsdk.report_number": number})
            message.cluster_stats.add(cluster_name="orders")
        assert len(list(channel.stream_stream(METHOD)(iter([one.SerializeToString() for one in messages])))) == 1

    with grpc.insecure_channel(f"127.0.0.1:{ours.port}") as channel:
        told("whole")
        told("whole", 1)
        told("whole", 2)
        told("lossy")
        told("lossy", 2)
    found = [(stay.process, stay.complete, stay.told is not None) for stay in ours.page().reporters]
    whole = [("whole", True, False), ("whole", True, True), ("whole", False, True)]
    assert found == [*whole, ("lossy", False, False), ("lossy", False, True)]


def test_bad_reports_are_refused(ours: Ours):
    """Bytes that are no report end the stream with words, and nothing else."""
    with grpc.insecure_channel(f"127.0.0.1:{ours.port}") as channel:
        for requests in ([b"\xff"], [b"", b"\xff"]):
            call = channel.stream_stream(METHOD)(iter(requests))
            with pytest.raises(grpc.RpcError) as refused:
                list(call)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "not a LoadStatsRequest" in refused.value.details()
    client = Client(ours.port)
    client.tally.succeed()
    client.close()
    assert len(ours.page().counted) == 1


def test_stop_does_not_wait_for_streams(loop_thread: LoopThread):
    """A control plane that stops ends the streams of reports at once, and refuses new ones."""
    running = Ours(loop_thread)
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        hold = threading.Event()

        def requests() -> Iterator[bytes]:
            yield b""
            hold.wait(PATIENCE)

        call = channel.stream_stream(METHOD)(requests())
        next(call)
        running.service.close()
        with pytest.raises(grpc.RpcError) as ended:
            next(call)
        assert (ended.value.code(), ended.value.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "the control plane is stopping",
        )
        with pytest.raises(grpc.RpcError) as refused:
            next(channel.stream_stream(METHOD)(iter([b""])))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        hold.set()
    running.stop()

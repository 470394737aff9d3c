"""The client of rate limit services: the same cases for threads and for asyncio, against a real gRPC server.

Through the mesh: the cluster of the service comes from an embedded control plane.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from controlplane import embedded
from meshsdk.channel.mesh import Mesh
from meshsdk.channel.rate_limit_client import LoopRateLimitClient, ThreadRateLimitClient
from meshsdk.interceptors.policies.gate import Consult, Verdict
from meshsdk.model.filters import RateLimitService
from tests.contract.channel_callers import LoopThread
from tests.contract.rate_limit_server import Response, ScriptedLimits
from tests.e2e.processes import PATIENCE, until
from tests.servers.process import free_port

ANNA = ((("user", "anna"), ("method", "/shop.Orders/Get")),)
OVER = Response.OVER_LIMIT


@pytest.fixture
def service() -> Iterator[ScriptedLimits]:
    """A rate limit service."""
    started = ScriptedLimits()
    yield started
    started.close()


class Asking:
    """A client of either kind, and how to ask it from a test's thread."""

    def __init__(self, facade: str, loop: LoopThread) -> None:
        self._facade, self._loop = facade, loop
        self.client: Any = self._make()

    def _make(self) -> ThreadRateLimitClient | LoopRateLimitClient:
        def nothing(name: str) -> Any:
            raise AssertionError(name)

        return ThreadRateLimitClient(nothing) if self._facade == "sync" else LoopRateLimitClient(nothing)

    def ask(self, consult: Consult) -> Verdict:
        """Asks one question."""
        return self.client.ask(consult) if self._facade == "sync" else self._loop.run(self.client.ask(consult), 60)

    def prepare(self, services: list[RateLimitService]) -> None:
        """Has the client connect."""
        if self._facade == "sync":
            self.client.prepare(services)
        else:
            self._loop.run(self._prepare(services))

    async def _prepare(self, services: list[RateLimitService]) -> None:
        self.client.prepare(services)

    def close(self) -> None:
        """Closes the client."""
        if self._facade == "sync":
            self.client.close()
        else:
            self._loop.run(self.client.close())


@pytest.fixture
def asking(facade: str, loop_thread: LoopThread) -> Iterator[Asking]:
    """An open client."""
    loop_thread.problems.clear()
    made = Asking(facade, loop_thread)
    yield made
    made.close()
    assert not loop_thread.problems


def consult(service: ScriptedLimits, timeout: float = PATIENCE, descriptors: Any = ANNA) -> Consult:
    """A question to a service by its address."""
    return Consult("shop", descriptors, timeout, target=service.address)


def status(code: int, seconds: float | None = None, limit: tuple[int, str] | None = None) -> Response.DescriptorStatus:
    """What a service says of one descriptor."""
    made = Response.DescriptorStatus(code=code)
    if seconds is not None:
        made.duration_until_reset.CopyFrom(Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1_000_000_000)))
    if limit is not None:
        made.current_limit.requests_per_unit, made.current_limit.unit = (
            limit[0],
            Response.RateLimit.Unit.Value(limit[1]),
        )
    return made


def test_allowed(asking: Asking, service: ScriptedLimits):
    """The question has the domain and all descriptors in order; OK lets the call go on."""
    descriptors = (*ANNA, (("all", ""),))
    assert asking.ask(consult(service, descriptors=descriptors)) == Verdict(allowed=True)
    (asked,) = service.asked
    assert asked.domain == "shop"
    assert tuple(tuple((e.key, e.value) for e in each.entries) for each in asked.descriptors) == descriptors


def test_refused(asking: Asking, service: ScriptedLimits):
    """A refusal says which limit it was, and to wait until the last of those that are over has room."""
    statuses = [status(Response.OK, 99.0), status(OVER, 0.5, (5, "SECOND")), status(OVER, 41.25, (10, "MINUTE"))]
    service.answer = lambda _: Response(overall_code=OVER, statuses=statuses)
    descriptors = ((("all", ""),), (("user", "s3cret"),), (("user", "s3cret"), ("method", "x")))
    verdict = asking.ask(consult(service, descriptors=descriptors))
    assert verdict == Verdict(allowed=False, retry_after=41.25, limit="5 per second for user")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7", "ratelimit-reset": "9"}, 7.0),
        ({"x-ratelimit-reset": "3"}, 3.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_refused_with_headers(asking: Asking, service: ScriptedLimits, headers, seconds):
    """A service that tells only headers when to come back is understood; what is no number says nothing."""
    service.answer = lambda _: Response(
        overall_code=OVER, response_headers_to_add=[{"key": key, "value": value} for key, value in headers.items()]
    )
    assert asking.ask(consult(service)) == Verdict(allowed=False, retry_after=seconds)


def test_no_answer_in_time(asking: Asking, service: ScriptedLimits):
    """A service that does not answer within the timeout gives no verdict, and later ones count."""
    service.answer = service.wait
    verdict = asking.ask(consult(service, timeout=0.05))
    assert verdict.allowed is None
    assert verdict.problem.startswith("DEADLINE_EXCEEDED")
    assert asking.ask(consult(service, timeout=0.0)) == Verdict(None, "no time is left to ask")
    service.go_on.set()
    assert asking.ask(consult(service)).allowed is True


def test_nobody_there(asking: Asking):
    """An address that nobody listens on gives no verdict, in words."""
    verdict = asking.ask(Consult("shop", ANNA, PATIENCE, target=f"127.0.0.1:{free_port()}"))
    assert verdict.allowed is None
    assert verdict.problem.startswith("UNAVAILABLE: ")


@pytest.mark.parametrize("answer", [b"\xff", Response(), b""])
def test_answers_that_say_nothing(asking: Asking, service: ScriptedLimits, answer):
    """Bytes that are no answer, and an answer without a code, give no verdict."""
    service.answer = lambda _: answer
    verdict = asking.ask(consult(service))
    assert verdict.allowed is None
    assert verdict.problem


def test_error(asking: Asking, service: ScriptedLimits):
    """An error of the service gives no verdict and is told in its words."""

    def fail(context: grpc.ServicerContext) -> Response:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the domain must not be empty")

    service.answer = fail
    assert asking.ask(consult(service)) == Verdict(None, "INVALID_ARGUMENT: the domain must not be empty")


def test_closed(asking: Asking, service: ScriptedLimits):
    """A client that was closed gives no verdict, whether it knew the service or not."""
    assert asking.ask(consult(service)).allowed
    asking.close()
    assert asking.ask(consult(service)) == Verdict(None, "the mesh is closed")


def test_no_service_named(asking: Asking):
    """A question to nobody gives no verdict."""
    assert asking.ask(Consult("shop", ANNA, 1.0)).allowed is None


def test_prepared(asking: Asking):
    """A service that calls will ask is connected to ahead of the first question; one that is none harms nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        services = [
            RateLimitService("shop", target="unknown-scheme://x y"),
            RateLimitService("shop", target=f"127.0.0.1:{listener.getsockname()[1]}"),
        ]
        asking.prepare(services)
        with listener.accept()[0] as connection:
            assert connection.recv(3) == b"PRI"  # HTTP/2 begins so


CLUSTER = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: limits}}
spec:
  hosts: [limits.shop]
  ports: [{{number: {port}, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, labels: {{version: v1}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: limits}}
spec:
  host: limits.shop
  subsets: [{{name: v1, labels: {{version: v1}}}}]
"""


def in_mesh(mesh: Mesh, facade: str, *questions: Consult) -> list[Verdict]:
    """Asks through a scope of a mesh."""
    if facade == "sync":
        client = mesh._thread_scope((None, ())).rate_limits
        return [client.ask(one) for one in questions]

    async def ask() -> list[Verdict]:
        scope = mesh._loop_scope((None, ()))
        found = [await scope.rate_limits.ask(one) for one in questions]
        scope.close()
        await scope.closed()
        return found

    return asyncio.run(ask())


def test_through_the_mesh(facade: str, service: ScriptedLimits):
    """A service named by its xDS cluster is found and called through the mesh; a cluster that is not there is told."""
    with embedded.start() as plane:
        plane.apply(CLUSTER.format(port=service.port))
        with Mesh(plane.bootstrap()) as mesh:
            found, lacking = in_mesh(
                mesh,
                facade,
                Consult("shop", ANNA, PATIENCE, cluster="limits.shop|v1"),  # no listener has this name
                Consult("shop", ANNA, 0.3, cluster="nowhere"),
            )
            assert found == Verdict(allowed=True)
            assert lacking.allowed is None
            assert "nowhere" in lacking.problem
            until(lambda: service.asked, "the question")


def test_without_a_control_plane(facade: str):
    """A mesh of registries alone knows no clusters, and says so."""
    with Mesh({"node": {"id": "n"}, "meshsdk": {"registries": {"default": {"url": "memory://"}}}}) as mesh:
        (verdict,) = in_mesh(mesh, facade, Consult("shop", ANNA, 1.0, cluster="limits"))
    assert verdict.allowed is None
    assert "xds_servers" in verdict.problem

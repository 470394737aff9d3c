"""A stock Envoy understands our cookies and our servers' load reports, and we understand its cookies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from meshsdk.lb.affinity import Seat, seat, set_cookie
from meshsdk.model.filters import StatefulSession
from meshsdk.orca import recorder
from tests.e2e.peers.fronting_envoy import FrontingEnvoy
from tests.e2e.processes import until

pytestmark = pytest.mark.envoy

SESSION = StatefulSession("sid")


class Backend:
    """A gRPC server that says its name, and with every answer how busy it is (0-1)."""

    def __init__(self, name: str) -> None:
        """Serves on a free loopback port."""
        self.name = name
        self.busy = 0.0
        handler = grpc.unary_unary_rpc_method_handler(self._say)
        self._pool = futures.ThreadPoolExecutor(4)
        self._server = grpc.server(
            self._pool, handlers=(grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def _say(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        if self.busy:
            recorder(context).qps(100).application_utilization(self.busy)
        return self.name.encode()

    def stop(self) -> None:
        """Ends it."""
        self._server.stop(0).wait()
        self._pool.shutdown()


@pytest.fixture(scope="module")
def backends() -> Iterator[dict[str, Backend]]:
    """Three, by name."""
    made = {name: Backend(name) for name in ("a", "b", "c")}
    yield made
    for backend in made.values():
        backend.stop()


@pytest.fixture(scope="module")
def envoy(backends: dict[str, Backend], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontingEnvoy]:
    """One Envoy before them."""
    started = FrontingEnvoy([backend.port for backend in backends.values()], tmp_path_factory.mktemp("envoy"))
    yield started
    started.stop()


def test_we_read_envoys_cookie(envoy: FrontingEnvoy, backends: dict[str, Backend]) -> None:
    """What Envoy sets names the endpoint that answered, to us as to itself."""
    name, told = envoy.call()
    assert told is not None
    brought = told.partition(";")[0]
    assert seat(SESSION, [("cookie", brought)]) == Seat(f"127.0.0.1:{backends[name].port}")
    assert {envoy.call(brought) for _ in range(6)} == {(name, None)}


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_envoy_reads_our_cookie(envoy: FrontingEnvoy, backends: dict[str, Backend], name: str) -> None:
    """What we set leads Envoy to the same endpoint."""
    told = set_cookie(SESSION, None, Seat(f"127.0.0.1:{backends[name].port}"))
    assert told is not None
    brought = told[1].partition(";")[0]
    assert {envoy.call(brought) for _ in range(6)} == {(name, None)}


def test_envoy_goes_by_what_our_servers_report(envoy: FrontingEnvoy, backends: dict[str, Backend]) -> None:
    """Its weighted round robin gives an endpoint that is at 20 % four times the calls of those at 80 %."""
    for backend in backends.values():
        backend.busy = 0.2 if backend.name == "b" else 0.8

    def follows() -> bool:
        counts = Counter(envoy.call()[0] for _ in range(60))
        return abs(counts["b"] - 40) <= 3

    until(follows, "Envoy to follow the weights")

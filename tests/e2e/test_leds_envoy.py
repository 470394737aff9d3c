"""Stock Envoy 1.40 as a LEDS client: one endpoint per resource, over delta ADS from our control plane."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from controlplane.server.type_urls import ENDPOINT, LB_ENDPOINT
from meshsdk.model.instance import Instance, InstanceState
from tests.e2e.peers.envoy import Envoy
from tests.e2e.peers.registered import RegisteredPlane
from tests.e2e.processes import until

pytestmark = pytest.mark.envoy
_POLICY = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
"""


class Proxy:
    """An Envoy that takes LEDS, and the control plane it is a client of."""

    def __init__(self, folder, *context_params: str) -> None:
        self.plane = RegisteredPlane()
        self.plane.start()
        self._folder, self._context_params = folder, context_params
        self.envoy: Envoy | None = None

    def start(self) -> None:
        """Starts Envoy with the static listener `orders`; it is live when its cluster is warm."""
        self.envoy = Envoy(
            self.plane.port,
            "proxy",
            self._folder,
            delta=True,
            lds=False,
            metadata={"meshsdk.leds": True},
            context_params=self._context_params,
        )

    def hosts(self) -> set[tuple[int, str, str, int]]:
        """Returns (port, zone, health, weight) of each endpoint of `orders`, as /clusters has it."""
        statuses = json.loads(self.envoy.admin("/clusters?format=json")).get("cluster_statuses", [])
        found = [host for each in statuses if each["name"] == "orders" for host in each.get("host_statuses", [])]
        return {
            (
                host["address"]["socket_address"]["port_value"],
                host["locality"].get("zone", ""),
                host["health_status"]["eds_health_status"],
                host.get("weight", 1),
            )
            for host in found
        }

    def dumped(self) -> set[tuple[int, str]]:
        """Returns (port, zone) of each endpoint of `orders`, as /config_dump?include_eds has it."""
        dump = json.loads(self.envoy.admin("/config_dump?include_eds"))
        found: set[tuple[int, str]] = set()
        for section in dump["configs"]:
            for each in section.get("dynamic_endpoint_configs", []):
                if each["endpoint_config"].get("cluster_name") != "orders":
                    continue
                for group in each["endpoint_config"].get("endpoints", []):
                    zone = group["locality"].get("zone", "")
                    listed = group.get("lb_endpoints", [])
                    found.update((e["endpoint"]["address"]["socket_address"]["port_value"], zone) for e in listed)
        return found

    def expect(self, *hosts: tuple[int, str, str, int]) -> None:
        """Waits until both admin pages show exactly these endpoints. Envoy helps itself to none after 15 seconds."""

        def there() -> bool:
            seen = self.hosts()
            assert seen == set(hosts), seen
            return True

        until(there, f"Envoy has {hosts}", 10)
        assert self.dumped() == {(port, zone) for port, zone, _, _ in hosts}

    def uses_leds(self) -> bool:
        """Whether it subscribed to collections; nobody then needs the endpoints in one resource."""
        types = {each.type_url: each for each in self.plane.client("proxy").subscriptions}
        plain = self.plane.cache.snapshot().of(ENDPOINT)
        return LB_ENDPOINT in types and types[LB_ENDPOINT].collections > 0 and not len(plain)

    def stop(self) -> None:
        """Ends both."""
        if self.envoy is not None:
            self.envoy.stop()
        self.plane.stop()


@pytest.fixture(params=[(), ("id", "cluster")], ids=["plain", "context-params"])
def proxy(request: pytest.FixtureRequest, tmp_path) -> Iterator[Proxy]:
    """A control plane, and an Envoy that is not started yet."""
    made = Proxy(tmp_path, *request.param)
    yield made
    made.stop()


@pytest.fixture
def plain(tmp_path) -> Iterator[Proxy]:
    """The same for what does not depend on context parameters."""
    made = Proxy(tmp_path)
    yield made
    made.stop()


def orders(port: int, zone: str = "a", **fields: object) -> Instance:
    """An instance of `orders` on loopback."""
    return Instance("orders", str(port), f"127.0.0.1:{port}", region="eu", zone=zone, **fields)


def test_endpoints_one_by_one(proxy: Proxy) -> None:
    """Endpoints that come, change weight and health, go, bring a locality and move are what Envoy's pages show."""
    proxy.plane.put(orders(9001), orders(9002, "b"))
    proxy.start()
    proxy.expect((9001, "a", "HEALTHY", 1), (9002, "b", "HEALTHY", 1))
    assert proxy.uses_leds()
    proxy.plane.put(orders(9003))
    proxy.expect((9001, "a", "HEALTHY", 1), (9002, "b", "HEALTHY", 1), (9003, "a", "HEALTHY", 1))
    proxy.plane.put(orders(9003, weight=7))
    proxy.expect((9001, "a", "HEALTHY", 1), (9002, "b", "HEALTHY", 1), (9003, "a", "HEALTHY", 7))
    proxy.plane.put(orders(9001, state=InstanceState.DRAINING))
    proxy.expect((9001, "a", "DRAINING", 1), (9002, "b", "HEALTHY", 1), (9003, "a", "HEALTHY", 7))
    proxy.plane.take("orders", "9001")
    proxy.expect((9002, "b", "HEALTHY", 1), (9003, "a", "HEALTHY", 7))
    proxy.plane.put(orders(9004, "c"))
    proxy.expect((9002, "b", "HEALTHY", 1), (9003, "a", "HEALTHY", 7), (9004, "c", "HEALTHY", 1))
    proxy.plane.put(orders(9004, "b"))
    proxy.expect((9002, "b", "HEALTHY", 1), (9003, "a", "HEALTHY", 7), (9004, "b", "HEALTHY", 1))
    assert not [each.nack for each in proxy.plane.client("proxy").subscriptions if each.nacks]


@pytest.mark.parametrize("afresh", [False, True], ids=["stream-broke", "control-plane-restarted"])
def test_reconnect(proxy: Proxy, afresh: bool) -> None:
    """What came, changed and went while the stream was broken is right after; Envoy alone would keep what went."""
    proxy.plane.put(orders(9001), orders(9002, "b"), orders(9003))
    proxy.start()
    proxy.expect((9001, "a", "HEALTHY", 1), (9002, "b", "HEALTHY", 1), (9003, "a", "HEALTHY", 1))
    for turn in (1, 2, 3):
        proxy.plane.stop()
        proxy.plane.take("orders", "9003" if turn == 1 else str(9002 + turn))
        proxy.plane.put(orders(9001, weight=turn), orders(9003 + turn))
        proxy.plane.start(afresh=afresh)
        proxy.expect((9001, "a", "HEALTHY", turn), (9002, "b", "HEALTHY", 1), (9003 + turn, "a", "HEALTHY", 1))


def test_a_cluster_without_endpoints_is_warm_at_once(plain: Proxy, backends: dict[str, int]) -> None:
    """Envoy does not wait for endpoints that do not exist, and takes the first one when it comes."""
    plain.plane.put(orders(9001))
    plain.plane.take("orders", "9001")
    plain.start()
    plain.expect()
    plain.plane.put(orders(backends["a"]))
    _answered_by(plain, "a")


def test_a_collection_that_is_empty_when_it_is_asked_for(plain: Proxy, backends: dict[str, int]) -> None:
    """An EDS resource that names a collection without members does not keep the cluster from its other endpoints."""
    plain.plane.put(orders(backends["a"]), orders(9002, "b"))
    plain.start()
    _answered_by(plain, "a", "?")
    # The EDS resource of before, from a control plane that lost the endpoints of one locality.
    packed = plain.plane.cache.get(ENDPOINT, "orders", node="endpoints:leds")
    gone = [each.name for each in plain.plane.cache.snapshot().of(LB_ENDPOINT) if "%3Ab%3A" in each.name]
    plain.plane.stop()
    plain.plane.cache.delete(LB_ENDPOINT, gone)
    assert packed is not None
    plain.plane.start()
    plain.expect((backends["a"], "a", "HEALTHY", 1))
    _answered_by(plain, "a")


def test_traffic_flows_while_everything_moves(plain: Proxy, backends: dict[str, int]) -> None:
    """Calls go on, none fails, while an endpoint moves to a new locality, weights change and the cluster is changed."""
    plain.plane.put(orders(backends["a"]))
    plain.start()
    _answered_by(plain, "a")
    failed, calls = _while_calling(
        plain,
        [
            lambda: plain.plane.put(orders(backends["a"], "b")),
            lambda: plain.expect((backends["a"], "b", "HEALTHY", 1)),
            lambda: plain.plane.configure(_POLICY),
            lambda: until(
                lambda: "policies.random" in plain.envoy.dynamic("dynamic_active_clusters"), "the new policy"
            ),
            lambda: plain.plane.put(orders(backends["b"], "c")),
            lambda: plain.expect((backends["a"], "b", "HEALTHY", 1), (backends["b"], "c", "HEALTHY", 1)),
            lambda: plain.plane.put(orders(backends["a"], "b", state=InstanceState.DRAINING)),
            lambda: _answered_by(plain, "b"),
        ],
    )
    assert failed == Counter()
    assert sum(calls.values()) > 50
    plain.plane.take("orders", str(backends["a"]))
    plain.expect((backends["b"], "c", "HEALTHY", 1))


def _answered_by(proxy: Proxy, *names: str) -> None:
    """Waits until calls through Envoy are answered by these backends; "?": calls may fail too."""

    def answered() -> bool:
        answers, errors = proxy.envoy.call("orders")
        assert "?" in names or not errors, errors
        assert set(answers) == set(names) - {"?"}, answers
        return True

    until(answered, f"answers by {names}")


def _while_calling(proxy: Proxy, steps: list[Callable[[], object]]) -> tuple[Counter, Counter]:
    """Calls without pause while the steps run; returns (errors, answers)."""
    failed: Counter = Counter()
    answered: Counter = Counter()
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            answers, errors = proxy.envoy.call("orders")
            failed.update(errors)
            answered.update(answers)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for step in steps:
            step()
    finally:
        ended.set()
        caller.join()
    return failed, answered

"""The delta ADS stream towards the shim's own Envoy: what is told, in which order, and what is not told again."""

from __future__ import annotations

import dataclasses

import pytest
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from meshsdk.model.resources import ClusterEndpoints, Locality, LocalityEndpoints
from meshsdk.shim.xds.contents import (
    CLUSTER,
    ENDPOINTS,
    LB_ENDPOINT,
    LISTENER,
    ROUTE,
    Contents,
    Request,
    Response,
)
from meshsdk.shim.xds.machine import PATIENCE, DeltaStream

_ZONE = Locality("eu", "a")


def load(*addresses: str, weight: int = 1, **fields: object) -> ClusterEndpoints:
    """The endpoints of a cluster in one zone."""
    endpoints = EndpointMap.of([Endpoint(one, **fields) for one in addresses])
    return ClusterEndpoints("orders", (LocalityEndpoints(_ZONE, 0, weight, endpoints),))


def contents(*addresses: str, route: bytes = b"r1", cluster: str = "orders") -> Contents:
    """A listener, its routes, and one cluster with these endpoints."""
    return Contents({"outbound": b"l"}, {"outbound": route}, {cluster: b"c"}, {cluster: load(*addresses)})


class Envoy:
    """Envoy's side of one stream: subscribes as Envoy does, answers every response, and keeps what it was told."""

    def __init__(self, stream: DeltaStream, *, answers: bool = True) -> None:
        self.stream = stream
        self.answers = answers
        self.has: dict[str, dict[str, bytes]] = {
            kind: {} for kind in (LISTENER, ROUTE, CLUSTER, ENDPOINTS, LB_ENDPOINT)
        }
        self.asked: set[tuple[str, str]] = set()
        self.order: list[str] = []
        self.removed: list[str] = []
        self.now = 0.0
        stream.receive(Request(CLUSTER))
        stream.receive(Request(LISTENER))

    def settle(self) -> list[str]:
        """Exchanges messages until there are none; returns the types told, in order."""
        self.order = []
        while responses := self.stream.take(self.now):
            for response in responses:
                self._take(response)
        return self.order

    def _take(self, response: Response) -> None:
        kind = response.type_url
        self.order.append(kind.rpartition(".")[2])
        self.removed += response.removed
        for name in response.removed:
            self.has[kind].pop(name, None)
        self.has[kind].update({one.name: one.value for one in response.given})
        if self.answers:
            self.stream.receive(Request(kind, nonce=response.nonce))
        for given in response.given:
            if kind == CLUSTER:
                self._ask(ENDPOINTS, given.name)
            elif kind == ENDPOINTS:
                for name in collections(given.value):
                    self._ask(LB_ENDPOINT, name)
            elif kind == LISTENER:
                self._ask(ROUTE, given.name)

    def _ask(self, kind: str, name: str) -> None:
        if (kind, name) not in self.asked:
            self.asked.add((kind, name))
            self.stream.receive(Request(kind, (name,)))

    def leave(self, collection: str) -> None:
        """Unsubscribes from a collection, and forgets what was in it."""
        self.asked.discard((LB_ENDPOINT, collection))
        self.stream.receive(Request(LB_ENDPOINT, unsubscribe=(collection,)))
        self.has[LB_ENDPOINT].clear()

    def endpoints(self) -> set[str]:
        """Returns the ports of the endpoints that it has, with their health."""
        found = [endpoint_components_pb2.LbEndpoint.FromString(one) for one in self.has[LB_ENDPOINT].values()]
        return {f"{one.endpoint.address.socket_address.port_value}" for one in found}


def collections(assignment: bytes) -> list[str]:
    """The LEDS collections that an EDS resource names."""
    message = endpoint_pb2.ClusterLoadAssignment.FromString(assignment)
    return [one.leds_cluster_locality_config.leds_collection_name for one in message.endpoints]


@pytest.fixture
def envoy() -> Envoy:
    """An Envoy that has the listener, the route and a cluster with two endpoints."""
    made = Envoy(DeltaStream(1, contents("10.0.0.1:80", "10.0.0.2:80")))
    made.settle()
    return made


def test_everything_is_told_once_sources_first() -> None:
    """A new stream gets clusters, endpoints, then listeners and routes; after that there is nothing to say."""
    envoy = Envoy(DeltaStream(1, contents("10.0.0.1:80", "10.0.0.2:81")))
    assert envoy.settle() == [
        "Cluster", "ClusterLoadAssignment", "LbEndpoint", "Listener", "RouteConfiguration",
    ]  # fmt: skip
    assert envoy.endpoints() == {"80", "81"}
    assert envoy.settle() == []


def test_nothing_is_said_too() -> None:
    """An Envoy that is to have nothing yet is told so, once: it would wait for its first clusters and listeners."""
    envoy = Envoy(DeltaStream(1, Contents()))
    assert envoy.settle() == ["Cluster", "Listener"]
    envoy.stream.publish(contents("10.0.0.1:80"))
    assert envoy.settle()[-1] == "RouteConfiguration"


def test_one_endpoint_is_one_small_resource(envoy: Envoy) -> None:
    """An endpoint that comes is one LbEndpoint, and one that goes or drains is one name; EDS stays as it is."""
    envoy.stream.publish(contents("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:83"))
    (response,) = envoy.stream.take(0)
    assert [one.name.rpartition("/")[2] for one in response.given] == ["10.0.0.3%3A83"]
    envoy.stream.receive(Request(LB_ENDPOINT, nonce=response.nonce))
    draining = EndpointMap.of([Endpoint("10.0.0.1:80", health=Health.DRAINING), Endpoint("10.0.0.2:80")])
    known = contents()
    changed = ClusterEndpoints("orders", (LocalityEndpoints(_ZONE, 0, 7, draining),))
    envoy.stream.publish(dataclasses.replace(known, endpoints={"orders": changed}))
    (response,) = envoy.stream.take(0)
    assert response.given == ()
    assert {one.rpartition("/")[2] for one in response.removed} == {"10.0.0.1%3A80", "10.0.0.3%3A83"}


def test_weights_of_localities_count_where_there_are_several(envoy: Envoy) -> None:
    """With two zones in a priority their weights are told, and a change of one is a new EDS resource."""

    def two(weight: int) -> Contents:
        zones = (
            LocalityEndpoints(Locality("eu", "a"), 0, weight, EndpointMap.of([Endpoint("10.0.0.1:80")])),
            LocalityEndpoints(Locality("eu", "b"), 0, 5, EndpointMap.of([Endpoint("10.0.0.2:80")])),
        )
        return dataclasses.replace(contents(), endpoints={"orders": ClusterEndpoints("orders", zones)})

    envoy.stream.publish(two(3))
    assert "ClusterLoadAssignment" in envoy.settle()
    envoy.stream.publish(two(4))
    assert envoy.settle() == ["ClusterLoadAssignment"]
    message = endpoint_pb2.ClusterLoadAssignment.FromString(envoy.has[ENDPOINTS]["orders"])
    assert [one.load_balancing_weight.value for one in message.endpoints] == [4, 5]


def test_routes_wait_for_the_clusters_they_name(envoy: Envoy) -> None:
    """A route moves to a new cluster: Envoy has the cluster and its endpoints first, and loses the old one last."""
    envoy.stream.publish(contents("10.0.0.9:80", route=b"r2", cluster="other"))
    assert envoy.settle() == [
        "Cluster", "ClusterLoadAssignment", "LbEndpoint", "RouteConfiguration", "Cluster", "ClusterLoadAssignment",
    ]  # fmt: skip
    assert set(envoy.has[CLUSTER]) == {"other"}


def test_a_cluster_that_envoy_refuses_does_not_hold_up_routes_for_ever(envoy: Envoy) -> None:
    """Envoy never asks for the endpoints of a cluster that it refused; after some patience routes go on."""
    envoy.stream.publish(contents("10.0.0.9:80", route=b"r2", cluster="bad"))
    (response,) = envoy.stream.take(0)
    envoy.stream.receive(Request(CLUSTER, nonce=response.nonce, error="no such thing"))
    assert envoy.stream.take(0) == []
    assert envoy.stream.refusals == {CLUSTER: "no such thing"}
    assert envoy.stream.deadline() == PATIENCE
    assert next(one.type_url for one in envoy.stream.take(PATIENCE)) == ROUTE


def test_a_refusal_is_over_with_the_next_good_response(envoy: Envoy) -> None:
    """What Envoy refused is remembered until it takes something of that type again, and is not sent again."""
    envoy.stream.publish(contents("10.0.0.1:80", "10.0.0.2:80", route=b"bad"))
    (response,) = envoy.stream.take(0)
    envoy.stream.receive(Request(ROUTE, nonce=response.nonce, error="bad route"))
    assert envoy.stream.take(0) == []
    assert envoy.stream.refusals == {ROUTE: "bad route"}
    envoy.stream.publish(contents("10.0.0.1:80", "10.0.0.2:80", route=b"good"))
    envoy.settle()
    assert envoy.stream.refusals == {}


def test_an_empty_collection_is_answered_by_its_name() -> None:
    """Envoy does not wait for the first endpoint of a cluster that has none."""
    envoy = Envoy(DeltaStream(1, contents()))
    envoy.settle()
    assert envoy.removed == collections(envoy.has[ENDPOINTS]["orders"])
    assert envoy.has[LISTENER]


def test_what_went_while_the_stream_was_broken_is_said() -> None:
    """A new stream is told everything anew, under collections of another name, and what it holds that is gone."""
    one, two = DeltaStream(1, contents("10.0.0.1:80")), DeltaStream(2, contents("10.0.0.1:80"))
    first, second = Envoy(one), Envoy(two)
    first.settle()
    two.receive(Request(CLUSTER, known=("orders", "gone")))
    second.settle()
    assert "gone" in second.removed
    assert collections(first.has[ENDPOINTS]["orders"]) != collections(second.has[ENDPOINTS]["orders"])


def test_names_that_do_not_exist_are_answered(envoy: Envoy) -> None:
    """Envoy asks for endpoints that nobody has, and for a collection of an earlier stream: both are said to be gone."""
    stale = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/7/1/*"
    envoy.stream.receive(Request(ENDPOINTS, ("nobody",)))
    envoy.stream.receive(Request(LB_ENDPOINT, (stale,)))
    envoy.settle()
    assert {"nobody", stale} <= set(envoy.removed)


def test_a_zone_that_comes_back_is_asked_for_again(envoy: Envoy) -> None:
    """A locality goes and comes again: Envoy leaves its collection and is told all of it once more."""
    (name,) = collections(envoy.has[ENDPOINTS]["orders"])
    envoy.stream.publish(dataclasses.replace(contents(), endpoints={"orders": ClusterEndpoints("orders", ())}))
    envoy.settle()
    envoy.leave(name)
    envoy.settle()
    envoy.stream.publish(contents("10.0.0.1:80"))
    envoy.settle()
    assert envoy.endpoints() == {"80"}


def test_addresses_that_envoy_cannot_dial_are_left_out() -> None:
    """Host names are not for EDS: such an endpoint is not sent, the others are."""
    envoy = Envoy(DeltaStream(1, contents("10.0.0.1:80", "some.host:81", "[::1]:82")))
    envoy.settle()
    assert envoy.endpoints() == {"80", "82"}


def test_many_endpoints_come_in_parts() -> None:
    """A set of thousands is told in several responses."""
    addresses = [f"10.{n // 250}.{n % 250}.1:80" for n in range(4_500)]
    envoy = Envoy(DeltaStream(1, contents(*addresses)))
    assert envoy.settle().count("LbEndpoint") == 3
    assert len(envoy.has[LB_ENDPOINT]) == 4_500

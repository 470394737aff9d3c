"""Endpoints that drain, leave and churn; where calls go by field and by hash. Mesh channels only."""

from __future__ import annotations

import gc
import weakref
from collections import Counter

import grpc
import pytest

from examples import orders_pb2
from meshsdk.channel import pool as pool_module
from meshsdk.model.matching import FieldMatch, PathKind, PathMatch, RouteMatch, StringKind, StringMatch
from meshsdk.model.policy import HashChannelId, HashHeader, LbConfig, LeastRequest, Maglev, RandomChoice, RingHash
from tests.contract.channel_backend import METHODS, SHAPES, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channel_wire import Relay
from tests.contract.channels import resolved, route, snapshot, snapshot_of
from tests.contract.test_channel_connecting import wait

pytestmark = pytest.mark.parametrize("path", ["mesh"])


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


def spread(caller, shape, count, **options) -> Counter[bytes]:
    """Which backend answered how many of `count` calls."""
    return Counter(caller.ask(shape, b"who:", **options).answers[0] for _ in range(count))


def all_ready(lab, caller, count) -> None:
    """Waits until `count` endpoints are connected and picked from."""
    caller.ask("unary_unary", b"say:warm")
    target = next(iter(lab.scopes[0]._watched.values())).target

    def settled() -> bool:
        with lab.scopes[0].lock:
            balancers = list(target._balancers.values())
            backends = [backend for balancer in balancers for backend in balancer._backends.values()]
            return len(backends) == count and all(balancer.settled for balancer in balancers)

    wait(settled)


@pytest.mark.parametrize("policy", [LeastRequest(), RandomChoice(), None], ids=["least", "random", "round robin"])
def test_every_endpoint_gets_calls(lab, shape, policy):
    """Calls are spread over all endpoints."""
    with Backend("a") as one, Backend("b") as two, Backend("c") as three:
        lb = LbConfig(policy=policy) if policy else LbConfig()
        caller = lab.open("", first=snapshot(one.address, two.address, three.address, lb=lb))
        all_ready(lab, caller, 3)
        counts = spread(caller, shape, 60)
        assert set(counts) == {b"a", b"b", b"c"}
        if policy is None:
            assert set(counts.values()) == {20}


def test_peer_that_announces_its_end(lab, shape):
    """After an answer with `meshsdk-draining` new calls go elsewhere, as long as there is anything else."""
    with Backend("a") as one, Backend("b") as two:
        caller = lab.open("", first=snapshot(one.address, two.address))
        all_ready(lab, caller, 2)
        left = caller.ask(shape, b"draining:").answers[0]
        assert set(spread(caller, shape, 20)) == {b"a", b"b"} - {left}
        other = caller.ask(shape, b"draining:").answers[0]
        assert other != left
        assert set(spread(caller, shape, 20)) <= {b"a", b"b"}


def test_announced_end_of_a_failed_call(lab, shape):
    """The announcement is read from a call that failed, too."""
    with Backend("a") as one, Backend("b") as two:
        caller = lab.open("", first=snapshot(one.address, two.address))
        all_ready(lab, caller, 2)
        assert caller.ask(shape, b"draining-abort:").code is grpc.StatusCode.ABORTED
        left = b"a" if "draining-abort:" in one.executed else b"b"
        assert set(spread(caller, shape, 20)) == {b"a", b"b"} - {left}


def test_endpoint_that_leaves(lab, shape, monkeypatch):
    """New calls go elsewhere at once, a running call finishes on the endpoint that left, then its connection closes."""
    monkeypatch.setattr(pool_module, "_IDLE_BEFORE_CLOSE", 0.05)
    with Backend("a") as one, Backend("b") as two, Relay(one.port) as relay:
        caller = lab.open("", first=snapshot(relay.address))
        running = caller.start(shape, b"hang:0")
        assert one.script.began.acquire(timeout=PATIENCE)
        lab.source.push(snapshot(two.address))
        wait(lambda: caller.ask(shape, b"who:").answers == [b"b"])
        assert set(spread(caller, shape, 20)) == {b"b"}
        assert relay.closed == 0
        one.script.release.set()
        assert running.end().answers == [b"released"]
        del running  # a grpc.aio call that is held keeps its connection, on a plain channel too
        wait(lambda: relay.closed == relay.connections == 1)


def test_endpoint_that_comes_back(lab, backend, shape, monkeypatch):
    """An endpoint that leaves and comes back at once is used again."""
    monkeypatch.setattr(pool_module, "_IDLE_BEFORE_CLOSE", 0.01)
    with Backend("b") as other:
        caller = lab.open("", first=snapshot(backend.address, other.address))
        all_ready(lab, caller, 2)
        for _ in range(5):
            lab.source.push(snapshot(other.address))
            lab.source.push(snapshot(backend.address, other.address))
            assert caller.ask(shape, b"say:x").code is grpc.StatusCode.OK
        wait(lambda: set(spread(caller, shape, 10)) == {b"a", b"b"})


GOLD = FieldMatch(("user", "tier"), StringMatch(StringKind.EXACT, "gold"))


def test_field_of_the_request(lab, shape):
    """A call with one request is routed by a field of it; a stream of requests by the other routes."""
    with Backend("plain") as plain, Backend("gold") as gold:
        first = snapshot_of(
            [route("gold", match=RouteMatch(PathMatch(PathKind.PREFIX, "/"), fields=(GOLD,))), route("plain")],
            resolved("gold", [gold.address]),
            resolved("plain", [plain.address]),
        )
        caller = lab.open("", first=first)

        def answer(tier: str) -> bytes:
            made = {"request_serializer": lambda _: b"who:"}
            request = orders_pb2.GetRequest(user=orders_pb2.User(tier=tier))
            return caller.ask(shape, request, made=made).answers[0]

        assert answer("gold") == (b"gold" if shape.startswith("unary") else b"plain")
        assert answer("silver") == b"plain"


@pytest.mark.parametrize("policy", [RingHash(), Maglev(table_size=251)], ids=["ring", "maglev"])
def test_stickiness_by_header(lab, shape, policy):
    """Calls with one value of the hashed header go to one endpoint, values spread, and most stay when one is added."""
    with Backend("a") as one, Backend("b") as two, Backend("c") as three:
        lb = LbConfig(policy=policy)

        def configured(*backends):
            rule = route("c", hash_policies=(HashHeader("user"),))
            return snapshot_of([rule], resolved("c", [backend.address for backend in backends], lb))

        caller = lab.open("", first=configured(one, two))
        all_ready(lab, caller, 2)
        homes = {}
        for user in range(32):
            seen = spread(caller, shape, 3, metadata=(("user", f"u{user}"),))
            assert len(seen) == 1
            homes[user] = next(iter(seen))
        assert set(homes.values()) == {b"a", b"b"}
        lab.source.push(configured(one, two, three))
        all_ready(lab, caller, 3)
        moved = [
            user
            for user, home in homes.items()
            if spread(caller, shape, 1, metadata=(("user", f"u{user}"),))[home] == 0
        ]
        assert len(moved) < 26


def test_stickiness_by_channel(lab, shape):
    """With the channel's id as the hash, all calls of a channel go to one endpoint."""
    with Backend("a") as one, Backend("b") as two:
        rule = route("c", hash_policies=(HashChannelId(),))
        lb = LbConfig(policy=RingHash())
        caller = lab.open("", first=snapshot_of([rule], resolved("c", [one.address, two.address], lb)))
        all_ready(lab, caller, 2)
        assert len(spread(caller, shape, 12)) == 1


def test_churn_leaves_nothing_behind(lab, backend, shape, monkeypatch):
    """Connections of endpoints that came and went, and their stubs, are gone from memory."""
    monkeypatch.setattr(pool_module, "_IDLE_BEFORE_CLOSE", 0.0)
    caller = lab.open("", first=snapshot(backend.address))
    stub = caller.channel and getattr(caller.channel, shape)(METHODS[shape])
    gone: list[weakref.ref] = []
    argument = b"say:x" if shape.startswith("unary") else iter

    async def one_call() -> None:
        call = stub(argument if argument != iter else iter([b"say:x"]))
        if shape.endswith("_unary"):
            await call
        else:
            assert [answer async for answer in call] == [b"x"]

    def call() -> None:
        if lab.facade == "aio":
            lab.loop.run(one_call())
        elif shape.endswith("_unary"):
            stub(argument if argument != iter else iter([b"say:x"]))
        else:
            assert list(stub(argument if argument != iter else iter([b"say:x"]))) == [b"x"]

    for _ in range(4):
        with Backend("new") as new:
            lab.source.push(snapshot(new.address))
            wait(lambda new=new: call() or new.executed)
            channels = [connection.link.channel for connection in lab.scopes[0].pool._connections.values()]
            assert len(channels) == 1
            gone += [weakref.ref(channel) for channel in channels]
            del channels
    lab.source.push(snapshot(backend.address))
    wait(lambda: call() or backend.executed)

    def left() -> int:
        gc.collect()
        return sum(reference() is not None for reference in gone)

    wait(lambda: left() <= 0)
    assert len(stub._stubs) == 1
    assert len(lab.scopes[0].pool) == 1


def test_stubs_made_for_each_call(lab, backend):
    """A stub that is made anew for each call leaves nothing behind."""
    caller = lab.open(backend.address)

    def live() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if type(thing).__name__ == "UnaryUnary")

    caller.ask("unary_unary", b"say:x")
    before = live()
    for _ in range(50):
        assert caller.ask("unary_unary", b"say:x").answers == [b"x"]
    assert live() <= before + 1


def test_channels_share_connections(lab, backend, shape):
    """Two channels of one target share the connection; closing one ends its own calls and nothing of the other."""
    with Relay(backend.port) as relay:
        first = lab.open(relay.address)
        if lab.facade == "sync":
            second = type(first)(type(first.channel)(lambda: lab.scopes[0], first.channel.name, "orders"))
        else:
            second = type(first)(type(first.channel)(lambda: lab.scopes[0], first.channel.name, "orders"), lab.loop)
        assert first.ask(shape, b"say:x").answers == [b"x"]
        assert second.ask(shape, b"say:y").answers == [b"y"]
        ended, stays = first.start(shape, b"hang:0"), second.start(shape, b"hang:0")
        assert backend.script.began.acquire(timeout=PATIENCE)
        assert backend.script.began.acquire(timeout=PATIENCE)
        first.close()
        assert ended.end().code is grpc.StatusCode.CANCELLED
        assert not stays.over()
        backend.script.release.set()
        assert stays.end().answers == [b"released"]
        del ended, stays
        assert second.ask(shape, b"say:z").answers == [b"z"]
        assert (relay.connections, relay.closed) == (1, 0)
        second.close()
        wait(lambda: len(lab.scopes[0].pool) == 0)
        if lab.facade == "sync":  # grpc.aio's core closes the socket some time after the channel
            wait(lambda: relay.closed == 1)

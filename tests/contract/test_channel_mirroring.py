"""Mirrored calls: a copy goes to another cluster, and the call knows nothing of it. Mesh channels only."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import grpc
import pytest

from meshsdk.channel import mirrored, mirroring
from meshsdk.channel.mirrored import MirrorCounts
from meshsdk.model.policy import Mirror, RetryPolicy
from meshsdk.model.snapshot import BrokenCluster, Snapshot
from tests.contract.channel_backend import METHODS, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import NOWHERE, resolved, route, snapshot_of
from tests.contract.test_channel_counts import Sums

pytestmark = pytest.mark.parametrize("path", ["mesh"])

RETRY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, base_interval=0.001, max_interval=0.002)


@pytest.fixture(params=["unary_unary", "unary_stream"])
def shape(request) -> str:
    """The shapes with one request."""
    return request.param


@pytest.fixture
def shadow() -> Iterator[Backend]:
    """The mirror's backend."""
    with Backend("b") as running:
        yield running


def mirrored_to(backend: Backend, *to: str, share: float = 1.0, retry: RetryPolicy | None = None) -> Snapshot:
    """A route to `backend`, mirrored to a cluster of the addresses `to`."""
    forward = route("c", mirrors=(Mirror("shadow", share),), retry=retry)
    return snapshot_of([forward], resolved("c", [backend.address]), resolved("shadow", to))


def wait_until(holds) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def counts(caller) -> MirrorCounts:
    """Of the mirror's copies."""
    return caller.channel.target.shared.mirrored.counts("shadow")


def opened(lab, backend: Backend, shadow: Backend, **policy):
    """A caller whose mirror is connected; what was called until then is forgotten."""
    caller = lab.open("", first=mirrored_to(backend, shadow.address, **policy))
    caller.ask("stream_unary", b"say:warm")
    mirror = caller.channel.target.routes.balancer("shadow")
    wait_until(lambda: mirror.settled)
    backend.executed.clear()
    return caller


def test_both_saw_it(lab, backend, shadow, shape):
    """The call is answered by its own cluster; the mirror gets the same request and metadata, and a mark."""
    caller = opened(lab, backend, shadow)
    for number in range(3):
        ended = caller.ask(shape, b"each:b=say:not", metadata=(("key", str(number)),))
        assert (ended.answers, ended.code) == ([b"a"], grpc.StatusCode.OK)
    wait_until(lambda: shadow.executed.count("each:b=say:not") == 3)
    assert backend.executed.count("each:b=say:not") == 3
    assert sorted(dict(metadata)["key"] for metadata in shadow.script.metadata) == ["0", "1", "2"]
    assert all(("meshsdk-mirror", "1") in metadata for metadata in shadow.script.metadata)
    assert not any(key == "meshsdk-mirror" for metadata in backend.script.metadata for key, _ in metadata)


def test_future(lab, backend, shadow):
    """A call that is started is mirrored as one that is waited for."""
    caller = opened(lab, backend, shadow)
    assert caller.start("unary_unary", b"who:").end().answers == [b"a"]
    wait_until(lambda: shadow.executed == ["who:"])


@pytest.mark.parametrize(("share", "drawn", "copies"), [(0.0, 0.0, 0), (0.3, 0.31, 0), (0.3, 0.29, 1), (1.0, 0.99, 1)])
def test_share(lab, backend, shadow, monkeypatch, share, drawn, copies):
    """Each call is drawn for by itself."""
    caller = opened(lab, backend, shadow, share=share)
    monkeypatch.setattr(mirroring.random, "random", lambda: drawn)
    assert caller.ask("unary_unary", b"who:").answers == [b"a"]
    assert counts(caller)[:2] == (copies, 0)


@pytest.mark.parametrize("how", ["abort:no", "unavailable:no", "raise:", "pushback:-1"])
def test_mirror_that_fails(lab, backend, shadow, shape, how):
    """A mirror that fails is not the call's business."""
    caller = opened(lab, backend, shadow, retry=RETRY)
    assert caller.ask(shape, f"each:b={how}".encode()).answers == [b"a"]
    wait_until(lambda: counts(caller) == (1, 0, 0))
    assert (len(backend.executed), len(shadow.executed)) == (2, 2)  # `each` and what it says


def test_mirror_that_hangs(lab, backend, shadow, shape):
    """A copy that is not answered ends at the call's deadline; the call has ended long before."""
    caller = opened(lab, backend, shadow)
    assert caller.ask(shape, b"each:b=hang:0", timeout=1.5).answers == [b"a"]
    assert counts(caller) == (1, 0, 1)
    assert shadow.script.cancelled.wait(PATIENCE)
    wait_until(lambda: counts(caller) == (1, 0, 0))


def test_mirror_that_cannot_be_reached(lab, backend, shape):
    """A copy for which no endpoint is connected, be it refused or black-holed, is dropped at once, and counted."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as hole:
        for number, address in enumerate((NOWHERE, f"127.0.0.1:{hole.getsockname()[1]}")):
            caller = lab.open("", first=mirrored_to(backend, address))
            for _ in range(2):
                assert caller.ask(shape, b"who:").answers == [b"a"]
            assert counts(caller) == (0, 2, 0), number


def test_mirror_that_is_not_configured(lab, backend, shape):
    """A mirror's cluster that cannot be used drops copies."""
    forward = route("c", mirrors=(Mirror("shadow"),))
    first = snapshot_of([forward], resolved("c", [backend.address]))
    caller = lab.open("", first=first)
    assert caller.ask(shape, b"who:").answers == [b"a"]
    lab.source.push(
        Snapshot(
            first.target,
            first.listener,
            first.virtual_host,
            {**first.clusters, "shadow": BrokenCluster("shadow", "gone")},
        )
    )
    assert caller.ask(shape, b"who:").answers == [b"a"]
    assert counts(caller) == (0, 2, 0)


def test_too_many(lab, backend, shadow, shape, monkeypatch):
    """Beyond the most copies at one time, copies are dropped."""
    monkeypatch.setattr(mirrored, "MOST_RUNNING", 2)
    caller = opened(lab, backend, shadow)
    for _ in range(5):
        assert caller.ask(shape, b"each:b=hang:0").answers == [b"a"]
    assert counts(caller) == (2, 3, 2)
    shadow.script.release.set()
    wait_until(lambda: counts(caller) == (2, 3, 0))
    assert caller.ask(shape, b"who:").answers == [b"a"]
    wait_until(lambda: counts(caller) == (3, 3, 0))


@pytest.mark.parametrize("shape", ["stream_unary", "stream_stream"])
def test_streams_of_requests_are_not_mirrored(lab, backend, shadow, shape):
    """A call with a stream of requests has no copy."""
    caller = opened(lab, backend, shadow)
    assert caller.ask(shape, b"who:").answers == [b"a"]
    assert counts(caller) == (0, 0, 0)


def test_long_stream(lab, backend, shadow):
    """A mirrored stream of answers is read to its end, whatever its length."""
    caller = opened(lab, backend, shadow)
    assert caller.ask("unary_stream", b"each:b=count:5000").answers == [b"a"]
    told = Sums(lab)
    wait_until(lambda: counts(caller) == (1, 0, 0))
    assert told.of("shadow")["ok"] == 1


def test_retried_call(lab, backend, shadow, shape):
    """A call that is retried is mirrored once."""
    caller = opened(lab, backend, shadow, retry=RETRY)
    assert caller.ask(shape, b"each:a=fail:2;b=say:x").answers == [b"a"]
    wait_until(lambda: counts(caller) == (1, 0, 0))
    assert shadow.executed.count("each:a=fail:2;b=say:x") == 1


def test_counted_at_the_mirror(lab, backend, shadow, shape):
    """Copies count in the mirror's cluster, calls in their own."""
    caller = opened(lab, backend, shadow)
    told = Sums(lab)
    told.settle()
    before = told.of("c")["ok"]
    for _ in range(3):
        assert caller.ask(shape, b"each:b=abort:").answers == [b"a"]
    wait_until(lambda: counts(caller) == (3, 0, 0))
    told.settle()
    wait_until(lambda: told.of("c")["ok"] == before + 3)
    assert told.of("shadow") == {"errors": 3, "issued": 3, "status.FAILED_PRECONDITION": 3}


def test_closed_meanwhile(lab, backend, shadow, shape):
    """Closing the channel ends the copies that run."""
    caller = opened(lab, backend, shadow)
    mirror = caller.channel.target.shared.mirrored
    assert caller.ask(shape, b"each:b=hang:0", timeout=None).answers == [b"a"]
    caller.close()
    wait_until(lambda: mirror.counts("shadow") == (1, 0, 0))
    assert not mirror.kept


@pytest.mark.parametrize("facade", ["aio"])
def test_copy_cancelled_before_its_first_step(lab, backend, shadow, shape):
    """A copy whose task never ran gives its place back."""
    caller = opened(lab, backend, shadow)
    kept = caller.channel.target.shared.mirrored.kept

    async def run() -> None:
        call = getattr(caller.channel, shape)(METHODS[shape])(b"who:")
        (copy,) = kept
        copy.inner.cancel()
        await asyncio.wait((copy.inner,))
        call.cancel()

    wait_until(lambda: counts(caller).running == 0)
    caller.thread.run(run())
    assert (counts(caller).running, len(kept)) == (0, 0)

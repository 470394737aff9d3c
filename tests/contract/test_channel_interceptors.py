"""`client_interceptors` on an application's own channel: the mesh where it is configured, else that channel."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from meshsdk.interceptors import client_aio, client_sync
from meshsdk.interceptors.continuation import Serializers
from meshsdk.model.snapshot import Unresolvable
from tests.contract import channels
from tests.contract.channel_backend import SHAPES, Backend
from tests.contract.channels import TARGET, snapshot
from tests.contract.test_channel_connecting import wait

pytestmark = pytest.mark.parametrize("path", ["intercepted"])


@pytest.fixture
def direct(monkeypatch) -> Iterator[Backend]:
    """The backend of the application's own channel."""
    with Backend("direct") as running:
        monkeypatch.setattr(channels, "NOWHERE", running.address)
        yield running


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


def test_takes_the_mesh(lab, direct, backend, shape):
    """With a configuration calls take the mesh, and the application's own channel sees none of them."""
    assert lab.open(backend.address).ask(shape, b"who:").answers == [b"a"]
    assert direct.executed == []


def test_direct_path_without_configuration(lab, direct, shape, monkeypatch):
    """Without a configuration calls wait for a moment, then take the application's own channel."""
    monkeypatch.setattr(client_sync, "FIRST_WAIT", 0.05)
    assert lab.open("", first=None).ask(shape, b"who:").answers == [b"direct"]


def test_first_wait_leaves_time_for_the_call(lab, direct, shape):
    """The moment is never more than half of the caller's timeout."""
    assert lab.open("", first=None).ask(shape, b"who:", timeout=0.5).answers == [b"direct"]


def test_direct_path_when_the_listener_goes(lab, direct, backend, shape):
    """When the mesh loses its configuration calls take the direct path at once, and the mesh again once it is back."""
    caller = lab.open(backend.address)
    assert caller.ask(shape, b"who:").answers == [b"a"]
    lab.source.push(Unresolvable(TARGET, "gone"))
    wait(lambda: caller.ask(shape, b"who:").answers == [b"direct"])
    lab.source.push(snapshot(backend.address))
    wait(lambda: caller.ask(shape, b"who:").answers == [b"a"])


def test_close_of_the_wrapped_channel(lab, direct, backend, shape):
    """grpc tells interceptors nothing of close: calls go on through the mesh."""
    caller = lab.open(backend.address)
    assert caller.ask(shape, b"who:").answers == [b"a"]
    caller.close()
    assert lab.differs("close")
    assert caller.ask(shape, b"who:").answers == [b"a"]


def test_metadata_and_timeouts_pass(lab, direct, backend, shape):
    """What the application gives to a call goes with it over the mesh."""
    ended = lab.open(backend.address).ask(shape, b"remaining:", metadata=(("key", "value"),), timeout=15)
    assert 0 < float(ended.answers[0]) <= 16  # grpc rounds up
    assert ("key", "value") in backend.script.metadata[0]


@pytest.mark.parametrize("facade", ["sync"])
def test_other_interceptors_outside(lab, direct, backend, shape):
    """Interceptors before the mesh's see every call, and what they change goes with it."""

    class Outer(channels._Pass):
        def intercept_unary_unary(self, continuation, client_call_details, request):
            changed = client_call_details._replace(metadata=(("added", "outside"),))
            return continuation(changed, request)

        intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = intercept_unary_unary

    caller = lab.open(backend.address)
    outer = type(caller)(grpc.intercept_channel(caller.channel, Outer()))
    assert outer.ask(shape, b"who:").answers == [b"a"]
    assert ("added", "outside") in backend.script.metadata[0]


def test_serializers_that_cannot_be_found(lab, direct, backend, shape, monkeypatch, caplog):
    """Where grpc hides a method's serializers the call takes the direct path, and that is said once a method."""
    monkeypatch.setattr(client_sync, "of_sync", lambda _: None)
    monkeypatch.setattr(client_aio, "of_aio", lambda _: None)
    caller = lab.open(backend.address)
    with caplog.at_level(logging.WARNING, logger="meshsdk"):
        assert [caller.ask(shape, b"who:").answers for _ in range(3)] == [[b"direct"]] * 3
    assert [record.levelname for record in caplog.records if record.name.startswith("meshsdk")] == ["WARNING"]
    assert "meshsdk.channel('xds:///orders')" in caplog.text


@pytest.mark.parametrize("facade", ["sync"])
def test_paths_make_one_stub_for_all_threads(lab, direct, backend):
    """Threads that make the first call of a method at once share its stub."""
    lab.open(backend.address)
    paths = client_sync.Paths(lab.callers[0].channel)
    start, seen = threading.Barrier(8), []

    def first() -> None:
        start.wait()
        seen.append(paths.stub("unary_unary", "/s/m", Serializers(None, None)))

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == 1

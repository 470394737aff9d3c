"""`mesh:///NAME`: channels straight from a registry, on both façades. A part of the calls' contract, then their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

import meshsdk
from meshsdk.model.instance import InstanceState, MethodInfo, Revision
from tests.contract.channel_backend import SERVICE, SHAPES, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channel_direct import LEASE, DirectLab
from tests.contract.conftest import _own_threads
from tests.contract.test_channel_calls import (  # noqa: F401 - the contract of calls, run here over `mesh:///`
    test_abort,
    test_answers,
    test_compression,
    test_large_messages,
    test_metadata_of_the_request,
    test_metadata_of_the_server,
    test_rich_error,
    test_serializers,
    test_unimplemented,
)
from tests.contract.test_channel_connecting import free_port, wait


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


@pytest.fixture
def section() -> dict:
    """The `meshsdk` section of the bootstrap beside the registry."""
    return {}


@pytest.fixture
def lab(facade, loop_thread, section) -> Iterator[DirectLab]:
    """A registry and channels to it; afterwards no thread and no complaint of the loop is left."""
    opened = DirectLab(facade, loop_thread, section)
    loop_thread.problems.clear()
    yield opened
    opened.close()
    deadline = time.monotonic() + PATIENCE
    while _own_threads() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert _own_threads() == []
    assert loop_thread.problems == []


def test_without_instances(lab, shape):
    """An application that has none fails at once, UNAVAILABLE, naming registry and application."""
    ended = lab.open().ask(shape, b"say:x")
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    head = "mesh:///orders: cluster 'mesh://default/orders' has no endpoints; registry 'default' (memory://contract-"
    assert ended.details.startswith(head)
    assert ended.details.endswith("): it has answered, with no instance to offer")


def test_waiting_for_an_instance(lab, backend, shape):
    """A call that waits for ready is made when the first instance comes; else it ends at its deadline."""
    caller = lab.open()
    assert caller.ask(shape, b"say:x", timeout=0.1, wait_for_ready=True).code is grpc.StatusCode.DEADLINE_EXCEEDED
    running = caller.start(shape, b"who:", timeout=PATIENCE, wait_for_ready=True)
    lab.register(backend.address)
    assert running.end().answers == [b"a"]


def test_instances_come_drain_and_go(lab):
    """New calls follow the registry: to whoever is ONLINE, away from whoever drains; a running call finishes."""
    with Backend("a") as one, Backend("b") as two:
        _, first = lab.register(one.address)
        caller = lab.open()
        assert caller.ask("unary_unary", b"who:").answers == [b"a"]
        running = caller.start("unary_unary", b"hang:0")
        assert one.script.began.acquire(timeout=PATIENCE)
        lab.register(two.address)
        lab.registry.set_state(first, InstanceState.DRAINING)
        wait(lambda: caller.ask("unary_unary", b"who:").answers == [b"b"])
        assert {caller.ask("unary_unary", b"who:").answers[0] for _ in range(20)} == {b"b"}
        lab.registry.deregister(first)
        assert {caller.ask("unary_unary", b"who:").answers[0] for _ in range(20)} == {b"b"}
        one.script.release.set()
        assert running.end().answers == [b"released"]


def test_an_instance_that_is_starting_gets_no_call(lab):
    """STARTING and OFFLINE instances are not called; the one that turns ONLINE is."""
    with Backend("a") as one, Backend("b") as two:
        lab.register(one.address)
        _, lease = lab.register(two.address, state=InstanceState.STARTING)
        caller = lab.open()
        assert {caller.ask("unary_unary", b"who:").answers[0] for _ in range(20)} == {b"a"}
        lab.registry.set_state(lease, InstanceState.ONLINE)
        wait(lambda: caller.ask("unary_unary", b"who:").answers == [b"b"])


def test_interceptors(lab, backend, shape):
    """A channel of grpcio's own with the mesh's interceptors takes the registry's instances."""
    lab.register(backend.address)
    assert lab.open(intercepted=True).ask(shape, b"who:").answers == [b"a"]


def test_an_instance_by_its_name(lab, backend, shape):
    """An instance whose address has a host name, as Consul's and Nacos' may, is called: gRPC resolves the name."""
    lab.register(f"localhost:{backend.port}")
    assert lab.open().ask(shape, b"who:").answers == [b"a"]


def test_units(lab):
    """`?unit=` keeps calls within a unit's instances."""
    with Backend("a") as one, Backend("b") as two:
        lab.register(one.address, unit="hz")
        lab.register(two.address, unit="sh")
        caller = lab.open(target="mesh:///orders?unit=sh")
        assert {caller.ask("unary_unary", b"who:").answers[0] for _ in range(20)} == {b"b"}


def publish(lab, app: str, *services: str) -> str:
    """Publishes what a revision of an application serves; returns the revision."""
    revision = "-".join(services)
    methods = tuple(MethodInfo(f"/{service}/Do") for service in services)
    lab.registry.publish_revision(Revision(app, revision, methods))
    return revision


def test_a_service_by_its_name(lab):
    """A gRPC service leads to all applications that serve it, and to those instances whose revision has it."""
    with Backend("a") as one, Backend("b") as two, Backend("c") as three:
        lab.register(one.address, revision=publish(lab, "orders", SERVICE))
        lab.register(two.address, "returns", revision=publish(lab, "returns", SERVICE, "other.Service"))
        lab.register(three.address, revision=publish(lab, "orders", "other.Service"))
        caller = lab.open(target=f"mesh:///{SERVICE}")
        wait(lambda: {caller.ask("unary_unary", b"who:").answers[0] for _ in range(20)} == {b"a", b"b"})
        assert three.executed == []


def test_a_new_application_of_a_service(lab, monkeypatch):
    """An application that begins to serve the service is found at the next look, without a call that fails."""
    monkeypatch.setattr("meshsdk.discovery.mapping._POLL", 0.3)
    with Backend("a") as one, Backend("b") as two:
        lab.register(one.address, revision=publish(lab, "orders", SERVICE))
        caller = lab.open(target=f"mesh:///{SERVICE}")
        assert caller.ask("unary_unary", b"who:").answers == [b"a"]
        lab.register(two.address, "returns", revision=publish(lab, "returns", SERVICE))
        wait(lambda: caller.ask("unary_unary", b"who:").answers == [b"b"])


MODES = [
    (meshsdk.Migration.FORCE_INTERFACE, b"old"),
    (meshsdk.Migration.APPLICATION_FIRST, b"new"),
    (meshsdk.Migration.FORCE_INTERFACE, b"old"),
    (meshsdk.Migration.FORCE_APPLICATION, b"new"),
    (meshsdk.Migration.APPLICATION_FIRST, b"new"),
]


def test_migration_under_load(lab):
    """Each mode set in turn takes effect while calls go on: no call fails at any switch."""
    with Backend("old") as old, Backend("new") as new:
        lab.register(old.address, SERVICE)
        lab.register(new.address, revision=publish(lab, "orders", SERVICE))
        caller = lab.open(target=f"mesh:///{SERVICE}")
        answers, over = [caller.ask("unary_unary", b"who:")], threading.Event()

        def load() -> None:
            while not over.is_set():
                answers.append(caller.ask("unary_unary", b"who:"))

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for mode, name in MODES:
                lab.mesh.set_migration(SERVICE, mode)
                wait(lambda name=name: [one.answers for one in answers[-3:]] == [[name]] * 3)
        finally:
            over.set()
            thread.join()
        assert {(one.code, one.details) for one in answers} == {(grpc.StatusCode.OK, "")}


@pytest.mark.parametrize(
    "section",
    [
        {"migration": {"default": "FORCE_INTERFACE"}},
        {"migration": {"services": {SERVICE: "FORCE_INTERFACE"}}},
    ],
)
def test_migration_by_the_bootstrap(lab):
    """The bootstrap's default counts, and its word on the service; `set_migration` is above both, until taken back."""
    with Backend("old") as old, Backend("new") as new:
        lab.register(old.address, SERVICE)
        lab.register(new.address, revision=publish(lab, "orders", SERVICE))
        caller = lab.open(target=f"mesh:///{SERVICE}")
        assert {caller.ask("unary_unary", b"who:").answers[0] for _ in range(10)} == {b"old"}
        lab.mesh.set_migration(SERVICE, meshsdk.Migration.FORCE_APPLICATION)
        wait(lambda: caller.ask("unary_unary", b"who:").answers == [b"new"])
        lab.mesh.set_migration(SERVICE, None)
        wait(lambda: caller.ask("unary_unary", b"who:").answers == [b"old"])


def test_application_first_falls_back(lab):
    """The application's last instance drains: calls go to the interface's entries, and back when it returns."""
    with Backend("old") as old, Backend("new") as new:
        lab.register(old.address, SERVICE)
        _, lease = lab.register(new.address, revision=publish(lab, "orders", SERVICE))
        caller = lab.open(target=f"mesh:///{SERVICE}")
        assert caller.ask("unary_unary", b"who:").answers == [b"new"]
        lab.registry.set_state(lease, InstanceState.DRAINING)
        wait(lambda: caller.ask("unary_unary", b"who:").answers == [b"old"])
        lab.registry.set_state(lease, InstanceState.ONLINE)
        wait(lambda: caller.ask("unary_unary", b"who:").answers == [b"new"])


def test_a_registry_that_is_away(facade, loop_thread):
    """Calls fail UNAVAILABLE naming registry and application, wait if told to, and never beyond their deadline."""
    url = f"grpc://127.0.0.1:{free_port()}"
    lab = DirectLab(facade, loop_thread, {"registries": {"default": {"url": url}}})
    caller = lab.open()
    try:
        ended = caller.ask("unary_unary", b"say:x", timeout=PATIENCE)
        assert ended.code is grpc.StatusCode.UNAVAILABLE
        assert f"mesh:///orders: instances 'mesh://default/orders': registry 'default' ({url}): " in ended.details
        ended = caller.ask("unary_unary", b"say:x", timeout=0.2, wait_for_ready=True)
        assert ended.code is grpc.StatusCode.UNAVAILABLE
        assert "orders" in ended.details
    finally:
        lab.close()


def test_targets_that_cannot_be_used(lab):
    """A registry unknown to the bootstrap, an address that is none, or no name: refused when the channel is made."""
    with pytest.raises(meshsdk.ConfigurationError, match=r"meshsdk\.registries has no 'other'"):
        lab.open(target="mesh://other/orders")
    with pytest.raises(meshsdk.ConfigurationError, match="write mesh:///NAME"):
        lab.open(target="mesh:///")
    broken = DirectLab(lab.facade, lab.loop, {"registries": {"default": {"url": "etcd://h"}}})
    with pytest.raises(meshsdk.ConfigurationError, match=r"meshsdk.registries.default.*'h' is not HOST:PORT"):
        broken.open()
    broken.close()


def test_a_registry_that_no_adapter_knows():
    """It is refused when the mesh is made."""
    with pytest.raises(meshsdk.ConfigurationError, match=r"meshsdk.registries\['default'\].*scheme is none of"):
        meshsdk.Mesh({"meshsdk": {"registries": {"default": {"url": "ftp://h:1"}}}})


def test_two_targets_of_one_application(lab, backend):
    """Channels to the same target share what is followed; closing one leaves the other be."""
    first, second = lab.open(backend.address), lab.open()
    assert first.ask("unary_unary", b"who:").answers == second.ask("unary_unary", b"who:").answers == [b"a"]
    first.close()
    assert second.ask("unary_unary", b"who:").answers == [b"a"]


def test_the_ledger(lab, backend):
    """What is followed is in the ledger, with where it comes from."""
    lab.open(backend.address).ask("unary_unary", b"who:")
    (row,) = lab.mesh.ledger()
    assert (row.kind.name, row.name, row.status.value) == ("INSTANCES", "mesh://default/orders", "present")
    assert row.server.startswith("registry 'default' (memory://contract-")


def test_a_registry_that_forgot_everything(lab):
    """The instances vanish from the registry in masses without a word, and still work: calls go on."""
    with Backend("a") as one, Backend("b") as two:
        leases = [lab.register(each.address) for each in (one, two)]
        caller = lab.open()
        assert caller.ask("unary_unary", b"say:x").code is grpc.StatusCode.OK
        for _, lease in leases:
            lab.registry.deregister(lease)
        lab.register("10.9.9.9:1", "other")
        assert {caller.ask("unary_unary", b"say:x").code for _ in range(20)} == {grpc.StatusCode.OK}
        instance, _ = leases[0]
        lab.registry.register(replace(instance, weight=2), LEASE)
        assert {caller.ask("unary_unary", b"say:x").code for _ in range(20)} == {grpc.StatusCode.OK}

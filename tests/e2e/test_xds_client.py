"""XdsClient over real gRPC against a scripted ADS server: what may go wrong between them, and what must come of it."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import subprocess
import sys
import threading

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.model.snapshot import Unresolvable
from meshsdk.xds_client.store import EntryStatus
from tests.e2e.processes import ROOT, until
from tests.e2e.scripted_ads import (
    CDS,
    EDS,
    LDS,
    PATIENCE,
    RDS,
    CuttingProxy,
    ScriptedAds,
    cluster,
    endpoints,
    listener,
    service,
)
from tests.e2e.watchers import QUICK, Clients, Watcher, ports, row, xds_threads

TLS = ROOT / "tests" / "e2e" / "tls"  # a self-signed certificate of localhost, for tests only


@pytest.fixture
def clients():
    """Makes clients that are closed at the end, and leave no thread behind."""
    with Clients() as made:
        yield made


@pytest.fixture
def ads():
    """A server that speaks both variants."""
    with ScriptedAds() as server:
        yield server


@pytest.mark.parametrize("transport", ["sotw", "delta"])
def test_from_listener_to_endpoints_and_updates(ads, clients, transport):
    """A target resolves over four types; a changed endpoint reaches the watcher; both on one thread of the client."""
    watcher = Watcher(clients(ads.address, transport=transport))
    stream = ads.stream()
    assert stream.delta == (transport == "delta")
    stream.answer_all(service("orders", 1, 2))
    snapshot = watcher.snapshot()
    assert ports(snapshot) == [1, 2]
    stream.respond(EDS, endpoints("orders", 1, 3), version="2", names=("orders",))
    assert ports(watcher.snapshot()) == [1, 3]
    assert watcher.threads == {"meshsdk-xds"}


def test_first_request_carries_node_then_acks(ads, clients):
    """The first request names the node and what it can; the ACK has version and nonce and no node."""
    Watcher(clients(ads.address))
    stream = ads.stream()
    first = stream.next_request()
    assert (first.node.id, first.node.user_agent_name) == ("n1", "meshsdk")
    assert "xds.config.resource-in-sotw" in first.node.client_features
    assert (first.type_url, list(first.resource_names), first.response_nonce) == (LDS, ["orders"], "")
    stream.respond(LDS, listener("orders"), version="v7", nonce="abc")
    ack = stream.next_request(LDS)
    assert (ack.version_info, ack.response_nonce, ack.node.id) == ("v7", "abc", "")
    assert not ack.HasField("error_detail")


def test_nack_names_every_bad_resource_and_keeps_the_good(ads, clients):
    """Of one response the good half is in force; one error_detail tells what is wrong with each other half."""
    client = clients(ads.address)
    good, bad = Watcher(client, "xds:///good"), Watcher(client, "xds:///bad")
    stream = ads.stream()
    stream.next_request(LDS)
    broken = listener("bad")
    broken.value += b"\x0a\xff"  # a field that promises more bytes than there are
    stream.respond(LDS, broken, listener("good"))
    nack = until(lambda: next((r for r in stream.requests if r.HasField("error_detail")), None), "a NACK")
    assert nack.error_detail.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "'bad'" in nack.error_detail.message
    assert "'good'" not in nack.error_detail.message
    assert isinstance(bad.next(), Unresolvable)
    assert row(client, "LISTENER", "good").status is EntryStatus.PRESENT
    assert row(client, "LISTENER", "bad").status is EntryStatus.INVALID
    assert good.quiet()


def test_good_configuration_survives_a_bad_update(ads, clients):
    """A88: after a NACK the last good resource stays in force, and the ledger shows why the new one is not."""
    client = clients(ads.address)
    watcher = Watcher(client)
    stream = ads.stream()
    stream.answer_all(service("orders", 1))
    watcher.snapshot()
    bad = endpoints("orders", 2)
    bad.value = bad.value[:-3]
    stream.respond(EDS, bad, version="2")
    until(lambda: row(client, "ENDPOINTS").status is EntryStatus.INVALID, "the refusal is in the ledger")
    assert row(client, "ENDPOINTS").problem
    stream.respond(EDS, endpoints("orders", 3), version="3")
    assert ports(watcher.snapshot()) == [3]
    assert row(client, "ENDPOINTS").status is EntryStatus.PRESENT


def test_nonces_that_repeat_or_are_missing(ads, clients):
    """Duplicated responses, reused and empty nonces: each is answered as it came, and the last content counts."""
    client = clients(ads.address)
    watcher = Watcher(client)
    stream = ads.stream()
    resources = service("orders", 1)
    for type_url in (LDS, RDS, CDS):
        stream.next_request(type_url)
        for _ in range(3):
            stream.respond(type_url, resources[type_url, "orders"], nonce="same")
    stream.next_request(EDS)
    stream.respond(EDS, endpoints("orders", 1), nonce="")
    stream.respond(EDS, endpoints("orders", 2), nonce="same")
    stream.respond(EDS, endpoints("orders", 2), nonce="same")
    stream.respond(EDS, endpoints("orders", 4), nonce="later", version="2")
    while ports(watcher.snapshot()) != [4]:  # what comes quickly in a row may be published once
        pass
    acks = [stream.next_request(EDS).response_nonce for _ in range(4)]
    assert acks == ["", "same", "same", "later"]


def test_types_in_any_order(ads, clients):
    """Endpoints before their cluster, routes before their listener: what nobody asked for yet waits for its turn."""
    watcher = Watcher(clients(ads.address))
    stream = ads.stream()
    resources = service("orders", 7)
    for type_url in (EDS, CDS, RDS):
        stream.respond(type_url, resources[type_url, "orders"])
    stream.answer_all(resources)
    assert ports(watcher.snapshot()) == [7]
    assert not any(r.HasField("error_detail") for r in stream.requests)


def test_hostile_responses(ads, clients):
    """Garbage, foreign types, thousands of unasked resources: refused in words, and the stream goes on."""
    client = clients(ads.address)
    watcher = Watcher(client)
    stream = ads.stream()
    stream.next_request(LDS)
    garbage = listener("orders")
    garbage.value = b"\xff" * 100
    stream.respond(LDS, garbage)
    assert stream.next_request(LDS).error_detail.message
    stream.respond(LDS, cluster("orders"))
    assert "Cluster" in stream.next_request(LDS).error_detail.message
    stream.respond("type.googleapis.com/no.such.Type", listener("orders"))
    assert "no.such.Type" in stream.next_request("type.googleapis.com/no.such.Type").error_detail.message
    flood = discovery_pb2.DiscoveryResponse(type_url=LDS, version_info="9", nonce="flood")
    flood.resources.extend([listener("other")] * 100_001)
    stream.send(flood)
    assert "at most" in stream.next_request(LDS).error_detail.message
    while not watcher.quiet():
        assert isinstance(watcher.next(), Unresolvable)
    stream.answer_all(service("orders", 1))
    stream.respond(LDS, listener("orders"))
    result = watcher.next()
    while isinstance(result, Unresolvable):
        result = watcher.next()
    assert ports(result) == [1]
    assert ads.opened == ["StreamAggregatedResources"]


def test_bytes_that_are_no_message_end_the_stream(ads, clients):
    """What is not even a DiscoveryResponse cannot be NACKed: the client reconnects and goes on."""
    watcher = Watcher(clients(ads.address))
    stream = ads.stream()
    stream.next_request()
    stream.send_bytes(b"\xff\xff\xff")
    again = ads.stream()
    again.answer_all(service("orders", 1))
    result = watcher.next()
    while isinstance(result, Unresolvable):
        assert "no discovery response" in result.problem
        result = watcher.next()
    assert ports(result) == [1]


@pytest.mark.parametrize("transport", ["sotw", "delta"])
def test_resource_that_never_arrives(ads, clients, transport):
    """A57: after the resource timeout the watcher learns what is missing and who was asked."""
    client = clients(ads.address, timing=QUICK, transport=transport)
    watcher = Watcher(client)
    assert ads.stream().next_request().type_url == LDS
    result = watcher.next()
    assert isinstance(result, Unresolvable)
    assert "'orders'" in result.problem
    assert ads.address in result.problem
    assert row(client, "LISTENER").status is EntryStatus.ABSENT


def test_timer_does_not_run_without_a_connection(clients):
    """A57: a server that accepts connections and never speaks is unreachable, not one that lacks the resource."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        client = clients(address, timing=QUICK)
        result = Watcher(client).next()
        assert isinstance(result, Unresolvable)
        assert f"xDS server {address}: UNAVAILABLE" in result.problem
        assert row(client, "LISTENER").status is EntryStatus.UNREACHABLE


def test_server_dies_in_the_middle_of_a_response(ads, clients):
    """Half a response changes nothing; the client reconnects and gets the whole."""
    proxy = CuttingProxy(ads.port, after=20_000)
    client = clients(proxy.address)
    watcher = Watcher(client)
    stream = ads.stream()
    resources = service("orders", *range(1, 5000))
    stream.answer_all(resources)
    again = ads.stream()
    assert proxy.cut.is_set()
    again.answer_all(resources)
    assert len(ports(watcher.snapshot())) == 4999
    proxy.close()


def test_goaway_and_restart_keep_what_is_in_force(clients):
    """The server restarts: the configuration stays, the client comes back and takes the new one."""
    with ScriptedAds() as first:
        client = clients(first.address)
        watcher = Watcher(client)
        first.stream().answer_all(service("orders", 1))
        assert ports(watcher.snapshot()) == [1]
        first.stop()
        assert client.progress("xds:///orders") == "xds:///orders: configuration is complete"
    with ScriptedAds(port=first.port) as second:
        second.stream().answer_all(service("orders", 2))
        assert ports(watcher.snapshot()) == [2]


def test_stream_ended_by_the_server_is_opened_again_with_versions(ads, clients):
    """Delta after a reconnect tells what it has, so that the server sends what changed only."""
    watcher = Watcher(clients(ads.address, transport="delta"))
    stream = ads.stream()
    stream.answer_all(service("orders", 1))
    watcher.snapshot()
    stream.finish()
    again = ads.stream()
    first = {}
    while len(first) < 4:
        request = again.next_request()
        first.setdefault(request.type_url, request)
    for type_url in (LDS, RDS, CDS, EDS):
        assert list(first[type_url].resource_names_subscribe) == ["orders"]
        assert dict(first[type_url].initial_resource_versions) == {"orders": "1"}
    assert sum(request.node.id == "n1" for request in first.values()) == 1
    assert watcher.quiet()


def test_sotw_after_a_reconnect_tells_its_version(ads, clients):
    """State of the world tells the version it has, with a fresh nonce."""
    watcher = Watcher(clients(ads.address))
    stream = ads.stream()
    stream.answer_all(service("orders", 1))
    watcher.snapshot()
    stream.finish(grpc.StatusCode.UNAVAILABLE, "moving")
    request = ads.stream().next_request(LDS)
    assert (request.version_info, request.response_nonce) == ("1", "")


def test_delta_unimplemented_falls_to_sotw(clients):
    """transport auto: one refusal, then state of the world, also after a reconnect."""
    with ScriptedAds(delta=False) as ads:
        watcher = Watcher(clients(ads.address, transport="auto"))
        stream = ads.stream()
        stream.answer_all(service("orders", 1))
        assert ports(watcher.snapshot()) == [1]
        stream.finish()
        ads.stream()
        assert ads.opened == ["DeltaAggregatedResources", "StreamAggregatedResources", "StreamAggregatedResources"]


def test_fallback_server_and_return(clients):
    """A71: the second server serves while the first is down; the first takes over when it answers."""
    with ScriptedAds() as probe:
        free = probe.port
    with ScriptedAds() as second:
        client = clients(f"127.0.0.1:{free}", second.address)
        watcher = Watcher(client)
        fallback = second.stream()
        fallback.answer_all(service("orders", 2))
        assert ports(watcher.snapshot()) == [2]
        assert row(client, "ENDPOINTS").server == second.address
        with ScriptedAds(port=free) as first:
            first.stream().answer_all(service("orders", 1))
            assert ports(watcher.snapshot()) == [1]
            assert fallback.ended.wait(PATIENCE)
            assert row(client, "ENDPOINTS").server == first.address


def test_no_server_at_all_is_told_with_names_and_reason(clients):
    """Nobody listens: the watcher learns which servers were asked and what happened."""
    with ScriptedAds() as probe:
        address = probe.address
    client = clients(address)
    result = Watcher(client).next()
    assert isinstance(result, Unresolvable)
    assert f"xDS server {address}: UNAVAILABLE" in result.problem
    assert "refused" in client.progress("xds:///orders")


def test_one_stream_for_many_targets_and_threads(ads, clients):
    """Forty targets watched from eight threads share one stream, and each gets its own configuration."""
    client = clients(ads.address, transport="delta")
    resources = {}
    for number in range(40):
        resources.update(service(f"s{number}", number + 1))
    watchers = {}

    def watch(first):
        for number in range(first, 40, 8):
            watchers[number] = Watcher(client, f"xds:///s{number}")

    threads = [threading.Thread(target=watch, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    ads.stream().answer_all(resources)
    for thread in threads:
        thread.join()
    for number, watcher in watchers.items():
        assert ports(watcher.snapshot(), f"s{number}") == [number + 1]
    assert ads.opened == ["DeltaAggregatedResources"]
    assert len(client.ledger()) == 160


def test_cancelled_watches_end_the_stream(ads, clients):
    """The last watch takes the stream along; a later one opens another."""
    client = clients(ads.address)
    watcher = Watcher(client)
    stream = ads.stream()
    watcher.watch.cancel()
    watcher.watch.cancel()
    assert stream.ended.wait(PATIENCE)
    Watcher(client)
    ads.stream()


def test_watch_from_within_a_callback(ads, clients):
    """A callback may watch, cancel, and raise: the thread goes on."""
    client = clients(ads.address)
    inner = []

    def on_resolution(result):
        inner.append(Watcher(client, "xds:///inner"))
        watch.cancel()
        raise ValueError("a defect of the watcher")

    logger = logging.getLogger("meshsdk.xds_client.driver")
    logger.disabled = True
    try:
        watch = client.watch("xds:///orders", on_resolution)
        ads.stream().answer_all({**service("orders", 1), **service("inner", 2)})
        until(lambda: inner, "the callback ran")
        assert ports(inner[0].snapshot(), "inner") == [2]
    finally:
        logger.disabled = False


def test_close_from_within_a_callback(ads, clients):
    """A callback may close the client that calls it: nothing waits for itself."""
    client = clients(ads.address)
    done = threading.Event()

    def on_resolution(result):
        client.close()
        done.set()

    client.watch("xds:///orders", on_resolution)
    stream = ads.stream()
    stream.answer_all(service("orders", 1))
    assert done.wait(PATIENCE)
    assert stream.ended.wait(PATIENCE)


def test_outage_is_logged_once(clients, caplog):
    """A57 wants an outage logged: once in words that name the server, however often the client tries again."""
    with ScriptedAds() as probe:
        address = probe.address
    client = clients(address, timing=QUICK)
    with caplog.at_level(logging.WARNING):
        result = Watcher(client).next()
        attempts = until(lambda: client._running.session._machines[0]._links[0]._attempt > 3, "some more attempts")
    assert attempts
    (record,) = caplog.records
    assert record.getMessage().startswith(f"no configuration from the control plane: xDS server {address}: UNAVAILABLE")
    assert address in result.problem


def test_authorities_have_streams_of_their_own(ads, clients):
    """A47: a target of another authority is asked for at that authority's servers, by an xdstp name."""
    with ScriptedAds() as far:
        servers = [{"server_uri": far.address, "channel_creds": [{"type": "insecure"}]}]
        client = clients(ads.address, authorities={"far": {"xds_servers": servers}})
        Watcher(client)
        Watcher(client, "xds://far/orders")
        assert list(ads.stream().next_request().resource_names) == ["orders"]
        (name,) = far.stream().next_request().resource_names
        assert name == "xdstp://far/envoy.config.listener.v3.Listener/orders"


def test_start_from_disk_while_the_control_plane_is_dead(tmp_path, clients):
    """The last good configuration survives a restart of the client, and yields to a server that answers."""
    with ScriptedAds() as ads:
        address = ads.address
        client = clients(address, meshsdk={"cache_dir": str(tmp_path)})
        watcher = Watcher(client)
        ads.stream().answer_all(service("orders", 1))
        watcher.snapshot()
        client.close()
    second = clients(address, meshsdk={"cache_dir": str(tmp_path)})
    watcher = Watcher(second)
    assert ports(watcher.snapshot()) == [1]
    assert row(second, "LISTENER").server == "cache"
    with ScriptedAds(port=int(address.rpartition(":")[2])) as ads:
        ads.stream().answer_all(service("orders", 2))
        assert ports(watcher.snapshot()) == [2]
        assert row(second, "ENDPOINTS").server == address


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(clients, mutual):
    """channel_creds tls (A65): the server is checked against the CA file, and with a certificate the client as well."""
    pem, key = TLS / "server.pem", TLS / "server.key"
    pair = [(key.read_bytes(), pem.read_bytes())]
    credentials = grpc.ssl_server_credentials(pair, pem.read_bytes() if mutual else None, mutual)
    config = {"ca_certificate_file": str(pem)}
    if mutual:
        config |= {"certificate_file": str(pem), "private_key_file": str(key)}
    with ScriptedAds(credentials=credentials) as ads:
        creds = [{"type": "google_default"}, {"type": "tls", "config": config}]
        client = clients(xds_servers=[{"server_uri": f"localhost:{ads.port}", "channel_creds": creds}])
        watcher = Watcher(client)
        ads.stream().answer_all(service("orders", 1))
        assert ports(watcher.snapshot()) == [1]


def test_missing_certificate_file_is_an_outage_with_its_name(clients):
    """A bootstrap that names a file which is not there fails like an unreachable server, and says which file."""
    creds = [{"type": "tls", "config": {"ca_certificate_file": "/nowhere/ca.pem"}}]
    client = clients(xds_servers=[{"server_uri": "localhost:1", "channel_creds": creds}])
    result = Watcher(client).next()
    assert "/nowhere/ca.pem" in result.problem


def test_use_after_close_and_bad_targets(clients):
    """A closed client refuses watches in words; a bad target is refused before anything starts."""
    client = clients("127.0.0.1:1")
    with pytest.raises(ConfigurationError):
        client.watch("orders", print)
    assert client.ledger() == ()
    assert not xds_threads()
    client.close()
    client.close()
    with pytest.raises(LifecycleError, match="closed"):
        client.watch("xds:///orders", print)


PROGRAM = """
import os, sys, threading
from meshsdk.bootstrap import load_bootstrap
from meshsdk.xds_client.client import XdsClient
told = threading.Semaphore(0)
servers = [{'server_uri': sys.argv[1], 'channel_creds': [{'type': 'insecure'}]}]
client = XdsClient(load_bootstrap({'xds_servers': servers}, {}))
client.watch('xds:///orders', lambda result: told.release())
assert told.acquire(timeout=20)
"""
CHILDREN = """
os.register_at_fork(before=client.before_fork, after_in_parent=client.after_fork, after_in_child=client.after_fork)
children = []
for _ in range(3):
    children.append(os.fork())
    if children[-1] == 0:
        sys.exit(0 if told.acquire(timeout=20) else 1)
print(*(os.waitpid(child, 0)[1] for child in children))
"""


def run_program(ads, program):
    """Runs a client program of its own process; every stream that it opens is served."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, ads.address],
        cwd=ROOT,
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    answered = 0
    while process.poll() is None:
        with contextlib.suppress(queue.Empty):
            ads.stream(patience=0.1).answer_all(service("orders", 1))
            answered += 1
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, answered, out, err


def test_program_ends_without_close(ads):
    """A program that forgets to close ends at once, with nothing on stderr."""
    assert run_program(ads, PROGRAM) == (0, 1, "", "")


def test_forked_children_watch_on(ads):
    """A parent that has used the mesh forks: each child gets a stream of its own, and all of them end.

    The parent ends its stream before each fork and opens another one after it, if it lives that long.
    """
    code, answered, out, err = run_program(ads, PROGRAM + CHILDREN)
    assert (code, out) == (0, "0 0 0\n"), err
    assert 4 <= answered <= 7

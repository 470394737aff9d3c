"""Consul's own: services of others, tokens, https, units. Against the fake, and with `-m peers` the real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState
from tests.contract import channel_tls
from tests.contract.registries import lab_consul, lab_consul_server
from tests.contract.registries.follower import Follower
from tests.contract.registries.sample import ONE, TWO
from tests.e2e.processes import until
from tests.servers.consul import FakeConsul

TTL = 60.0
FOREIGN = Instance("shop", "one/web-1", "10.0.0.5:8080", region="dc1", weight=5, labels={"v": "2", "owner": "team"})


@pytest.fixture(
    params=[
        pytest.param(lab_consul, id="fake"),
        pytest.param(lab_consul_server, id="real", marks=pytest.mark.peers),
    ]
)
def consul(request, server_of) -> Iterator[lab_consul.TheLab]:
    """The fake, or the real server."""
    kind = request.param.TheLab
    made = kind(server_of(kind))
    try:
        yield made
    finally:
        made.close()


def register_foreign(consul: lab_consul.TheLab, identifier: str = "web-1", port: int = 8080, **fields: object) -> None:
    """Registers a service as somebody without meshsdk would: no check, tags, weights."""
    body = {
        "ID": identifier,
        "Name": "shop",
        "Address": "10.0.0.5",
        "Port": port,
        "Tags": ["v=2"],
        "Meta": {"owner": "team"},
        "Weights": {"Passing": 5, "Warning": 1},
        **fields,
    }
    consul.server.agent().ask("PUT", "/v1/agent/service/register", body=json.dumps(body).encode())


def test_services_of_others_are_instances(consul):
    """With their address, tags and weight, by name and among all; those of one application need no meshsdk at all."""
    named, everything = Follower(consul.open(), "shop"), Follower(consul.open(), "")
    everything.wait_for_mark()
    register_foreign(consul)
    named.wait_for(FOREIGN, app="shop")
    everything.wait_for(FOREIGN, app="shop")
    register_foreign(consul, Weights={"Passing": 9, "Warning": 1})
    named.wait_for(replace(FOREIGN, weight=9), app="shop")
    consul.server.agent().ask("PUT", "/v1/agent/service/deregister/web-1")
    named.wait_for(app="shop")
    everything.wait_for(app="shop")


def test_a_critical_service_is_gone_until_it_passes(consul):
    """Whoever's check it is; a warning changes the weight alone."""
    follower = Follower(consul.open(), "shop")
    register_foreign(consul, Check={"CheckID": "alive", "TTL": "60s", "Status": "passing"})
    follower.wait_for(FOREIGN, app="shop")
    agent = consul.server.agent()
    agent.ask("PUT", "/v1/agent/check/update/alive", body=b'{"Status": "critical"}')
    follower.wait_for(app="shop")
    agent.ask("PUT", "/v1/agent/check/update/alive", body=b'{"Status": "warning"}')
    follower.wait_for(replace(FOREIGN, weight=1), app="shop")


def test_others_see_that_an_instance_drains(consul):
    """Who asks Consul for passing services only does not get one that drains, while meshsdk is told its state."""
    registry, follower = consul.open(), Follower(consul.open(), "orders")
    lease = registry.register(ONE, TTL)
    follower.wait_for(ONE)
    registry.set_state(lease, InstanceState.DRAINING)
    follower.wait_for(replace(ONE, state=InstanceState.DRAINING))
    registry.renew(lease)
    content = consul.server.agent().ask("GET", "/v1/health/service/orders").json()
    assert [check["Status"] for check in content[0]["Checks"] if check["ServiceID"]] == ["warning"]
    assert content[0]["Service"]["Weights"] == {"Passing": ONE.weight, "Warning": 0}


def test_all_states_are_seen_by_who_watches_everything(consul):
    """DRAINING and OFFLINE are both a warning to Consul: the change from one to the other is told all the same."""
    registry, follower = consul.open(), Follower(consul.open(), "")
    lease = registry.register(ONE, TTL)
    follower.wait_for(ONE)
    for state in (InstanceState.DRAINING, InstanceState.OFFLINE, InstanceState.ONLINE):
        registry.set_state(lease, state)
        follower.wait_for(replace(ONE, state=state))


def test_a_unit_s_watch_is_sent_that_unit_alone(consul):
    """The agent sorts the others out, so that they cost nothing on the way; odd names are sorted out here."""
    registry = consul.open()
    odd = replace(TWO, unit='a "unit"')
    registry.register(ONE, TTL)
    registry.register(odd, TTL)
    Follower(consul.open(), "orders", ONE.unit).wait_for(ONE)
    Follower(consul.open(), "orders", odd.unit).wait_for(odd)
    query = {"filter": f'Service.Meta["meshsdk_unit"] == "{ONE.unit}"'}
    content = consul.server.agent().ask("GET", "/v1/health/service/orders", query).json()
    assert [entry["Service"]["Meta"]["meshsdk_id"] for entry in content] == ["1"]


def test_an_older_lease_cannot_touch_the_newer_registration(consul):
    """Two processes with one id at one agent: the older can neither renew, nor change, nor remove."""
    older, younger = consul.open(), consul.open()
    lease = older.register(ONE, TTL)
    moved = replace(ONE, address="10.0.0.9:1")
    younger.register(moved, TTL)
    with pytest.raises(LeaseLapsed):
        older.set_state(lease, InstanceState.OFFLINE)
    older.deregister(lease)
    Follower(consul.open(), "orders").wait_for(moved)


def test_watches_end_at_once_and_leave_no_thread(consul):
    """Close does not wait for what waits at the agent."""
    before = set(threading.enumerate())
    registry = consul.open()
    Follower(registry, "orders").wait_for()
    Follower(registry, "").wait_for_mark()
    consul.elapse(0.5)  # more than the pause between two questions: now they wait (if not, this test sees less)
    registry.close()
    until(lambda: set(threading.enumerate()) <= before, "its threads end")


def test_a_token_is_sent_and_appears_in_no_message(tmp_path, monkeypatch, caplog):
    """Without it the agent's refusal names what to do; with it all works; neither log nor message has it."""
    caplog.set_level(1)
    monkeypatch.delenv("CONSUL_HTTP_TOKEN", raising=False)
    secret = "5b2f-token"  # noqa: S105 - of a server that lives for a second
    (tmp_path / "token").write_text(secret)
    server = FakeConsul(secret).start()
    try:
        stranger = open_registry(f"consul://{server.address}", "the test")
        with pytest.raises(RegistryError, match=r"403.*CONSUL_HTTP_TOKEN") as refused:
            stranger.register(ONE, TTL)
        user = open_registry(f"consul://{server.address}?token_file={tmp_path / 'token'}", "the test")
        user.register(ONE, TTL)
        Follower(user, "orders").wait_for(ONE)
        user.close()
        assert secret not in str(refused.value) + caplog.text
    finally:
        server.remove()


def test_https(tmp_path):
    """With its authority the agent is talked to; one that is not trusted is refused."""
    (tmp_path / "own.pem").write_bytes(channel_tls._KEY + channel_tls._CERTIFICATE)
    (tmp_path / "ca.pem").write_bytes(channel_tls._CERTIFICATE)
    server = FakeConsul(pem=str(tmp_path / "own.pem")).start()
    address = server.address.replace("127.0.0.1", "localhost")
    try:
        registry = open_registry(f"consul://{address}?ca={tmp_path / 'ca.pem'}", "the test")
        registry.register(ONE, TTL)
        Follower(registry, "orders").wait_for(ONE)
        registry.close()
        with pytest.raises(RegistryError, match="certificate"):
            open_registry(f"consul://{address}?tls=1", "the test").register(ONE, TTL)
    finally:
        server.remove()

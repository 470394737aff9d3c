"""`meshsdk offline` as a preStop hook, and the probes of an orchestrator, against real processes under load."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator

import grpc
import pytest

from meshsdk.interceptors.activity import DRAINING_KEY
from meshsdk.model.instance import InstanceState
from tests.e2e.lifecycles import Registered, Running, registered
from tests.e2e.processes import entry_point, until
from tests.e2e.test_serve import CALL, Caller


@pytest.fixture
def world(tmp_path) -> Iterator[Registered]:
    """A registry and what runs with it."""
    with registered(tmp_path) as running:
        yield running


def probe(running: Running, path: str) -> tuple[int, dict[str, object]]:
    """Asks as a kubelet would."""
    connection = http.client.HTTPConnection(running.health, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def offline(world: Registered, *arguments: str) -> tuple[int, str]:
    """Runs `meshsdk offline` to its end; returns its exit code and what it complained of."""
    with entry_point("meshsdk.cli:main", "offline", *arguments, env=world.environment) as process:
        until(lambda: not process.running, "the command ended")
        return process.stop(), process.errors


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_pod_is_replaced_as_kubernetes_does_it(world, kind):
    """preStop: `meshsdk offline --wait` returns when it is offline and quiet; then SIGTERM. No call is lost.

    Between the two the process is alive and not ready, and serves who comes all the same.
    """
    first, second = (world.start(kind=kind, serve={"health_port": 0}) for _ in range(2))
    assert probe(first, "/readyz")[0] == probe(first, "/livez")[0] == 200
    with Caller([first.port, second.port]) as caller:
        caller.more(100)
        assert offline(world, "--pid", str(first.process.pid), "--wait") == (0, "")
        assert world.state(first.address) is None
        status, body = probe(first, "/readyz")
        assert (status, body["state"], body["app"]) == (503, "OFFLINE", "orders")
        assert probe(first, "/livez")[0] == 200
        with grpc.insecure_channel(first.address) as channel:
            answer, call = channel.unary_unary(CALL).with_call(b"1000001", timeout=10)
            assert (answer, dict(call.trailing_metadata())[DRAINING_KEY]) == (b"1000001", "1")
        os.kill(first.process.pid, signal.SIGTERM)
        assert first.ledger()["most"] == 1
        assert first.ended() == 0
        caller.more(100)
    assert caller.failures == []
    assert caller.using == 1
    assert world.state(second.address) is InstanceState.ONLINE
    assert list(world.folder.glob(f"{first.process.pid}-*")) == []


def test_the_command_says_what_it_cannot_do(world):
    """Nobody there; several to choose from; a drain that takes longer than one waits: exit code 1 and one line each."""
    code, errors = offline(world, "--app", "orders")
    assert code == 1
    assert "no served process of application 'orders'" in errors
    running = [world.start(kind="aio", drain={"quiet": 0.5, "timeout": 600}) for _ in range(2)]
    code, errors = offline(world)
    assert code == 1
    assert "several processes" in errors
    assert "--pid" in errors
    with grpc.insecure_channel(running[0].address) as channel:
        hanging = channel.unary_unary(CALL).future(b"-1")
        channel.unary_unary(CALL)(b"1", timeout=10)
        code, errors = offline(world, "--pid", str(running[0].process.pid), "--wait", "--timeout", "1")
        assert code == 1
        assert "not offline after 1 s" in errors
        assert "Traceback" not in errors
        hanging.cancel()
    assert offline(world, "--app", "orders", "--wait") == (0, "")
    assert [world.state(one.address) for one in running] == [None, None]


def test_a_killed_process_leaves_nothing_behind(world):
    """Its socket stays after SIGKILL; the command finds nobody, says so, and has cleaned up."""
    running = world.start()
    os.kill(running.process.pid, signal.SIGKILL)
    until(lambda: not running.process.running, "it is dead")
    assert list(world.folder.glob("*.sock")) != []
    assert offline(world)[0] == 1
    assert list(world.folder.glob("*.sock")) == []


def test_a_server_is_online_when_its_application_says_so(world):
    """`ready=False`: registered as STARTING, not ready for the kubelet, until the application calls `ready()`."""
    running = world.start(wait=False, serve={"ready": False, "health_port": 0})
    until(lambda: world.state(running.address) is InstanceState.STARTING, "it is registered")
    assert probe(running, "/readyz")[0] == 503
    running.process.say("ready")
    until(lambda: world.state(running.address) is InstanceState.ONLINE, "it is online")
    assert probe(running, "/readyz")[0] == 200

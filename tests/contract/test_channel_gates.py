"""Gates: a call passes those of its route before its first attempt, and each is told its end. Mesh channels only."""

from __future__ import annotations

import dataclasses
import gc
import threading
import time

import grpc
import pytest

from meshsdk.channel import shared
from meshsdk.interceptors.policies.gate import CallEnd, Consult, GateCall, Verdict
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo, Sleep
from meshsdk.model.filters import Fault, NamedFilter
from meshsdk.model.policy import RetryPolicy
from meshsdk.model.resources import Listener
from tests.contract.channel_backend import SHAPES
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import HOST, resolved, route, snapshot_of

pytestmark = pytest.mark.parametrize("path", ["mesh"])


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


class ScriptedGate:
    """Does what the call's metadata `gate` says. `calls`, `ends`: what it was told; appended to by any thread."""

    def __init__(self, name: str, calls: list[tuple[str, GateCall]], ends: list[tuple[str, CallEnd]]) -> None:
        self.name = name
        self.calls = calls
        self.ends = ends

    def enter(self, call):
        """See Gate."""
        self.calls.append((self.name, call))
        word, _, rest = str(dict(call.metadata).get(f"gate-{self.name}", "")).partition(":")
        if word == "sleep":
            yield Sleep(float(rest))
        elif word == "reject":
            return Reject(rest, "scripted to refuse", "scripted", (("why", "because"),), RejectionInfo("SCRIPTED"))
        elif word == "ask":
            verdict = yield Consult("domain", ((("key", "value"),),), 0.1)
            if not verdict.allowed:
                return Reject("RESOURCE_EXHAUSTED", f"said {verdict.allowed}: {verdict.problem}", "scripted")
        elif word == "pass":
            return None
        return lambda end: self.ends.append((self.name, end))


class Gates:
    """Scripted gates in place of those of filters, named by the filter's delay: 1, 2..."""

    def __init__(self, monkeypatch) -> None:
        self.calls: list[tuple[str, GateCall]] = []
        self.ends: list[tuple[str, CallEnd]] = []
        self.made = 0
        monkeypatch.setattr(shared.gates, "make", self._make)

    def _make(self, config, *_):
        self.made += 1
        return ScriptedGate(f"{config.delay:g}", self.calls, self.ends)

    def codes(self) -> list[tuple[str, str]]:
        """Gate and code of each end that was told; waits for the first."""
        deadline = time.monotonic() + PATIENCE
        while not self.ends and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.002)
        return [(name, end.code) for name, end in self.ends]


@pytest.fixture
def gates(monkeypatch) -> Gates:
    """Scripted gates."""
    return Gates(monkeypatch)


def gated(*addresses: str, filters: int = 2, **forward):
    """One route to these endpoints, behind that many filters."""
    named = tuple(NamedFilter(f"filter-{n}", Fault(delay=n, delay_share=1.0)) for n in range(1, filters + 1))
    made = snapshot_of([route("c", **forward)], resolved("c", addresses))
    return dataclasses.replace(made, listener=Listener(HOST, http_filters=named))


def say(**words: str) -> tuple[tuple[str, str], ...]:
    """Metadata that tells gates what to do: `say(one="sleep:1")`."""
    names = {"one": "gate-1", "two": "gate-2"}
    return tuple((names[name], word) for name, word in words.items())


def test_passed_in_order(lab, backend, shape, gates):
    """A call passes the gates in the filters' order, is made once, and both gates are told of its end once."""
    caller = lab.open("", first=gated(backend.address))
    ended = caller.ask(shape, b"say:hello", metadata=(("key", "value"),))
    assert (ended.answers, ended.code) == ([b"hello"], grpc.StatusCode.OK)
    assert backend.executed == ["say:hello"]
    assert [name for name, _ in gates.calls] == ["1", "2"]
    (_, call), _ = gates.calls
    assert call.method.endswith(shape)
    assert ("key", "value") in call.metadata
    assert call.cluster == "c"
    assert call.streamed is shape.endswith("stream")
    assert 0 < call.left <= PATIENCE
    gates.codes()
    assert [(name, end.code, end.streamed) for name, end in gates.ends] == [
        ("1", "OK", shape.endswith("stream")),
        ("2", "OK", shape.endswith("stream")),
    ]
    assert all(end.seconds >= 0 for _, end in gates.ends)


@pytest.mark.parametrize("failing", [b"abort:", b"raise:"])
def test_told_of_failures(lab, backend, shape, gates, failing):
    """Gates are told the status of a call that failed."""
    ended = lab.open("", first=gated(backend.address)).ask(shape, failing)
    assert gates.codes() == [("1", ended.code.name), ("2", ended.code.name)]


def test_refused(lab, backend, shape, gates):
    """A refusal ends the call with its code, words and metadata; no server sees it, and gates before are told."""
    ended = lab.open("", first=gated(backend.address)).ask(shape, b"say:1", metadata=say(two="reject:ABORTED"))
    assert (ended.answers, ended.code) == ([], grpc.StatusCode.ABORTED)
    assert ended.details == "scripted to refuse"
    assert dict(ended.trailing)["why"] == "because"
    assert "grpc-status-details-bin" in dict(ended.trailing)
    assert isinstance(ended.error, grpc.RpcError)
    assert backend.executed == []
    assert gates.codes() == [("1", "ABORTED")]


def test_refused_by_the_first(lab, backend, shape, gates):
    """What the first gate refuses, the second never sees."""
    ended = lab.open("", first=gated(backend.address)).ask(shape, b"say:1", metadata=say(one="reject:UNAVAILABLE"))
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert [name for name, _ in gates.calls] == ["1"]
    assert gates.ends == []


def test_held_back(lab, backend, shape, gates):
    """A gate's wait delays the call and the gate behind it."""
    caller = lab.open("", first=gated(backend.address))
    ended = caller.ask(shape, b"say:1", metadata=say(one="sleep:0.05"))
    assert ended.code is grpc.StatusCode.OK
    (_, one), (_, two) = gates.calls
    assert two.now - one.now >= 0.05
    assert backend.executed == ["say:1"]


def test_deadline_at_the_gate(lab, backend, shape, gates):
    """A call whose deadline comes while a gate holds it ends DEADLINE_EXCEEDED, and is never made."""
    caller = lab.open("", first=gated(backend.address))
    ended = caller.ask(shape, b"say:1", metadata=say(two="sleep:60"), timeout=0.1)
    assert ended.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert backend.executed == []
    assert gates.codes() == [("1", "DEADLINE_EXCEEDED")]


def test_cancelled_at_the_gate(lab, backend, shape, gates):
    """A call that is cancelled while a gate holds it ends at once, and the gate before is told."""
    caller = lab.open("", first=gated(backend.address))
    running = caller.start(shape, b"say:1", metadata=say(two="sleep:60"))
    while len(gates.calls) < 2:
        time.sleep(0.002)
    assert running.cancel()
    assert running.end().code is grpc.StatusCode.CANCELLED
    assert gates.codes() == [("1", "CANCELLED")]
    assert backend.executed == []


def test_closed_at_the_gate(lab, backend, shape, gates):
    """Closing the channel ends a call that a gate holds at once, one that blocks its thread too."""
    caller = lab.open("", first=gated(backend.address))
    done: list = []
    options = {"metadata": say(two="sleep:60"), "timeout": 120}
    thread = threading.Thread(target=lambda: done.append(caller.ask(shape, b"say:1", **options)), daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while len(gates.calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    caller.close()
    thread.join(PATIENCE)
    assert [ended.code for ended in done] == [grpc.StatusCode.CANCELLED]
    assert backend.executed == []


def test_cancelled_while_it_runs(lab, backend, shape, gates):
    """A call that is cancelled at the server tells its gates so."""
    caller = lab.open("", first=gated(backend.address, filters=1))
    running = caller.start(shape, b"hang:0")
    assert backend.script.began.acquire(timeout=PATIENCE)
    assert running.cancel()
    assert running.end().code is grpc.StatusCode.CANCELLED
    assert gates.codes() == [("1", "CANCELLED")]


@pytest.mark.parametrize("shape", ["unary_stream", "stream_stream"])
def test_dropped_while_it_runs(lab, backend, shape, gates):
    """A stream that the application drops tells its gates when it has ended: asyncio's runs on, as in grpc.aio."""
    caller = lab.open("", first=gated(backend.address, filters=1))
    running = caller.start(shape, b"hang:1")
    assert running.read() == b"0"
    del running
    if lab.facade == "aio":
        gc.collect()
        caller.close()
    assert gates.codes() == [("1", "CANCELLED")]


@pytest.mark.parametrize("verdict", [Verdict(True), Verdict(False), Verdict(None, "nobody is there")])
def test_asked(lab, backend, shape, gates, verdict):
    """A gate's question goes to the rate limit client of the channel's own kind, and its verdict back."""
    asked = []

    class Client:
        def ask(self, consult):
            asked.append(consult)
            return verdict

        def prepare(self, services):
            assert list(services) == []

        def close(self):
            return None

    class AioClient(Client):
        async def ask(self, consult):
            return super().ask(consult)

        async def close(self):
            return None

    caller = lab.open("", first=gated(backend.address, filters=1))
    lab.scopes[0].rate_limits = Client() if lab.facade == "sync" else AioClient()
    ended = caller.ask(shape, b"say:1", metadata=say(one="ask"))
    assert [one.domain for one in asked] == ["domain"]
    if verdict.allowed:
        assert ended.code is grpc.StatusCode.OK
    else:
        assert (ended.code, ended.details) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"said {verdict.allowed}: {verdict.problem}",
        )


def test_passed_once_for_all_attempts(lab, backend, shape, gates):
    """Retries do not pass the gates again; these are told the end of the call, not of its attempts."""
    policy = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, base_interval=0.001, max_interval=0.002)
    caller = lab.open("", first=gated(backend.address, filters=1, retry=policy))
    assert caller.ask(shape, b"fail:2").code is grpc.StatusCode.OK
    assert len(backend.executed) == 3
    assert [name for name, _ in gates.calls] == ["1"]
    assert gates.codes() == [("1", "OK")]


def test_found_out_after_a_wait(lab, backend, shape, gates):
    """A call that began before there was a configuration passes the gates once there is one."""
    caller = lab.open("", first=None)
    running = caller.start(shape, b"say:1") if shape.endswith("stream") else None
    done: list = []
    if running is None:
        thread = threading.Thread(target=lambda: done.append(caller.ask(shape, b"say:1")))
        thread.start()
    time.sleep(0.02)
    while not lab.source.watchers:
        time.sleep(0.002)
    lab.source.push(gated(backend.address))
    if running is None:
        thread.join(PATIENCE)
        ended = done[0]
    else:
        ended = running.end()
    assert ended.answers == [b"1"]
    assert [name for name, _ in gates.calls] == ["1", "2"]


def test_kept_over_an_update(lab, backend, gates):
    """An update that does not touch a filter keeps its gate and what it has counted; one that does makes it anew."""
    caller = lab.open("", first=gated(backend.address, filters=1))
    caller.ask("unary_unary", b"say:1")
    assert gates.made == 1
    lab.source.push(gated(backend.address, "127.0.0.1:1", filters=1))
    lab.source.push(gated(backend.address, filters=1))
    caller.ask("unary_unary", b"say:2")
    assert gates.made == 1
    lab.source.push(gated(backend.address, filters=2))
    caller.ask("unary_unary", b"say:3")
    assert gates.made == 2

"""What calls are counted as for load reports, on both façades alike. Mesh channels only."""

from __future__ import annotations

import time
from collections import Counter

import grpc
import pytest

from meshsdk.model.policy import RetryPolicy
from meshsdk.model.snapshot import Unresolvable
from tests.contract.channel_backend import SHAPES, Backend
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import HOST, TARGET, Lab, snapshot
from tests.contract.test_channel_connecting import wait
from tests.contract.test_channel_moves import Gone

pytestmark = pytest.mark.parametrize("path", ["mesh"])

SERVER = "scripted.server:1"
POLICY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, base_interval=0.001, max_interval=0.002)


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


class Sums:
    """What reports have told so far, by cluster; names without their prefix."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._told: dict[str, Counter[str]] = {}

    def of(self, cluster: str) -> Counter[str]:
        """The counts of a cluster up to now; `running` as of now."""
        for load in self._lab.source.loads.take(SERVER, None):
            told = self._told.setdefault(load.place.cluster, Counter())
            told["running"] = load.running
            told.update(ok=load.succeeded, errors=load.errors, issued=load.issued)
            told.update({name.removeprefix("meshsdk."): count for name, count in load.named})
        return +self._told.get(cluster, Counter())

    def settle(self) -> None:
        """Waits until no attempt runs: one that is being cancelled is issued and running while its call has ended."""
        with self._lab.source.loads._lock:
            tallies = [tally for tally, _ in self._lab.source.loads._tallies.values()]
        deadline = time.monotonic() + PATIENCE
        while any(tally.read()[2] for tally in tallies) and time.monotonic() < deadline:
            time.sleep(0.002)

    def come_to(self, cluster: str, **counts: int) -> None:
        """Waits until the counts are these: futures and streams are counted as they end, by another thread."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.of(cluster)) != counts and time.monotonic() < deadline:
            time.sleep(0.002)
        assert found == counts


def test_success_and_failure(lab, backend, shape):
    """Calls count as they end for the application, failed ones by their status."""
    sums = Sums(lab)
    caller = lab.open(backend.address)
    for script in (b"say:1", b"say:2", b"abort:", b"code:"):
        caller.ask(shape, script)
    sums.come_to("c", ok=2, errors=2, issued=4, **{"status.FAILED_PRECONDITION": 1, "status.DATA_LOSS": 1})


def test_running(lab, backend, shape):
    """A call counts as running until it ends."""
    sums = Sums(lab)
    running = lab.open(backend.address).start(shape, b"hang:0")
    backend.script.began.acquire(timeout=PATIENCE)
    sums.come_to("c", running=1, issued=1)
    backend.script.release.set()
    assert running.end().code is grpc.StatusCode.OK
    sums.come_to("c", ok=1, issued=1)


def test_deadline(lab, backend, shape):
    """A call that ends at its deadline has failed."""
    sums = Sums(lab)
    caller = lab.open(backend.address)
    caller.ask("unary_unary", b"say:warm")
    caller.ask(shape, b"hang:0", timeout=0.1)
    sums.come_to("c", ok=1, errors=1, issued=2, **{"status.DEADLINE_EXCEEDED": 1})


def test_cancelled_by_the_application(lab, backend, shape):
    """A call that the application cancels is counted apart."""
    sums = Sums(lab)
    running = lab.open(backend.address).start(shape, b"hang:0")
    backend.script.began.acquire(timeout=PATIENCE)
    assert running.cancel()
    running.end()
    sums.settle()
    sums.come_to("c", errors=1, cancelled=1, issued=1)


def test_cancelled_by_close(lab, backend, shape):
    """A call that the application ends by closing its channel is cancelled, too."""
    sums = Sums(lab)
    caller = lab.open(backend.address)
    running = caller.start(shape, b"hang:0")
    backend.script.began.acquire(timeout=PATIENCE)
    caller.close()
    assert running.end().code is grpc.StatusCode.CANCELLED
    sums.settle()
    sums.come_to("c", errors=1, cancelled=1, issued=1)


def test_cancelled_by_the_server(lab, shape):
    """A call that a server cancels as it stops has failed, whatever the status says."""
    sums = Sums(lab)
    with Backend() as backend:
        running = lab.open(backend.address).start(shape, b"hang:0")
        backend.script.began.acquire(timeout=PATIENCE)
        backend.server.stop(0).wait()
        code = running.end().code
        sums.settle()
        sums.come_to("c", errors=1, issued=1, **{f"status.{code.name}": 1})


def test_retried(lab, backend, shape):
    """A call that the policy retries is one call, retried and doubled."""
    sums = Sums(lab)
    caller = lab.open("", first=snapshot(backend.address, retry=POLICY))
    assert caller.ask(shape, b"fail:2").code is grpc.StatusCode.OK
    assert caller.ask(shape, b"unavailable:").code is grpc.StatusCode.UNAVAILABLE
    # Each attempt is issued; each call ends once.
    sums.come_to("c", ok=1, errors=1, issued=6, retried=2, doubled=2, **{"status.UNAVAILABLE": 1})


def test_moved(lab, backend, shape, monkeypatch):
    """A call whose request never left is moved, and neither retried nor doubled."""
    sums = Sums(lab)
    caller = Gone(lab, backend, monkeypatch).caller
    before = sums.of("c")
    for number in range(16):
        assert caller.ask(shape, f"id:{number}".encode()).code is grpc.StatusCode.OK
    wait(lambda: sums.of("c")["ok"] == before["ok"] + 16)
    after = sums.of("c")
    assert after["moved"] > 0
    assert (after["retried"], after["doubled"], after["errors"]) == (0, 0, 0)
    assert after["issued"] >= after["ok"] + after["moved"]


def test_without_an_endpoint(lab, shape):
    """Calls that never had an endpoint count as failures of their target."""
    sums = Sums(lab)
    caller = lab.open("", first=Unresolvable(TARGET, "no such listener"))
    assert caller.ask(shape, b"say:1").code is grpc.StatusCode.UNAVAILABLE
    sums.come_to(HOST, errors=1, **{"status.UNAVAILABLE": 1}, issued=1)


def test_cancelled_without_an_endpoint(lab):
    """A call that is cancelled while it waits for an endpoint is counted apart."""
    sums = Sums(lab)
    running = lab.open("", first=None).start("unary_stream", b"say:1")
    running.cancel()
    running.end()
    sums.come_to(HOST, errors=1, cancelled=1, issued=1)


@pytest.mark.parametrize("facade", ["sync"])
def test_dropped_call(lab, backend):
    """A stream that the application no longer holds is cancelled, and counts as that."""
    sums = Sums(lab)
    running = lab.open(backend.address).start("unary_stream", b"hang:1")
    assert running.read() == b"0"
    del running
    assert backend.script.cancelled.wait(PATIENCE)
    sums.come_to("c", errors=1, cancelled=1, issued=1)

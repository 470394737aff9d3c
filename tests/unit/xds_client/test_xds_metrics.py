"""What metrics tell of the streams to xDS servers, when streams come and go."""

from __future__ import annotations

from types import SimpleNamespace

from meshsdk.model.resources import Kind
from meshsdk.telemetry.accumulating import Accumulator
from meshsdk.telemetry.families import LATENCY_BOUNDS, Spread
from meshsdk.xds_client.link import Phase
from meshsdk.xds_client.stream_tally import StreamTally
from meshsdk.xds_client.xds_metrics import StreamReading


def client(accepted: int, refused: int = 0):
    """A client whose one stream took a response of `accepted` listeners, and had one change in force after 2 s."""
    tally, convergence = StreamTally(), Accumulator(LATENCY_BOUNDS)
    tally.took(Kind.LISTENER, accepted, refused)
    tally.failures = 1
    convergence.add(2.0)
    link = SimpleNamespace(tally=tally, config=SimpleNamespace(uri="cp:1"), phase=Phase.ANSWERED, unreachable=False)
    session = SimpleNamespace(
        links=lambda: [link], store=SimpleNamespace(entries=list), versions=lambda: {"xds:///a": 1}
    )
    return SimpleNamespace(running=SimpleNamespace(session=session, driver=SimpleNamespace(convergence=convergence)))


def told(reading, *clients):
    """Counters and the number of values of histograms, by name."""
    return {
        one.name.rpartition(".")[2]: point.value.count if isinstance(point.value, Spread) else point.value
        for one in reading.families(clients)
        for point in one.points
    }


def test_nothing_falls_when_a_stream_ends():
    """A mesh that closes, or whose client begins anew for a fork, takes nothing back that was counted."""
    reading = StreamReading()
    first, second = client(3), client(2, refused=1)
    both = told(reading, first, second)
    assert (both["acks"], both["nacks"], both["resource_updates_valid"], both["resource_updates_invalid"]) == (
        1,
        1,
        5,
        1,
    )
    assert (both["server_failure"], both["convergence"]) == (2, 2)
    del second
    grown = ("acks", "nacks", "resource_updates_valid", "resource_updates_invalid", "server_failure", "convergence")
    alone = told(reading, first)
    assert {name: alone[name] for name in grown} == {name: both[name] for name in grown}
    first.running = None
    nobody = told(reading, first)
    assert {name: nobody[name] for name in grown} == {name: both[name] for name in grown}
    assert "connected" not in nobody
    assert told(reading, client(1))["resource_updates_valid"] == 6

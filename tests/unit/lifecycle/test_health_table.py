"""The health table: statuses and who is called when they change."""

from __future__ import annotations

from meshsdk.lifecycle import health_pb2 as pb
from meshsdk.lifecycle import health_table
from meshsdk.lifecycle.health_table import ENDED, HealthTable

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING


def test_all_services_go_up_and_down_together():
    """The server and its services begin as not serving and follow `set_serving`; others are unknown."""
    table = HealthTable(["a.B"])
    assert table.statuses() == {"": NOT_SERVING, "a.B": NOT_SERVING}
    table.set_serving(serving=True)
    table.tell()
    assert (table.status(""), table.status("a.B"), table.status("x")) == (SERVING, SERVING, None)
    assert table.watched("x") == pb.HealthCheckResponse.SERVICE_UNKNOWN
    table.set_serving(serving=False)
    table.tell()
    assert table.watched("a.B") == NOT_SERVING


def test_listeners_are_called_until_they_leave():
    """A listener looks again at each change; one that left does not; one that leaves while called breaks nothing."""
    table, seen = HealthTable([]), []

    def listener() -> None:
        seen.append(table.watched(""))
        if len(seen) == 2:
            table.unwatch(listener)

    assert table.watch(listener)
    table.set_serving(serving=True)
    table.tell()
    table.end()
    table.set_serving(serving=False)
    table.tell()
    assert seen == [SERVING, ENDED]


def test_watches_are_bounded(monkeypatch):
    """A client cannot hold any number of streams open."""
    monkeypatch.setattr(health_table, "MAX_WATCHES", 2)
    table = HealthTable([])
    first = [].clear
    assert table.watch(first)
    assert table.watch(lambda: None)
    assert not table.watch(lambda: None)
    table.unwatch(first)
    assert table.watch(lambda: None)

"""AdsMachine with several servers (gRFC A71), and with the copy on disk when none can be reached."""

from __future__ import annotations

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.machine import Saved
from meshsdk.xds_client.messages import Close, DeltaRequest, SotwRequest
from meshsdk.xds_client.store import EntryStatus
from tests.unit.xds_client.bench import CDS, LDS, Bench, opened, raw, received, sent

ONE, TWO = ServerConfig("one:1"), ServerConfig("two:2")
A, B = Key(LDS, "a"), Key(LDS, "b")


def on_fallback(transport=Transport.SOTW) -> Bench:
    """The first server is down, the second one has given listener `a`."""
    bench = Bench(ONE, TWO, transport=transport)
    bench.want(LDS, "a")
    bench.close(server=0)
    bench.respond(LDS, received(LDS, "a", "from two", version="t1", named=True), server=1)
    return bench


def test_second_server_is_asked_when_the_first_is_down_and_something_lacks():
    """A71: connectivity failure plus an uncached resource; watchers are told nothing yet."""
    bench = Bench(ONE, TWO)
    bench.want(LDS, "a")
    effects = bench.close(server=0)
    assert [open_.server for open_ in opened(effects)] == [1]
    assert sent(effects, 1) == [SotwRequest(LDS.value, ("a",), with_node=True)]
    assert bench.entry(LDS, "a").status is EntryStatus.REQUESTED


def test_no_fallback_while_everything_is_cached():
    """A71: data of the first server is preferred, so an outage alone changes nothing."""
    bench = Bench(ONE, TWO)
    bench.want(LDS, "a")
    bench.respond(LDS, "a")
    bench.close()
    bench.run(later=1)
    assert opened(bench.close()) == []


def test_no_fallback_for_what_is_known_to_be_absent():
    """A71: a resource that the server does not have counts as cached."""
    bench = Bench(ONE, TWO)
    bench.want(LDS, "a")
    bench.connect()
    bench.run(later=15)
    bench.close()
    assert {open_.server for open_ in opened(bench.run(later=1))} == {0}
    assert opened(bench.close()) == []
    assert bench.entry(LDS, "a").status is EntryStatus.ABSENT


def test_fallback_when_something_new_is_wanted_during_an_outage():
    """A71, "mid-config update": a newly named resource is the reason to fall back."""
    bench = Bench(ONE, TWO)
    bench.want(LDS, "a")
    bench.respond(LDS, "a")
    bench.close()
    bench.run(later=1)
    bench.close()
    effects = bench.want(CDS, "c")
    assert [open_.server for open_ in opened(effects)] == [1]
    assert {request.kind for request in sent(effects, 1)} == {LDS.value, CDS.value}


def test_first_server_is_tried_on_and_taken_back():
    """A71: the first server keeps being tried; its first resource ends the second's stream."""
    bench = on_fallback()
    assert bench.content(LDS, "a") == "from two"
    effects = bench.run(later=2)
    assert [open_.server for open_ in opened(effects)] == [0]
    effects = bench.respond(LDS, received(LDS, "a", "from one"), server=0)
    assert Close(1) in effects
    assert bench.content(LDS, "a") == "from one"


def test_empty_answer_of_the_first_server_does_not_take_over():
    """A first server that is starting up and has nothing yet must not delete what the second one gave."""
    bench = on_fallback()
    bench.run(later=2)
    effects = bench.respond(LDS, server=0)
    assert Close(1) not in effects
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT


def test_bad_answer_of_the_first_server_does_not_take_over():
    """What the first server says wrong is refused and leaves the second one's resource in force."""
    bench = on_fallback()
    bench.run(later=2)
    effects = bench.respond(LDS, received(LDS, "a", "bad"), server=0)
    assert sent(effects, 0)[0].error
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT


def test_versions_of_one_server_are_not_told_to_another():
    """initial_resource_versions hold what this very server gave: version spaces differ."""
    bench = on_fallback(Transport.DELTA)
    (request,) = sent(bench.run(later=2), 0)
    assert request == DeltaRequest(LDS.value, ("a",), initial_versions={}, with_node=True)
    bench.run(later=5)
    (request,) = sent(bench.close(server=1), 1)
    assert request.initial_versions == {"a": "t1"}


def test_watchers_learn_of_an_outage_only_when_all_servers_are_down():
    """A71: the problem is told when the last server is unreachable as well, and names both."""
    bench = Bench(ONE, TWO)
    bench.want(LDS, "a")
    bench.close(server=0)
    assert bench.changed == set()
    bench.close(server=1)
    assert bench.changed == {A}
    problem = bench.entry(LDS, "a").problem
    assert "one:1" in problem
    assert "two:2" in problem


def test_second_server_dies_after_the_first_is_back():
    """Once the first server has taken over, the second one's end is of no interest."""
    bench = on_fallback()
    bench.run(later=2)
    bench.respond(LDS, received(LDS, "a", "from one"), server=0)
    bench.machine.received(1, None, bench.now)  # type: ignore[arg-type] - never looked at
    assert bench.run() == []


def test_copy_on_disk_is_used_when_no_server_can_be_reached():
    """Start during an outage: the last good resource is in force, and says why it is only a copy."""
    bench = Bench(ONE, TWO, last_good={A: Saved(raw("a", "old"), "v0")}.get)
    bench.want(LDS, "a", "b")
    bench.close(server=0)
    assert bench.entry(LDS, "a").resource is None
    bench.close(server=1)
    entry = bench.entry(LDS, "a")
    assert (entry.status, entry.server, bench.content(LDS, "a")) == (EntryStatus.UNREACHABLE, "cache", "old")
    assert "one:1" in entry.problem
    assert bench.entry(LDS, "b").resource is None
    assert bench.changed == {A, B}


def test_copy_on_disk_serves_what_is_wanted_later():
    """While the outage lasts, a key that the copy leads to is taken from disk as well."""
    bench = Bench(ONE, last_good={Key(CDS, "c"): Saved(raw("c", "old"))}.get)
    bench.want(LDS, "a")
    bench.close()
    bench.want(CDS, "c")
    assert bench.content(CDS, "c") == "old"
    assert bench.changed == {Key(CDS, "c")}


def test_copy_on_disk_yields_to_the_server():
    """The first answer replaces the copy, and the copy's version is never told to a server."""
    bench = Bench(ONE, transport=Transport.DELTA, last_good={A: Saved(raw("a", "old"), "v0")}.get)
    bench.want(LDS, "a")
    bench.close()
    (request,) = sent(bench.run(later=2))
    assert request.initial_versions == {}
    bench.respond(LDS, received(LDS, "a", "new"))
    assert bench.content(LDS, "a") == "new"
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT


def test_copy_on_disk_that_the_server_no_longer_has():
    """A server that is back and does not know the resource makes it absent; the last good one stays (A88)."""
    bench = Bench(ONE, last_good={A: Saved(raw("a", "old"), "v0")}.get)
    bench.want(LDS, "a")
    bench.close()
    bench.run(later=2)
    bench.connect()
    bench.run(later=15)
    assert bench.entry(LDS, "a").status is EntryStatus.ABSENT
    assert bench.content(LDS, "a") == "old"


def test_damaged_copy_on_disk_is_as_good_as_none():
    """Bytes that do not decode, or are another resource's, are not used."""
    files = {A: Saved(raw("a", "bad")), B: Saved(raw("other"))}
    bench = Bench(ONE, last_good=files.get)
    bench.want(LDS, "a", "b")
    bench.close()
    assert bench.entry(LDS, "a").resource is None
    assert bench.entry(LDS, "b").resource is None

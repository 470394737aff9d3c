"""AdsMachine, rule by rule: subscription, ACK and NACK, removal, timers, reconnection. Fallback has its own file."""

from __future__ import annotations

import pytest

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.messages import Close, DeltaRequest, Received, Response, ServerProblem, SotwRequest
from meshsdk.xds_client.store import EntryStatus
from tests.unit.xds_client.bench import CDS, EDS, LDS, RDS, Bench, opened, raw, received, sent

STRICT = ServerConfig("one:1", features=frozenset({"fail_on_data_errors"}))
PATIENT = ServerConfig("one:1", features=frozenset({"resource_timer_is_transient_error"}))


def subscribed(transport=Transport.SOTW, *servers: ServerConfig) -> Bench:
    """A bench with a connected stream that asked for listener `a`."""
    bench = Bench(*servers, transport=transport)
    bench.want(LDS, "a")
    bench.connect()
    return bench


def test_nothing_is_opened_before_something_is_wanted():
    """A machine of which nobody wants anything does nothing, and waits for nothing."""
    bench = Bench()
    assert bench.run() == []
    assert bench.machine.deadline() is None


def test_first_sotw_request_carries_node_and_names():
    """The first want opens a stream and asks by name; the node goes along once for each stream."""
    bench = Bench()
    effects = bench.want(LDS, "b", "a")
    assert opened(effects)[0].transport is Transport.SOTW
    assert sent(effects) == [SotwRequest(LDS.value, ("a", "b"), with_node=True)]
    assert sent(bench.want(CDS, "c")) == [SotwRequest(CDS.value, ("c",))]


def test_first_delta_request_carries_node_and_names():
    """Delta asks for the same by a subscription, and later for what is new only."""
    bench = Bench(transport=Transport.DELTA)
    effects = bench.want(LDS, "b", "a")
    assert sent(effects) == [DeltaRequest(LDS.value, ("a", "b"), initial_versions={}, with_node=True)]
    assert sent(bench.want(LDS, "c")) == [DeltaRequest(LDS.value, ("c",))]


def test_auto_begins_with_delta():
    """Transport auto tries the incremental protocol first."""
    assert opened(Bench(transport=Transport.AUTO).want(LDS, "a"))[0].transport is Transport.DELTA


def test_sotw_ack_has_version_nonce_and_names():
    """A good response is acknowledged with its version and nonce, and its resource is in force."""
    bench = subscribed()
    effects = bench.respond(LDS, "a", version="7")
    assert sent(effects) == [SotwRequest(LDS.value, ("a",), "7", "n1")]
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT
    assert bench.changed == {Key(LDS, "a")}


def test_delta_ack_has_nonce_only():
    """Delta acknowledges by nonce, and the resource has a version of its own."""
    bench = subscribed(Transport.DELTA)
    effects = bench.respond(LDS, received(LDS, "a", version="v9", named=True))
    assert sent(effects) == [DeltaRequest(LDS.value, nonce="n1")]
    assert bench.entry(LDS, "a").version == "v9"


def test_sotw_nack_keeps_last_version_and_gives_reasons():
    """A bad resource is refused with its reason and the last good version; the last good resource stays."""
    bench = subscribed()
    bench.respond(LDS, "a", version="1")
    effects = bench.respond(LDS, received(LDS, "a", "bad thing"), version="2")
    assert sent(effects) == [SotwRequest(LDS.value, ("a",), "1", "n2", "'a': field x: bad thing")]
    entry = bench.entry(LDS, "a")
    assert (entry.status, entry.version, bench.content(LDS, "a")) == (EntryStatus.INVALID, "1", "1")
    assert "bad thing" in entry.problem


def test_delta_nack_applies_the_good_resources():
    """Of one response the good resources count, and one error_detail names every bad one."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LDS, "a", "b", "c")
    effects = bench.respond(
        LDS, received(LDS, "a", "bad 1"), received(LDS, "b", "good"), received(LDS, "c", "bad 2"), removed=()
    )
    assert sent(effects) == [DeltaRequest(LDS.value, nonce="n1", error="'a': field x: bad 1; 'c': field x: bad 2")]
    assert bench.content(LDS, "b") == "good"
    assert bench.entry(LDS, "a").status is EntryStatus.INVALID


def test_good_again_after_nack_with_the_same_bytes():
    """When the server takes a bad change back, the resource is in force again without being decoded anew."""
    bench = subscribed()
    bench.respond(LDS, "a")
    bench.respond(LDS, received(LDS, "a", "bad"))
    calls = bench.codec.calls
    bench.respond(LDS, "a")
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT
    assert bench.changed == {Key(LDS, "a")}
    assert bench.codec.calls == calls


def test_fail_on_data_errors_drops_the_resource():
    """With the server feature of A88, a NACKed resource is gone."""
    bench = subscribed(Transport.SOTW, STRICT)
    bench.respond(LDS, "a")
    bench.respond(LDS, received(LDS, "a", "bad"))
    assert bench.entry(LDS, "a").resource is None
    assert bench.entry(LDS, "a").raw == b""


def test_many_reasons_are_capped():
    """A response with a thousand bad resources gives an error of bounded size."""
    bench = Bench()
    names = [f"n{i}" for i in range(1000)]
    bench.want(EDS, *names)
    (request,) = sent(bench.respond(EDS, *(received(EDS, name, "bad" + "x" * 5000) for name in names)))
    assert request.error.endswith("and 980 more")
    assert len(request.error) < 25_000


def test_unchanged_bytes_are_not_decoded():
    """A state-of-the-world response repeats everything; only what differs is decoded, with the last one at hand."""
    bench = Bench()
    bench.want(CDS, "a", "b")
    bench.respond(CDS, "a", "b")
    assert bench.codec.calls == 2
    bench.respond(CDS, "a", received(CDS, "b", "2"), version="v2")
    assert bench.codec.calls == 3
    assert bench.codec.previous[-1].name == "b"
    assert bench.changed == {Key(CDS, "b")}
    assert bench.entry(CDS, "a").version == "v2"


def test_what_nothing_wants_is_not_decoded():
    """A server that sends more than was asked for costs nothing and is no error."""
    bench = subscribed()
    effects = bench.respond(LDS, "a", "other", received(LDS, "third", "bad"))
    assert bench.codec.calls == 1
    assert sent(effects)[0].error == ""
    assert bench.store.get(Key(LDS, "other")) is None


def test_resource_whose_name_cannot_be_seen_is_decoded():
    """Bytes in an unusual order hide the name from the cheap look; the codec then tells it."""
    bench = subscribed()
    bench.respond(LDS, Received("", raw("a", "x"), LDS.value))
    assert bench.content(LDS, "a") == "x"


def test_nameless_garbage_is_refused_and_removes_nothing():
    """Garbage could be any resource, so absence in the same response is not taken for deletion."""
    bench = Bench()
    bench.want(CDS, "a", "b")
    bench.respond(CDS, "a", "b")
    effects = bench.respond(CDS, "a", Received("", raw("", "bad"), CDS.value))
    assert "resource 1: field x" in sent(effects)[0].error
    assert bench.entry(CDS, "b").status is EntryStatus.PRESENT


def test_wrong_type_inside_is_refused():
    """A cluster in a listener response is refused by name."""
    bench = subscribed()
    effects = bench.respond(LDS, Received("a", raw("a"), CDS.value))
    assert "'a'" in sent(effects)[0].error
    assert "Cluster" in sent(effects)[0].error


def test_wrapper_and_content_must_agree_on_the_name():
    """A resource wrapped under another's name is refused: it must not replace that other one."""
    bench = subscribed(Transport.DELTA)
    effects = bench.respond(LDS, Received("a", raw("evil"), LDS.value, "v", named=True))
    assert "'evil'" in sent(effects)[0].error
    assert bench.entry(LDS, "a").resource is None


def test_duplicates_in_one_response_are_refused():
    """The first of two resources of one name counts, the second is refused."""
    bench = subscribed()
    effects = bench.respond(LDS, received(LDS, "a", "1"), received(LDS, "a", "2"))
    assert "more than once" in sent(effects)[0].error
    assert bench.content(LDS, "a") == "1"


def test_too_many_resources_are_refused_unread():
    """A response with a huge number of resources is refused before anything is decoded."""
    bench = subscribed()
    one = received(LDS, "a")
    effects = bench.respond(LDS, *([one] * 100_001))
    assert "at most 100000" in sent(effects)[0].error
    assert bench.codec.calls == 0


def test_defect_of_the_codec_is_a_nack():
    """Whatever a codec raises on strange bytes is the server's refusal, not the client's end."""
    bench = subscribed()
    effects = bench.respond(LDS, received(LDS, "a", "defect"))
    assert "KeyError" in sent(effects)[0].error


def test_unknown_type_is_refused():
    """A type that nobody asked for and nobody knows is NACKed with its name."""
    bench = subscribed()
    (request,) = sent(bench.respond(LDS, type_url="type.googleapis.com/x.Y"))
    assert request == SotwRequest("type.googleapis.com/x.Y", (), "", "n1", request.error)
    assert "x.Y" in request.error


def test_known_type_that_was_not_asked_for_is_left_alone():
    """An ACK would be the first request of its type, without names: the wildcard. So there is none."""
    bench = subscribed()
    assert bench.respond(CDS, "c") == []


def test_sotw_absence_removes_listeners_and_clusters_only():
    """LDS and CDS responses are complete, so what is missing is deleted; RDS and EDS ones are not (xDS protocol)."""
    bench = Bench()
    for kind in (LDS, RDS, CDS, EDS):
        bench.want(kind, "a", "b")
        bench.respond(kind, "a", "b")
    for kind in (LDS, RDS, CDS, EDS):
        bench.respond(kind, "a")
    gone = [kind for kind in (LDS, RDS, CDS, EDS) if bench.entry(kind, "b").status is EntryStatus.ABSENT]
    assert gone == [LDS, CDS]
    assert bench.content(LDS, "b") == "1"  # A88: the last good one is kept
    assert "has no listener 'b'" in bench.entry(LDS, "b").problem


def test_absence_with_fail_on_data_errors_drops():
    """With the server feature of A88 a deleted cluster is gone at once."""
    bench = Bench(STRICT)
    bench.want(CDS, "a", "b")
    bench.respond(CDS, "a", "b")
    bench.respond(CDS, "a")
    assert bench.entry(CDS, "b").resource is None


def test_absence_of_what_never_came_is_left_to_the_timer():
    """The response may have been sent before the newer subscription arrived."""
    bench = Bench()
    bench.want(CDS, "a")
    bench.want(CDS, "b")
    bench.respond(CDS, "a")
    assert bench.entry(CDS, "b").status is EntryStatus.REQUESTED


def test_delta_removal():
    """removed_resources deletes any type at once, and tells of what never existed without a timer."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(EDS, "a", "b")
    bench.connect()
    bench.respond(EDS, "a")
    bench.respond(EDS, removed=("a", "b", "unknown"))
    assert bench.entry(EDS, "a").status is EntryStatus.ABSENT
    assert bench.entry(EDS, "b").status is EntryStatus.ABSENT
    assert bench.machine.deadline() is None


def test_heartbeat_counts_as_presence():
    """A wrapper without a resource says that it is still there: nothing changes and nothing is removed."""
    bench = Bench()
    bench.want(LDS, "a")
    bench.respond(LDS, "a")
    effects = bench.respond(LDS, Received("a", None, LDS.value, named=True))
    assert sent(effects)[0].error == ""
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT


@pytest.mark.parametrize(("code", "status"), [(5, EntryStatus.ABSENT), (7, EntryStatus.ABSENT)])
def test_data_error_from_the_server(code, status):
    """xRFC TP3: NOT_FOUND and PERMISSION_DENIED settle a resource at once, in the server's words."""
    bench = subscribed()
    bench.respond(LDS, problems=(ServerProblem("a", code, "not yours"),))
    assert bench.entry(LDS, "a").status is status
    assert "not yours" in bench.entry(LDS, "a").problem
    assert bench.machine.deadline() is None


def test_transient_error_from_the_server():
    """xRFC TP3: any other code leaves a cached resource in force and fails a missing one for the time being."""
    bench = Bench()
    bench.want(EDS, "a", "b")
    bench.respond(EDS, "a")
    bench.respond(EDS, problems=(ServerProblem("a", 14, "later"), ServerProblem("b", 14, "later")))
    assert (bench.entry(EDS, "a").status, bench.content(EDS, "a")) == (EntryStatus.PRESENT, "1")
    assert "later" in bench.entry(EDS, "a").problem
    assert bench.entry(EDS, "b").status is EntryStatus.UNREACHABLE


def test_does_not_exist_timer():
    """A57: fifteen seconds after the request left on a connected stream, the resource counts as missing."""
    bench = subscribed()
    assert bench.machine.deadline() == bench.now + 15
    bench.run(later=14.9)
    assert bench.entry(LDS, "a").status is EntryStatus.REQUESTED
    bench.run(later=0.1)
    assert bench.entry(LDS, "a").status is EntryStatus.ABSENT
    assert bench.changed == {Key(LDS, "a")}
    assert "one:1" in bench.entry(LDS, "a").problem


def test_timer_waits_for_the_connection():
    """A57: while the stream is not connected, no timer runs."""
    bench = Bench()
    bench.want(LDS, "a")
    assert bench.machine.deadline() is None
    bench.run(later=100)
    assert bench.entry(LDS, "a").status is EntryStatus.REQUESTED
    bench.connect()
    assert bench.machine.deadline() == bench.now + 15


def test_timer_starts_when_the_answer_overtakes_the_connection():
    """A response proves the connection, so timers run even if the news of it comes later."""
    bench = Bench()
    bench.want(LDS, "a")
    bench.want(CDS, "c")
    bench.respond(LDS, "a")
    assert bench.machine.deadline() == bench.now + 15


def test_timer_stops_at_the_answer_and_at_unsubscribing():
    """What was heard of, or is no longer wanted, needs no timer; an invalid resource was heard of."""
    bench = Bench()
    bench.want(LDS, "a", "b", "c")
    bench.connect()
    bench.respond(LDS, "a", received(LDS, "b", "bad"))
    assert bench.machine.deadline() == bench.now + 15
    bench.unwant(LDS, "c")
    assert bench.machine.deadline() is None


def test_timer_starts_again_after_reconnect_for_what_is_missing():
    """A57: a new stream means a new wait, but only for resources that are not here."""
    bench = Bench()
    bench.want(LDS, "a", "b")
    bench.connect()
    bench.run(later=10)
    bench.respond(LDS, "a")
    bench.close()
    bench.run(later=10)
    bench.connect()
    bench.run(later=14)
    assert bench.entry(LDS, "b").status is EntryStatus.REQUESTED
    bench.run(later=1)
    assert bench.entry(LDS, "b").status is EntryStatus.ABSENT
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT


def test_late_resource_is_welcome():
    """A resource that comes after its timer is in force like any other."""
    bench = subscribed()
    bench.run(later=15)
    bench.respond(LDS, "a")
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT


def test_slow_server_feature():
    """A88: with resource_timer_is_transient_error the wait is 30 s and its end means a slow server."""
    bench = subscribed(Transport.SOTW, PATIENT)
    bench.run(later=29.9)
    assert bench.entry(LDS, "a").status is EntryStatus.REQUESTED
    bench.run(later=0.1)
    assert bench.entry(LDS, "a").status is EntryStatus.UNREACHABLE


def test_sotw_unsubscribing_sends_the_rest():
    """State of the world unsubscribes by a list without the name; the entry is forgotten."""
    bench = Bench()
    bench.want(LDS, "a", "b")
    bench.respond(LDS, "a", "b")
    assert sent(bench.unwant(LDS, "a")) == [SotwRequest(LDS.value, ("b",), "v1", "n1")]
    assert bench.store.get(Key(LDS, "a")) is None


def test_delta_unsubscribing_names_what_goes():
    """Delta unsubscribes by name, and subscribes to others in the same request."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LDS, "a", "b")
    bench.machine.want([Key(LDS, "c")], [Key(LDS, "a")])
    assert sent(bench.run()) == [DeltaRequest(LDS.value, ("c",), ("a",))]


def test_dropped_and_wanted_again_at_once_is_kept():
    """A resource that changes hands between two watchers is neither forgotten nor asked for again."""
    bench = subscribed(Transport.DELTA)
    bench.respond(LDS, "a")
    bench.machine.want([], [Key(LDS, "a")])
    bench.machine.want([Key(LDS, "a")], [])
    assert bench.run() == []
    assert bench.content(LDS, "a") == "1"


def test_last_unsubscription_closes_the_stream():
    """When nothing is wanted any more the stream goes, and a later want opens a fresh one."""
    bench = subscribed()
    assert bench.unwant(LDS, "a") == [Close(0)]
    assert bench.machine.deadline() is None
    effects = bench.want(LDS, "a")
    assert len(opened(effects)) == 1
    assert sent(effects)[0].with_node


def test_subscription_changes_are_told_together():
    """However many wants come between two looks, a type's names go out in one request."""
    bench = subscribed()
    for name in ("b", "c", "d"):
        bench.machine.want([Key(LDS, name)], [])
    assert sent(bench.run()) == [SotwRequest(LDS.value, ("a", "b", "c", "d"))]


def test_sotw_ack_carries_a_change_of_names():
    """The names in an ACK are those wanted then, so no request with an old nonce follows."""
    bench = subscribed()
    bench.machine.want([Key(LDS, "b")], [])
    assert sent(bench.respond(LDS, "a")) == [SotwRequest(LDS.value, ("a", "b"), "v1", "n1")]


def test_sotw_reconnect_tells_the_version_when_all_is_here():
    """After a reconnect the last accepted version is told, without a nonce, and the node again."""
    bench = subscribed()
    bench.respond(LDS, "a", version="5")
    bench.run(later=10)
    effects = bench.close()
    assert sent(effects) == [SotwRequest(LDS.value, ("a",), "5", with_node=True)]


def test_sotw_reconnect_is_silent_about_the_version_when_something_lacks():
    """A server might take the version for "has everything" and never send what is missing."""
    bench = subscribed()
    bench.respond(LDS, "a", version="5")
    bench.want(LDS, "b")
    bench.run(later=10)
    assert sent(bench.close()) == [SotwRequest(LDS.value, ("a", "b"), with_node=True)]


def test_delta_reconnect_tells_initial_versions():
    """After a reconnect delta tells the version of each resource that this server gave, and asks for all names."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LDS, "a", "b")
    bench.respond(LDS, received(LDS, "a", version="va", named=True))
    bench.run(later=10)
    (request,) = sent(bench.close())
    assert request == DeltaRequest(LDS.value, ("a", "b"), initial_versions={"a": "va"}, with_node=True)


def test_delta_reconnect_does_not_tell_of_what_is_not_in_force():
    """A server that takes a bad change back has the old version again; had we told it, it would stay silent."""
    bench = subscribed(Transport.DELTA)
    bench.respond(LDS, received(LDS, "a", "1", "good", named=True))
    bench.respond(LDS, received(LDS, "a", "bad", "newer", named=True))
    bench.run(later=10)
    assert sent(bench.close())[0].initial_versions == {}


def test_end_without_answer_is_an_outage_with_backoff():
    """A57: a stream that ends without an answer is an error that names the server, and the waits grow."""
    bench = Bench()
    bench.want(LDS, "a")
    waits = []
    for _ in range(12):
        assert bench.close(details="refused") == []
        waits.append(bench.machine.deadline() - bench.now)
        assert opened(bench.run(later=waits[-1]))
    assert waits[:3] == pytest.approx([1.0, 1.6, 2.56])
    assert waits[-1] == 30
    assert bench.entry(LDS, "a").status is EntryStatus.UNREACHABLE
    assert bench.entry(LDS, "a").problem == "xDS server one:1: UNAVAILABLE: refused"
    assert bench.machine.problem() == "xDS server one:1: UNAVAILABLE: refused"


def test_end_after_an_answer_is_no_outage():
    """A57: servers end streams for good reasons; the client reconnects at once and nothing is reported."""
    bench = subscribed()
    bench.respond(LDS, "a")
    bench.run(later=5)
    assert len(opened(bench.close("OK", ""))) == 1
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT
    assert bench.machine.problem() == ""


def test_server_that_answers_and_dies_is_not_hammered():
    """A stream that lived shorter than a backoff is followed by one, answered or not."""
    bench = subscribed()
    bench.respond(LDS, "a")
    assert opened(bench.close()) == []
    assert bench.machine.deadline() == bench.now + 1


def test_backoff_begins_anew_after_an_answer():
    """Only a response resets the backoff; a connection alone does not."""
    bench = Bench()
    bench.want(LDS, "a")
    for _ in range(5):
        bench.close()
        bench.run(later=40)
        bench.connect()
    bench.respond(LDS, "a")
    bench.run(later=5)
    bench.close()
    bench.close()
    assert bench.machine.deadline() == bench.now + 1


def test_outage_leaves_cached_resources_alone():
    """A57: what is cached stays in force while the server is away."""
    bench = subscribed()
    bench.respond(LDS, "a")
    bench.run(later=5)
    bench.close()
    bench.close()
    assert bench.entry(LDS, "a").status is EntryStatus.PRESENT
    assert bench.changed == set()


def test_unimplemented_delta_falls_to_sotw_at_once_and_is_remembered():
    """transport auto: UNIMPLEMENTED is no outage, and the next reconnect does not try delta again."""
    bench = Bench(transport=Transport.AUTO)
    bench.want(LDS, "a")
    effects = bench.close("UNIMPLEMENTED", "no such method")
    assert opened(effects)[0].transport is Transport.SOTW
    assert sent(effects) == [SotwRequest(LDS.value, ("a",), with_node=True)]
    assert bench.entry(LDS, "a").status is EntryStatus.REQUESTED
    bench.respond(LDS, "a")
    bench.run(later=5)
    assert opened(bench.close())[0].transport is Transport.SOTW


def test_server_without_any_ads_is_an_outage():
    """When both transports are unimplemented the client waits, and says so."""
    bench = Bench(transport=Transport.AUTO)
    bench.want(LDS, "a")
    bench.close("UNIMPLEMENTED", "no")
    assert opened(bench.close("UNIMPLEMENTED", "no")) == []
    assert "UNIMPLEMENTED" in bench.entry(LDS, "a").problem


def test_fixed_transport_does_not_change():
    """transport delta stays delta, and the refusal is reported."""
    bench = Bench(transport=Transport.DELTA)
    bench.want(LDS, "a")
    assert opened(bench.close("UNIMPLEMENTED", "no")) == []
    assert "UNIMPLEMENTED" in bench.machine.problem()


def test_late_words_of_a_closed_stream_do_not_count():
    """A response that arrives when the stream is gone already changes nothing."""
    bench = subscribed()
    bench.close()
    bench.machine.received(0, Response(LDS.value, "1", "n", (received(LDS, "a"),)), bench.now)
    assert bench.entry(LDS, "a").resource is None


def test_xdstp_names_in_any_order_of_parameters():
    """A47: a server may write context parameters in another order than we do."""
    bench = Bench()
    name = "xdstp://auth/envoy.config.listener.v3.Listener/a?x=1&y=2"
    other = "xdstp://auth/envoy.config.listener.v3.Listener/a?y=2&x=1"
    bench.want(LDS, name)
    bench.respond(LDS, other)
    assert bench.entry(LDS, name).status is EntryStatus.PRESENT
    assert bench.entry(LDS, other).status is EntryStatus.PRESENT

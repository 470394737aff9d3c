"""The incremental protocol, message by message."""

from __future__ import annotations

import pytest

from controlplane.server.machine import DeltaRequest, StreamMachine
from tests.unit.controlplane.server.packs import CDS, EDS, RDS, names, packed, snapshot


class Talk:
    """A client's side of one stream."""

    def __init__(self, *, aggregated: bool = True) -> None:
        self.machine = StreamMachine(delta=True, aggregated=aggregated, chunk=1_000)
        self.now = snapshot()

    def send(self, type_url, *subscribe, drop=(), nonce="", known=None, error=None):
        """Sends a request."""
        request = DeltaRequest(type_url, subscribe, tuple(drop), nonce, known or {}, error)
        return self.machine.receive(request, self.now)

    def read(self, *, ack: bool = True):
        """Returns (resources, removed) of the next response and acknowledges it; None if there is none."""
        reply = self.machine.next_reply(self.now)
        if reply is None:
            return None
        if ack:
            self.send(reply.type_url, nonce=reply.nonce)
        return names(reply.resources), list(reply.removed)

    def commit(self, *resources):
        """Changes what the cache holds and touches everything."""
        before, self.now = self.now, snapshot(*resources)
        for held in (before, self.now):
            for type_url, known in held.types.items():
                for found in known:
                    self.machine.touch(type_url, found.name)


def test_subscribed_names_are_answered_and_missing_ones_said_to_be_gone_at_once():
    """A name that exists comes as a resource, one that does not in removed_resources; no timer is needed."""
    talk = Talk()
    talk.commit(packed(EDS, "a"))
    talk.send(EDS, "a", "nowhere")
    assert talk.read() == (["a"], ["nowhere"])
    assert talk.read() is None


def test_only_changes_are_sent():
    """A change of one of many subscribed resources brings that one; a removal names it; its return brings it back."""
    talk = Talk()
    talk.commit(packed(RDS, "a"), packed(RDS, "b"))
    talk.send(RDS, "a", "b")
    assert talk.read() == (["a", "b"], [])
    talk.commit(packed(RDS, "a"), packed(RDS, "b", "2"))
    assert talk.read() == (["b@2"], [])
    talk.commit(packed(RDS, "b", "2"))
    assert talk.read() == ([], ["a"])
    talk.commit(packed(RDS, "a"), packed(RDS, "b", "2"))
    assert talk.read() == (["a"], [])


def test_unsubscribed_name_is_silent():
    """After an unsubscription changes of the name are not sent, and no answer is needed."""
    talk = Talk()
    talk.commit(packed(RDS, "a"))
    talk.send(RDS, "a")
    talk.read()
    talk.send(RDS, drop=["a", "phantom"])
    assert talk.read() is None
    talk.commit(packed(RDS, "a", "2"))
    assert talk.read() is None


def test_name_dropped_before_the_answer_is_not_answered():
    """A client that changes its mind before the server could write is not sent what it no longer wants."""
    talk = Talk()
    talk.commit(packed(RDS, "a"))
    talk.send(RDS, "a")
    talk.send(RDS, drop=["a"])
    assert talk.read() is None


def test_name_in_both_lists_is_subscribed():
    """A request that drops a name and asks for it again is answered with it."""
    talk = Talk()
    talk.commit(packed(RDS, "a"))
    talk.send(RDS, "a")
    talk.read()
    talk.send(RDS, "a", drop=["a"])
    assert talk.read() == (["a"], [])
    assert talk.machine.subscriptions[RDS].names == {"a"}


def test_wildcard_that_ends_keeps_its_names_up_to_date():
    """What changed while a wildcard covered a name is sent though the wildcard has ended since."""
    talk = Talk()
    talk.commit(packed(CDS, "a"))
    talk.send(CDS, "*", "a")
    talk.read()
    talk.commit(packed(CDS, "a", "2"))
    talk.send(CDS, drop=["*"])
    assert talk.read() == (["a@2"], [])


def test_resubscribed_name_is_sent_though_unchanged():
    """xDS: a name in resource_names_subscribe is always answered; the client may have forgotten it."""
    talk = Talk()
    talk.commit(packed(RDS, "a"))
    talk.send(RDS, "a")
    talk.read()
    talk.send(RDS, "a")
    assert talk.read() == (["a"], [])
    talk.send(RDS, drop=["a"])
    talk.send(RDS, "a")
    assert talk.read() == (["a"], [])


@pytest.mark.parametrize("wanted", [(), ("*",)])
def test_wildcard(wanted):
    """A wildcard gets everything at first, even nothing at all, and increments from then on."""
    talk = Talk(aggregated=False)
    talk.send(CDS, *wanted)
    assert talk.read() == ([], [])
    talk.commit(packed(CDS, "a"), packed(CDS, "b"))
    assert talk.read() == (["a", "b"], [])
    talk.commit(packed(CDS, "b", "2"), packed(CDS, "c"))
    assert talk.read() == (["b@2", "c"], ["a"])
    talk.send(CDS, drop=["*"])
    talk.commit()
    assert talk.read() is None


def test_name_dropped_from_under_a_wildcard_is_answered():
    """xDS: whoever drops a name and keeps the wildcard is told whether the wildcard still holds it."""
    talk = Talk()
    talk.commit(packed(CDS, "a"))
    talk.send(CDS, "*", "a", "b")
    assert talk.read() == (["a"], ["b"])
    talk.send(CDS, drop=["a", "b"])
    assert talk.read() == (["a"], ["b"])


def test_legacy_wildcard_goes_on_beside_names():
    """A stream that began without names keeps its wildcard when names are added, until "*" is dropped."""
    talk = Talk()
    talk.commit(packed(CDS, "a"), packed(CDS, "b"))
    talk.send(CDS)
    assert talk.read() == (["a", "b"], [])
    talk.send(CDS, "a")
    assert talk.read() == (["a"], [])
    talk.send(CDS, drop=["*"])
    assert talk.read() is None
    talk.commit(packed(CDS, "a", "2"), packed(CDS, "b", "2"))
    assert talk.read() == (["a@2"], [])


def test_reconnect_sends_only_what_differs():
    """With initial_resource_versions a client gets what changed and hears what went while it was away."""
    talk = Talk()
    talk.commit(packed(EDS, "same"), packed(EDS, "changed", "2"))
    talk.send(EDS, "same", "changed", "lost", "new", known={"same": "1", "changed": "1", "lost": "1"})
    assert talk.read() == (["changed@2"], ["lost", "new"])


def test_reconnected_wildcard_sends_only_what_differs():
    """The same for a wildcard, whose names only the client's versions tell."""
    talk = Talk(aggregated=False)
    talk.commit(packed(CDS, "same"), packed(CDS, "changed", "2"))
    talk.send(CDS, "*", known={"same": "1", "changed": "1", "lost": "1"})
    assert talk.read() == (["changed@2"], ["lost"])
    assert talk.read() is None


def test_reconnected_wildcard_that_has_all_is_left_alone():
    """Nothing is sent to a client that holds everything already, until something changes."""
    talk = Talk(aggregated=False)
    talk.commit(packed(CDS, "a"))
    talk.send(CDS, "*", known={"a": "1"})
    assert talk.read() is None
    assert talk.machine.subscriptions[CDS].has is talk.now.of(CDS)  # compared by identity from here on
    talk.commit(packed(CDS, "a", "2"))
    assert talk.read() == (["a@2"], [])


def test_versions_of_a_later_request_mean_nothing():
    """initial_resource_versions counts in the first request of a type only."""
    talk = Talk()
    talk.commit(packed(EDS, "a"))
    talk.send(EDS, "other")
    talk.read()
    talk.send(EDS, "a", known={"a": "1"})
    assert talk.read() == (["a"], [])


def test_change_waits_for_the_acknowledgement_and_questions_do_not():
    """Changes gather while a response is out; a new subscription is answered meanwhile."""
    talk = Talk()
    talk.commit(packed(EDS, "a"), packed(EDS, "b"))
    talk.send(EDS, "a")
    talk.read(ack=False)
    talk.commit(packed(EDS, "a", "2"), packed(EDS, "b"))
    assert talk.read() is None
    talk.commit(packed(EDS, "a", "3"), packed(EDS, "b"))
    talk.send(EDS, "b")
    found, removed = talk.read()
    assert "b" in found
    assert removed == []


def test_nack_is_kept_and_unsubscription_in_it_counts():
    """A NACK's text is kept; what the request subscribes and unsubscribes counts whatever its nonce."""
    talk = Talk()
    talk.commit(packed(RDS, "a"), packed(RDS, "b"))
    talk.send(RDS, "a", "b")
    reply = talk.machine.next_reply(talk.now)
    talk.send(RDS, nonce=reply.nonce, error="b is not valid", drop=["b"])
    known = talk.machine.subscriptions[RDS]
    assert (known.rejected, known.nack, known.nack_version) == (True, "b is not valid", reply.version)
    assert known.names == {"a"}
    talk.send(RDS, "b", nonce="no number")
    assert talk.read() == (["b"], [])
    assert talk.machine.stale == 1


def test_large_answers_are_split():
    """A wildcard over more than the chunk size comes in several responses, one per ACK, and ends complete."""
    talk = Talk(aggregated=False)
    talk.commit(*(packed(CDS, f"c{index}", size=400) for index in range(5)))
    talk.send(CDS, "*")
    found = []
    while (answer := talk.read()) is not None:
        assert len(answer[0]) <= 2
        found += answer[0]
    assert sorted(found) == [f"c{index}" for index in range(5)]
    assert talk.machine.subscriptions[CDS].has is talk.now.of(CDS)

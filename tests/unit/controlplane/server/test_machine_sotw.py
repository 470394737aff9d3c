"""The state-of-the-world protocol, message by message."""

from __future__ import annotations

import pytest

from controlplane.server.machine import SotwRequest, StreamMachine
from tests.unit.controlplane.server.packs import CDS, EDS, LDS, RDS, names, packed, snapshot


class Talk:
    """A client's side of one stream: asks, acknowledges, and reads what is sent."""

    def __init__(self, *, aggregated: bool = True) -> None:
        self.machine = StreamMachine(delta=False, aggregated=aggregated, chunk=1_000)
        self.now = snapshot()
        self.nonces: dict[str, str] = {}

    def ask(self, type_url, *wanted, nonce=None, version="", error=None):
        """Sends a request with the nonce last seen, or another."""
        nonce = self.nonces.get(type_url, "") if nonce is None else nonce
        return self.machine.receive(SotwRequest(type_url, wanted, nonce, version, error), self.now)

    def read(self):
        """Returns the next response, None if there is none."""
        reply = self.machine.next_reply(self.now)
        if reply is not None:
            self.nonces[reply.type_url] = reply.nonce
        return reply

    def read_all(self):
        """Returns (type, resources) of all responses that come without a further request."""
        found = []
        while (reply := self.read()) is not None:
            found.append((reply.type_url, names(reply.resources)))
        return found

    def commit(self, *resources):
        """Changes what the cache holds and touches everything, as a commit does for those concerned."""
        before, self.now = self.now, snapshot(*resources)
        for held in (before, self.now):
            for type_url, known in held.types.items():
                for found in known:
                    self.machine.touch(type_url, found.name)


def test_named_listener_is_answered_with_what_is_asked_for():
    """A gRPC client that names one listener gets that one and no other."""
    talk = Talk()
    talk.commit(packed(LDS, "a"), packed(LDS, "b"))
    talk.ask(LDS, "a")
    assert talk.read_all() == [(LDS, ["a"])]


def test_acknowledged_version_is_not_sent_again():
    """An ACK is booked and not answered."""
    talk = Talk()
    talk.commit(packed(LDS, "a"))
    talk.ask(LDS, "a")
    reply = talk.read()
    assert talk.machine.subscriptions[LDS].awaiting
    talk.ask(LDS, "a", version=reply.version)
    assert talk.read() is None
    known = talk.machine.subscriptions[LDS]
    assert (known.awaiting, known.rejected, known.version_acked) == (False, False, reply.version)


def test_nack_is_kept_with_its_text():
    """A NACK's text and version are kept, nothing is sent again, and the next good version clears the state."""
    talk = Talk()
    talk.commit(packed(CDS, "a"))
    talk.ask(CDS, "a")
    good = talk.read()
    talk.ask(CDS, "a")
    talk.commit(packed(CDS, "a", "bad"))
    bad = talk.read()
    talk.ask(CDS, "a", version=good.version, error="no such policy")
    assert talk.read() is None
    known = talk.machine.subscriptions[CDS]
    assert (known.rejected, known.nack, known.nack_version) == (True, "no such policy", bad.version)
    assert known.version_acked == good.version
    talk.commit(packed(CDS, "a", "3"))
    assert talk.read_all() == [(CDS, ["a@3"])]
    talk.ask(CDS, "a")
    assert not known.rejected
    assert known.nack == "no such policy"


def test_change_waits_for_the_acknowledgement():
    """While a response is out, changes gather; the ACK is followed by one response with the newest state."""
    talk = Talk()
    talk.commit(packed(EDS, "a"))
    talk.ask(EDS, "a")
    talk.read()
    talk.commit(packed(EDS, "a", "2"))
    assert talk.read() is None
    talk.commit(packed(EDS, "a", "3"))
    talk.ask(EDS, "a")
    assert talk.read_all() == [(EDS, ["a@3"])]


def test_stale_nonce_is_ignored():
    """A request that answers an older response changes nothing; the one with the newest nonce counts."""
    talk = Talk()
    talk.commit(packed(EDS, "a"), packed(EDS, "b"))
    talk.ask(EDS, "a")
    first = talk.read()
    talk.ask(EDS, "a")
    talk.commit(packed(EDS, "a", "2"), packed(EDS, "b"))
    talk.read()
    assert talk.ask(EDS, "a", "b", nonce=first.nonce, error="old news") is None
    assert talk.read() is None
    assert talk.machine.stale == 1
    assert not talk.machine.subscriptions[EDS].rejected
    talk.ask(EDS, "a", "b")
    assert talk.read_all() == [(EDS, ["b"])]


@pytest.mark.parametrize("wanted", [(), ("*",)])
@pytest.mark.parametrize("type_url", [LDS, CDS])
def test_wildcard_gets_everything(type_url, wanted):
    """No names at all (the legacy form) or "*" means all; a change brings all again, a removal leaves it out."""
    talk = Talk(aggregated=False)
    talk.commit(packed(type_url, "a"), packed(type_url, "b"))
    talk.ask(type_url, *wanted)
    assert talk.read_all() == [(type_url, ["a", "b"])]
    talk.ask(type_url, *wanted)
    talk.commit(packed(type_url, "a"), packed(type_url, "b", "2"))
    assert talk.read_all() == [(type_url, ["a", "b@2"])]
    talk.ask(type_url, *wanted)
    talk.commit(packed(type_url, "b", "2"))
    assert talk.read_all() == [(type_url, ["b@2"])]


def test_empty_wildcard_is_answered():
    """A proxy that starts against an empty cache is told so, and need not wait for its timer."""
    talk = Talk()
    talk.ask(CDS)
    assert talk.read_all() == [(CDS, [])]


def test_no_names_after_names_ends_the_subscription():
    """xDS: once names were given, an empty list is an unsubscription and not a wildcard."""
    talk = Talk()
    talk.commit(packed(LDS, "a"))
    talk.ask(LDS)
    talk.read_all()
    talk.ask(LDS, "*", "a")
    assert talk.read_all() == [(LDS, ["a"])]
    talk.ask(LDS, "a")
    assert talk.read_all() == []
    talk.ask(LDS)
    talk.commit(packed(LDS, "a", "2"))
    assert talk.read_all() == []
    assert not talk.machine.subscriptions[LDS].wildcard


@pytest.mark.parametrize("type_url", [RDS, EDS])
def test_only_what_changed_is_sent(type_url):
    """Routes and endpoints come one by one: the changed one alone, a new name alone."""
    talk = Talk()
    talk.commit(packed(type_url, "a"), packed(type_url, "b"), packed(type_url, "c"))
    talk.ask(type_url, "a", "b")
    assert talk.read_all() == [(type_url, ["a", "b"])]
    talk.ask(type_url, "a", "b")
    talk.commit(packed(type_url, "a"), packed(type_url, "b", "2"), packed(type_url, "c", "2"))
    assert talk.read_all() == [(type_url, ["b@2"])]
    talk.ask(type_url, "a", "b", "c")
    assert talk.read_all() == [(type_url, ["c@2"])]


def test_listener_change_brings_all_subscribed():
    """Of listeners and clusters every response is complete: leaving one out would remove it."""
    talk = Talk()
    talk.commit(packed(LDS, "a"), packed(LDS, "b"))
    talk.ask(LDS, "a", "b")
    talk.read_all()
    talk.ask(LDS, "a", "b")
    talk.commit(packed(LDS, "a", "2"), packed(LDS, "b"))
    assert talk.read_all() == [(LDS, ["a@2", "b"])]
    talk.ask(LDS, "a", "b")
    talk.commit(packed(LDS, "b"))
    assert talk.read_all() == [(LDS, ["b"])]


def test_resource_that_appears_later_is_sent():
    """The server remembers what is asked for and missing, and sends it when it comes."""
    talk = Talk()
    talk.ask(EDS, "late")
    assert talk.read_all() == []
    talk.commit(packed(EDS, "late"))
    assert talk.read_all() == [(EDS, ["late"])]


def test_resubscribed_resource_is_sent_again():
    """A name that was dropped and is asked for again is sent, though it did not change."""
    talk = Talk()
    talk.commit(packed(EDS, "a"), packed(EDS, "b"))
    talk.ask(EDS, "a", "b")
    talk.read_all()
    talk.ask(EDS, "a")
    assert talk.read_all() == []
    talk.ask(EDS, "a", "b")
    assert talk.read_all() == [(EDS, ["b"])]


def test_reconnected_wildcard_with_the_same_version_is_left_alone():
    """A proxy that comes back with the version the cache has is sent nothing until something changes."""
    talk = Talk(aggregated=False)
    talk.commit(packed(CDS, "a"))
    talk.ask(CDS, version=talk.now.of(CDS).version)
    assert talk.read_all() == []
    talk.commit(packed(CDS, "a", "2"))
    assert talk.read_all() == [(CDS, ["a@2"])]


def test_reconnected_named_client_is_sent_all():
    """A version says nothing about which names a client had, so named resources are sent anew."""
    talk = Talk()
    talk.commit(packed(CDS, "a"))
    talk.ask(CDS, "a", version=talk.now.of(CDS).version)
    assert talk.read_all() == [(CDS, ["a"])]


def test_nonce_of_an_earlier_stream_does_not_shut_a_client_out():
    """A first request with a nonce from before is a first request."""
    talk = Talk()
    talk.commit(packed(EDS, "a"))
    talk.ask(EDS, "a", nonce="977")
    assert talk.read_all() == [(EDS, ["a"])]


def test_large_answers_are_split():
    """Routes that together exceed the chunk size come in several responses; each waits for the ACK before it."""
    talk = Talk()
    talk.commit(*(packed(RDS, f"r{index}", size=400) for index in range(5)))
    talk.ask(RDS, *(f"r{index}" for index in range(5)))
    replies = talk.read_all()
    assert [len(found) for _, found in replies] == [2, 2, 1]
    assert sorted(name for _, found in replies for name in found) == [f"r{index}" for index in range(5)]


def test_repeated_endpoint_request_after_clusters_is_answered():
    """Envoy asks again for the endpoints of a cluster that it warms: once after each cluster response, all are sent."""
    talk = Talk()
    talk.commit(packed(CDS, "a"), packed(EDS, "a"))
    talk.ask(EDS, "a")
    talk.read_all()
    talk.ask(EDS, "a")
    talk.ask(EDS, "a")
    assert talk.read_all() == []
    talk.ask(CDS)
    talk.read_all()
    talk.ask(EDS, "a")
    talk.ask(EDS, "a")
    assert talk.read_all() == [(EDS, ["a"])]
    talk.ask(EDS, "a")
    talk.ask(EDS, "a")
    assert talk.read_all() == []


def test_type_nobody_knows_is_no_error():
    """A client may ask for a type that the cache holds nothing of."""
    talk = Talk()
    talk.ask("type.googleapis.com/example.Unheard", "a")
    assert talk.read_all() == []

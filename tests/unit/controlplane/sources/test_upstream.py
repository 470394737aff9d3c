"""A source that sends garbage: dialled with growing pauses and logged once, until it tells something that is good."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from controlplane.sources import wire
from controlplane.sources.upstream import Upstream
from meshsdk.errors import RegistryError


class Follower:
    """What an upstream tells of its stream."""

    live = True

    def __init__(self) -> None:
        self.settlings = 0

    def interruptible(self, _: object) -> None:
        """Has nothing to interrupt."""

    def settled(self) -> None:
        """Counts."""
        self.settlings += 1


class Call(list[bytes]):
    """The responses of one stream."""

    def cancel(self) -> None:
        """Is over anyway."""


def good(type_url: str) -> bytes:
    """Returns an empty state of a type."""
    return discovery_pb2.DiscoveryResponse(type_url=type_url, version_info="1", nonce="1").SerializeToString()


EVERY = [good(type_url) for type_url in wire.KINDS]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An upstream whose streams the test answers."""
    made = Upstream("xds://127.0.0.1:1", lambda: None)
    yield made
    made.close()


def follow(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, *responses: bytes) -> tuple[int, str]:
    """Follows one stream to its end; returns how often it counted as well, and why it ended."""
    follower = Follower()
    monkeypatch.setattr(upstream, "_stream", lambda _: Call(responses))
    with pytest.raises(RegistryError) as ended:
        upstream._follow(follower)
    return follower.settlings, str(ended.value)


def test_garbage_is_no_end_of_an_outage(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no response, alone or after good ones, do not begin the backoff anew; a whole good state does."""
    assert follow(upstream, monkeypatch, EVERY[0]) == (1, "the stream ended")
    settlings, reason = follow(upstream, monkeypatch, b"\xff\xff")
    assert settlings == 0
    assert reason.startswith("the response is not a DiscoveryResponse")
    assert follow(upstream, monkeypatch, EVERY[0], b"\xff\xff")[0] == 0
    assert follow(upstream, monkeypatch, *EVERY) == (1, "the stream ended")
    assert follow(upstream, monkeypatch, EVERY[0]) == (1, "the stream ended")


def test_a_refused_response_is_no_end_of_an_outage(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that is NACKed says nothing good of a source."""
    bad = discovery_pb2.DiscoveryResponse(type_url=next(iter(wire.KINDS)), nonce="1")
    bad.resources.add(type_url="x")
    assert follow(upstream, monkeypatch, bad.SerializeToString())[0] == 0

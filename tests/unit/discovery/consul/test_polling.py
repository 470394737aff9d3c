"""Blocking queries against scripted answers."""

from __future__ import annotations

import pytest

from meshsdk.discovery.consul.agent import Agent, Answer
from meshsdk.discovery.consul.one_service import KnownEntries
from meshsdk.discovery.consul.place import Place
from meshsdk.discovery.consul.polling import News, poll, service_entries
from meshsdk.errors import RegistryError


class Script:
    """A line that answers as written and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[dict[str, str], float]] = []

    def ask(self, method: str, path: str, query: dict[str, str], *, wait: float) -> Answer:
        """Returns the next answer."""
        self.asked.append((query, wait))
        index, body = next(self._answers)
        return Answer(index, body.encode())


def told(script: Script, times: int, place: Place | None = None) -> list[News]:
    """Polls so many times."""
    left = iter([True] * (times - 1))
    return list(poll(Agent(place or Place("a", 1, wait=16.0)), script, "/v1/x", {}, lambda: next(left, False)))


def test_it_asks_from_the_last_index():
    """The first answer comes at once, the next when something changed; a wait that is over is no news."""
    script = Script((7, "[1]"), (7, "[1]"), (9, "[2]"))
    assert told(script, 3) == [News([1], anew=True), News([2], anew=False)]
    assert script.asked == [
        ({}, 0),
        ({"index": "7", "wait": "16s"}, 17.0),
        ({"index": "7", "wait": "16s"}, 17.0),
    ]


def test_an_index_that_goes_backwards_begins_anew():
    """The servers lost their past: the next question has no index, and its answer is a listing."""
    script = Script((7, "[1]"), (3, "[2]"), (3, "[2]"), (4, "[3]"))
    assert told(script, 4) == [News([1], anew=True), News([2], anew=True), News([3], anew=False)]
    assert [query.get("index") for query, _ in script.asked] == [None, "7", None, "3"]


def test_an_answer_without_an_index_is_refused():
    """Else it would be asked again and again at once."""
    with pytest.raises(RegistryError, match="X-Consul-Index"):
        told(Script((0, "[1]")), 2)


def test_reads_carry_datacenter_and_consistency():
    """Every question, as the URL said."""
    script = Script((7, "[]"))
    told(script, 1, Place("a", 1, dc="east", consistency="stale"))
    assert script.asked == [({"dc": "east", "stale": ""}, 0)]


@pytest.mark.parametrize("content", [None, {}, "x", [1], [[]]])
def test_an_answer_that_is_no_list_of_entries(content):
    """Refused in words."""
    with pytest.raises(RegistryError, match="health/service"):
        service_entries(content)


def test_an_answer_that_is_no_json():
    """Refused in words."""
    with pytest.raises(RegistryError, match="not JSON"):
        told(Script((7, "<html>")), 1)


def entry(identifier: str, index: int, status: str = "passing") -> dict[str, object]:
    """An entry of a service."""
    return {
        "Node": {"Node": "n"},
        "Service": {"ID": identifier, "ModifyIndex": index},
        "Checks": [{"Status": status}],
    }


def test_only_what_changed_is_told():
    """Of an answer with everything: the new, the changed, and those that are gone or critical."""
    known = KnownEntries()
    one, two = entry("1", 1), entry("2", 1)
    assert known.difference([one, two]) == ({"n/1": one, "n/2": two}, set())
    assert known.difference([one, two]) == ({}, set())
    changed = entry("2", 2)
    assert known.difference([one, changed, entry("3", 3, "critical")]) == ({"n/2": changed}, set())
    assert known.difference([entry("1", 1, "critical"), changed]) == ({}, {"n/1"})

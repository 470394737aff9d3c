"""Which services two blocking queries say to read."""

from __future__ import annotations

import pytest

from meshsdk.discovery.consul.hints import Hints
from meshsdk.errors import RegistryError

NODE = {"Node": "n1", "CheckID": "serfHealth", "Status": "passing", "ServiceName": "", "ModifyIndex": 1}


def check(name: str, service: str, index: int = 1, status: str = "passing", node: str = "n1") -> dict[str, object]:
    """A check of a service."""
    return {"Node": node, "CheckID": name, "Status": status, "ServiceName": service, "ModifyIndex": index}


class Clock:
    """Moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """At 100."""
    return Clock()


@pytest.fixture
def hints(clock) -> Hints:
    """With three services, of which two have checks; `web` and `db` were found on n1."""
    made = Hints(clock)
    made.services({"web": ["a", "b"], "db": [], "bare": []})
    made.checks([NODE, check("c1", "web"), check("c2", "db")])
    assert made.all_names() == {"web", "db", "bare"}
    made.runs_on("web", ["n1"])
    made.runs_on("db", ["n1"])
    return made


@pytest.mark.parametrize(
    ("checks", "read"),
    [
        ([NODE, check("c1", "web", 2, "critical"), check("c2", "db")], {"web"}),
        ([NODE, check("c2", "db")], {"web"}),
        ([NODE, check("c1", "web"), check("c2", "db"), check("c3", "new")], {"new"}),
        ([NODE, check("c1", "db"), check("c2", "db")], {"web", "db"}),
        ([{**NODE, "Status": "critical"}, check("c1", "web"), check("c2", "db")], {"web", "db"}),
    ],
)
def test_a_check_names_what_to_read(hints, checks, read):
    """Its service, or all that runs on its node."""
    hints.checks(checks)
    assert hints.take() == read


@pytest.mark.parametrize(
    ("services", "read"),
    [
        ({"web": ["b", "a"], "db": []}, {"bare"}),
        ({"web": ["a"], "db": [], "bare": []}, {"web"}),
        ({"web": ["a", "b"], "db": [], "bare": [], "new": []}, {"new"}),
    ],
)
def test_a_name_or_its_tags_are_read(hints, services, read):
    """A service that came, went or has other tags; their order means nothing."""
    hints.services(services)
    assert hints.take() == read


def test_what_nothing_explains_is_found_by_reading_all_but_not_often(hints, clock):
    """The services moved and their names did not: all are read, half a minute after the last time at the earliest."""
    same = {"web": ["a", "b"], "db": [], "bare": []}
    hints.services(same)
    hints.checks([NODE, check("c1", "web", 2), check("c2", "db")])
    assert hints.take() == {"web"}
    clock.now += 30
    assert hints.take() == {"web", "db", "bare"}
    hints.services(same)
    hints.checks([NODE, check("c1", "web", 3), check("c2", "db")])
    clock.now += 29
    assert hints.take() == {"web"}
    clock.now += 1
    assert hints.take() == {"web", "db", "bare"}


def test_a_query_that_broke_ends_the_waiting():
    """Its problem is what the watch breaks with."""
    hints = Hints(Clock())
    hints.broke("the agent is away")
    with pytest.raises(RegistryError, match="the agent is away"):
        hints.all_names()
    with pytest.raises(RegistryError, match="the agent is away"):
        hints.take()


@pytest.mark.parametrize("content", [None, [], "x", 5])
def test_services_that_are_something_else(content):
    """Refused in words."""
    with pytest.raises(RegistryError, match="catalog/services"):
        Hints(Clock()).services(content)


@pytest.mark.parametrize("content", [None, {}, "x", [5]])
def test_checks_that_are_something_else(content):
    """Refused in words."""
    with pytest.raises(RegistryError, match="health/state"):
        Hints(Clock()).checks(content)

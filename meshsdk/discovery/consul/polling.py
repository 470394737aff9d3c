"""Blocking queries: asks again as soon as there is an answer, and is answered as soon as something changed.

Used by `one_service` and `every_service`. The rules are Consul's ("Blocking Queries", implementation details): an index
that goes backwards means that the past is lost, and one must not ask faster than one can use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshsdk.discovery.consul.agent import Agent, Line, Query
from meshsdk.discovery.consul.records import Entry
from meshsdk.errors import RegistryError

_ADDED = 1 / 16  # of the wait, which agents add at random so that watchers do not come back together


@dataclass(frozen=True, slots=True)
class News:
    """An answer's JSON. `anew`: what was known before is no measure of it (the first one, or the past is lost)."""

    content: object
    anew: bool


def poll(agent: Agent, line: Line, path: str, query: Query, pause: Callable[[], bool]) -> Iterator[News]:
    """Yields what is at `path`, and again when the agent says that something changed there. Raises RegistryError.

    `pause` is called between two questions: it keeps a distance, and returns whether to go on.
    """
    index, wait = 0, agent.place.wait
    while True:
        # Index 0 is answered at once.
        blocking = {"index": str(index), "wait": f"{wait:g}s"} if index else {}
        answer = line.ask("GET", path, {**agent.reads(), **query, **blocking}, wait=wait * (1 + _ADDED) if index else 0)
        if not answer.index:
            raise RegistryError(f"GET {path} at {agent.name}: the answer has no X-Consul-Index to go on from")
        if not index or answer.index > index:
            yield News(answer.json(), anew=not index)
        index = answer.index if answer.index >= index else 0
        if not pause():
            return


def service_entries(content: object) -> list[Entry]:
    """Reads an answer of health/service/NAME: its entries; RegistryError if it is something else."""
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise RegistryError("health/service answered with something that is not a list of objects")
    return content

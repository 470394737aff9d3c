"""What one client holds of one glob collection, and what it is owed of it. Pure; used by `subscription`.

Whatever the size of the collection, a change costs what changed: streams in step hold one and the same map, and the
difference from one map to the next is computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controlplane.server.globs import Glob, glob_of
from controlplane.server.resource_map import EMPTY, Packed, ResourceMap


class Collected:
    """Mutable; owned by its subscription.

    `due`: to be told of, changed or not. `lost`: members that the client said it holds and that are gone, as it calls
    them. `before`: what it held when it asked anew, and may hold still.
    """

    __slots__ = ("before", "due", "glob", "has", "lost")

    def __init__(self, glob: Glob, before: ResourceMap = EMPTY) -> None:
        self.glob = glob
        self.has = EMPTY
        self.due = True
        self.lost: tuple[str, ...] = ()
        self.before = before

    def again(self) -> None:
        """Has everything told once more."""
        if not self.due:
            self.has, self.before, self.due = EMPTY, self.has, True

    def resume(self, known: Mapping[str, str], members: ResourceMap) -> None:
        """Takes what the client holds: version by name, without context parameters."""
        if not known:
            return
        there = {packed.name.partition("?")[0]: packed for packed in members}
        held = [there[name] for name, version in known.items() if name in there and there[name].version == version]
        self.has = members if len(held) == len(members) else EMPTY.updated(held)
        self.lost = tuple(name + self.glob.suffix for name in known if name not in there)
        self.due = False

    def owed(self, members: ResourceMap) -> CollectionOwed | None:
        """Returns what separates the client from `members`, None if nothing does."""
        put, gone = members.changes_from(self.has)
        if len(self.before):
            gone = tuple(dict.fromkeys((*gone, *members.changes_from(self.before)[1])))
        if not put and not gone:
            self.has = members  # equal by content; by identity the next comparison is shared with other streams
            if not self.due and not self.lost:
                return None
        return CollectionOwed(self, members, put, gone)

    def told(self, put: tuple[Packed, ...]) -> None:
        """Books a response that carried some of what was owed."""
        self.has = self.has.updated(put)

    def told_all(self, members: ResourceMap) -> None:
        """Books a response after which the client holds `members`, and nothing else."""
        self.has, self.before = members, EMPTY
        self.due, self.lost = False, ()


@dataclass(frozen=True, slots=True)
class CollectionOwed:
    """What a client lacks of the collection `members`, by the server's names."""

    collected: Collected
    members: ResourceMap
    put: tuple[Packed, ...]
    gone: tuple[str, ...]

    def named(self, put: Iterable[Packed]) -> tuple[Packed, ...]:
        """Returns resources under the names that the client is to read."""
        glob = self.collected.glob
        return tuple(packed.named(glob.named(packed.name)) for packed in put)

    def removed(self, *, breaking: bool) -> tuple[str, ...]:
        """Returns the names to say that are not there, as the client calls them; those `gone` only if `breaking`.

        An empty collection is answered by its own name. A response with nothing in it would do for xDS, but not for
        Envoy, which takes such for an answer to its wildcards only and keeps the cluster warming.
        """
        collected = self.collected
        said = collected.lost + (tuple(map(collected.glob.named, self.gone)) if breaking else ())
        if collected.due and not len(self.members) and not len(collected.has):
            said += (collected.glob.text,)
        return said


def members_known(
    collections: Iterable[Collected], known: Mapping[str, str]
) -> Iterator[tuple[Collected, Mapping[str, str]]]:
    """Yields each collection with those of `known` that are in it: version by name, without context parameters."""
    sorted_in: dict[tuple[str, str], dict[str, str]] = {}  # (directory, suffix) -> versions
    for name, version in known.items():
        path, mark, parameters = name.partition("?")
        directory = path.rpartition("/")[0]
        sorted_in.setdefault((directory, mark + parameters), {})[path] = version
    by_key: dict[str, dict[str, str]] = {}
    for (directory, suffix), versions in sorted_in.items():
        glob = glob_of(f"{directory}/*{suffix}")
        if glob is not None:
            by_key.setdefault(glob.key, {}).update(versions)
    for collected in collections:
        yield collected, by_key.get(collected.glob.key, {})

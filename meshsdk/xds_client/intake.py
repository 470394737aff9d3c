"""What a response does to the store: compare, decode, accept or refuse, remove (gRFC A88). Pure.

One `Intake` is made by `AdsMachine` for each response, save those of LEDS (`collection_intake`). Bytes that are the
same as the ones in force are not decoded again, and resources that nothing wants are not looked at.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Protocol

from meshsdk.errors import InvalidResource
from meshsdk.model.resources import ClusterEndpoints, Kind, Resource
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.messages import Received, Response, ServerProblem
from meshsdk.xds_client.names import canonical
from meshsdk.xds_client.store import Entry, EntryStatus, Store

_MOST_RESOURCES = 100_000  # in one response; more is refused before any of it is decoded
_MOST_REASONS = 20  # in one NACK: servers put it into logs and metadata
_LONGEST_REASON = 1_000  # characters
_DATA_ERRORS = frozenset({5, 7})  # A88: NOT_FOUND and PERMISSION_DENIED; every other code is transient

_NEEDS_DELTA = (
    "names LEDS collections, which state-of-the-world xDS cannot carry; list the endpoints in lb_endpoints, or serve "
    "DeltaAggregatedResources"
)

# Types of which a state-of-the-world response holds all there are, so that absence means deletion (xDS protocol,
# "Deleting Resources").
_COMPLETE = frozenset({Kind.LISTENER, Kind.CLUSTER})


class Decode(Protocol):
    """The codec: serialised resource in, (name, resource) out; raises InvalidResource with the NACK's text."""

    def __call__(
        self, kind: Kind, raw: bytes, previous: Resource | None = None, previous_raw: bytes = b""
    ) -> tuple[str, Resource]:
        """Decodes one resource; `previous` may be used to share what did not change."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a response comes from and what it may do.

    `in_charge`: False for a server that answers again while a fallback still serves: until it has given one resource,
    what it says about others does not count (A71). `keep`: the last good resource outlives data errors (A88).
    """

    server: str
    delta: bool
    keep: bool = True
    in_charge: bool = True


@dataclass(slots=True)
class Outcome:
    """`changed`: keys whose entry readers should look at again. `heard`: wanted keys the response spoke about.

    `nameless`: something was refused of which even the name could not be told. `estranged`: the stream's idea of what
    we have is out of date, so that nothing was taken and it must be opened anew; `unheeded`: that is so once the server
    is in charge, because what it said does not count yet (both for LEDS only).
    """

    changed: set[Key] = field(default_factory=set)
    heard: set[Key] = field(default_factory=set)
    accepted: int = 0
    nameless: bool = False
    estranged: bool = False
    unheeded: bool = False
    reasons: list[str] = field(default_factory=list)

    @property
    def error(self) -> str:
        """The NACK's text, "" if all was well."""
        shown = [reason[:_LONGEST_REASON] for reason in self.reasons[:_MOST_REASONS]]
        if len(self.reasons) > _MOST_REASONS:
            shown.append(f"and {len(self.reasons) - _MOST_REASONS} more")
        return "; ".join(shown)


@dataclass(frozen=True, slots=True)
class Intake:
    """Applies one response of one type to the store, as far as its resources are `wanted`."""

    store: Store
    decode: Decode
    kind: Kind
    wanted: AbstractSet[str]
    source: Source
    outcome: Outcome = field(default_factory=Outcome)

    def apply(self, response: Response) -> Outcome:
        """Takes over everything that is good in the response; why the rest is not is in `Outcome.reasons`."""
        outcome = self.outcome
        if len(response.resources) > _MOST_RESOURCES:
            outcome.reasons.append(f"{len(response.resources)} resources in one response, at most {_MOST_RESOURCES}")
            return outcome
        for index, received in enumerate(response.resources):
            self._take(index, received, response.version)
        if not (self.source.in_charge or outcome.accepted):
            return outcome
        for name in response.removed:
            self._remove(self._key(name))
        for problem in response.problems:
            self._report(self._key(problem.name), problem)
        # A refused resource without a name may be any of those that seem to be absent.
        if not self.source.delta and self.kind in _COMPLETE and not outcome.nameless:
            for name in self.wanted:
                self._sweep(Key(self.kind, name))
        return outcome

    def _key(self, name: str) -> Key:
        return Key(self.kind, canonical(name))

    def _take(self, index: int, received: Received, version: str) -> None:
        key = self._key(received.name)
        if key.name and key.name not in self.wanted:
            return
        entry = self.store.get(key)
        if received.type_url != self.kind.value:
            reason = f"type {received.type_url!r} in a response of type {self.kind.value!r}"
            self._refuse(key, index, reason)
        elif key in self.outcome.heard:
            self.outcome.reasons.append(f"{key.name!r}: more than once in one response")
        elif received.raw is None:  # a heartbeat (xDS protocol, "TTL"): the resource is there and did not change
            self.outcome.heard.add(key)
        elif entry is not None and entry.resource is not None and entry.raw == received.raw:
            self._accept(index, entry, entry.resource, entry.raw, received.version or version)
        else:
            self._decode(key, index, received, received.version or version)

    def _decode(self, key: Key, index: int, received: Received, version: str) -> None:
        raw = received.raw or b""
        try:
            name, resource = checked_decode(self.decode, self.kind, raw, self.store.get(key))
        except InvalidResource as error:
            known = key if key.name else self._key(getattr(error, "name", ""))
            if not known.name or known.name in self.wanted:
                self._refuse(known, index, str(error))
            return
        actual = self._key(name)
        if received.named and actual != key:
            self._refuse(key, index, f"the resource inside is named {name!r}")
            return
        if actual.name not in self.wanted:
            return
        if actual in self.outcome.heard:
            self.outcome.reasons.append(f"{actual.name!r}: more than once in one response")
            return
        self._accept(index, self.store.get(actual) or Entry(actual), resource, raw, version)

    def _accept(self, index: int, entry: Entry, resource: Resource, raw: bytes, version: str) -> None:
        key, server = entry.key, self.source.server
        if not self.source.delta and _has_collections(resource):
            self._refuse(key, index, _NEEDS_DELTA)
            return
        self.outcome.heard.add(key)
        self.outcome.accepted += 1
        news = entry.resource is not resource or entry.status is not EntryStatus.PRESENT or entry.problem != ""
        if news:
            self.outcome.changed.add(key)
        if news or entry.raw is not raw or entry.version != version or entry.server != server:
            self.store.put(Entry(key, EntryStatus.PRESENT, resource, version, "", raw, server))

    def _refuse(self, key: Key, index: int, reason: str) -> None:
        if not key.name:
            self.outcome.nameless = True
            self.outcome.reasons.append(f"resource {index}: {reason}")
            return
        self.outcome.heard.add(key)
        self.outcome.reasons.append(reason if repr(key.name) in reason else f"{key.name!r}: {reason}")
        entry = self.store.get(key) or Entry(key)
        if self.source.in_charge or not entry.settled:
            words = f"{key.name!r} from {self.source.server} is not valid: {reason}"
            self._put(failed(entry, EntryStatus.INVALID, words, self.source))

    def _remove(self, key: Key) -> None:
        if key.name in self.wanted and key not in self.outcome.heard:
            self.outcome.heard.add(key)
            entry = self.store.get(key) or Entry(key)
            self._put(failed(entry, EntryStatus.ABSENT, self._absence(key), self.source))

    def _sweep(self, key: Key) -> None:
        """Absence of a resource that was here before means deletion.

        One that was never here may have been asked for after the server sent this, so its timer decides.
        """
        entry = self.store.get(key)
        if entry is None or key in self.outcome.heard:
            return
        if entry.resource is not None or entry.status is EntryStatus.INVALID:
            self._put(failed(entry, EntryStatus.ABSENT, self._absence(key), self.source))

    def _absence(self, key: Key) -> str:
        return f"xDS server {self.source.server} has no {self.kind.name.lower()} {key.name!r}"

    def _report(self, key: Key, problem: ServerProblem) -> None:
        if key.name not in self.wanted or key in self.outcome.heard:
            return
        self.outcome.heard.add(key)
        self._put(reported(self.store.get(key) or Entry(key), problem, self.source))

    def _put(self, entry: Entry) -> None:
        if entry != self.store.get(entry.key):
            self.store.put(entry)
            self.outcome.changed.add(entry.key)


def failed(entry: Entry, status: EntryStatus, problem: str, source: Source) -> Entry:
    """Returns the entry after a data error (A88): ambient if the last good resource is kept, else the resource goes."""
    if source.keep:
        return replace(entry, status=status, problem=problem)
    return Entry(entry.key, status, problem=problem, server=source.server)


def reported(entry: Entry, problem: ServerProblem, source: Source) -> Entry:
    """Returns the entry after the server itself said what is wrong with the resource (xRFC TP3)."""
    words = f"xDS server {source.server} reports for {entry.key.name!r}: {problem.message[:_LONGEST_REASON]}"
    if problem.code in _DATA_ERRORS:
        return failed(entry, EntryStatus.ABSENT, words, source)
    status = EntryStatus.UNREACHABLE if entry.resource is None else entry.status
    return replace(entry, status=status, problem=words)


def _has_collections(resource: Resource) -> bool:
    return isinstance(resource, ClusterEndpoints) and any(one.collection for one in resource.localities)


def checked_decode(decode: Decode, kind: Kind, raw: bytes, entry: Entry | None) -> tuple[str, Resource]:
    """Decodes, with the entry's last good resource at hand; raises InvalidResource and nothing else."""
    try:
        if entry is None or entry.resource is None:
            return decode(kind, raw)
        return decode(kind, raw, entry.resource, entry.raw)
    except InvalidResource:
        raise
    except Exception as error:
        # Bytes from outside must never end the thread that carries all configuration, whatever the codec overlooked.
        message = f"cannot be decoded: {type(error).__name__}: {error}"
        raise InvalidResource(message) from error

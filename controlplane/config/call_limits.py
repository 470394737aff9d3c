"""`localRateLimit` and `rateLimit` of a CallPolicy from YAML. Called by `call_policy`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from controlplane.config.fields import Field, Record
from controlplane.config.matches import headers
from controlplane.config.service import host
from controlplane.model.names import HEADER
from meshsdk.model.filters import (
    CalledCluster,
    CallerCluster,
    DescriptorAction,
    DescriptorLimit,
    GenericKey,
    HeaderValueMatch,
    LocalRateLimit,
    RateLimitActions,
    RateLimitService,
    RequestHeader,
    TokenBucket,
)

_U32 = 2**32 - 1
_MOST_DESCRIPTORS, _MOST_ENTRIES = 100, 16
_DOMAIN = re.compile(r"[!-~]{1,256}")
_ADDRESS = re.compile(r"(?=.{3,261}$)([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_STATUSES = {name: name for name in ("RESOURCE_EXHAUSTED", "UNAVAILABLE")}
_SHORTEST_FILL = 0.05  # seconds; Envoy takes no shorter one
_KINDS = ("header", "match", "value", "caller", "called")


def share(record: Record, name: str) -> float:
    """Reads a percentage as a share of 1; all of it where the field is absent."""
    found = record.read(name, lambda item: item.number(0, 100))
    return 1.0 if found is None else found / 100


def _status(record: Record) -> str:
    return record.read("status", lambda item: item.choice(_STATUSES)) or "RESOURCE_EXHAUSTED"


def _bucket(field: Field) -> TokenBucket:
    record = field.record(("maxTokens", "tokensPerFill", "fillInterval"))
    most = record.require("maxTokens").integer(1, _U32)
    return TokenBucket(
        max_tokens=most,
        tokens_per_fill=record.read("tokensPerFill", lambda item: item.integer(1, _U32)) or most,
        fill_interval=record.require("fillInterval").duration(_SHORTEST_FILL),
    )


# -- descriptors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of a descriptor: where its value comes from, its key, and the value that is meant ("": each)."""

    action: DescriptorAction
    key: str
    equals: str


def _entry(field: Field, *, local: bool) -> _Entry:
    """Reads one entry. Which value it must have is said here for local limits, and by the service for others."""
    record = field.record((*_KINDS, "key", "equals", "optional"))
    chosen = record.one_of(_KINDS)
    if chosen is None:
        field.refuse(f"expected one of {', '.join(_KINDS)}")
    equals, optional, named = record.get("equals"), record.get("optional"), record.get("key")
    of_header = chosen.path.endswith(".header")
    if equals and not (local and of_header):
        equals.refuse("is for headers of local limits; of others the service decides by value")
    if optional and not of_header:
        optional.refuse("is for headers only")
    action, key, value = _action(chosen, record, named.text(256) if named else "")
    if isinstance(action, CallerCluster | CalledCluster) and named:
        named.refuse(f"cannot be given: the key is {key}")
    if equals:
        value = equals.text(256)
    return _Entry(action, key, value)


def _action(chosen: Field, record: Record, key: str) -> tuple[DescriptorAction, str, str]:
    """Returns (action, key, the one value it can have; "" for any)."""
    if chosen.path.endswith(".header"):
        name = chosen.matching(HEADER, "the name of a metadata key").lower()
        optional = record.read("optional", Field.boolean) or False
        return RequestHeader(name, key or name, optional), key or name, ""
    if chosen.path.endswith(".match"):
        inner = chosen.record(("headers", "value"))
        tests = headers(inner, "headers", without=False)
        if not tests:
            chosen.refuse("expected headers: a test on the metadata")
        value = inner.require("value").text(256)
        found = HeaderValueMatch(value, tests, key=key or "header_match")
        return found, found.key, value
    if chosen.path.endswith(".value"):
        text = chosen.text(256)
        return GenericKey(text, key or "generic_key"), key or "generic_key", text
    if not chosen.boolean():
        chosen.refuse("expected true; leave it out otherwise")
    if chosen.path.endswith(".caller"):
        return CallerCluster(), "source_cluster", ""
    return CalledCluster(), "destination_cluster", ""


def _entries(field: Field, *, local: bool) -> tuple[_Entry, ...]:
    return tuple(_entry(item, local=local) for item in field.items(1, _MOST_ENTRIES))


def descriptors(field: Field) -> tuple[RateLimitActions, ...]:
    """Reads what a rate limit service is asked for one call. Raises FieldRefused."""
    found = []
    for item in field.items(1, _MOST_DESCRIPTORS):
        entries = _entries(item.record(("entries",)).require("entries"), local=False)
        found.append(RateLimitActions(tuple(entry.action for entry in entries)))
    return tuple(found)


# -- the two limits ---------------------------------------------------------------------------------------------------


def local_rate_limit(field: Field) -> LocalRateLimit:
    """Reads `localRateLimit`. Raises FieldRefused."""
    record = field.record(("tokenBucket", "descriptors", "enabledPercentage", "enforcedPercentage", "status"))
    bucket, listed = record.get("tokenBucket"), record.get("descriptors")
    if bucket is None:
        # Envoy turns the filter off without a bucket for the calls that no descriptor is for.
        field.refuse("expected tokenBucket, for the calls that no descriptor is for")
    limits: list[DescriptorLimit] = []
    actions: dict[RateLimitActions, None] = {}
    for item in listed.items(0, _MOST_DESCRIPTORS) if listed else ():
        inner = item.record(("entries", "tokenBucket"))
        entries = _entries(inner.require("entries"), local=True)
        limit = DescriptorLimit(
            tuple((entry.key, entry.equals) for entry in entries), _bucket(inner.require("tokenBucket"))
        )
        if any(limit.entries == other.entries for other in limits):
            item.refuse("a descriptor with these entries was given before")
        limits.append(limit)
        actions[RateLimitActions(tuple(entry.action for entry in entries))] = None
    return LocalRateLimit(
        bucket=_bucket(bucket),
        descriptors=tuple(limits),
        enabled=share(record, "enabledPercentage"),
        enforced=share(record, "enforcedPercentage"),
        status=_status(record),
        rate_limits=tuple(actions),
    )


def rate_limit(field: Field) -> tuple[RateLimitService, tuple[RateLimitActions, ...] | None]:
    """Reads `rateLimit` of a service: whom to ask, and what for a call that no rule is for. Raises FieldRefused."""
    record = field.record(("domain", "service", "address", "timeout", "failureMode", "status", "descriptors"))
    chosen = record.one_of(("service", "address"))
    if chosen is None:
        field.refuse("expected service (one of the mesh) or address (host:port) of the rate limit service")
    by_name = chosen.path.endswith(".service")
    deny = record.read("failureMode", lambda item: item.choice({"ALLOW": False, "DENY": True}))
    found = RateLimitService(
        domain=record.require("domain").matching(_DOMAIN, "the name of a domain"),
        cluster=host(chosen) if by_name else "",
        target="" if by_name else chosen.matching(_ADDRESS, "an address such as 10.0.0.1:8081"),
        timeout=record.read("timeout", lambda item: item.duration(0.001)) or 0.02,
        deny_on_failure=bool(deny),
        status=_status(record),
    )
    return found, record.read("descriptors", descriptors)

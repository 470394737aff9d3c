"""RateLimit from YAML, in the words of envoyproxy/ratelimit. Called by `documents`; one domain has one RateLimit."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.config.fields import Field
from controlplane.model.identity import ResourceId
from controlplane.model.rate_limits import Limit, LimitDescriptor, RateLimit, Unit

MOST_REQUESTS = 2**32 - 1  # what the protocol can say
_DEEPEST = 16  # entries of one descriptor, as the service takes them
_LONGEST_DOMAIN = 253
_UNITS = {unit.name.lower(): unit for unit in Unit}


def rate_limit(spec: Field, identity: ResourceId) -> RateLimit:
    """Reads a RateLimit's spec. Raises FieldRefused."""
    record = spec.record(("domain", "descriptors", "responseHeaders"))
    return RateLimit(
        id=identity,
        domain=record.require("domain").text(_LONGEST_DOMAIN),
        descriptors=_descriptors(record.require("descriptors"), ()),
        headers=bool(record.read("responseHeaders", Field.boolean)),
        origin=spec.origin,
    )


def _descriptors(field: Field, above: tuple[str, ...]) -> tuple[LimitDescriptor, ...]:
    if len(above) >= _DEEPEST:
        field.refuse(f"descriptors are nested more than {_DEEPEST} deep")
    found: dict[tuple[str, str], LimitDescriptor] = {}
    for item in field.items(1):
        read = _descriptor(item, above)
        if (read.key, read.value) in found:
            what = f"key {read.key!r} with value {read.value!r}" if read.value else f"key {read.key!r} for any value"
            item.refuse(f"{what} is there twice; merge the two")
        found[read.key, read.value] = read
    return tuple(found.values())


def _descriptor(item: Field, above: tuple[str, ...]) -> LimitDescriptor:
    record = item.record(("key", "value", "rateLimit", "descriptors"))
    key, value = record.require("key").text(), record.read("value", _value) or ""
    path = (*above, f"{key}={value}" if value else key)
    limit = record.read("rateLimit", lambda field: _limit(field, "/".join(path)))
    below = record.read("descriptors", lambda field: _descriptors(field, path)) or ()
    if limit is None and not below:
        item.refuse("expected rateLimit, or descriptors below it, or both: by itself it limits nothing")
    return LimitDescriptor(key, value, limit, below)


def _value(field: Field) -> str:
    text = field.text()
    if text.endswith("*"):
        field.refuse("a value stands for itself, not for all that begin so; leave it out to mean any value")
    return text


def _limit(field: Field, name: str) -> Limit:
    record = field.record(("unit", "requestsPerUnit", "unlimited", "shadowMode"))
    shadow = bool(record.read("shadowMode", Field.boolean))
    if record.read("unlimited", Field.boolean):
        _alone(record.get(each) for each in ("unit", "requestsPerUnit", "shadowMode"))
        return Limit(MOST_REQUESTS, Unit.SECOND, name, unlimited=True)
    requests = record.require("requestsPerUnit").integer(0, MOST_REQUESTS)
    return Limit(requests, record.require("unit").choice(_UNITS), name, shadow=shadow)


def _alone(others: Iterable[Field | None]) -> None:
    for other in others:
        if other is not None:
            other.refuse("means nothing beside unlimited: true; leave one of them out")

"""`fault`, `mirror`, `mirrors` and `headers` of a VirtualService from YAML. Called by `traffic`."""

from __future__ import annotations

import re
from collections.abc import Callable

from controlplane.config.fields import Field, Record
from controlplane.model.names import HEADER
from controlplane.model.statuses import ERRORS, OF_HTTP
from controlplane.model.traffic import Destination, HeaderEdits, MirrorTo
from meshsdk.model.filters import Fault, HeaderEdit

_MOST_MIRRORS, _MOST_EDITS = 16, 100
_VALUE = re.compile(r"[ -$&-~]{1,1024}")  # printable ASCII without %
_RESERVED = frozenset(("host", "content-type", "te", "user-agent", "connection", "transfer-encoding", "content-length"))


def percentage(record: Record, name: str, older: tuple[str, ...] = ()) -> float | None:
    """Reads Istio's `{value: 12.5}`, or one of its older whole-number forms; returns a share of 1, None if absent."""
    chosen = record.one_of((name, *older))
    if chosen is None:
        return None
    if chosen.path.endswith(f".{name}"):
        return chosen.record(("value",)).require("value").number(0, 100) / 100
    return chosen.integer(0, 100) / 100


# -- faults -----------------------------------------------------------------------------------------------------------


def _share(field: Field, record: Record) -> float:
    share = percentage(record, "percentage", ("percent",))
    if not share:
        field.warn("has no effect: percentage is 0, or not given, which is the same")
    return share or 0.0


def _abort_code(record: Record, field: Field) -> str:
    chosen = record.one_of(("httpStatus", "grpcStatus"))
    if chosen is None:
        field.refuse("expected httpStatus or grpcStatus")
    if chosen.path.endswith(".httpStatus"):
        return OF_HTTP.get(chosen.integer(400, 599), "UNKNOWN")
    return chosen.choice({name: name for name in ERRORS})


def fault(field: Field) -> Fault | None:
    """Reads a `fault`; None where it does nothing. Raises FieldRefused."""
    not_here = "is not supported; use httpStatus or grpcStatus"
    record = field.record(("delay", "abort"))
    delay, abort = record.get("delay"), record.get("abort")
    if delay is None and abort is None:
        field.refuse("expected delay, abort or both")
    seconds = delay_share = abort_share = 0.0
    code = ""
    if delay:
        inner = delay.record(
            ("percentage", "percent", "fixedDelay"), refused={"exponentialDelay": "is not supported; use fixedDelay"}
        )
        seconds, delay_share = inner.require("fixedDelay").duration(0.001), _share(delay, inner)
    if abort:
        inner = abort.record(("percentage", "percent", "httpStatus", "grpcStatus"), refused={"http2Error": not_here})
        code, abort_share = _abort_code(inner, abort), _share(abort, inner)
    if not delay_share and not abort_share:
        return None
    return Fault(
        delay=seconds if delay_share else 0.0,
        delay_share=delay_share,
        abort_code=code if abort_share else "",
        abort_share=abort_share,
    )


# -- copies -----------------------------------------------------------------------------------------------------------


def mirrors(record: Record, destination: Callable[[Field], Destination]) -> tuple[MirrorTo, ...]:
    """Reads `mirror` with its percentage, or `mirrors`; a share of 0 copies nothing, as in Istio. Raises FieldRefused.

    Args:
        record: the route.
        destination: reads a Destination.
    """
    single, several = record.get("mirror"), record.get("mirrors")
    older = ("mirrorPercent", "mirror_percent")
    share = percentage(record, "mirrorPercentage", older)
    found: list[MirrorTo] = []
    if single:
        if several:
            several.refuse("only one of mirror, mirrors may be given")
        found.append(MirrorTo(destination(single), 1.0 if share is None else share))
    elif share is not None:
        named = next(name for name in ("mirrorPercentage", *older) if record.get(name))
        record.require(named).refuse("needs mirror; an entry of mirrors has a percentage of its own")
    for item in several.items(0, _MOST_MIRRORS) if several else ():
        inner = item.record(("destination", "percentage"))
        own = percentage(inner, "percentage")
        found.append(MirrorTo(destination(inner.require("destination")), 1.0 if own is None else own))
    return tuple(each for each in found if each.share)


# -- headers ----------------------------------------------------------------------------------------------------------


def _name(text: str, place: Field) -> str:
    name = text.lower()
    if not HEADER.fullmatch(name):
        place.refuse(f"{text!r} is not the name of a metadata key")
    if name in _RESERVED or name.startswith("grpc-"):
        place.refuse(f"{name} belongs to gRPC itself and cannot be edited")
    return name


def _added(record: Record, name: str, *, append: bool) -> tuple[HeaderEdit, ...]:
    field = record.get(name)
    found = []
    for header, value in field.pairs(_MOST_EDITS) if field else ():
        key = _name(header, value)
        if key.endswith("-bin"):
            value.refuse("the value of a -bin key is not text")
        if "%" in value.text():
            value.refuse("must not hold %: Envoy would take it for a command, gRPC's clients would not")
        found.append(HeaderEdit(key, value.matching(_VALUE, "printable ASCII"), append=append))
    return tuple(found)


def _edits(field: Field) -> tuple[HeaderEdit, ...]:
    record = field.record(("set", "add", "remove"))
    removed = record.get("remove")
    items = removed.items(0, _MOST_EDITS) if removed else ()
    return (
        *(HeaderEdit(_name(item.text(), item), None) for item in items),
        *_added(record, "set", append=False),
        *_added(record, "add", append=True),
    )


def header_edits(field: Field) -> HeaderEdits:
    """Reads `headers`: for each direction what is removed, then set, then added. Raises FieldRefused."""
    record = field.record(("request", "response"))
    return HeaderEdits(record.read("request", _edits) or (), record.read("response", _edits) or ())

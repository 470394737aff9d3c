"""CallPolicy from YAML. Called by `documents`.

Limits are read by `call_limits`, what guards all calls by `call_guards`; how a policy fits to the rest is checked by
`call_policy_references`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from controlplane.config.call_guards import SERVICE_FIELDS, service_parts
from controlplane.config.call_limits import descriptors, local_rate_limit, rate_limit
from controlplane.config.fields import Field, Record
from controlplane.config.service import host
from controlplane.model.call_policy import CallParts, CallPolicy, CallRule, ServiceParts, given
from controlplane.model.identity import ResourceId
from controlplane.model.names import FIELD_PATH
from meshsdk.model.filters import StatefulSession
from meshsdk.model.matching import PathKind, PathMatch
from meshsdk.model.policy import Hedging

_CALL_FIELDS = ("hedging", "localRateLimit", "rateLimit", "sessionAffinity", "priority")
_MOST_RULES, _MOST_METHODS = 100, 100
_METHOD = re.compile(r"/[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*")
_COOKIE = re.compile(r"[A-Za-z0-9!#$&'*+.^_`|~-]{1,256}")
_COOKIE_PATH = re.compile(r"/[!#-:<-~]{0,255}")
# The statuses for which xDS has a retry condition (gRFC A44).
_NON_FATAL = {
    name: name for name in ("CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE")
}


def _hedging(field: Field) -> Hedging:
    record = field.record(("delay", "maxAttempts", "nonFatalStatusCodes"))
    codes = record.get("nonFatalStatusCodes")
    return Hedging(
        max_attempts=record.require("maxAttempts").integer(2, 5),  # gRFC A6 takes more for 5
        delay=record.require("delay").duration(0.001),
        non_fatal=frozenset(item.choice(_NON_FATAL) for item in codes.items(1, 5))
        if codes
        else frozenset(("UNAVAILABLE",)),
    )


def _session(field: Field) -> StatefulSession:
    record = field.record(("cookie", "strict"))
    cookie = record.require("cookie").record(("name", "path", "ttl"))
    return StatefulSession(
        name=cookie.require("name").matching(_COOKIE, "the name of a cookie"),
        path=cookie.read("path", lambda item: item.matching(_COOKIE_PATH, "the path of a cookie")) or "/",
        ttl=cookie.read("ttl", Field.duration) or 0.0,
        strict=record.read("strict", Field.boolean) or False,
    )


def _parts(record: Record) -> CallParts:
    return CallParts(
        hedging=record.read("hedging", _hedging),
        local_rate_limit=record.read("localRateLimit", local_rate_limit),
        session=record.read("sessionAffinity", _session),
        high_priority=record.read("priority", lambda item: item.choice({"HIGH": True, "DEFAULT": False})),
    )


def _paths(field: Field) -> tuple[PathMatch, ...]:
    record = field.record(("method", "methods", "service"))
    chosen = record.one_of(("method", "methods", "service"))
    if chosen is None:
        field.refuse("expected one of method, methods, service")
    if chosen.path.endswith(".service"):
        name = chosen.matching(FIELD_PATH, "the name of a gRPC service such as shop.Orders")
        return (PathMatch(PathKind.PREFIX, f"/{name}/"),)
    items = chosen.items(1, _MOST_METHODS) if chosen.path.endswith(".methods") else [chosen]
    found: list[PathMatch] = []
    for item in items:
        path = PathMatch(PathKind.EXACT, item.matching(_METHOD, "the path of a method such as /shop.Orders/Get"))
        if path in found:
            item.refuse(f"{path.value} is listed twice")
        found.append(path)
    return tuple(found)


def _rule(field: Field) -> CallRule:
    whole = "is for all calls of the service: give it in spec, not in a rule"
    record = field.record(("match", *_CALL_FIELDS), refused=dict.fromkeys(SERVICE_FIELDS, whole))
    asked = record.get("rateLimit")
    listed = asked.record(("descriptors",)).require("descriptors") if asked else None
    parts = replace(_parts(record), descriptors=descriptors(listed) if listed else None)
    if not given(parts):
        field.refuse(f"decides nothing; expected some of {', '.join(_CALL_FIELDS)}")
    return CallRule(_paths(record.require("match")), parts, field.origin)


def _target(field: Field) -> str:
    record = field.record(("kind", "name", "group"))
    kind, group = record.get("kind"), record.get("group")
    if kind:
        kind.choice({"Service": None})
    if group and group.node.text:
        group.refuse("expected none: a Service is of the core group")
    return host(record.require("name"))


def call_policy(spec: Field, identity: ResourceId) -> CallPolicy:
    """Reads a CallPolicy's spec. Raises FieldRefused."""
    record = spec.record(("targetRef", "rules", *_CALL_FIELDS, *SERVICE_FIELDS))
    target = _target(record.require("targetRef"))
    asked = record.read("rateLimit", rate_limit)
    parts = replace(_parts(record), descriptors=asked[1] if asked else None)
    service = replace(service_parts(record), rate_limit=asked[0] if asked else None)
    listed = record.get("rules")
    rules: list[CallRule] = []
    seen: dict[tuple[str, str], CallRule] = {}
    for item in listed.items(0, _MOST_RULES) if listed else ():
        rule = _rule(item)
        for path in rule.paths:
            for part in given(rule.parts):
                other = seen.setdefault((path.value, part), rule)
                if other is not rule:
                    item.refuse(f"the rule on line {other.origin.line} decides this for {path.value} too")
        rules.append(rule)
    if parts == CallParts() and service == ServiceParts() and not rules:
        spec.refuse(f"decides nothing; expected some of {', '.join((*_CALL_FIELDS, *SERVICE_FIELDS, 'rules'))}")
    return CallPolicy(identity, target, parts, service, tuple(rules), spec.origin)

"""`http[].match[]` of a VirtualService from YAML. Called by `traffic`.

A condition we cannot evaluate is refused and never skipped: a rule with a condition less would take calls that were
not meant for it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from controlplane.config.fields import Field, Record
from controlplane.model.names import FIELD_PATH, HEADER
from controlplane.model.traffic import CallMatch
from meshsdk.model.matching import (
    FieldMatch,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    StringKind,
    StringMatch,
)

_NOT_YET = "this condition is not supported; a rule without it would take calls that are not meant for it"
_REFUSED = dict.fromkeys(
    ("scheme", "authority", "port", "gateways", "queryParams", "sourceNamespace", "statPrefix"), _NOT_YET
)
_STRING_KINDS = {"exact": StringKind.EXACT, "prefix": StringKind.PREFIX, "regex": StringKind.REGEX}
_PATH_KINDS = {
    StringKind.EXACT: PathKind.EXACT,
    StringKind.PREFIX: PathKind.PREFIX,
    StringKind.REGEX: PathKind.REGEX,
}
_VERBS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"))
EVERY_PATH = PathMatch(PathKind.PREFIX, "/")


def string_match(field: Field) -> StringMatch:
    """Reads Istio's StringMatch: one of `exact`, `prefix`, `regex` (RE2 syntax, the whole text)."""
    record = field.record(tuple(_STRING_KINDS))
    chosen = record.one_of(_STRING_KINDS)
    if chosen is None:
        field.refuse("expected one of exact, prefix, regex")
    kind = _STRING_KINDS[chosen.path.rpartition(".")[2]]
    if kind is StringKind.REGEX:
        _check_regex(chosen)
    return StringMatch(kind, chosen.text())


def _check_regex(field: Field) -> None:
    """Refuses what RE2 will not take. Python's syntax is wider, so its extras are refused by name."""
    text = field.text()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # `[[:alpha:]]`: RE2 has it, Python only wonders
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        field.refuse(f"not a regular expression: {error}")
    if re.search(r"\(\?(?:[=!]|<[=!]|P=|\(|>)|(?<!\\)(?:\\\\)*\\[1-9]|(?<!\\)[*+?}]\+", text):
        field.refuse("look-around, back references and possessive repeats are not in RE2 syntax, which xDS uses")


def _test(field: Field) -> StringMatch | PresentMatch:
    """Reads a StringMatch, where an empty map asks only for presence."""
    if field.node.kind == "map" and not field.node.entries:
        return PresentMatch()
    return string_match(field)


def headers(record: Record, name: str, *, without: bool) -> tuple[HeaderMatch, ...]:
    """Reads the map `name` of tests on metadata; `without`: what must not be met. Raises FieldRefused."""
    field = record.get(name)
    found = []
    for header, value in field.pairs(100) if field else ():
        if not HEADER.fullmatch(header):
            value.refuse(f"{header!r} is not the name of a metadata key")
        test = _test(value)
        if isinstance(test, PresentMatch):
            found.append(HeaderMatch(header.lower(), PresentMatch(present=not without)))
        else:
            # Istio: a header that is not there is "without" any value.
            found.append(HeaderMatch(header.lower(), test, invert=without, treat_missing_as_empty=without))
    return tuple(found)


def _params(record: Record) -> tuple[FieldMatch, ...]:
    field = record.get("params")
    found = []
    for path, value in field.pairs(100) if field else ():
        if not FIELD_PATH.fullmatch(path):
            value.refuse(f"{path!r} is not a path of proto field names such as user.tier")
        found.append(FieldMatch(tuple(path.split(".")), _test(value)))
    return tuple(found)


def _uri(field: Field, *, ignore_case: bool) -> PathMatch:
    match = string_match(field)
    if match.kind is not StringKind.REGEX and not match.value.startswith("/"):
        field.refuse(f"{match.value!r} does not start with /: the path of a call is /package.Service/Method")
    parts = match.value[1:].split("/")
    if match.kind is StringKind.EXACT and (len(parts) != 2 or not all(parts)):  # noqa: PLR2004 - service and method
        field.refuse(f"{match.value!r} can match no call: a path is /package.Service/Method")
    if match.kind is StringKind.PREFIX and (len(parts) > 2 or (len(parts) == 2 and not parts[0])):  # noqa: PLR2004
        field.refuse(f"{match.value!r} can match no call: a path is /package.Service/Method")
    return PathMatch(_PATH_KINDS[match.kind], match.value, ignore_case and match.kind is not StringKind.REGEX)


def _meets_post(match: StringMatch) -> bool:
    if match.kind is StringKind.EXACT:
        return match.value == "POST"
    if match.kind is StringKind.PREFIX:
        return "POST".startswith(match.value)
    return re.fullmatch(match.value, "POST") is not None


def _with_method(field: Field, path: PathMatch) -> tuple[PathMatch, bool]:
    """Combines `method` with `uri`; returns the path to match and whether no call can meet it.

    Every gRPC call is a POST, so an HTTP method is decided here. Any other text is the name of an RPC, the part of the
    path after the last slash.
    """
    match = string_match(field)
    if _meets_post(match):
        return path, False
    if match.kind is StringKind.EXACT and match.value in _VERBS:
        field.warn("matches no call: every gRPC call is a POST")
        return path, True
    pattern = re.escape(match.value) if match.kind is not StringKind.REGEX else f"(?:{match.value})"
    pattern += ".*" if match.kind is StringKind.PREFIX else ""
    if path.kind is PathKind.EXACT:
        return path, re.fullmatch(pattern, path.value.rpartition("/")[2]) is None
    if path == EVERY_PATH:
        return PathMatch(PathKind.REGEX, f"/[^/]+/{pattern}"), False
    of_service = path.kind is PathKind.PREFIX and path.value.count("/") == 2 and path.value.endswith("/")  # noqa: PLR2004
    if not of_service or path.ignore_case:
        field.refuse("cannot be combined with this uri; write the method into the uri, as /package.Service/Method")
    if match.kind is StringKind.REGEX:
        return PathMatch(PathKind.REGEX, re.escape(path.value) + pattern), False
    return PathMatch(_PATH_KINDS[match.kind], path.value + match.value), False


def call_match(field: Field) -> CallMatch:
    """Reads one entry of `match`. Raises FieldRefused."""
    record = field.record(
        ("name", "uri", "method", "headers", "withoutHeaders", "params", "sourceLabels", "ignoreUriCase"),
        refused=_REFUSED,
    )
    ignore_case = record.read("ignoreUriCase", Field.boolean) or False
    uri, method = record.get("uri"), record.get("method")
    path = _uri(uri, ignore_case=ignore_case) if uri else EVERY_PATH
    impossible = False
    if method:
        path, impossible = _with_method(method, path)
    labels: Mapping[str, str] = record.read("sourceLabels", Field.labels) or {}
    return CallMatch(
        name=record.read("name", Field.text) or "",
        path=path,
        headers=headers(record, "headers", without=False) + headers(record, "withoutHeaders", without=True),
        params=_params(record),
        source_labels=labels,
        impossible=impossible,
        origin=field.origin,
    )

"""RouteMatch.dynamic_metadata -> `FieldMatch`: routing on fields of the request (design.md section 3).

Envoy's filter `envoy.filters.http.grpc_field_extraction` stores what it extracts as dynamic metadata under its own
name: one key per configured field path, dots included (`user.tier`), whose value is the list of the field's values as
text. So the matcher that both sides decide alike has one path segment holding the dotted path, and a `list_match` of
`one_of`; a bare `string_match` or `present_match` is read as if it stood inside `list_match.one_of`.
"""

from __future__ import annotations

import re
from typing import Any

from meshsdk.model.matching import FieldMatch, PresentMatch, StringMatch
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.strings import string_match

FILTER = "envoy.filters.http.grpc_field_extraction"
_FIELD_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)  # names of proto fields


def field_match(matcher: Any, path: str) -> FieldMatch:
    """Returns an envoy.type.matcher.v3.MetadataMatcher as a match on a request field."""
    if matcher.filter != FILTER:
        raise FieldError(f"{path}.filter", f"{shown(matcher.filter)} is not supported; only {FILTER} is")
    keys = [segment.key for segment in matcher.path]
    if len(keys) != 1:
        raise FieldError(f"{path}.path", f"must be one segment, the dotted path of the field; has {len(keys)}")
    if not _FIELD_PATH.fullmatch(keys[0]):
        raise FieldError(f"{path}.path[0].key", f"{shown(keys[0])} is not a dotted path of proto field names")
    return FieldMatch(tuple(keys[0].split(".")), _test(matcher.value, f"{path}.value"), invert=matcher.invert)


def _test(value: Any, path: str) -> StringMatch | PresentMatch:
    kind = value.WhichOneof("match_pattern")
    if kind == "list_match":
        value, path = value.list_match.one_of, f"{path}.list_match.one_of"
        kind = value.WhichOneof("match_pattern")
    if kind == "string_match":
        return string_match(value.string_match, f"{path}.string_match")
    if kind == "present_match":
        if not value.present_match:  # Envoy: such a matcher never matches
            raise FieldError(f"{path}.present_match", "false never matches; use true, with invert")
        return PresentMatch()
    given = f"{shown(kind)} is not supported" if kind else "is not set"
    raise FieldError(path, f"match_pattern {given}; use string_match or present_match: values are extracted as text")

"""RouteMatch -> `model.matching.RouteMatch`. Called by `route`; decides nothing about calls.

Specs: gRFC A28 (paths, headers, fraction, what is skipped), A63 (string_match), envoy.config.route.v3.RouteMatch;
design.md section 3 for request fields (`field_match`).
"""

from __future__ import annotations

from typing import Any

from meshsdk.model.matching import (
    Fraction,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    RangeMatch,
    RouteMatch,
    StringKind,
    StringMatch,
)
from meshsdk.xds_client.codec.field_match import field_match
from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.strings import regex, string_match
from meshsdk.xds_client.codec.values import per_million, required

HONOURED: Honoured = {
    "prefix": None,
    "path": None,
    "safe_regex": None,
    "case_sensitive": None,
    "headers": None,
    "runtime_fraction": {"default_value": None},
    "grpc": None,  # every call here is a gRPC call
    "dynamic_metadata": None,
}

# Conditions that no call of ours can meet: the route is skipped, not widened (A28 says so of query_parameters).
NEVER_MET = ("query_parameters", "filter_state")

_DEPRECATED_STRINGS = {
    "exact_match": StringKind.EXACT,
    "prefix_match": StringKind.PREFIX,
    "suffix_match": StringKind.SUFFIX,
    "contains_match": StringKind.CONTAINS,
}


def route_match(match: Any, path: str) -> RouteMatch:
    """Returns the match of one route; the caller has skipped those with `NEVER_MET` fields."""
    fraction = None
    if match.HasField("runtime_fraction"):
        where = f"{path}.runtime_fraction.default_value"
        fraction = Fraction(per_million(match.runtime_fraction.default_value, where))
    return RouteMatch(
        path=_path_match(match, path),
        headers=header_matches(match.headers, f"{path}.headers"),
        fields=tuple(field_match(one, f"{path}.dynamic_metadata[{i}]") for i, one in enumerate(match.dynamic_metadata)),
        fraction=fraction,
    )


def _path_match(match: Any, path: str) -> PathMatch:
    kind = match.WhichOneof("path_specifier")
    ignore_case = match.HasField("case_sensitive") and not match.case_sensitive.value
    if kind == "prefix":
        return PathMatch(PathKind.PREFIX, match.prefix, ignore_case)
    if kind == "path":
        return PathMatch(PathKind.EXACT, match.path, ignore_case)
    if kind == "safe_regex":
        return PathMatch(PathKind.REGEX, regex(match.safe_regex, f"{path}.safe_regex"))
    given = f"{shown(kind)} is not supported" if kind else "is not set"
    raise FieldError(f"{path}.path_specifier", f"{given}; use prefix, path or safe_regex")


def header_matches(matchers: Any, path: str) -> tuple[HeaderMatch, ...]:
    """Returns envoy.config.route.v3.HeaderMatchers as values."""
    return tuple(_header(header, f"{path}[{i}]") for i, header in enumerate(matchers))


def _header(header: Any, path: str) -> HeaderMatch:
    return HeaderMatch(
        name=required(header.name, f"{path}.name").lower(),
        test=_header_test(header, path),
        invert=header.invert_match,
        treat_missing_as_empty=header.treat_missing_header_as_empty,
    )


def _header_test(header: Any, path: str) -> StringMatch | RangeMatch | PresentMatch:
    kind = header.WhichOneof("header_match_specifier")
    if kind == "string_match":
        return string_match(header.string_match, f"{path}.string_match")
    if kind == "safe_regex_match":
        return StringMatch(StringKind.REGEX, regex(header.safe_regex_match, f"{path}.safe_regex_match"))
    if kind == "range_match":
        return RangeMatch(header.range_match.start, header.range_match.end)
    if kind == "present_match":
        return PresentMatch(header.present_match)
    if kind in _DEPRECATED_STRINGS:
        return StringMatch(_DEPRECATED_STRINGS[kind], getattr(header, kind))
    raise FieldError(f"{path}.header_match_specifier", f"{shown(kind)} is not supported" if kind else "is not set")

"""How a route recognises a call: values only, decided by `meshsdk.routing`.

Follows `envoy.config.route.v3.RouteMatch` as narrowed by gRFC A28, plus request-field matches (docs: design.md
section 3). Codecs build these; nothing here reads protobuf or evaluates anything.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class StringKind(enum.Enum):
    """The kinds of `envoy.type.matcher.v3.StringMatcher`."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class StringMatch:
    """Tests a string. `ignore_case` does not apply to REGEX (RE2 syntax, full match)."""

    kind: StringKind
    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class RangeMatch:
    """Tests that the value is a base-10 integer in the half-open range [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PresentMatch:
    """Tests that the value is there (`present`) or is not there (`not present`)."""

    present: bool = True


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """Tests one metadata key (lower case). Several values of one key are joined with "," before the test (A28).

    A missing header does not match, inverted or not, except for PresentMatch and where `treat_missing_as_empty`.
    """

    name: str
    test: StringMatch | RangeMatch | PresentMatch
    invert: bool = False
    treat_missing_as_empty: bool = False


@dataclass(frozen=True, slots=True)
class FieldMatch:
    """Tests one field of the decoded request, named by its path of proto field names (`("user", "tier")`).

    An unset field with presence, and any field of a stream's request before its first message, does not match.
    Numbers, booleans and enum names are compared in their proto3 JSON text form. On the wire:
    RouteMatch.dynamic_metadata under `envoy.filters.http.grpc_field_extraction`.
    """

    path: tuple[str, ...]
    test: StringMatch | RangeMatch | PresentMatch
    invert: bool = False


class PathKind(enum.Enum):
    """The path specifiers gRFC A28 supports; `PATH_SEPARATED_PREFIX` and templates are refused by the codec."""

    EXACT = "path"
    PREFIX = "prefix"
    REGEX = "safe_regex"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """Tests the full method (`/pkg.Service/Method`). REGEX is RE2 syntax, full match, always case-sensitive."""

    kind: PathKind
    value: str
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Fraction:
    """Matches `per_million` of one million calls (`RouteMatch.runtime_fraction`), drawn anew for each call."""

    per_million: int


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """All parts must match."""

    path: PathMatch
    headers: tuple[HeaderMatch, ...] = ()
    fields: tuple[FieldMatch, ...] = ()
    fraction: Fraction | None = None

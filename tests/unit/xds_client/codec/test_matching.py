"""RDS: what makes a route match (gRFC A28, A63; request fields as Envoy's grpc_field_extraction has them)."""

from __future__ import annotations

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.matching import (
    FieldMatch,
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
from meshsdk.model.resources import Kind, RouteConfiguration
from meshsdk.xds_client.codec import decode
from tests.unit.xds_client.codec.messages import Json, host, route_config

MATCH = "virtual_hosts[0].routes[0].match"
INSTEAD = "use string_match or present_match: values are extracted as text"
EXTRACTION = "envoy.filters.http.grpc_field_extraction"


def matching(match: Json) -> bytes:
    """Returns a configuration whose only route has this match."""
    return route_config(host({"match": match, "route": {"cluster": "a"}}))


def decoded(match: Json) -> RouteMatch:
    """Returns a match that must be accepted, with nothing in it ignored."""
    _, resource = decode(Kind.ROUTE, matching(match))
    assert isinstance(resource, RouteConfiguration)
    assert resource.ignored == ()
    return resource.virtual_hosts[0].routes[0].match


def refusal(match: Json) -> str:
    """Returns the text of the NACK after the path of the match."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.ROUTE, matching(match))
    prefix = f"RouteConfiguration 'orders': {MATCH}"
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"prefix": ""}, PathMatch(PathKind.PREFIX, "")),
        ({"prefix": "/a.B/"}, PathMatch(PathKind.PREFIX, "/a.B/")),
        ({"path": "/a.B/C"}, PathMatch(PathKind.EXACT, "/a.B/C")),
        ({"path": "/a.B/C", "case_sensitive": True}, PathMatch(PathKind.EXACT, "/a.B/C")),
        ({"path": "/a.B/C", "case_sensitive": False}, PathMatch(PathKind.EXACT, "/a.B/C", ignore_case=True)),
        ({"prefix": "/a", "case_sensitive": False}, PathMatch(PathKind.PREFIX, "/a", ignore_case=True)),
        ({"safe_regex": {"regex": "/a/.*"}, "case_sensitive": False}, PathMatch(PathKind.REGEX, "/a/.*")),
        ({"safe_regex": {"google_re2": {}, "regex": "/a"}}, PathMatch(PathKind.REGEX, "/a")),
    ],
)
def test_path(match: Json, expected: PathMatch) -> None:
    """The three kinds of path; case counts for none of a regular expression's business."""
    assert decoded(match) == RouteMatch(expected)


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ({}, ".path_specifier: is not set; use prefix, path or safe_regex"),
        (
            {"path_separated_prefix": "/a"},
            ".path_specifier: 'path_separated_prefix' is not supported; use prefix, path or safe_regex",
        ),
        (
            {"connect_matcher": {}},
            ".path_specifier: 'connect_matcher' is not supported; use prefix, path or safe_regex",
        ),
        ({"safe_regex": {}}, ".safe_regex.regex: is empty"),
    ],
)
def test_path_refused(match: Json, words: str) -> None:
    """A28: a route needs one of the three kinds of path."""
    assert refusal(match) == words


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "x" * 5000])
def test_regex_refused(pattern: str) -> None:
    """A pattern that RE2 refuses, or one too long, is refused on arrival, with a reason of bounded length."""
    for text in (
        refusal({"safe_regex": {"regex": pattern}}),
        refusal({"prefix": "", "headers": [{"name": "x", "safe_regex_match": {"regex": pattern}}]}),
        refusal({"prefix": "", "headers": [{"name": "x", "string_match": {"safe_regex": {"regex": pattern}}}]}),
    ):
        assert ".regex: regular expression" in text
        assert len(text) < 500


def test_no_match() -> None:
    """A route without a match is refused."""
    with pytest.raises(InvalidResource, match=r"virtual_hosts\[0\]\.routes\[0\]\.match: is not set"):
        decode(Kind.ROUTE, route_config(host({"route": {"cluster": "a"}})))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"exact_match": "v"}, StringMatch(StringKind.EXACT, "v")),
        ({"exact_match": ""}, StringMatch(StringKind.EXACT, "")),
        ({"prefix_match": "v"}, StringMatch(StringKind.PREFIX, "v")),
        ({"suffix_match": "v"}, StringMatch(StringKind.SUFFIX, "v")),
        ({"contains_match": "v"}, StringMatch(StringKind.CONTAINS, "v")),
        ({"safe_regex_match": {"regex": "v+"}}, StringMatch(StringKind.REGEX, "v+")),
        ({"range_match": {"start": "-3", "end": "5"}}, RangeMatch(-3, 5)),
        ({"present_match": True}, PresentMatch()),
        ({"present_match": False}, PresentMatch(present=False)),
        ({"string_match": {"exact": ""}}, StringMatch(StringKind.EXACT, "")),
        ({"string_match": {"exact": "v", "ignore_case": True}}, StringMatch(StringKind.EXACT, "v", ignore_case=True)),
        ({"string_match": {"prefix": "v"}}, StringMatch(StringKind.PREFIX, "v")),
        ({"string_match": {"suffix": "v"}}, StringMatch(StringKind.SUFFIX, "v")),
        ({"string_match": {"contains": "v"}}, StringMatch(StringKind.CONTAINS, "v")),
        (
            {"string_match": {"safe_regex": {"regex": "v"}, "ignore_case": True}},
            StringMatch(StringKind.REGEX, "v"),
        ),
    ],
)
def test_header(fields: Json, expected: StringMatch | RangeMatch | PresentMatch) -> None:
    """Every kind of header match, old and new; names compare in lower case."""
    found = decoded({"prefix": "", "headers": [{"name": "X-Env", **fields}]})
    assert found.headers == (HeaderMatch("x-env", expected),)


def test_header_modifiers() -> None:
    """Inversion and the treatment of missing headers are kept."""
    header = {"name": "x", "exact_match": "v", "invert_match": True, "treat_missing_header_as_empty": True}
    (found,) = decoded({"prefix": "", "headers": [header]}).headers
    test = StringMatch(StringKind.EXACT, "v")
    assert found == HeaderMatch("x", test, invert=True, treat_missing_as_empty=True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "header_match_specifier: is not set"),
        ({"string_match": {}}, "string_match: match_pattern 'not set' is not supported"),
        ({"string_match": {"custom": {}}}, "string_match: match_pattern 'custom' is not supported"),
        ({"string_match": {"prefix": ""}}, "string_match.prefix: is empty"),
        ({"name": "", "exact_match": "v"}, "name: is empty"),
    ],
)
def test_header_refused(fields: Json, words: str) -> None:
    """A header match without a kind or a name is refused."""
    assert refusal({"prefix": "", "headers": [{"name": "x", **fields}]}) == f".headers[0].{words}"


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        ({"numerator": 25}, 250_000),
        ({"numerator": 25, "denominator": "TEN_THOUSAND"}, 2_500),
        ({"numerator": 25, "denominator": "MILLION"}, 25),
        ({"numerator": 101}, 1_000_000),
        ({}, 0),
    ],
)
def test_fraction(fraction: Json, expected: int) -> None:
    """A28: a fraction is parts per million, at most all calls."""
    found = decoded({"prefix": "", "runtime_fraction": {"default_value": fraction}})
    assert found.fraction == Fraction(expected)


def test_fraction_refused() -> None:
    """A denominator from the future is not guessed at."""
    match = {"prefix": "", "runtime_fraction": {"default_value": {"denominator": 7}}}
    assert refusal(match) == ".runtime_fraction.default_value.denominator: 7 is not a known denominator"


def on_field(value: Json, key: str = "user.tier", **fields: object) -> Json:
    """Returns a match on a request field as the control plane sends it."""
    matcher = {"filter": EXTRACTION, "path": [{"key": key}], "value": value, **fields}
    return {"prefix": "", "dynamic_metadata": [matcher]}


GOLD = StringMatch(StringKind.EXACT, "gold")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"list_match": {"one_of": {"string_match": {"exact": "gold"}}}}, GOLD),
        ({"string_match": {"exact": "gold"}}, GOLD),
        (
            {"list_match": {"one_of": {"string_match": {"safe_regex": {"regex": "g.*"}}}}},
            StringMatch(StringKind.REGEX, "g.*"),
        ),
        ({"list_match": {"one_of": {"present_match": True}}}, PresentMatch()),
        ({"present_match": True}, PresentMatch()),
    ],
)
def test_field(value: Json, expected: StringMatch | PresentMatch) -> None:
    """Envoy stores the list of a field's values under its dotted path; that is what is matched, and the bare value."""
    assert decoded(on_field(value)).fields == (FieldMatch(("user", "tier"), expected),)


def test_field_inverted() -> None:
    """Inversion of a field match is kept."""
    (found,) = decoded(on_field({"string_match": {"exact": "gold"}}, invert=True)).fields
    assert found == FieldMatch(("user", "tier"), GOLD, invert=True)


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (
            on_field({"present_match": True}, filter="envoy.lb"),
            f"filter: 'envoy.lb' is not supported; only {EXTRACTION} is",
        ),
        (
            on_field({"present_match": True}, path=[{"key": "user"}, {"key": "tier"}]),
            "path: must be one segment, the dotted path of the field; has 2",
        ),
        (on_field({"present_match": True}, path=[]), "path: must be one segment, the dotted path of the field; has 0"),
        (
            on_field({"present_match": True}, key="user..tier"),
            "path[0].key: 'user..tier' is not a dotted path of proto field names",
        ),
        (
            on_field({"present_match": True}, key="user.tier\n"),
            r"path[0].key: 'user.tier\n' is not a dotted path of proto field names",
        ),
        (on_field({"present_match": False}), "value.present_match: false never matches; use true, with invert"),
        (
            on_field({"bool_match": True}),
            f"value: match_pattern 'bool_match' is not supported; {INSTEAD}",
        ),
        (
            on_field({"list_match": {"one_of": {}}}),
            f"value.list_match.one_of: match_pattern is not set; {INSTEAD}",
        ),
    ],
)
def test_field_refused(match: Json, words: str) -> None:
    """Other metadata than request fields cannot be matched by a client, so the resource is refused."""
    assert refusal(match) == f".dynamic_metadata[0].{words}"

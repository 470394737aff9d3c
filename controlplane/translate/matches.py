"""A call's match to `envoy.config.route.v3.RouteMatch`. Pure; used by `routes`.

Only forms that gRPC's own clients know are used (gRFC A28), but for request fields: those go out as dynamic metadata
under the name of Envoy's field extraction filter, which stores a list of values under the dotted path of a field.
"""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.type.matcher.v3 import metadata_pb2, regex_pb2, string_pb2, value_pb2
from envoy.type.v3 import range_pb2
from google.protobuf.wrappers_pb2 import BoolValue

from controlplane.model.traffic import CallMatch
from controlplane.translate.key_tests import KeyTest
from controlplane.translate.names import FIELD_EXTRACTION
from meshsdk.model.matching import FieldMatch, HeaderMatch, PathKind, PresentMatch, RangeMatch, StringKind, StringMatch


def string_matcher(match: StringMatch) -> string_pb2.StringMatcher:
    """Returns the wire form of a string test."""
    if match.kind is StringKind.REGEX:
        return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=match.value))
    return string_pb2.StringMatcher(**{match.kind.value: match.value}, ignore_case=match.ignore_case)


def header_matcher(match: HeaderMatch) -> route_pb2.HeaderMatcher:
    """Returns the wire form of a test on metadata."""
    if isinstance(match.test, PresentMatch):
        return route_pb2.HeaderMatcher(name=match.name, present_match=match.test.present, invert_match=match.invert)
    if isinstance(match.test, RangeMatch):
        return route_pb2.HeaderMatcher(
            name=match.name, range_match=range_pb2.Int64Range(start=match.test.start, end=match.test.end)
        )
    return route_pb2.HeaderMatcher(
        name=match.name,
        string_match=string_matcher(match.test),
        invert_match=match.invert,
        treat_missing_header_as_empty=match.treat_missing_as_empty,
    )


def _field(match: FieldMatch) -> metadata_pb2.MetadataMatcher:
    if isinstance(match.test, StringMatch):
        one = value_pb2.ValueMatcher(string_match=string_matcher(match.test))
        value = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=one))
    elif isinstance(match.test, PresentMatch):
        value = value_pb2.ValueMatcher(present_match=match.test.present)
    else:
        raise TypeError("configuration has no range tests on request fields")
    return metadata_pb2.MetadataMatcher(
        filter=FIELD_EXTRACTION,
        path=[metadata_pb2.MetadataMatcher.PathSegment(key=".".join(match.path))],
        value=value,
        invert=match.invert,
    )


def route_match(match: CallMatch, key: KeyTest | None = None) -> route_pb2.RouteMatch:
    """Returns the wire form of `match` and of a test on the key beside it.

    Source labels are left out: those were decided by the view.
    """
    headers, params = match.headers, match.params
    if key:
        headers += (key.header,) if key.header else ()
        params += (key.param,) if key.param else ()
    message = route_pb2.RouteMatch(
        headers=[header_matcher(header) for header in headers],
        dynamic_metadata=[_field(param) for param in params],
    )
    if match.path.kind is PathKind.REGEX:
        message.safe_regex.CopyFrom(regex_pb2.RegexMatcher(regex=match.path.value))
    elif match.path.kind is PathKind.EXACT:
        message.path = match.path.value
    else:
        message.prefix = match.path.value
    if match.path.ignore_case:
        message.case_sensitive.CopyFrom(BoolValue(value=False))
    return message

"""A plain reading of RouteConfiguration, written from the xDS text, that shares no code with `meshsdk.routing`.

envoy.config.route.v3.RouteMatch, HeaderMatcher and StringMatcher; gRFC A28; for request fields the proto3 JSON form of
the message, which protobuf's own printer gives.
"""

from __future__ import annotations

import re

from google.protobuf import json_format

from meshsdk.model.matching import PathKind, PresentMatch, RangeMatch, StringKind


def string_matches(match, text):
    """envoy.type.matcher.v3.StringMatcher."""
    wanted = match.value
    if match.kind is StringKind.REGEX:
        return re.fullmatch(wanted, text) is not None
    if match.ignore_case:
        wanted, text = wanted.lower(), text.lower()
    return {
        StringKind.EXACT: text == wanted,
        StringKind.PREFIX: text[: len(wanted)] == wanted,
        StringKind.SUFFIX: wanted == "" or text[-len(wanted) :] == wanted,
        StringKind.CONTAINS: text.count(wanted) > 0,
    }[match.kind]


def value_matches(test, text):
    """A range of base-10 integers, or a string match."""
    if isinstance(test, RangeMatch):
        return re.fullmatch(r"[+-]?[0-9]+", text) is not None and int(text) in range(test.start, test.end)
    return string_matches(test, text)


def path_matches(match, method):
    """RouteMatch.path_specifier, with case_sensitive."""
    if match.kind is PathKind.REGEX:
        return re.fullmatch(match.value, method) is not None
    wanted, path = (match.value.lower(), method.lower()) if match.ignore_case else (match.value, method)
    return path == wanted if match.kind is PathKind.EXACT else path.startswith(wanted)


def header_matches(match, metadata, method):
    """A28: binary headers are not seen, content-type is application/grpc, several values are joined by commas."""
    values = [value for key, value in metadata if key == match.name and not key.endswith("-bin")]
    constant = {"content-type": "application/grpc", ":path": method, ":method": "POST"}
    if match.name in constant:
        values = [constant[match.name]]
    value = ",".join(values) if values else None
    if value is None and match.treat_missing_as_empty:
        value = ""
    if isinstance(match.test, PresentMatch):
        return ((value is not None) == match.test.present) != match.invert
    return value is not None and value_matches(match.test, value) != match.invert


def _json(message, *, defaults):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=defaults
    )


def _values(tree, path):
    """All values at the path of a JSON tree; a list on the way stands for each of its items."""
    if isinstance(tree, list):
        return [value for item in tree for value in _values(item, path)]
    if not path:
        return [tree]
    return _values(tree[path[0]], path[1:]) if path[0] in tree else []


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"\.0$", "", str(value)) if isinstance(value, float) else str(value)


def field_matches(match, request):
    """Any value at the path will do; nothing matches before there is a message."""
    if request is None:
        return False
    if isinstance(match.test, PresentMatch):
        there = _values(_json(request, defaults=False), match.path) != []
        return (there == match.test.present) != match.invert
    texts = [_text(value) for value in _values(_json(request, defaults=True), match.path)]
    return any(value_matches(match.test, text) for text in texts) != match.invert


def select(virtual_host, method, metadata, request, draw):
    """The first route whose parts all match; None if none does."""
    for route in virtual_host.routes:
        match = route.match
        if (
            path_matches(match.path, method)
            and all(header_matches(header, metadata, method) for header in match.headers)
            and all(field_matches(field, request) for field in match.fields)
            and (match.fraction is None or int(draw() * 1_000_000) < match.fraction.per_million)
        ):
            return route
    return None

"""StringMatcher and RegexMatcher -> `StringMatch`. Called by the decoders of routes; compiles nothing to keep.

Specs: envoy.type.matcher.v3; gRFC A28 (RE2 syntax, full match; a pattern that does not compile is a NACK).
"""

from __future__ import annotations

from typing import Any

from meshsdk.model.matching import StringKind, StringMatch
from meshsdk.routing.regex import compile_regex
from meshsdk.xds_client.codec.refusal import FieldError, cut, shown

_KINDS = {
    "exact": StringKind.EXACT,
    "prefix": StringKind.PREFIX,
    "suffix": StringKind.SUFFIX,
    "contains": StringKind.CONTAINS,
}


def regex(matcher: Any, path: str) -> str:
    """Returns the pattern of an envoy.type.matcher.v3.RegexMatcher, known to compile."""
    pattern = str(matcher.regex)
    if not pattern:
        raise FieldError(f"{path}.regex", "is empty")
    try:
        compile_regex(pattern)
    except ValueError as error:
        raise FieldError(f"{path}.regex", cut(str(error))) from error
    return pattern


def string_match(matcher: Any, path: str) -> StringMatch:
    """Returns an envoy.type.matcher.v3.StringMatcher as a value.

    An empty prefix, suffix or contains is refused as Envoy's own validation does.
    """
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return StringMatch(StringKind.REGEX, regex(matcher.safe_regex, f"{path}.safe_regex"))
    if kind not in _KINDS:
        raise FieldError(path, f"match_pattern {shown(kind or 'not set')} is not supported")
    value = getattr(matcher, kind)
    if not value and kind != "exact":
        raise FieldError(f"{path}.{kind}", "is empty")
    return StringMatch(_KINDS[kind], value, ignore_case=matcher.ignore_case)

"""Small values that many xDS messages share, checked: durations, percentages, fractions, packed messages.

Called by the decoders of this package. Every function takes the path of the field for its refusal (`FieldError`).
"""

from __future__ import annotations

from typing import Any

from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from meshsdk.xds_client.codec.refusal import FieldError, shown

UINT32_MAX = 2**32 - 1
MILLION = 1_000_000
NAME_MAX = 4096  # characters of a resource's name, which is repeated in every request
_LONGEST = 315_576_000_000  # seconds: google.protobuf.Duration allows ten thousand years
_NANOS = 1_000_000_000
_DENOMINATORS = {
    percent_pb2.FractionalPercent.HUNDRED: 100,
    percent_pb2.FractionalPercent.TEN_THOUSAND: 10_000,
    percent_pb2.FractionalPercent.MILLION: MILLION,
}


def parsed(message_type: Any, raw: bytes, path: str = "") -> Any:
    """Returns `raw` as a message of `message_type`, a generated protobuf class."""
    try:
        return message_type.FromString(raw)
    except DecodeError as error:
        name = message_type.DESCRIPTOR.full_name
        raise FieldError(path, f"is not a serialised {name}") from error


def type_name(packed: PackedAny) -> str:
    """Returns the message name of an Any: its type URL after the last slash."""
    return packed.type_url.rpartition("/")[2]


def seconds(duration: Duration, path: str) -> float:
    """Returns a google.protobuf.Duration in seconds; negative and malformed ones are refused."""
    whole, nanos = duration.seconds, duration.nanos
    if not 0 <= whole <= _LONGEST or not 0 <= nanos < _NANOS:
        raise FieldError(path, f"{whole} s {nanos} ns is not a duration of zero or more")
    return whole + nanos / _NANOS


def positive_seconds(duration: Duration, path: str) -> float:
    """Returns a duration in seconds that must be above zero."""
    value = seconds(duration, path)
    if value <= 0:
        raise FieldError(path, "must be more than zero")
    return value


def per_million(fraction: Any, path: str) -> int:
    """Returns an envoy.type.v3.FractionalPercent in parts per million, at most one million (A28 caps it)."""
    denominator = _DENOMINATORS.get(fraction.denominator)
    if denominator is None:
        raise FieldError(f"{path}.denominator", f"{fraction.denominator} is not a known denominator")
    return min(int(fraction.numerator) * (MILLION // denominator), MILLION)


def share(percent: Any, path: str) -> float:
    """Returns an envoy.type.v3.Percent (0-100) as a share of 0-1."""
    value = float(percent.value)
    if not 0 <= value <= 100:  # noqa: PLR2004 - a percentage; NaN fails too
        raise FieldError(path, f"{value} is not a percentage of 0 to 100")
    return value / 100


def required(value: str, path: str) -> str:
    """Returns a string that must not be empty."""
    if not value:
        raise FieldError(path, "is empty")
    return value


def from_ads(source: Any, path: str) -> None:
    """Refuses a ConfigSource other than `ads` and `self` (A27): there is one stream, and no other to ask."""
    kind = source.WhichOneof("config_source_specifier")
    if kind not in {"ads", "self"}:
        raise FieldError(path, f"must be ads or self, is {shown(kind or 'not set')}")

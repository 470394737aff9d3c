"""What a rate limit service is asked and answers (envoy.service.ratelimit.v3): values to bytes and back. Pure.

Called by `channel.rate_limit_client`. One question is one hit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.message import DecodeError

from meshsdk.errors import InvalidResource

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
_Response = rls_pb2.RateLimitResponse
_MOST_STATUSES = 1_000  # that are looked at; a question has far fewer descriptors
_LONGEST_WAIT = 366 * 86_400.0  # seconds; the longest window there is is a year
_NANO = 1e-9
_AFTER = ("retry-after", "ratelimit-reset", "x-ratelimit-reset")  # seconds, where no status says it


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answered: `over` None where it did not say.

    `retry_after`: seconds until all limits that are over have room again, None if it did not say. `limit`: the first
    of them in words.
    """

    over: bool | None
    retry_after: float | None = None
    limit: str = ""


def question(domain: str, descriptors: Sequence[Sequence[tuple[str, str]]]) -> bytes:
    """Returns the request: may one more call with these descriptors go out?"""
    message = rls_pb2.RateLimitRequest(
        domain=domain,
        descriptors=[
            ratelimit_pb2.RateLimitDescriptor(
                entries=[ratelimit_pb2.RateLimitDescriptor.Entry(key=key, value=value) for key, value in entries]
            )
            for entries in descriptors
        ],
    )
    raw: bytes = message.SerializeToString()
    return raw


def reply(raw: bytes, descriptors: Sequence[Sequence[tuple[str, str]]]) -> Reply:
    """Reads the response to `question`. Raises InvalidResource for bytes that are none."""
    try:
        message = _Response.FromString(raw)
    except DecodeError as error:
        raise InvalidResource(f"the answer is not a RateLimitResponse: {error}") from error
    if message.overall_code == _Response.OK:
        return Reply(over=False)
    if message.overall_code != _Response.OVER_LIMIT:
        return Reply(over=None)
    statuses = message.statuses[:_MOST_STATUSES]
    over = [index for index, status in enumerate(statuses) if status.code == _Response.OVER_LIMIT]
    waits = [wait for index in over if (wait := _until_reset(statuses[index])) is not None]
    waits = waits or list(_told(message.response_headers_to_add[:_MOST_STATUSES]))[:1]
    keys = ["/".join(key for key, _ in entries) for entries in descriptors]
    words = (_words(statuses[index], keys[index] if index < len(keys) else "") for index in over)
    return Reply(over=True, retry_after=max(waits, default=None), limit=next(filter(None, words), ""))


def _until_reset(status: rls_pb2.RateLimitResponse.DescriptorStatus) -> float | None:
    if not status.HasField("duration_until_reset"):
        return None
    found = float(status.duration_until_reset.seconds + status.duration_until_reset.nanos * _NANO)
    return min(max(found, 0.0), _LONGEST_WAIT)


def _told(headers: Sequence[object]) -> Iterator[float]:
    """Yields what headers say in seconds, the best known name first."""
    by_name = {header.key.lower(): header.value for header in headers}  # type: ignore[attr-defined]
    for name in _AFTER:
        text = by_name.get(name, "")
        if text.isascii() and text.isdecimal():
            yield min(float(text[:12]), _LONGEST_WAIT)


def _words(status: rls_pb2.RateLimitResponse.DescriptorStatus, keys: str) -> str:
    """Says which limit is over. The values of a descriptor may be secrets (API keys): only its keys are named."""
    if not status.HasField("current_limit"):
        return ""
    limit = status.current_limit
    units = _Response.RateLimit.Unit
    unit = units.Name(limit.unit).lower() if limit.unit in units.values() else f"unit {limit.unit}"
    words = f"{limit.requests_per_unit} per {unit}"
    return f"{words} for {keys}" if keys else words

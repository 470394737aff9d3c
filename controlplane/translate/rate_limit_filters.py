"""Local and global rate limits, and the descriptors they go by, to Envoy's filters. Pure; used by `http_filters`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from envoy.config.core.v3 import config_source_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2
from envoy.type.v3 import token_bucket_pb2
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from controlplane.translate.durations import duration
from controlplane.translate.matches import header_matcher
from controlplane.translate.packing import fixed_fraction
from meshsdk.model.filters import (
    CalledCluster,
    CallerCluster,
    DescriptorAction,
    GenericKey,
    HeaderValueMatch,
    LocalRateLimit,
    RateLimitActions,
    RateLimitService,
    RequestHeader,
    TokenBucket,
)

_EXHAUSTED = "RESOURCE_EXHAUSTED"


def local_rate_limit(value: LocalRateLimit, host: str) -> local_rate_limit_pb2.LocalRateLimit:
    """Returns the limit as routes have it: Envoy's own defaults are to ask and to refuse nobody."""
    message = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix=host,
        filter_enabled=fixed_fraction(value.enabled),
        filter_enforced=fixed_fraction(value.enforced),
        rate_limited_as_resource_exhausted=value.status == _EXHAUSTED,
        rate_limits=rate_limits(value.rate_limits),
    )
    if value.bucket:
        message.token_bucket.CopyFrom(_bucket(value.bucket))
    for each in value.descriptors:
        limit = ratelimit_pb2.LocalRateLimitDescriptor(token_bucket=_bucket(each.bucket))
        for key, text in each.entries:
            limit.entries.add(key=key, value=text)
        message.descriptors.append(limit)
    return message


def rate_limit(value: RateLimitService) -> rate_limit_pb2.RateLimit:
    """Returns the filter that asks a service, by the cluster of that name or by its address."""
    message = rate_limit_pb2.RateLimit(
        domain=value.domain,
        timeout=duration(value.timeout),
        failure_mode_deny=value.deny_on_failure,
        rate_limited_as_resource_exhausted=value.status == _EXHAUSTED,
    )
    service = message.rate_limit_service
    service.transport_api_version = config_source_pb2.ApiVersion.V3
    if value.cluster:
        service.grpc_service.envoy_grpc.cluster_name = value.cluster
    else:
        service.grpc_service.google_grpc.target_uri = value.target
        service.grpc_service.google_grpc.stat_prefix = "ratelimit"
    return message


def rate_limits(values: Iterable[RateLimitActions]) -> Iterator[route_pb2.RateLimit]:
    """Yields `rate_limits` of a virtual host, a route, or a local limit."""
    return (route_pb2.RateLimit(actions=map(_action, value.actions)) for value in values)


def _bucket(value: TokenBucket) -> token_bucket_pb2.TokenBucket:
    return token_bucket_pb2.TokenBucket(
        max_tokens=value.max_tokens,
        tokens_per_fill=UInt32Value(value=value.tokens_per_fill),
        fill_interval=duration(value.fill_interval),
    )


def _action(value: DescriptorAction) -> route_pb2.RateLimit.Action:
    message = route_pb2.RateLimit.Action()
    if isinstance(value, RequestHeader):
        message.request_headers.header_name = value.name
        message.request_headers.descriptor_key = value.key
        message.request_headers.skip_if_absent = value.skip_if_absent
    elif isinstance(value, HeaderValueMatch):
        message.header_value_match.descriptor_key = value.key
        message.header_value_match.descriptor_value = value.value
        message.header_value_match.headers.extend(map(header_matcher, value.headers))
        if not value.expect:
            message.header_value_match.expect_match.CopyFrom(BoolValue(value=False))
    elif isinstance(value, GenericKey):
        message.generic_key.descriptor_key = value.key
        message.generic_key.descriptor_value = value.value
    elif isinstance(value, CallerCluster):
        message.source_cluster.SetInParent()
    elif isinstance(value, CalledCluster):
        message.destination_cluster.SetInParent()
    else:
        raise TypeError(f"no wire form for {value!r}")
    return message

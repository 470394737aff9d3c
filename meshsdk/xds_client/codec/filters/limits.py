"""LocalRateLimit, RateLimit and RateLimitPerRoute -> their values. Called by `http_filters`; limits nothing itself.

Specs: envoy.extensions.filters.http.{local_ratelimit,ratelimit}.v3, envoy.config.ratelimit.v3. As in
Envoy, a local limit applies to no call unless `filter_enabled` and `filter_enforced` say so.
"""

from __future__ import annotations

from typing import Any

from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2 as descriptors_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.ratelimit.v3 import rate_limit_pb2

from meshsdk.model.filters import DescriptorLimit, LocalRateLimit, RateLimitRoute, RateLimitService, TokenBucket
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.rate_limit_actions import rate_limits
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.runtime_values import DEFAULT_ONLY, fraction
from meshsdk.xds_client.codec.statuses import refusing
from meshsdk.xds_client.codec.values import positive_seconds, required

LOCAL = local_rate_limit_pb2.LocalRateLimit
SERVICE = rate_limit_pb2.RateLimit
PER_ROUTE = rate_limit_pb2.RateLimitPerRoute
_STAGES = 10  # the highest
_SHORTEST_FILL = 0.05  # seconds, as in Envoy
_SERVICE_TIMEOUT = 0.02  # seconds, Envoy's default
_EXHAUSTED = "RESOURCE_EXHAUSTED"
_LOCAL: Honoured = {
    "stat_prefix": None,  # names a statistic
    "status": None,
    "token_bucket": None,
    "filter_enabled": DEFAULT_ONLY,
    "filter_enforced": DEFAULT_ONLY,
    "descriptors": None,
    "stage": None,
    "always_consume_default_token_bucket": None,
    "rate_limited_as_resource_exhausted": None,
    "rate_limits": None,
}
_SERVICE: Honoured = {
    "domain": None,
    "stage": None,
    "timeout": None,
    "failure_mode_deny": None,
    "rate_limited_as_resource_exhausted": None,
    "rate_limited_status": None,
    "rate_limits": None,
    "stat_prefix": None,
    "rate_limit_service": {
        "grpc_service": {
            "envoy_grpc": {"cluster_name": None},
            "google_grpc": {"target_uri": None, "stat_prefix": None, "channel_credentials": None},
            "timeout": None,
        },
        "transport_api_version": None,
    },
}


def local_rate_limit(message: Any, path: str, noted: set[str], listed: str) -> LocalRateLimit:
    """Returns a LocalRateLimit."""
    noted.update(unhonoured(message, _LOCAL, listed))
    bucket = _bucket(message.token_bucket, f"{path}.token_bucket") if message.HasField("token_bucket") else None
    if message.stage > _STAGES:
        raise FieldError(f"{path}.stage", f"{message.stage} is more than {_STAGES}")
    always = message.always_consume_default_token_bucket
    return LocalRateLimit(
        bucket=bucket,
        descriptors=tuple(_descriptor(one, f"{path}.descriptors[{i}]") for i, one in enumerate(message.descriptors)),
        enabled=fraction(message, "filter_enabled", path, 0.0),
        enforced=fraction(message, "filter_enforced", path, 0.0),
        status=_EXHAUSTED if message.rate_limited_as_resource_exhausted else refusing(message.status.code),
        always_consume_default=always.value if message.HasField("always_consume_default_token_bucket") else True,
        rate_limits=rate_limits(message.rate_limits, f"{path}.rate_limits", noted, f"{listed}.rate_limits"),
        stage=message.stage,
    )


def _bucket(message: Any, path: str) -> TokenBucket:
    if message.max_tokens < 1:
        raise FieldError(f"{path}.max_tokens", "must be 1 or more")
    fill = message.tokens_per_fill.value if message.HasField("tokens_per_fill") else 1
    if fill < 1:
        raise FieldError(f"{path}.tokens_per_fill", "must be 1 or more")
    interval = positive_seconds(message.fill_interval, f"{path}.fill_interval")
    if interval < _SHORTEST_FILL:
        raise FieldError(f"{path}.fill_interval", f"{interval} s is less than {_SHORTEST_FILL} s")
    return TokenBucket(message.max_tokens, fill, interval)


def _descriptor(message: descriptors_pb2.LocalRateLimitDescriptor, path: str) -> DescriptorLimit:
    if not message.entries:
        raise FieldError(f"{path}.entries", "is empty")
    entries = tuple((required(one.key, f"{path}.entries[{i}].key"), one.value) for i, one in enumerate(message.entries))
    return DescriptorLimit(entries, _bucket(message.token_bucket, f"{path}.token_bucket"))


def rate_limit(message: Any, path: str, noted: set[str], listed: str) -> RateLimitService | None:
    """Returns a RateLimit; None for one that is asked about no call here: turned off, or for internal calls alone."""
    noted.update(unhonoured(message, _SERVICE, listed))
    if message.stage > _STAGES:
        raise FieldError(f"{path}.stage", f"{message.stage} is more than {_STAGES}")
    cluster, target = _service(message.rate_limit_service, f"{path}.rate_limit_service")
    domain = required(message.domain, f"{path}.domain")
    timeout = _SERVICE_TIMEOUT
    if message.HasField("timeout"):
        timeout = positive_seconds(message.timeout, f"{path}.timeout")
    if fraction(message, "filter_enabled", path, 1.0) == 0:
        noted.discard(f"{listed}.filter_enabled")
        return None
    return RateLimitService(
        domain,
        cluster,
        target,
        timeout,
        deny_on_failure=message.failure_mode_deny,
        status=_EXHAUSTED if message.rate_limited_as_resource_exhausted else refusing(message.rate_limited_status.code),
        stage=message.stage,
        rate_limits=rate_limits(message.rate_limits, f"{path}.rate_limits", noted, f"{listed}.rate_limits"),
    )


def _service(message: Any, path: str) -> tuple[str, str]:
    """Returns (cluster, target) of the service, one of them empty."""
    if message.transport_api_version not in {0, 2}:  # AUTO, V3
        raise FieldError(f"{path}.transport_api_version", "must be V3")
    service, where = message.grpc_service, f"{path}.grpc_service"
    kind = service.WhichOneof("target_specifier")
    if kind == "envoy_grpc":
        return required(service.envoy_grpc.cluster_name, f"{where}.envoy_grpc.cluster_name"), ""
    if kind == "google_grpc":
        credentials = service.google_grpc.channel_credentials.WhichOneof("credential_specifier")
        if credentials == "ssl_credentials":
            what = f"{shown(credentials)} is not supported; connections here are in plaintext"
            raise FieldError(f"{where}.google_grpc.channel_credentials", what)
        return "", required(service.google_grpc.target_uri, f"{where}.google_grpc.target_uri")
    raise FieldError(where, "says neither envoy_grpc nor google_grpc")


def rate_limit_route(message: Any, path: str, noted: set[str], listed: str) -> RateLimitRoute:
    """Returns a RateLimitPerRoute."""
    noted.update(unhonoured(message, {"domain": None, "rate_limits": None}, listed))
    limits = rate_limits(message.rate_limits, f"{path}.rate_limits", noted, f"{listed}.rate_limits")
    return RateLimitRoute(message.domain, limits)

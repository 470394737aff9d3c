"""Which HTTP filters a service's listener has, and how routes configure them. Pure.

A filter is there only if some policy of the service uses it. What may differ between routes stands in the routes
(`typed_per_filter_config`), so that a change of it is a change of RDS and leaves the listener alone. Every filter is
optional (gRFC A39): a client that does not know it goes on without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from google.protobuf.any_pb2 import Any

from controlplane.model.call_policy import CallParts
from controlplane.model.configuration import Configuration
from controlplane.translate.concurrency_filters import adaptive_concurrency, admission_control
from controlplane.translate.fault_filter import http_fault
from controlplane.translate.packing import packed
from controlplane.translate.rate_limit_filters import local_rate_limit, rate_limit
from controlplane.translate.session_filter import stateful_session
from meshsdk.model.filters import Fault

FAULT = "envoy.filters.http.fault"
LOCAL_RATE_LIMIT = "envoy.filters.http.local_ratelimit"
RATE_LIMIT = "envoy.filters.http.ratelimit"
ADMISSION_CONTROL = "envoy.filters.http.admission_control"
ADAPTIVE_CONCURRENCY = "envoy.filters.http.adaptive_concurrency"
STATEFUL_SESSION = "envoy.filters.http.stateful_session"


def http_filters(host: str, configuration: Configuration) -> Iterator[hcm_pb2.HttpFilter]:
    """Yields the filters of a listener in their order, without the router.

    What refuses a call stands before what measures it; the session, which picks an endpoint, stands last.
    """
    service = configuration.virtual_services.get(host)
    calls = configuration.calls_of(host)
    if service and any(route.fault for route in service.routes):
        yield _filter(FAULT, fault_pb2.HTTPFault())
    if any(parts.local_rate_limit for parts in calls.every()):
        # Without a bucket it limits nothing: routes bring theirs.
        yield _filter(LOCAL_RATE_LIMIT, local_rate_limit_pb2.LocalRateLimit(stat_prefix=host))
    whole = calls.service
    if whole.rate_limit:
        yield _filter(RATE_LIMIT, rate_limit(whole.rate_limit))
    if whole.admission_control:
        yield _filter(ADMISSION_CONTROL, admission_control(whole.admission_control))
    if whole.adaptive_concurrency:
        yield _filter(ADAPTIVE_CONCURRENCY, adaptive_concurrency(whole.adaptive_concurrency))
    if any(parts.session for parts in calls.every()):
        yield _filter(STATEFUL_SESSION, stateful_session_pb2.StatefulSession())


def overrides(host: str, parts: CallParts, fault: Fault | None = None) -> Mapping[str, Any]:
    """Returns what a virtual host or a route of `host` says to its filters, by their names."""
    found: dict[str, Any] = {}
    if fault:  # bare: every gRPC client knows it, and grpc-js (1.14) cannot read it in a FilterConfig
        found[FAULT] = packed(http_fault(fault))
    if parts.local_rate_limit:
        found[LOCAL_RATE_LIMIT] = _optional(local_rate_limit(parts.local_rate_limit, host))
    if parts.session:
        session = stateful_session(parts.session)
        found[STATEFUL_SESSION] = _optional(stateful_session_pb2.StatefulSessionPerRoute(stateful_session=session))
    return found


def _filter(name: str, message: object) -> hcm_pb2.HttpFilter:
    return hcm_pb2.HttpFilter(name=name, typed_config=packed(message), is_optional=True)


def _optional(message: object) -> Any:
    return packed(route_pb2.FilterConfig(config=packed(message), is_optional=True))

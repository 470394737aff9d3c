"""HTTP filters: what each says, of a listener and of a route, and why one is refused."""

from __future__ import annotations

from typing import Any

import pytest

from meshsdk.model.filters import (
    AdaptiveConcurrency,
    AdmissionControl,
    DescriptorLimit,
    Fault,
    FilterConfig,
    GenericKey,
    HeaderEdit,
    HeaderMutation,
    LocalRateLimit,
    NamedFilter,
    RateLimitActions,
    RateLimitRoute,
    RateLimitService,
    StatefulSession,
    TokenBucket,
)
from meshsdk.model.matching import HeaderMatch, StringKind, StringMatch
from tests.unit.xds_client.codec import test_listener, test_route
from tests.unit.xds_client.codec.messages import EXTENSIONS, ROUTER, Json, host, listener, manager, route_config, to

INSIDE = "api_listener.api_listener.http_filters"
HALF = {"numerator": 50}
ALL = {"numerator": 100, "denominator": "HUNDRED"}
BUCKET = {"max_tokens": 10, "tokens_per_fill": 5, "fill_interval": "1s"}
SERVICE = {"grpc_service": {"envoy_grpc": {"cluster_name": "limiter"}}, "transport_api_version": "V3"}
GRADIENT = {
    "concurrency_limit_params": {"concurrency_update_interval": "0.2s"},
    "min_rtt_calc_params": {"interval": "30s"},
}


def config(kind: str, **fields: Any) -> Json:
    """Returns a filter's configuration."""
    return {"@type": f"{EXTENSIONS}filters.http.{kind}", **fields}


def in_listener(said: Json) -> tuple[FilterConfig | None, tuple[str, ...]]:
    """Returns what a listener's filter `f` comes to, and what of it has no effect."""
    filters = [{"name": "f", "typed_config": said}, ROUTER]
    found = test_listener.decoded(listener(manager(http_filters=filters)))
    (one,) = found.http_filters
    assert isinstance(one, NamedFilter)
    return one.config, tuple(path.removeprefix(f"{INSIDE}.f") for path in found.ignored)


def refused(said: Json) -> str:
    """Returns why a listener's filter is refused."""
    text = test_listener.refusal(listener(manager(http_filters=[{"name": "f", "typed_config": said}, ROUTER])))
    return text.removeprefix(f"{INSIDE}[0].typed_config.")


def in_route(said: Json) -> tuple[FilterConfig | None, tuple[str, ...]]:
    """Returns what a route says of the filter `f`, and what of it has no effect."""
    found = test_route.decoded(route_config(host({**to("a"), "typed_per_filter_config": {"f": said}})))
    where = "virtual_hosts.routes.typed_per_filter_config.f"
    return found.virtual_hosts[0].routes[0].filters["f"], tuple(path.removeprefix(where) for path in found.ignored)


FAULT = "fault.v3.HTTPFault"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Fault()),
        (
            {"delay": {"fixed_delay": "2s", "percentage": HALF}},
            Fault(delay=2.0, delay_share=0.5),
        ),
        (
            {"delay": {"header_delay": {}, "percentage": {"numerator": 1, "denominator": "MILLION"}}},
            Fault(delay_from_header=True, delay_share=0.000_001),
        ),
        (
            {"abort": {"http_status": 503, "percentage": {"numerator": 7, "denominator": "TEN_THOUSAND"}}},
            Fault(abort_code="UNAVAILABLE", abort_share=0.0007),
        ),
        ({"abort": {"http_status": 404, "percentage": ALL}}, Fault(abort_code="UNIMPLEMENTED", abort_share=1.0)),
        ({"abort": {"http_status": 200, "percentage": ALL}}, Fault(abort_code="UNKNOWN", abort_share=1.0)),
        ({"abort": {"grpc_status": 8}}, Fault(abort_code="RESOURCE_EXHAUSTED")),
        ({"abort": {"grpc_status": 99}}, Fault(abort_code="UNKNOWN")),
        ({"abort": {"header_abort": {}, "percentage": ALL}}, Fault(abort_from_header=True, abort_share=1.0)),
        ({"max_active_faults": 0, "upstream_cluster": "a"}, Fault(max_active=0, cluster="a")),
        (
            {"headers": [{"name": "X-Test", "string_match": {"exact": "1"}}], "downstream_nodes": ["a.b", "c"]},
            Fault(
                headers=(
                    HeaderMatch("x-test", StringMatch(StringKind.EXACT, "1")),
                    HeaderMatch("x-envoy-downstream-service-node", StringMatch(StringKind.REGEX, r"a\.b|c")),
                )
            ),
        ),
    ],
)
def test_fault(fields: Json, expected: Fault) -> None:
    """A33: delays and aborts, fixed or by header, with their shares; in a listener and in a route alike."""
    assert in_listener(config(FAULT, **fields)) == (expected, ())
    assert in_route(config(FAULT, **fields)) == (expected, ())


def test_what_of_a_fault_has_no_effect() -> None:
    """A33: bandwidth is not limited, and there is no runtime to ask."""
    limit = {"fixed_limit": {"limit_kbps": 1}}
    found = in_listener(config(FAULT, response_rate_limit=limit, abort_percent_runtime="k"))
    assert found == (Fault(), (".abort_percent_runtime", ".response_rate_limit"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"delay": {"fixed_delay": "0s"}}, "delay.fixed_delay: must be more than zero"),
        ({"delay": {"percentage": ALL}}, "delay: says neither fixed_delay nor header_delay"),
        ({"abort": {"http_status": 600}}, "abort.http_status: 600 is not in 200 to 599"),
        ({"abort": {"grpc_status": 0}}, "abort.grpc_status: 0 (OK) is no failure"),
        ({"abort": {}}, "abort: says none of http_status, grpc_status and header_abort"),
        ({"headers": [{"name": "x"}]}, "headers[0].header_match_specifier: is not set"),
        ({"downstream_nodes": ["n" * 5000]}, "downstream_nodes: regular expression of 5000 characters"),
    ],
)
def test_fault_refused(fields: Json, words: str) -> None:
    """A fault that says nothing definite is refused, as Envoy refuses it."""
    assert refused(config(FAULT, **fields)).startswith(words)


LOCAL = "local_ratelimit.v3.LocalRateLimit"


def test_local_rate_limit() -> None:
    """Buckets, descriptors and shares; without `filter_enabled` the filter is there and limits no call."""
    said = config(
        LOCAL,
        stat_prefix="x",
        token_bucket=BUCKET,
        filter_enabled={"default_value": ALL, "runtime_key": "k"},
        filter_enforced={"default_value": HALF},
        descriptors=[{"entries": [{"key": "user", "value": "ada"}], "token_bucket": {**BUCKET, "max_tokens": 1}}],
        rate_limited_as_resource_exhausted=True,
        always_consume_default_token_bucket=False,
        rate_limits=[{"actions": [{"generic_key": {"descriptor_value": "v"}}]}],
        stage=3,
    )
    expected = LocalRateLimit(
        TokenBucket(10, 5, 1.0),
        (DescriptorLimit((("user", "ada"),), TokenBucket(1, 5, 1.0)),),
        1.0,
        0.5,
        "RESOURCE_EXHAUSTED",
        always_consume_default=False,
        rate_limits=(RateLimitActions((GenericKey("v"),)),),
        stage=3,
    )
    assert in_listener(said) == (expected, (".filter_enabled.runtime_key",))
    assert in_route(config(LOCAL, token_bucket={"max_tokens": 1, "fill_interval": "60s"})) == (
        LocalRateLimit(TokenBucket(1, 1, 60.0), enabled=0.0, enforced=0.0),
        (),
    )


def test_the_status_of_a_refusal() -> None:
    """A status of less than 400 is none for a refusal: Envoy then says 429, which for gRPC is UNAVAILABLE."""
    for code, name in (("OK", "UNAVAILABLE"), ("Forbidden", "PERMISSION_DENIED")):
        found, _ = in_listener(config(LOCAL, token_bucket=BUCKET, status={"code": code}))
        assert isinstance(found, LocalRateLimit)
        assert found.status == name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"token_bucket": {"fill_interval": "1s"}}, "token_bucket.max_tokens: must be 1 or more"),
        ({"token_bucket": {**BUCKET, "tokens_per_fill": 0}}, "token_bucket.tokens_per_fill: must be 1 or more"),
        ({"token_bucket": {"max_tokens": 1}}, "token_bucket.fill_interval: must be more than zero"),
        ({"token_bucket": {**BUCKET, "fill_interval": "0.01s"}}, "token_bucket.fill_interval: 0.01 s is less than"),
        ({"descriptors": [{"token_bucket": BUCKET}]}, "descriptors[0].entries: is empty"),
        ({"descriptors": [{"entries": [{"value": "v"}]}]}, "descriptors[0].entries[0].key: is empty"),
        ({"stage": 11}, "stage: 11 is more than 10"),
    ],
)
def test_local_rate_limit_refused(fields: Json, words: str) -> None:
    """A bucket that never fills, or fills all the time, is refused as Envoy refuses it."""
    assert refused(config(LOCAL, **fields)).startswith(words)


LIMIT = "ratelimit.v3.RateLimit"


def test_rate_limit_service() -> None:
    """The service is an xDS cluster or an address; what it refuses ends with the status that the filter says."""
    plain = config(LIMIT, domain="shop", rate_limit_service=SERVICE)
    assert in_listener(plain) == (RateLimitService("shop", "limiter"), ())
    said = config(
        LIMIT,
        domain="shop",
        stage=1,
        timeout="0.5s",
        failure_mode_deny=True,
        rate_limited_as_resource_exhausted=True,
        request_type="internal",
        rate_limit_service={"grpc_service": {"google_grpc": {"target_uri": "10.0.0.1:1", "stat_prefix": "x"}}},
    )
    expected = RateLimitService(
        "shop", "", "10.0.0.1:1", 0.5, deny_on_failure=True, status="RESOURCE_EXHAUSTED", stage=1
    )
    assert in_listener(said) == (expected, (".request_type",))
    off = config(LIMIT, domain="shop", rate_limit_service=SERVICE, filter_enabled={"default_value": {"numerator": 0}})
    assert in_listener(off) == (None, ())


def test_rate_limit_of_a_route() -> None:
    """A route may say another domain and other limits."""
    said = config(
        "ratelimit.v3.RateLimitPerRoute",
        domain="other",
        rate_limits=[{"actions": [{"generic_key": {"descriptor_value": "v"}}]}],
        vh_rate_limits="INCLUDE",
    )
    limits = (RateLimitActions((GenericKey("v"),)),)
    assert in_route(said) == (RateLimitRoute("other", limits), (".vh_rate_limits",))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rate_limit_service": SERVICE}, "domain: is empty"),
        ({"domain": "d"}, "rate_limit_service.grpc_service: says neither envoy_grpc nor google_grpc"),
        ({"domain": "d", "stage": 11, "rate_limit_service": SERVICE}, "stage: 11 is more than 10"),
        (
            {"domain": "d", "rate_limit_service": {**SERVICE, "transport_api_version": "V2"}},
            "rate_limit_service.transport_api_version: must be V3",
        ),
        (
            {
                "domain": "d",
                "rate_limit_service": {
                    "grpc_service": {
                        "google_grpc": {"target_uri": "a:1", "channel_credentials": {"ssl_credentials": {}}}
                    }
                },
            },
            "rate_limit_service.grpc_service.google_grpc.channel_credentials: 'ssl_credentials' is not supported",
        ),
    ],
)
def test_rate_limit_refused(fields: Json, words: str) -> None:
    """Without a domain, or a service that can be reached, nothing can be asked."""
    assert refused(config(LIMIT, **fields)).startswith(words)


ADAPTIVE = "adaptive_concurrency.v3.AdaptiveConcurrency"


def test_adaptive_concurrency() -> None:
    """Envoy's defaults, and every setting of the gradient."""
    plain = config(ADAPTIVE, gradient_controller_config=GRADIENT)
    assert in_listener(plain) == (AdaptiveConcurrency(interval=0.2, min_rtt_interval=30.0), ())
    said = config(
        ADAPTIVE,
        enabled={"default_value": False, "runtime_key": "k"},
        concurrency_limit_exceeded_status={"code": "Unauthorized"},
        gradient_controller_config={
            "sample_aggregate_percentile": {"value": 29},
            "concurrency_limit_params": {"max_concurrency_limit": 7, "concurrency_update_interval": "1s"},
            "min_rtt_calc_params": {
                "fixed_value": "0.01s",
                "request_count": 9,
                "jitter": {"value": 50},
                "min_concurrency": 2,
                "buffer": {"value": 0},
            },
        },
    )
    expected = AdaptiveConcurrency(
        enabled=False,
        sample_percentile=29.0,
        max_limit=7,
        interval=1.0,
        min_rtt_requests=9,
        min_rtt_jitter=0.5,
        min_concurrency=2,
        min_rtt_buffer=0.0,
        fixed_min_rtt=0.01,
        status="UNAUTHENTICATED",
    )
    assert in_listener(said) == (expected, (".enabled.runtime_key",))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "gradient_controller_config: is not set"),
        (
            {"gradient_controller_config": {}},
            "gradient_controller_config.min_rtt_calc_params.interval: must be more than zero",
        ),
        (
            {"gradient_controller_config": {"min_rtt_calc_params": {"interval": "1s"}}},
            "gradient_controller_config.concurrency_limit_params.concurrency_update_interval: must be more than",
        ),
        (
            {"gradient_controller_config": {**GRADIENT, "sample_aggregate_percentile": {"value": 101}}},
            "gradient_controller_config.sample_aggregate_percentile: 101.0 is not a percentage",
        ),
        (
            {"gradient_controller_config": {"min_rtt_calc_params": {"interval": "1s", "request_count": 0}}},
            "gradient_controller_config.",
        ),
    ],
)
def test_adaptive_concurrency_refused(fields: Json, words: str) -> None:
    """Without intervals there is nothing to go by."""
    assert refused(config(ADAPTIVE, **fields)).startswith(words)


ADMISSION = "admission_control.v3.AdmissionControl"


def test_admission_control() -> None:
    """Envoy's defaults, and every setting; HTTP statuses are none of a gRPC call's."""
    assert in_listener(config(ADMISSION)) == (AdmissionControl(), ())
    said = config(
        ADMISSION,
        enabled={"default_value": False},
        success_criteria={"grpc_criteria": {"grpc_success_status": [0, 5]}, "http_criteria": {}},
        sampling_window="120s",
        aggression={"default_value": 2.5, "runtime_key": "k"},
        sr_threshold={"default_value": {"value": 80}},
        rps_threshold={"default_value": 5},
        max_rejection_probability={"default_value": {"value": 100}},
    )
    expected = AdmissionControl(
        enabled=False,
        window=120.0,
        threshold=0.8,
        aggression=2.5,
        rps_threshold=5.0,
        max_refused=1.0,
        good=frozenset({"OK", "NOT_FOUND"}),
    )
    assert in_listener(said) == (expected, (".aggression.runtime_key", ".success_criteria.http_criteria"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sampling_window": "0.5s"}, "sampling_window: 0.5 s is less than a second"),
        ({"aggression": {"default_value": 0.5}}, "aggression.default_value: 0.5 is less than 1"),
        ({"sr_threshold": {"default_value": {"value": 0.5}}}, "sr_threshold.default_value: is less than 1 %"),
        (
            {"success_criteria": {"grpc_criteria": {"grpc_success_status": [17]}}},
            "success_criteria.grpc_criteria.grpc_success_status: 17 is no gRPC status",
        ),
    ],
)
def test_admission_control_refused(fields: Json, words: str) -> None:
    """Settings that Envoy refuses are refused."""
    assert refused(config(ADMISSION, **fields)) == words


SESSION = "stateful_session.v3.StatefulSession"
PER_ROUTE = "stateful_session.v3.StatefulSessionPerRoute"


def by(state: str, **fields: Any) -> Json:
    """Returns a `session_state`."""
    return {"name": "s", "typed_config": {"@type": f"{EXTENSIONS}http.stateful_session.{state}", **fields}}


def cookie(**fields: Any) -> Json:
    """Returns a `session_state` in a cookie."""
    return by("cookie.v3.CookieBasedSessionState", cookie=fields)


def test_stateful_session() -> None:
    """A55: a cookie with its path and time to live; without a state the filter does nothing."""
    assert in_listener(config(SESSION)) == (StatefulSession(enabled=False), ())
    said = config(
        SESSION, strict=True, session_state=cookie(name="sid", ttl="60s", path="/shop", attributes=[{"name": "x"}])
    )
    expected = StatefulSession("sid", "/shop", 60.0, strict=True)
    assert in_listener(said) == (expected, (".session_state.cookie.attributes",))


def test_stateful_session_of_a_route() -> None:
    """A55: a route has sessions of its own, or none."""
    own = config(PER_ROUTE, stateful_session={"session_state": cookie(name="other")})
    assert in_route(own) == (StatefulSession("other", ""), ())
    assert in_route(config(PER_ROUTE, disabled=True)) == (None, ())


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (cookie(), "session_state.typed_config.cookie.name: is empty"),
        (cookie(name="a", ttl="-1s"), "session_state.typed_config.cookie.ttl: -1 s 0 ns is not a duration"),
        (by("header.v3.HeaderBasedSessionState", name="x"), "session_state.typed_config: 'envoy.extensions.http.state"),
    ],
)
def test_stateful_session_refused(state: Json, words: str) -> None:
    """A55: only cookies carry sessions, and they have a name and a time to live of zero or more."""
    assert refused(config(SESSION, session_state=state)).startswith(words)


def test_an_override_of_a_session_must_say_something() -> None:
    """A route that says neither is refused, as Envoy refuses it."""
    raw = route_config(host({**to("a"), "typed_per_filter_config": {"f": config(PER_ROUTE)}}))
    assert test_route.refusal(raw).endswith("['f'].typed_config: says neither disabled: true nor stateful_session")


def test_header_mutation() -> None:
    """The filter's mutations run one by one; queries and trailers have no mutations here."""
    both = {
        "request_mutations": [{"remove": "X-A"}, {"append": {"header": {"key": "x-b", "value": "1"}}}],
        "response_mutations": [{"append": {"header": {"key": "x-c", "value": "2"}}}],
        "response_trailers_mutations": [{"remove": "x"}],
    }
    edits = (HeaderEdit("x-a", None), HeaderEdit("x-b", "1"))
    said = config("header_mutation.v3.HeaderMutation", mutations=both, most_specific_header_mutations_wins=True)
    expected = HeaderMutation(edits, (HeaderEdit("x-c", "2"),), specific_last=True)
    assert in_listener(said) == (expected, (".mutations.response_trailers_mutations",))
    found, _ = in_route(config("header_mutation.v3.HeaderMutationPerRoute", mutations=both))
    assert found == HeaderMutation(edits, (HeaderEdit("x-c", "2"),))


def test_a_typed_struct_says_the_same() -> None:
    """A filter's configuration may come as JSON in a TypedStruct, as Istio's EnvoyFilter writes it."""
    struct = {
        "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
        "type_url": f"{EXTENSIONS}filters.http.{LOCAL}",
        "value": {"stat_prefix": "x", "token_bucket": BUCKET},
    }
    assert in_listener(struct)[0] == in_listener(config(LOCAL, token_bucket=BUCKET))[0]
    wrong = {**struct, "value": {"nothing_known": 1}}
    text = test_listener.refusal(listener(manager(http_filters=[{"name": "f", "typed_config": wrong}, ROUTER])))
    assert ": is not the JSON form of envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit: " in text


def test_a_filter_is_turned_off_and_on() -> None:
    """FilterConfig: a route turns a filter off, or says again what it is to do."""
    wrapper = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
    assert in_route({"@type": wrapper, "disabled": True}) == (None, ())
    assert in_route({"@type": wrapper, "config": config(FAULT)}) == (Fault(), ())


def test_what_overrides_a_listener_must_be_meant_for_it() -> None:
    """A listener's RateLimit names the service; a route that brings one is refused."""
    whole = config(LIMIT, domain="d", rate_limit_service=SERVICE)
    text = test_route.refusal(route_config(host({**to("a"), "typed_per_filter_config": {"f": whole}})))
    assert "no filter of type 'envoy.extensions.filters.http.ratelimit.v3.RateLimit' is known here" in text


def test_overrides_at_every_level() -> None:
    """A route configuration speaks for its hosts, a host for its routes: each level's own word stays apart."""

    def delay(seconds: int) -> Json:
        return {"f": config(FAULT, delay={"fixed_delay": f"{seconds}s"})}

    weighted = {"clusters": [{"name": "a", "weight": 1, "typed_per_filter_config": delay(4)}]}
    route = {
        "match": {"prefix": ""},
        "route": {"weighted_clusters": weighted},
        "typed_per_filter_config": delay(3),
    }
    hosts = host(route, typed_per_filter_config=delay(2)), host()
    found = test_route.decoded(route_config(*hosts, typed_per_filter_config=delay(1)))
    first, second = found.virtual_hosts
    assert (first.filters["f"], second.filters["f"]) == (Fault(delay=2.0), Fault(delay=1.0))
    assert first.routes[0].filters["f"] == Fault(delay=3.0)
    assert first.routes[0].action.clusters[0].filters["f"] == Fault(delay=4.0)

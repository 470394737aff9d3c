"""Every policy of calls, YAML to the SDK's own values: what the control plane writes is what the SDK acts on."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.model.configuration import Configuration
from controlplane.translate.clusters import clusters
from controlplane.translate.http_filters import FAULT, LOCAL_RATE_LIMIT, STATEFUL_SESSION
from controlplane.translate.listener import listener
from controlplane.translate.routes import route_configuration
from controlplane.translate.view import route_view, view_of
from meshsdk.model.filters import Fault, HeaderEdit, NamedFilter
from meshsdk.model.policy import CircuitBreakers, Hedging, Mirror, RetryBudget
from meshsdk.model.resources import Cluster, Forward, Kind, Listener, VirtualHost
from meshsdk.xds_client.codec import decode
from tests.unit.controlplane.translate.worked_examples import FOLDER

HEAD = "apiVersion: {}\nkind: {}\nmetadata: {{name: orders}}\nspec:\n"
ISTIO, OURS = "networking.istio.io/v1", "meshsdk.io/v1alpha1"
SDK = view_of({}, "", "meshsdk")
SOME_CODES = "successCodes: [OK, NOT_FOUND]"


def of_route(text: str) -> str:
    """Returns a VirtualService with one route to orders."""
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    return HEAD.format(ISTIO, "VirtualService") + (
        f"  hosts: [orders]\n  http:\n  - route: [{{destination: {{host: orders}}}}]\n{lines}"
    )


def of_policy(text: str) -> str:
    """Returns a CallPolicy for orders."""
    lines = "".join(f"  {line}\n" for line in text.splitlines())
    return HEAD.format(OURS, "CallPolicy") + f"  targetRef: {{name: orders}}\n{lines}"


def configuration(*documents: str) -> Configuration:
    """Returns the configuration of documents."""
    return merge(parse("---\n".join(documents), "f.yaml")).configuration


def read_routes(found: Configuration) -> VirtualHost:
    """Returns the routes of orders as the SDK reads them; nothing in them goes past it."""
    _, decoded = decode(Kind.ROUTE, route_configuration("orders", found, SDK).SerializeToString())
    assert decoded.ignored == ()
    return decoded.virtual_hosts[0]


def read_listener(found: Configuration) -> Listener:
    """Returns the listener of orders as the SDK reads it."""
    return decode(Kind.LISTENER, listener("orders", found).SerializeToString())[1]


def read_cluster(found: Configuration) -> Cluster:
    """Returns the cluster of orders as the SDK reads it."""
    return decode(Kind.CLUSTER, next(iter(clusters("orders", found, SDK))).SerializeToString())[1]


def action(*documents: str) -> Forward:
    """Returns the action of the last route."""
    found = read_routes(configuration(*documents)).routes[-1].action
    assert isinstance(found, Forward)
    return found


def test_nothing_is_written_without_policies() -> None:
    """Without any of these policies there is no filter in the listener and none in the routes."""
    found = configuration(of_route("timeout: 1s"))
    assert read_listener(found).http_filters == ()
    host = read_routes(found)
    assert (dict(host.filters), [dict(route.filters) for route in host.routes]) == ({}, [{}])


def test_faults() -> None:
    """A fault is in the route it was written for; the listener has the filter without one."""
    found = configuration(
        of_route(
            "fault: {delay: {percentage: {value: 12.5}, fixedDelay: 250ms}, "
            "abort: {percentage: {value: 0.0001}, grpcStatus: ABORTED}}"
        )
    )
    assert read_listener(found).http_filters == (NamedFilter(FAULT, Fault()),)
    (route,) = read_routes(found).routes
    assert route.filters[FAULT] == Fault(delay=0.25, delay_share=0.125, abort_code="ABORTED", abort_share=0.000001)


def test_copies_and_retries() -> None:
    """Copies keep their clusters and shares; retries avoid endpoints that were tried."""
    found = action(
        of_route(
            "mirrors: [{destination: {host: a}, percentage: {value: 0.5}}, {destination: {host: b}}]\n"
            "retries: {attempts: 1, retryIgnorePreviousHosts: true}"
        )
    )
    assert found.mirrors == (Mirror("a", 0.005), Mirror("b", 1.0))
    assert (found.retry.avoid_previous, found.retry.avoid_attempts) == (True, 5)


def test_header_edits() -> None:
    """Edits of the route and of a destination arrive, each in its place and order."""
    text = of_route("headers: {request: {set: {x-a: a}, add: {x-b: b}, remove: [x-c]}, response: {add: {x-d: d}}}")
    text = text.replace("{host: orders}}]", "{host: orders}, headers: {request: {set: {x-e: e}}}}]")
    found = action(text)
    assert found.request_edits == (
        HeaderEdit("x-c", None),
        HeaderEdit("x-a", "a", append=False),
        HeaderEdit("x-b", "b"),
    )
    assert found.response_edits == (HeaderEdit("x-d", "d"),)
    (cluster,) = found.clusters
    assert (cluster.name, cluster.request_edits) == ("orders", (HeaderEdit("x-e", "e", append=False),))


def test_hedging() -> None:
    """Hedging is on the wire as Envoy has it, and read as gRFC A6 means it; retries of a route stand over it."""
    policy = of_policy("hedging: {delay: 50ms, maxAttempts: 3, nonFatalStatusCodes: [INTERNAL, DEADLINE_EXCEEDED]}")
    assert action(policy).hedging == Hedging(3, 0.05, frozenset({"INTERNAL", "DEADLINE_EXCEEDED"}))
    retried = action(policy, of_route("retries: {attempts: 1}"))
    assert (retried.hedging, retried.retry.num_retries) == (None, 1)
    off = action(policy, of_route("retries: {attempts: 0}"))
    assert (off.hedging, off.retry) == (None, None)


BUCKET = "{maxTokens: 10, tokensPerFill: 5, fillInterval: 1s}"


@pytest.mark.parametrize(
    ("text", "name", "part"),
    [
        (
            (
                f"localRateLimit: {{enabledPercentage: 50, enforcedPercentage: 25, status: UNAVAILABLE, "
                f"tokenBucket: {BUCKET}"
                f", descriptors: [{{entries: [{{header: x-a}}, {{header: x-b, equals: b}}], tokenBucket: {BUCKET}}}]}}"
            ),
            LOCAL_RATE_LIMIT,
            "local_rate_limit",
        ),
        (
            "sessionAffinity: {cookie: {name: s, path: /a, ttl: 10s}, strict: true}",
            STATEFUL_SESSION,
            "session",
        ),
    ],
)
def test_filters_of_routes(text: str, name: str, part: str) -> None:
    """What is for all calls stands in the virtual host, what is for a method in its route; both as written."""
    found = configuration(of_policy(text))
    written = getattr(found.calls_of("orders").parts, part)
    assert [each.name for each in read_listener(found).http_filters] == [name]
    host = read_routes(found)
    assert (host.filters[name], dict(host.routes[0].filters)) == (written, {})
    host = read_routes(configuration(of_policy(f"rules: [{{match: {{method: /a.B/C}}, {text}}}]")))
    assert ([route.match.path.value for route in host.routes], dict(host.filters)) == (["/a.B/C", "/"], {})
    assert (host.routes[0].filters[name], dict(host.routes[1].filters)) == (written, {})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rateLimit: {domain: shop, service: limits, timeout: 50ms, failureMode: DENY}", "rate_limit"),
        ("rateLimit: {domain: shop, address: '10.0.0.1:8081', status: UNAVAILABLE}", "rate_limit"),
        (f"admissionControl: {{window: 9s, threshold: 80, aggression: 2, rpsThreshold: 3, {SOME_CODES}}}",
         "admission_control"),
        ("admissionControl: {}", "admission_control"),
        ("adaptiveConcurrency: {}", "adaptive_concurrency"),
        ("adaptiveConcurrency: {samplePercentile: 29, minRtt: {jitter: 29, buffer: 7}}", "adaptive_concurrency"),
    ],
)  # fmt: skip
def test_filters_of_the_listener(text: str, part: str) -> None:
    """What is for a service as a whole is in the listener, as it was written."""
    found = configuration(of_policy(text))
    (only,) = read_listener(found).http_filters
    assert only.config == getattr(found.calls_of("orders").service, part)


def test_descriptors() -> None:
    """A rule's descriptors stand in place of the service's; both arrive action by action."""
    everyone = "- entries: [{header: x-a, key: a, optional: true}, {value: v}, {caller: true}, {called: true}]"
    tested = "[{match: {headers: {x-t: {prefix: g}}, value: vip}}]"
    text = f"rateLimit:\n  domain: shop\n  service: limits\n  descriptors:\n  {everyone}\n"
    rule = f"rules: [{{match: {{method: /a.B/C}}, rateLimit: {{descriptors: [{{entries: {tested}}}]}}}}]"
    found = configuration(of_policy(text + rule))
    calls = found.calls_of("orders")
    first, last = (route.action for route in read_routes(found).routes)
    assert first.rate_limits == calls.paths[0][1].descriptors
    assert last.rate_limits == calls.parts.descriptors


def test_limits_of_clusters() -> None:
    """Retry budget and HIGH limits of a policy reach the cluster beside a DestinationRule's, and stand over it."""
    rule = HEAD.format(ISTIO, "DestinationRule") + (
        "  host: orders\n  trafficPolicy:\n    retryBudget: {percent: 10}\n"
        "    connectionPool: {http: {http2MaxRequests: 9}}\n"
    )
    assert read_cluster(configuration(rule)).breakers == CircuitBreakers(
        max_requests=9, retry_budget=RetryBudget(0.1, 3)
    )
    policy = of_policy(
        "retryBudget: {percent: 29, minRetryConcurrency: 1}\npriority: HIGH\ncircuitBreakers: {high: {maxRequests: 99}}"
    )
    found = read_cluster(configuration(rule, policy))
    assert found.breakers == CircuitBreakers(max_requests=9, retry_budget=RetryBudget(0.29, 1))
    assert found.high_breakers == CircuitBreakers(max_requests=99)
    assert action(policy).high_priority


def test_outliers() -> None:
    """Ejection by comparison is added to a DestinationRule's, and what nobody speaks of is off."""
    policy = of_policy(
        "outlierDetection: {successRate: {stdevFactor: 1.5, minimumHosts: 3, requestVolume: 9, enforcing: 50}, "
        "failurePercentage: {threshold: 40}, maxEjectionTime: 1m}"
    )
    found = read_cluster(configuration(policy)).outlier
    assert (found.success_rate_stdev_factor, found.success_rate_minimum_hosts) == (1500, 3)
    assert (found.success_rate_request_volume, found.enforcing_success_rate) == (9, 50)
    assert (found.failure_percentage_threshold, found.enforcing_failure_percentage) == (40, 100)
    assert (found.max_ejection_time, found.enforcing_consecutive_5xx) == (60.0, 0)
    rule = HEAD.format(ISTIO, "DestinationRule") + (
        "  host: orders\n  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 7, "
        "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}}\n"
    )
    found = read_cluster(configuration(rule, policy)).outlier
    assert (found.consecutive_5xx, found.enforcing_consecutive_5xx, found.failure_percentage_threshold) == (7, 100, 40)
    alone = read_cluster(configuration(rule)).outlier
    assert (alone.split_local_origin, alone.consecutive_local_origin) == (True, 2)
    assert (alone.enforcing_success_rate, alone.enforcing_local_origin_success_rate) == (0, 0)


def test_weighted_round_robin() -> None:
    """A policy's weighted round robin stands over a DestinationRule's load balancer, whose warm-up it keeps."""
    rule = HEAD.format(ISTIO, "DestinationRule") + (
        "  host: orders\n  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 9s}}}\n"
    )
    found = configuration(
        rule,
        of_policy("loadBalancer: {weightedRoundRobin: {outOfBand: true, reportingPeriod: 5s, blackoutPeriod: 0s}}"),
    )
    lb = read_cluster(found).lb
    assert lb.policy == found.calls_of("orders").service.weighted
    assert (lb.locality_weighted, lb.slow_start.window) == (True, 9.0)


def test_everything_at_once_is_honoured() -> None:
    """Of the example with every policy the SDK leaves nothing in the routes and the clusters without effect."""
    found = merge(parse((FOLDER / "resilience.yaml").read_text(), "f.yaml")).configuration
    assert read_routes(found).routes
    assert all(
        decode(Kind.CLUSTER, each.SerializeToString())[1].ignored == () for each in clusters("orders", found, SDK)
    )


def test_copies_stay_in_the_unit_of_the_caller() -> None:
    """Copies to a service in units go to the caller's own unit, and callers of two units do not share such routes."""
    units = HEAD.format(OURS, "UnitPolicy") + (
        "  units: [east, west]\n  services: [{hosts: [shadow], scope: CLOSED}]\n"
        "  key: {sources: [{header: x-user}], rules: [{unit: west, exact: [bob]}]}\n"
    )
    found = configuration(of_route("mirror: {host: shadow}"), units)
    views = [view_of({}, "", "meshsdk", metadata={"UNIT": unit}) for unit in ("east", "west")]
    copies = []
    for view in views:
        _, decoded = decode(Kind.ROUTE, route_configuration("orders", found, view).SerializeToString())
        copies += decoded.virtual_hosts[0].routes[-1].action.mirrors
    assert copies == [Mirror("shadow||east"), Mirror("shadow||west")]
    assert route_view("orders", found, views[0]) != route_view("orders", found, views[1])

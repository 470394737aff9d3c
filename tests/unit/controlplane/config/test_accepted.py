"""What documents mean, and which of their fields are reported as without effect."""

from __future__ import annotations

import pytest

from controlplane.config.documents import Documents, parse
from controlplane.model.configuration import Resource
from controlplane.model.policy import ConnectionPool, Keepalive, LoadBalancer, OutlierPolicy
from controlplane.model.service import Resolution, Workload
from controlplane.model.traffic import CallMatch, Retries
from meshsdk.model.matching import (
    FieldMatch,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    StringKind,
    StringMatch,
)
from meshsdk.model.policy import HashHeader, LeastRequest, Maglev, RandomChoice, RingHash, RoundRobin, SlowStart
from meshsdk.model.resources import Locality


def read(kind: str, spec: str) -> Documents:
    """Parses one document; its spec's first line is line 5."""
    text = f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: orders}}\nspec:\n{spec}"
    documents = parse(text, "f.yaml")
    assert not documents.problems, documents.problems
    return documents


def resource(kind: str, spec: str) -> Resource:
    """Returns the resource of a document that gives no warning."""
    documents = read(kind, spec)
    assert not documents.warnings, documents.warnings
    return documents.entries[0].resource


def match(text: str) -> CallMatch:
    """Returns the only match of a route."""
    found = resource(
        "VirtualService",
        f"  hosts: [orders]\n  http:\n  - match:\n    - {text}\n    route:\n    - destination: {{host: orders}}\n",
    )
    return found.routes[0].matches[0]


def balancer(text: str) -> LoadBalancer:
    """Returns the load balancer of a rule."""
    return resource(
        "DestinationRule", f"  host: orders\n  trafficPolicy: {{loadBalancer: {text}}}\n"
    ).policy.load_balancer


def test_service_entry_with_everything() -> None:
    """Hosts, ports, endpoints with their own ports, labels, locality and weight are read."""
    found = resource(
        "ServiceEntry",
        "  hosts: [orders, orders.shop]\n"
        "  location: MESH_EXTERNAL\n"
        "  resolution: STATIC\n"
        "  ports:\n  - {number: 80, name: grpc, protocol: grpc, targetPort: 8080}\n"
        "  endpoints:\n"
        "  - {address: 10.0.0.1, ports: {grpc: 9000}, labels: {version: v1}, locality: eu/eu-1/a, weight: 3}\n"
        "  - {address: '2001:DB8::1'}\n",
    )
    assert found.hosts == ("orders", "orders.shop")
    assert (found.resolution, found.external, found.selector) == (Resolution.STATIC, True, None)
    assert (found.ports[0].number, found.ports[0].target_port, found.ports[0].protocol) == (80, 8080, "GRPC")
    assert found.workloads == (
        Workload("10.0.0.1", {"grpc": 9000}, {"version": "v1"}, Locality("eu", "eu-1", "a"), 3),
        Workload("2001:db8::1", {}, {}, Locality(), 1),
    )


def test_service_entry_without_endpoints_waits_for_instances() -> None:
    """A ServiceEntry may list nothing at all: what registers under its host is its endpoints."""
    found = resource("ServiceEntry", "  hosts: [orders]\n  ports: [{number: 80, name: grpc}]\n")
    assert (found.resolution, found.workloads, found.selector) == (Resolution.NONE, (), None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{uri: {exact: /a.B/C}}", PathMatch(PathKind.EXACT, "/a.B/C")),
        ("{uri: {prefix: /a.B/}, ignoreUriCase: true}", PathMatch(PathKind.PREFIX, "/a.B/", ignore_case=True)),
        ("{uri: {regex: '/a[.]B/.+'}, ignoreUriCase: true}", PathMatch(PathKind.REGEX, "/a[.]B/.+")),
        ("{method: {exact: POST}}", PathMatch(PathKind.PREFIX, "/")),
        ("{method: {regex: 'GET|POST'}}", PathMatch(PathKind.PREFIX, "/")),
        ("{method: {exact: Get}}", PathMatch(PathKind.REGEX, "/[^/]+/Get")),
        ("{method: {prefix: Get}}", PathMatch(PathKind.REGEX, "/[^/]+/Get.*")),
        ("{method: {regex: 'Get|List'}}", PathMatch(PathKind.REGEX, "/[^/]+/(?:Get|List)")),
        ("{uri: {prefix: /a.B/}, method: {exact: Get}}", PathMatch(PathKind.EXACT, "/a.B/Get")),
        ("{uri: {prefix: /a.B/}, method: {prefix: Get}}", PathMatch(PathKind.PREFIX, "/a.B/Get")),
        ("{uri: {prefix: /a.B/}, method: {regex: 'X|Y'}}", PathMatch(PathKind.REGEX, "/a\\.B/(?:X|Y)")),
        ("{uri: {exact: /a.B/Get}, method: {exact: Get}}", PathMatch(PathKind.EXACT, "/a.B/Get")),
    ],
)
def test_path_and_method(text: str, expected: PathMatch) -> None:
    """`uri` and `method` together say which RPCs; an HTTP method that every call has says nothing."""
    found = match(text)
    assert found.path == expected
    assert not found.impossible


def test_method_that_contradicts_the_uri_matches_nothing() -> None:
    """A method that the exact path does not have can be met by no call."""
    assert match("{uri: {exact: /a.B/Get}, method: {exact: List}}").impossible


def test_http_method_other_than_post_is_reported() -> None:
    """`method: GET` matches no gRPC call: kept, reported, and left out of the wire."""
    documents = read(
        "VirtualService",
        "  hosts: [o]\n  http:\n  - match:\n    - method: {exact: GET}\n    route:\n    - destination: {host: o}\n",
    )
    assert documents.entries[0].resource.routes[0].matches[0].impossible
    assert [str(warning) for warning in documents.warnings] == [
        "f.yaml:8: spec.http[0].match[0].method: matches no call: every gRPC call is a POST"
    ]


def test_headers_with_and_without() -> None:
    """Header names become lower case; an empty test asks for presence; `withoutHeaders` counts a missing one as met."""
    found = match("{headers: {X-A: {prefix: a}, x-b: {}}, withoutHeaders: {x-c: {exact: c}, x-d: {}}}")
    assert found.headers == (
        HeaderMatch("x-a", StringMatch(StringKind.PREFIX, "a")),
        HeaderMatch("x-b", PresentMatch()),
        HeaderMatch("x-c", StringMatch(StringKind.EXACT, "c"), invert=True, treat_missing_as_empty=True),
        HeaderMatch("x-d", PresentMatch(present=False)),
    )


def test_request_fields_and_callers() -> None:
    """`params` names fields of the decoded request, `sourceLabels` labels of the caller."""
    found = match("{name: gold, params: {user.tier: {exact: gold}, id: {}}, sourceLabels: {app: web}}")
    assert found.params == (
        FieldMatch(("user", "tier"), StringMatch(StringKind.EXACT, "gold")),
        FieldMatch(("id",), PresentMatch()),
    )
    assert (found.name, found.source_labels) == ("gold", {"app": "web"})


def test_route_with_weights_timeout_and_retries() -> None:
    """A single destination needs no weight; durations are seconds; Istio's default conditions stand in."""
    found = resource(
        "VirtualService",
        "  hosts: [orders]\n  http:\n"
        "  - name: one\n    timeout: 1m30s\n    retries: {attempts: 3, perTryTimeout: 250ms}\n"
        "    route:\n    - destination: {host: orders, subset: v1, port: {number: 80}}\n",
    )
    route = found.routes[0]
    assert (route.name, route.timeout, route.matches) == ("one", 90.0, ())
    assert route.retries == Retries(3, 0.25, ("connect-failure", "refused-stream", "unavailable", "cancelled"))
    destination = route.destinations[0]
    assert (destination.host, destination.subset, destination.weight, destination.port) == ("orders", "v1", 100, 80)
    assert str(destination.origin) == "f.yaml:11"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{simple: LEAST_REQUEST}", LoadBalancer(LeastRequest())),
        ("{simple: LEAST_CONN}", LoadBalancer(LeastRequest())),
        ("{simple: RANDOM}", LoadBalancer(RandomChoice())),
        ("{simple: ROUND_ROBIN, warmupDurationSecs: 30s}", LoadBalancer(RoundRobin(), slow_start=SlowStart(30.0))),
        (
            "{simple: LEAST_REQUEST, warmup: {duration: 1m, minimumPercent: 20, aggression: 2.5}}",
            LoadBalancer(LeastRequest(), slow_start=SlowStart(60.0, 2.5, 0.2)),
        ),
        ("{localityLbSetting: {enabled: true}}", LoadBalancer(RoundRobin(), prefer_zone=True)),
        ("{localityLbSetting: {enabled: false}}", LoadBalancer(RoundRobin())),
        ("{consistentHash: {httpHeaderName: X-User}}", LoadBalancer(RingHash(), HashHeader("x-user"))),
        (
            "{consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 64}}}",
            LoadBalancer(RingHash(64), HashHeader("x")),
        ),
        (
            "{consistentHash: {httpHeaderName: x, minimumRingSize: 64}}",
            LoadBalancer(RingHash(64), HashHeader("x")),
        ),
        (
            "{consistentHash: {httpHeaderName: x, maglev: {tableSize: 251}}}",
            LoadBalancer(Maglev(251), HashHeader("x")),
        ),
    ],
)
def test_load_balancers(text: str, expected: LoadBalancer) -> None:
    """Each way of writing a load balancer gives its policy."""
    assert balancer(text) == expected


def test_pool_and_outliers() -> None:
    """connectionPool and outlierDetection are read to the last field."""
    policy = resource(
        "DestinationRule",
        "  host: orders\n  trafficPolicy:\n"
        "    connectionPool:\n"
        "      tcp:\n"
        "        {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 3s,\n"
        "         tcpKeepalive: {probes: 4, time: 5s, interval: 6s}}\n"
        "      http:\n"
        "        {http1MaxPendingRequests: 7, http2MaxRequests: 8, maxRequestsPerConnection: 9, maxRetries: 10,\n"
        "         idleTimeout: 11s, maxConcurrentStreams: 12}\n"
        "    outlierDetection:\n"
        "      {consecutive5xxErrors: 1, consecutiveGatewayErrors: 2, splitExternalLocalOriginErrors: true,\n"
        "       consecutiveLocalOriginFailures: 3, interval: 4s, baseEjectionTime: 5s, maxEjectionPercent: 6,\n"
        "       minHealthPercent: 7}\n",
    ).policy
    assert policy.pool == ConnectionPool(1, 2.0, Keepalive(4, 5.0, 6.0), 3.0, 7, 8, 9, 10, 11.0, 12)
    assert policy.outlier == OutlierPolicy(1, 2, True, 3, 4.0, 5.0, 6, 7)


def test_subset_policy_replaces_the_rule_part_by_part() -> None:
    """A subset's load balancer replaces the rule's, and the rule's outlier detection stays."""
    rule = resource(
        "DestinationRule",
        "  host: orders\n"
        "  trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {consecutive5xxErrors: 1}}\n"
        "  subsets:\n"
        "  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n",
    )
    policy = rule.subset("v1").policy.over(rule.policy)
    assert (policy.load_balancer.policy, policy.outlier.consecutive_5xx) == (RoundRobin(), 1)
    assert rule.subset("v2") is None


def test_fields_without_effect_are_reported() -> None:
    """What Istio has and we do not honour is accepted, and named with its line."""
    documents = read(
        "VirtualService",
        "  hosts: [orders]\n  exportTo: ['*']\n  gateways: [mesh, web]\n  http:\n"
        "  - corsPolicy: {}\n    rewrite: {uri: /b}\n    retries: {attempts: 1, retryOn: 5xx}\n"
        "    route:\n    - destination: {host: orders}\n",
    )
    assert [str(warning) for warning in documents.warnings] == [
        "f.yaml:6: spec.exportTo: has no effect in this version",
        "f.yaml:9: spec.http[0].corsPolicy: has no effect in this version",
        "f.yaml:10: spec.http[0].rewrite: has no effect in this version",
        (
            "f.yaml:11: spec.http[0].retries.retryOn: has no effect on gRPC clients, which retry on cancelled, "
            "deadline-exceeded, internal, resource-exhausted, unavailable only"
        ),
    ]
    assert documents.entries[0].resource.applies


def test_gateway_only_virtual_service_does_not_apply() -> None:
    """A VirtualService bound to gateways only must not route calls inside the mesh."""
    documents = read(
        "VirtualService",
        "  hosts: [orders]\n  gateways: [web]\n  http:\n  - route:\n    - destination: {host: orders}\n",
    )
    assert not documents.entries[0].resource.applies
    assert "there are no gateways" in str(documents.warnings[0])


def test_warmup_of_a_policy_that_cannot_warm_up_is_reported() -> None:
    """RANDOM has no slow start: the warm-up is dropped and named."""
    documents = read(
        "DestinationRule", "  host: o\n  trafficPolicy:\n    loadBalancer: {simple: RANDOM, warmup: {duration: 3s}}\n"
    )
    assert documents.entries[0].resource.policy.load_balancer.slow_start is None
    assert "only ROUND_ROBIN and LEAST_REQUEST warm up" in str(documents.warnings[0])


def test_kubectl_output_is_taken() -> None:
    """What `kubectl get -o yaml` adds to a resource is neither refused nor reported."""
    text = (
        "apiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\n"
        "metadata:\n  name: orders\n  namespace: shop\n  uid: 1-2\n  resourceVersion: '5'\n  annotations: {a: b}\n"
        "spec: {hosts: [orders], ports: [{number: 80, name: grpc}]}\nstatus: {}\n"
    )
    documents = parse(text, "f.yaml")
    assert (documents.problems, documents.warnings) == ((), ())
    assert str(documents.entries[0].id) == "ServiceEntry/shop/orders"

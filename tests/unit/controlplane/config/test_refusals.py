"""What is wrong with a document is said as `file:line: path: what`, word for word."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse

HEAD = """\
apiVersion: networking.istio.io/v1
kind: {kind}
metadata:
  name: orders
spec:
"""  # the spec starts on line 6

SERVICE = "  hosts: [orders]\n  ports:\n  - {number: 50051, name: grpc}\n"  # lines 6 to 8
ROUTE = "    route:\n    - destination: {host: orders}\n"


def refusals(text: str) -> list[str]:
    """Returns what is said about `text`."""
    return [str(problem) for problem in parse(text, "f.yaml").problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2]\n", "f.yaml:1: expected a resource with apiVersion, kind, metadata and spec"),
        ("a: 1\n", "f.yaml:1: apiVersion: required field is missing"),
        ("apiVersion: networking.istio.io/v1\n", "f.yaml:1: kind: required field is missing"),
        (
            "apiVersion: apps/v1\nkind: Deployment\n",
            (
                "f.yaml:1: apiVersion: unknown apiVersion 'apps/v1'; this version reads networking.istio.io/v1 and "
                "meshsdk.io/v1alpha1"
            ),
        ),
        (
            "\n\napiVersion: networking.istio.io/v1\nkind: Gateway\n",
            (
                "f.yaml:4: kind: unknown kind 'Gateway' of networking.istio.io/v1; known are ServiceEntry, "
                "WorkloadEntry, VirtualService, DestinationRule"
            ),
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {}\nspec: {}\n",
            "f.yaml:3: metadata.name: required field is missing",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: Orders}\nspec: {}\n",
            "f.yaml:3: metadata.name: 'Orders' is not a name (lower case letters, digits, - and .)",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: o}\nspecs: {}\n",
            "f.yaml:4: specs: unknown field, did you mean spec?",
        ),
        ("a: [1\nb: 2\n", "f.yaml:2: not YAML: did not find expected ',' or ']'"),
        ("a: 1\na: 2\n", "f.yaml:2: the key a was given before, on line 1"),
        ("a: *b\n", "f.yaml:1: the alias *b names no complete value before it"),
        (
            "a: !!python/object:os.system {}\n",
            "f.yaml:1: the tag tag:yaml.org,2002:python/object:os.system is not allowed; only plain YAML values are",
        ),
        (
            "a: !!python/name:os.system x\n",
            "f.yaml:1: the tag tag:yaml.org,2002:python/name:os.system is not allowed; only plain YAML values are",
        ),
    ],
)
def test_envelope(text: str, expected: str) -> None:
    """A document that is no resource of ours, or not YAML, is refused at the line that shows it."""
    assert refusals(text) == [expected]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("  host: [orders]\n", "6: spec.host: unknown field, did you mean hosts?"),
        ("  hosts: orders\n", "6: spec.hosts: expected a list, got the string orders"),
        ("  hosts: []\n", "6: spec.hosts: expected 1 to 1000 items, got 0"),
        ("  hosts: [orders, 7]\n", "6: spec.hosts[1]: expected a string, got the number 7; quote it"),
        ("  hosts: ['*.shop']\n", "6: spec.hosts[0]: a wildcard host is not supported; give every host its name"),
        ("  hosts: ['a/b']\n", "6: spec.hosts[0]: 'a/b' is not a host name"),
        (SERVICE.replace("orders]", "orders, orders]"), "6: spec.hosts[1]: orders is listed twice"),
        ("  hosts: [orders]\n", "6: spec.ports: required field is missing"),
        (
            SERVICE.replace("50051", "70000"),
            "8: spec.ports[0].number: expected 1 to 65535, got 70000",
        ),
        (
            SERVICE.replace("name: grpc", "name: grpc, protocol: UDP"),
            "8: spec.ports[0].protocol: expected one of GRPC, GRPC-WEB, HTTP, HTTP2, HTTPS, TCP, TLS, MONGO, got 'UDP'",
        ),
        (
            SERVICE + "  - {number: 50051, name: other}\n",
            "9: spec.ports[1]: a port with this name or number was given before",
        ),
        (
            SERVICE + "  resolution: PLAIN\n",
            "9: spec.resolution: expected one of STATIC, DNS, DNS_ROUND_ROBIN, NONE, got 'PLAIN'",
        ),
        (
            SERVICE + "  endpoints:\n  - address: 10.0.0.1\n",
            "10: spec.endpoints: endpoints need resolution: STATIC or DNS",
        ),
        (
            SERVICE + "  resolution: STATIC\n  endpoints:\n  - address: 10.0.0.1\n  - address: db.local\n",
            "12: spec.endpoints[1]: db.local is not an IP address; a host name needs resolution: DNS",
        ),
        (
            SERVICE + "  resolution: DNS\n  endpoints:\n  - address: a.local\n  - address: b.local\n",
            "11: spec.endpoints: resolution DNS takes at most one endpoint (gRFC A37, LOGICAL_DNS)",
        ),
        (
            SERVICE + "  resolution: STATIC\n  endpoints:\n  - address: unix:///run/x\n",
            "11: spec.endpoints[0].address: a Unix socket is not supported as the address of an endpoint",
        ),
        (
            SERVICE + "  resolution: STATIC\n  endpoints:\n  - {address: 10.0.0.1, weight: 0}\n",
            "11: spec.endpoints[0].weight: expected 1 to 65535, got 0",
        ),
        (
            SERVICE + "  resolution: STATIC\n  endpoints:\n  - {address: 10.0.0.1, labels: {version: 1}}\n",
            "11: spec.endpoints[0].labels[version]: expected a string, got the number 1; quote it",
        ),
        (
            SERVICE + "  resolution: STATIC\n  endpoints: []\n  workloadSelector: {labels: {app: x}}\n",
            "11: spec.workloadSelector: only one of endpoints, workloadSelector may be given",
        ),
    ],
)
def test_service_entry(spec: str, expected: str) -> None:
    """A ServiceEntry is refused at the field that cannot be used."""
    assert refusals(HEAD.format(kind="ServiceEntry") + spec) == [f"f.yaml:{expected}"]


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        ("  - match: []\n", "8: spec.http[0].route: required field is missing"),
        ("  - route: []\n", "8: spec.http[0].route: expected 1 to 1000 items, got 0"),
        (
            "  - redirect: {uri: /}\n",
            "8: spec.http[0].redirect: is not supported: a route sends calls to the destinations in `route`",
        ),
        (
            "  - route:\n    - destination: {host: orders, subst: v1}\n",
            "9: spec.http[0].route[0].destination.subst: unknown field, did you mean subset?",
        ),
        (
            "  - route:\n    - {destination: {host: orders}, weight: ten}\n",
            "9: spec.http[0].route[0].weight: expected a whole number, got the string ten",
        ),
        (
            "  - route:\n    - {destination: {host: a}, weight: 0}\n    - {destination: {host: b}}\n",
            "9: spec.http[0].route: the weights sum up to 0: no destination would ever be chosen",
        ),
        (
            "  - timeout: 5\n" + ROUTE,
            "8: spec.http[0].timeout: expected a duration such as 250ms, 2s or 1h30m, got the number 5",
        ),
        (
            "  - timeout: 999us\n" + ROUTE,
            "8: spec.http[0].timeout: expected 0s (no timeout) or at least 1ms, got 999us",
        ),
        (
            "  - retries: {attempts: 2, perTryTimeout: 1us}\n" + ROUTE,
            "8: spec.http[0].retries.perTryTimeout: expected at least 1ms and at most 3.1536e+08s, got 1us",
        ),
        (
            "  - retries: {attempts: 2, retryOn: 'unavailable,sometimes'}\n" + ROUTE,
            (
                "8: spec.http[0].retries.retryOn: unknown condition 'sometimes'; expected a status code or some of "
                "5xx, cancelled, connect-failure, deadline-exceeded, envoy-ratelimited, gateway-error, "
                "http3-post-connect-failure, internal, refused-stream, reset, reset-before-request, "
                "resource-exhausted, retriable-4xx, retriable-headers, retriable-status-codes, unavailable"
            ),
        ),
        (
            "  - match:\n    - uri: {exact: orders}\n" + ROUTE,
            (
                "9: spec.http[0].match[0].uri: 'orders' does not start with /: the path of a call is "
                "/package.Service/Method"
            ),
        ),
        (
            "  - match:\n    - uri: {exact: /a}\n" + ROUTE,
            "9: spec.http[0].match[0].uri: '/a' can match no call: a path is /package.Service/Method",
        ),
        (
            "  - match:\n    - uri: {exact: /a/b, prefix: /a}\n" + ROUTE,
            "9: spec.http[0].match[0].uri.prefix: only one of exact, prefix, regex may be given",
        ),
        (
            "  - match:\n    - uri: {regex: '('}\n" + ROUTE,
            (
                "9: spec.http[0].match[0].uri.regex: not a regular expression: missing ), unterminated subpattern at "
                "position 0"
            ),
        ),
        (
            "  - match:\n    - uri: {regex: '(?=a)b'}\n" + ROUTE,
            (
                "9: spec.http[0].match[0].uri.regex: look-around, back references and possessive repeats are not in "
                "RE2 syntax, which xDS uses"
            ),
        ),
        (
            "  - match:\n    - port: 80\n" + ROUTE,
            (
                "9: spec.http[0].match[0].port: this condition is not supported; a rule without it would take calls "
                "that are not meant for it"
            ),
        ),
        (
            "  - match:\n    - params: {'user..tier': {exact: gold}}\n" + ROUTE,
            (
                "9: spec.http[0].match[0].params[user..tier]: 'user..tier' is not a path of proto field names such as "
                "user.tier"
            ),
        ),
        (
            "  - match:\n    - headers: {'x y': {exact: a}}\n" + ROUTE,
            "9: spec.http[0].match[0].headers[x y]: 'x y' is not the name of a metadata key",
        ),
        (
            "  - match:\n    - {uri: {regex: /a/.*}, method: {exact: Get}}\n" + ROUTE,
            (
                "9: spec.http[0].match[0].method: cannot be combined with this uri; write the method into the uri, as "
                "/package.Service/Method"
            ),
        ),
    ],
)
def test_virtual_service(http: str, expected: str) -> None:
    """A VirtualService is refused at the field that cannot be used; conditions are never skipped."""
    text = HEAD.format(kind="VirtualService") + "  hosts: [orders]\n  http:\n" + http
    assert refusals(text) == [f"f.yaml:{expected}"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            "loadBalancer: {simple: PASSTHROUGH}",
            (
                "8: spec.trafficPolicy.loadBalancer.simple: PASSTHROUGH is not supported: it forwards to the address "
                "dialled, which is a name here"
            ),
        ),
        (
            "loadBalancer: {simple: FASTEST}",
            (
                "8: spec.trafficPolicy.loadBalancer.simple: expected one of LEAST_REQUEST, LEAST_CONN, ROUND_ROBIN, "
                "RANDOM, UNSPECIFIED, PASSTHROUGH, got 'FASTEST'"
            ),
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true}}",
            (
                "8: spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp: is not supported: gRPC has no "
                "queries and no source address to hash; use httpHeaderName"
            ),
        ),
        (
            "loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 10}}}",
            "8: spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: expected a prime number, got 10",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: []}}",
            (
                "8: spec.trafficPolicy.loadBalancer.localityLbSetting.failover: is not supported in this version; "
                "`enabled: true` prefers the caller's zone"
            ),
        ),
        (
            "outlierDetection: {maxEjectionPercent: 101}",
            "8: spec.trafficPolicy.outlierDetection.maxEjectionPercent: expected 0 to 100, got 101",
        ),
        (
            "connectionPool: {http: {http2MaxRequests: many}}",
            "8: spec.trafficPolicy.connectionPool.http.http2MaxRequests: expected a whole number, got the string many",
        ),
        (
            "tls: {mode: ISTIO_MUTUAL}",
            (
                "8: spec.trafficPolicy.tls.mode: only mode: DISABLE is supported in this version: calls would go out "
                "in plain text"
            ),
        ),
    ],
)
def test_destination_rule(policy: str, expected: str) -> None:
    """A DestinationRule is refused at the field that cannot be used; security settings are never skipped."""
    text = HEAD.format(kind="DestinationRule") + f"  host: orders\n  trafficPolicy:\n    {policy}\n"
    assert refusals(text) == [f"f.yaml:{expected}"]


def test_workload_entry_needs_an_ip_address() -> None:
    """A WorkloadEntry with a host name is refused, since EDS has no names."""
    text = HEAD.format(kind="WorkloadEntry") + "  address: db.local\n"
    assert refusals(text) == [
        "f.yaml:6: spec: db.local is not an IP address; the address of a WorkloadEntry must be one"
    ]


def test_every_document_is_looked_at() -> None:
    """One bad document does not hide what is wrong with the next, nor the good one between them."""
    good = HEAD.format(kind="ServiceEntry") + SERVICE
    bad = HEAD.format(kind="ServiceEntry") + "  hosts: []\n"
    documents = parse(f"{bad}---\n{good}---\n{bad}", "f.yaml")
    assert [str(problem) for problem in documents.problems] == [
        "f.yaml:6: spec.hosts: expected 1 to 1000 items, got 0",
        "f.yaml:22: spec.hosts: expected 1 to 1000 items, got 0",
    ]
    assert [entry.first_line for entry in documents.entries] == [8]

"""CallPolicy: what its fields mean, what is refused, and how policies fit to each other and to routes."""

from __future__ import annotations

import pytest

from controlplane.config.documents import Documents, parse
from controlplane.config.merge import merge
from controlplane.config.problems import ConfigurationRefused
from controlplane.model.call_policy import CallPolicy, EffectivePolicy, Ejection, StatisticalOutliers
from meshsdk.model.filters import (
    AdaptiveConcurrency,
    AdmissionControl,
    CalledCluster,
    CallerCluster,
    DescriptorLimit,
    GenericKey,
    HeaderValueMatch,
    LocalRateLimit,
    RateLimitActions,
    RateLimitService,
    RequestHeader,
    StatefulSession,
    TokenBucket,
)
from meshsdk.model.matching import HeaderMatch, PathKind, PathMatch, StringKind, StringMatch
from meshsdk.model.policy import CircuitBreakers, Hedging, RetryBudget, WeightedRoundRobin

HEAD = """\
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {{name: {name}}}
spec:
  targetRef: {{kind: Service, name: {host}}}
"""  # 5 lines
BUCKET = "{maxTokens: 10, tokensPerFill: 5, fillInterval: 1s}"
ROUTES = """\
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: orders}}
spec: {{hosts: [orders], http: [{{{}route: [{{destination: {{host: orders}}}}]}}]}}
"""


def text(spec: str, name: str = "p", host: str = "orders") -> str:
    """Returns a document; `spec` starts on its line 6."""
    lines = "".join(f"  {line}\n" for line in spec.splitlines())
    return HEAD.format(name=name, host=host) + lines


def policy(spec: str) -> CallPolicy:
    """Returns a policy that gives no warning."""
    documents = parse(text(spec), "f.yaml")
    assert (documents.problems, documents.warnings) == ((), ())
    return documents.entries[0].resource


@pytest.mark.parametrize(
    ("spec", "part", "expected"),
    [
        (
            "hedging: {delay: 50ms, maxAttempts: 3, nonFatalStatusCodes: [INTERNAL]}",
            "hedging",
            Hedging(3, 0.05, frozenset({"INTERNAL"})),
        ),
        ("hedging: {delay: 1s, maxAttempts: 2}", "hedging", Hedging(2, 1.0, frozenset({"UNAVAILABLE"}))),
        (
            f"localRateLimit: {{tokenBucket: {BUCKET}, enabledPercentage: 50, enforcedPercentage: 25}}",
            "local_rate_limit",
            LocalRateLimit(TokenBucket(10, 5, 1.0), enabled=0.5, enforced=0.25, status="RESOURCE_EXHAUSTED"),
        ),
        (
            (
                "localRateLimit: {status: UNAVAILABLE, tokenBucket: {maxTokens: 10, fillInterval: 1m}, descriptors: "
                f"[{{entries: [{{header: X-User, equals: bob}}, {{value: a, key: k}}], tokenBucket: {BUCKET}}}]}}"
            ),
            "local_rate_limit",
            LocalRateLimit(
                TokenBucket(10, 10, 60.0),
                (DescriptorLimit((("x-user", "bob"), ("k", "a")), TokenBucket(10, 5, 1.0)),),
                rate_limits=(RateLimitActions((RequestHeader("x-user", "x-user"), GenericKey("a", "k"))),),
            ),
        ),
        (
            "sessionAffinity: {cookie: {name: s, path: /a, ttl: 10s}, strict: true}",
            "session",
            StatefulSession("s", "/a", 10.0, strict=True),
        ),
        ("sessionAffinity: {cookie: {name: s}}", "session", StatefulSession("s")),
        ("priority: HIGH", "high_priority", True),
        ("priority: DEFAULT", "high_priority", False),
    ],
)
def test_parts_of_calls(spec: str, part: str, expected: object) -> None:
    """What may differ by method is read for the service, and in a rule in the same words."""
    assert getattr(policy(spec).parts, part) == expected
    rule = policy(f"rules: [{{match: {{method: /a.B/C}}, {spec}}}]").rules[0]
    assert getattr(rule.parts, part) == expected


@pytest.mark.parametrize(
    ("spec", "part", "expected"),
    [
        (
            ("adaptiveConcurrency: {samplePercentile: 0, maxConcurrency: 9, updateInterval: 1s, "
            "minRtt: {interval: 9s, requestCount: 7, jitter: 0, minConcurrency: 2, buffer: 0}}"),
            "adaptive_concurrency",
            AdaptiveConcurrency(
                sample_percentile=0, max_limit=9, interval=1.0, min_rtt_interval=9.0, min_rtt_requests=7,
                min_rtt_jitter=0.0, min_concurrency=2, min_rtt_buffer=0.0,
            ),
        ),
        ("adaptiveConcurrency: {}", "adaptive_concurrency", AdaptiveConcurrency()),
        (
            "adaptiveConcurrency: {minRtt: {fixed: 5ms}}",
            "adaptive_concurrency",
            AdaptiveConcurrency(fixed_min_rtt=0.005),
        ),
        (
            ("admissionControl: {window: 9s, threshold: 80, aggression: 2, rpsThreshold: 3, maxRejection: 50, "
            "successCodes: [OK, NOT_FOUND]}"),
            "admission_control",
            AdmissionControl(
                window=9.0, threshold=0.8, aggression=2.0, rps_threshold=3.0, max_refused=0.5,
                good=frozenset({"OK", "NOT_FOUND"}),
            ),
        ),
        ("admissionControl: {}", "admission_control", AdmissionControl()),
        ("retryBudget: {percent: 12.5, minRetryConcurrency: 0}", "retry_budget", RetryBudget(0.125, 0)),
        ("retryBudget: {}", "retry_budget", RetryBudget(0.2, 3)),
        (
            "outlierDetection: {successRate: {stdevFactor: 1.5, minimumHosts: 3, requestVolume: 9, enforcing: 50}}",
            "outliers",
            StatisticalOutliers(success_rate=Ejection(1.5, 3, 9, 50)),
        ),
        (
            "outlierDetection: {failurePercentage: {}, maxEjectionTime: 1m}",
            "outliers",
            StatisticalOutliers(failure_percentage=Ejection(85), max_ejection_time=60.0),
        ),
        (
            ("loadBalancer: {weightedRoundRobin: {outOfBand: true, reportingPeriod: 5s, blackoutPeriod: 0s, "
            "expirationPeriod: 1m, updatePeriod: 2s, errorUtilizationPenalty: 0}}"),
            "weighted",
            WeightedRoundRobin(
                out_of_band=True, oob_period=5.0, blackout=0.0, expiration=60.0, update_period=2.0, error_penalty=0.0
            ),
        ),
        (
            "circuitBreakers: {high: {maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxRetries: 0}}",
            "high",
            CircuitBreakers(1, 2, 3, 0),
        ),
        (
            "rateLimit: {domain: shop, service: limits, timeout: 50ms, failureMode: DENY}",
            "rate_limit",
            RateLimitService("shop", cluster="limits", timeout=0.05, deny_on_failure=True, status="RESOURCE_EXHAUSTED"),
        ),
        (
            "rateLimit: {domain: shop, address: '10.0.0.1:8081', status: UNAVAILABLE}",
            "rate_limit",
            RateLimitService("shop", target="10.0.0.1:8081"),
        ),
    ],
)  # fmt: skip
def test_parts_of_a_service(spec: str, part: str, expected: object) -> None:
    """What guards a service as a whole is read; defaults are Envoy's."""
    assert getattr(policy(spec).service, part) == expected


def test_entries_of_descriptors() -> None:
    """Each kind of entry becomes the action that makes it, with its key."""
    found = policy(
        "rateLimit:\n  domain: shop\n  service: limits\n  descriptors:\n"
        "  - entries: [{header: x-a}, {header: x-b, key: b, optional: true}, {value: v}, {caller: true}]\n"
        "  - entries: [{match: {headers: {x-t: {exact: gold}}, value: vip}, key: tier}, {called: true}]\n"
    )
    test = HeaderMatch("x-t", StringMatch(StringKind.EXACT, "gold"))
    assert found.parts.descriptors == (
        RateLimitActions(
            (
                RequestHeader("x-a", "x-a"),
                RequestHeader("x-b", "b", skip_if_absent=True),
                GenericKey("v"),
                CallerCluster(),
            )
        ),
        RateLimitActions((HeaderValueMatch("vip", (test,), key="tier"), CalledCluster())),
    )


def test_rules() -> None:
    """A rule is for methods, or for all of a gRPC service."""
    found = policy(
        "rules:\n- {match: {methods: [/a.B/C, /a.B/D]}, priority: HIGH}\n- {match: {service: a.B}, priority: DEFAULT}"
    )
    paths = [PathMatch(PathKind.EXACT, "/a.B/C"), PathMatch(PathKind.EXACT, "/a.B/D")]
    assert [rule.paths for rule in found.rules] == [tuple(paths), (PathMatch(PathKind.PREFIX, "/a.B/"),)]
    effective = EffectivePolicy.of([found])
    assert [(path.value, parts.high_priority) for path, parts in effective.paths] == [
        ("/a.B/C", True),
        ("/a.B/D", True),
        ("/a.B/", False),
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("rules: []", "5: spec: decides nothing; expected some of hedging, "),
        ("hedge: {}", "6: spec.hedge: unknown field"),
        ("hedging: {delay: 1s}", "6: spec.hedging.maxAttempts: required field is missing"),
        ("hedging: {delay: 1s, maxAttempts: 1}", "6: spec.hedging.maxAttempts: expected 2 to 5, got 1"),
        (
            "hedging: {delay: 1s, maxAttempts: 2, nonFatalStatusCodes: [ABORTED]}",
            "6: spec.hedging.nonFatalStatusCodes[0]: expected one of CANCELLED, DEADLINE_EXCEEDED, INTERNAL, ",
        ),
        ("localRateLimit: {}", "6: spec.localRateLimit: expected tokenBucket, for the calls that no descriptor is for"),
        (
            "localRateLimit: {tokenBucket: {maxTokens: 1, fillInterval: 10ms}}",
            "6: spec.localRateLimit.tokenBucket.fillInterval: expected at least 50ms",
        ),
        (
            f"localRateLimit: {{tokenBucket: {BUCKET}, descriptors: [{{entries: [{{}}], tokenBucket: {BUCKET}}}]}}",
            "6: spec.localRateLimit.descriptors[0].entries[0]: expected one of header, match, value, caller, called",
        ),
        (
            (
                f"localRateLimit: {{tokenBucket: {BUCKET}, descriptors: [{{entries: [{{header: a}}], "
                f"tokenBucket: {BUCKET}}}"
                f", {{entries: [{{header: a}}], tokenBucket: {BUCKET}}}]}}"
            ),
            "6: spec.localRateLimit.descriptors[1]: a descriptor with these entries was given before",
        ),
        ("rateLimit: {domain: a}", "6: spec.rateLimit: expected service (one of the mesh) or address (host:port)"),
        ("rateLimit: {domain: a, address: b}", "6: spec.rateLimit.address: 'b' is not an address such as "),
        (
            "rateLimit: {domain: a, service: b, descriptors: [{entries: [{header: a, equals: b}]}]}",
            "6: spec.rateLimit.descriptors[0].entries[0].equals: is for headers of local limits; ",
        ),
        (
            "rateLimit: {domain: a, service: b, descriptors: [{entries: [{caller: true, key: b}]}]}",
            "6: spec.rateLimit.descriptors[0].entries[0].key: cannot be given: the key is source_cluster",
        ),
        (
            "adaptiveConcurrency: {minRtt: {fixed: 1ms, interval: 9s}}",
            "6: spec.adaptiveConcurrency.minRtt.interval: has no meaning beside fixed",
        ),
        ("outlierDetection: {}", "6: spec.outlierDetection: expected some of successRate, failurePercentage"),
        (
            "loadBalancer: {weightedRoundRobin: {reportingPeriod: 1s}}",
            "6: spec.loadBalancer.weightedRoundRobin.reportingPeriod: needs outOfBand: true",
        ),
        ("circuitBreakers: {high: {}}", "6: spec.circuitBreakers.high: expected some of maxConnections"),
        ("sessionAffinity: {cookie: {name: 'a b'}}", "6: spec.sessionAffinity.cookie.name: 'a b' is not the name of"),
        ("rules: [{match: {}, priority: HIGH}]", "6: spec.rules[0].match: expected one of method, methods, service"),
        ("rules: [{match: {method: a.B/C}, priority: HIGH}]", "6: spec.rules[0].match.method: 'a.B/C' is not the path"),
        ("rules: [{match: {service: a.B}}]", "6: spec.rules[0]: decides nothing; expected some of hedging, "),
        (
            "rules: [{match: {service: a.B}, retryBudget: {}}]",
            "6: spec.rules[0].retryBudget: is for all calls of the service: give it in spec, not in a rule",
        ),
        (
            "rules:\n- {match: {method: /a.B/C}, priority: HIGH}\n- {match: {method: /a.B/C}, priority: DEFAULT}",
            "8: spec.rules[1]: the rule on line 7 decides this for /a.B/C too",
        ),
    ],
)
def test_refused(spec: str, expected: str) -> None:
    """What is wrong is said with its line and its path."""
    (problem,) = parse(text(spec), "f.yaml").problems
    assert str(problem).startswith(f"f.yaml:{expected}")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("{kind: Deployment, name: a}", "5: spec.targetRef.kind: expected one of Service, got 'Deployment'"),
        ("{name: a, group: apps}", "5: spec.targetRef.group: expected none: a Service is of the core group"),
        ("{kind: Service}", "5: spec.targetRef.name: required field is missing"),
    ],
)
def test_refused_targets(target: str, expected: str) -> None:
    """A policy is for one service, as Gateway API's policies name it."""
    found = text("priority: HIGH").replace("{kind: Service, name: orders}", target)
    assert [str(problem) for problem in parse(found, "f.yaml").problems] == [f"f.yaml:{expected}"]


# -- beside others ----------------------------------------------------------------------------------------------------


def refusals(*documents: str) -> list[str]:
    """Returns why documents cannot be used together."""
    with pytest.raises(ConfigurationRefused) as refused:
        merge(joined(*documents))
    return [str(problem) for problem in refused.value.problems]


def joined(*documents: str) -> Documents:
    """Parses documents of one file."""
    return parse("---\n".join(documents), "f.yaml")


def test_policies_for_different_things_are_joined() -> None:
    """Several policies of one service are in force together, as long as no two decide one thing."""
    found = merge(
        joined(
            text("hedging: {delay: 1s, maxAttempts: 2}", "a"),
            text("priority: HIGH\nretryBudget: {}", "b"),
            text("rules: [{match: {method: /a.B/C}, priority: DEFAULT}]", "c"),
        )
    ).configuration.calls_of("orders")
    assert (found.parts.hedging.max_attempts, found.parts.high_priority) == (2, True)
    assert found.service.retry_budget == RetryBudget()
    assert [parts.high_priority for _, parts in found.paths] == [False]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (
            "priority: HIGH",
            "priority: HIGH",
            (
                "f.yaml:12: spec.priority: conflict: CallPolicy/b and CallPolicy/a (in f.yaml:5) both say priority for "
                "the service orders; merge them into one"
            ),
        ),
        (
            "rules: [{match: {method: /a.B/C}, priority: HIGH}]",
            "rules: [{match: {methods: [/a.B/D, /a.B/C]}, priority: HIGH}]",
            (
                "f.yaml:13: spec.rules[0].priority: conflict: CallPolicy/b and CallPolicy/a (in f.yaml:5) both say "
                "priority for /a.B/C of orders; merge them into one"
            ),
        ),
        (
            "retryBudget: {}",
            "retryBudget: {percent: 1}",
            (
                "f.yaml:12: spec.retryBudget: conflict: CallPolicy/b and CallPolicy/a (in f.yaml:5) both say "
                "retryBudget for the service orders; merge them into one"
            ),
        ),
    ],
)
def test_two_policies_for_one_thing_are_refused(one: str, other: str, expected: str) -> None:
    """Of two that decide one thing for the same calls, the second is refused, with both names."""
    assert refusals(text(one, "a"), text(other, "b")) == [expected]


def test_policies_of_two_services_do_not_meet() -> None:
    """The same words for another service are no conflict."""
    found = merge(joined(text("priority: HIGH", "a"), text("priority: HIGH", "b", "users")))
    assert set(found.configuration.calls) == {"orders", "users"}


def test_unknown_services() -> None:
    """Target and rate limit service must be known, or be names that an application may yet register."""
    found = text("rateLimit: {domain: a, service: c.d}", host="a.b")
    assert refusals(found) == [
        "f.yaml:5: spec.targetRef.name: unknown host a.b: no ServiceEntry has it",
        "f.yaml:5: spec.rateLimit.service: unknown host c.d: no ServiceEntry has it",
    ]
    assert merge(joined(text("rateLimit: {domain: a, service: c}"))).configuration.hosts() == {"orders", "c"}


def test_a_rate_limit_service_is_not_asked_about_itself() -> None:
    """A policy cannot have the service that it is for asked about calls of that service."""
    assert refusals(text("rateLimit: {domain: a, service: orders, descriptors: [{entries: [{value: a}]}]}")) == [
        (
            "f.yaml:5: spec.rateLimit.service: is the service that the policy is for: each question would ask itself "
            "whether it may be asked"
        )
    ]


def test_a_rate_limit_without_questions_is_reported() -> None:
    """Where no policy of the service has descriptors, in spec or in a rule, nothing is asked, and that is said."""
    asked = text("rateLimit: {domain: a, service: c}", "a")
    rule = text("rules: [{match: {method: /a.B/C}, rateLimit: {descriptors: [{entries: [{value: a}]}]}}]", "b")
    own = text("rateLimit: {domain: a, service: c, descriptors: [{entries: [{value: a}]}]}", "c")

    def told(*documents: str) -> list[str]:
        return [str(each) for each in merge(joined(*documents)).warnings() if "no ServiceEntry" not in str(each)]

    what = "has no effect: no CallPolicy for orders has descriptors, so nothing is ever asked"
    assert told(asked) == [f"f.yaml:5: spec.rateLimit: {what}"]
    assert told(asked, rule) == told(own) == []


def test_descriptors_of_a_rule_need_whom_to_ask() -> None:
    """A rule cannot name a rate limit service: some policy of the service has to."""
    rule = text("rules: [{match: {method: /a.B/C}, rateLimit: {descriptors: [{entries: [{value: a}]}]}}]", "a")
    (problem,) = refusals(rule)
    assert problem.startswith("f.yaml:6: spec.rules[0]: rateLimit of a rule needs spec.rateLimit")
    assert merge(joined(rule, text("rateLimit: {domain: a, service: c}", "b"))).configuration.calls_of("orders").paths


def test_rules_for_a_service_beside_a_pattern() -> None:
    """Where a route matches by a pattern, no path says which of its calls are of a gRPC service: methods do."""
    routes = ROUTES.format("match: [{uri: {regex: '/a[.].*'}}], ")
    (problem,) = refusals(text("rules: [{match: {service: a.B}, priority: HIGH}]") + routes)
    assert problem.startswith("f.yaml:6: spec.rules[0]: match.service cannot be told from the pattern /a[.].* of the")
    assert merge(joined(text("rules: [{match: {method: /a.B/C}, priority: HIGH}]") + routes))


def test_what_stands_over_what_is_reported() -> None:
    """Retries of a route stand over hedging, and a policy's load balancer over a DestinationRule's: both are said."""
    rule = (
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: orders}\n"
        "spec: {host: orders, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n"
    )
    own = text("hedging: {delay: 1s, maxAttempts: 2}\nloadBalancer: {weightedRoundRobin: {}}")
    found = [str(each) for each in merge(joined(own + ROUTES.format("retries: {attempts: 1}, ") + rule)).warnings()]
    told = [each for each in found if "no ServiceEntry" not in each]
    assert told == [
        (
            "f.yaml:5: spec: hedging of CallPolicy/p has no effect on calls of the rule in f.yaml:12, whose retries "
            "stand over it"
        ),
        (
            "f.yaml:17: spec.trafficPolicy: the policy in loadBalancer of DestinationRule/orders has no effect: "
            "CallPolicy/p in f.yaml:5 stands over it"
        ),
    ]


def test_methods_times_matches_are_limited() -> None:
    """Every method has a route for each match: more than can be served are refused, at the policy and at the routes."""
    matches = ", ".join(f"{{headers: {{x: {{exact: a{index}}}}}}}" for index in range(300))
    methods = ", ".join(f"/a.B/M{index}" for index in range(70))
    rule = text(f"rules: [{{match: {{methods: [{methods}]}}, priority: HIGH}}]")
    found = refusals(rule + ROUTES.format(f"match: [{matches}], "))
    assert len(found) == 2
    assert all("make about 21300 routes" in each for each in found)

"""The one YAML of all rows: a service for each policy, all with the same five endpoints."""

from __future__ import annotations

from collections.abc import Mapping

NAMES = ("e0", "e1", "e2", "e3", "e4")
SERVICES = (
    *("plain", "tried", "waited", "timed", "streak", "crowd", "away", "share", "ring"),
    *("aborted", "unheard", "delayed", "weighted", "full", "late"),
)
RETRIES = 3
RETRY_ON = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
BACKOFF = 0.1  # seconds, of the service `waited`
STREAK = 5
EJECTED = 40  # per cent at most
EJECTION = 2.0  # seconds
ABORTED, DELAYED = 30, 20  # per cent
LOADS = {"e0": 0.9, "e1": 0.45, "e2": 0.3, "e3": 0.3, "e4": 0.3}  # weights 1, 2, 3, 3, 3
RUNNING = 5

_ENTRY = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  ports: [{{number: 50051, name: grpc}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
"""
_ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{name}], http: [{{route: [{{destination: {{host: {name}}}}}], {words}}}]}}
---
"""
_RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {name}, trafficPolicy: {{{words}}}}}
---
"""
_POLICY = """\
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {{name: {name}}}
spec: {{targetRef: {{kind: Service, name: {name}}}, {words}}}
---
"""


def text(ports: Mapping[str, int]) -> str:
    """Returns the YAML for endpoints on these ports of this machine."""
    endpoints = ", ".join(f"{{address: 127.0.0.1, ports: {{grpc: {port}}}}}" for port in ports.values())
    retry = "unavailable,resource-exhausted"
    streak = f"consecutive5xxErrors: {STREAK}, interval: 500ms, baseEjectionTime: {EJECTION:g}s"
    parts = [
        *(_ENTRY.format(name=name, endpoints=endpoints) for name in SERVICES),
        _route("tried", f"retries: {{attempts: {RETRIES}, retryOn: '{retry}', backoff: 10ms}}"),
        _route("waited", f"retries: {{attempts: {RETRIES}, retryOn: '{retry}', backoff: {BACKOFF * 1000:g}ms}}"),
        _rule("waited", "connectionPool: {http: {maxRetries: 1000}}"),  # Envoy's default lets three run at a time
        _route("timed", "retries: {attempts: 1, perTryTimeout: 500ms, retryOn: 'deadline-exceeded,5xx'}"),
        *(
            _rule(name, f"outlierDetection: {{{streak}, maxEjectionPercent: {EJECTED}}}")
            for name in ("streak", "crowd", "away")  # one for each row, so that no row has to wait for another's end
        ),
        _rule(
            "share", f"outlierDetection: {{consecutive5xxErrors: 0, interval: 500ms, maxEjectionPercent: {EJECTED}}}"
        ),
        _policy("share", "outlierDetection: {failurePercentage: {threshold: 50, minimumHosts: 3, requestVolume: 10}}"),
        _rule("ring", "loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 1024}}}"),
        _route("aborted", f"fault: {{abort: {{percentage: {{value: {ABORTED}}}, grpcStatus: DATA_LOSS}}}}"),
        _route("unheard", "fault: {abort: {percentage: {value: 100}, httpStatus: 404}}"),
        _route("delayed", f"fault: {{delay: {{percentage: {{value: {DELAYED}}}, fixedDelay: 60s}}}}"),
        _policy("weighted", "loadBalancer: {weightedRoundRobin: {blackoutPeriod: 100ms, updatePeriod: 100ms}}"),
        _rule("full", f"connectionPool: {{http: {{http2MaxRequests: {RUNNING}}}}}"),
        _route("late", "timeout: 500ms"),
    ]
    return "".join(parts)


def _route(name: str, words: str) -> str:
    return _ROUTE.format(name=name, words=words)


def _rule(name: str, words: str) -> str:
    return _RULE.format(name=name, words=words)


def _policy(name: str, words: str) -> str:
    return _POLICY.format(name=name, words=words)

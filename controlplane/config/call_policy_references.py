"""Whether CallPolicies fit to each other, to routes and to load balancing. Called by `references`. Pure.

Of two that decide one thing for the same calls, the one that stands first is in force, and the other is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.config.policy_references import MOST_ROUTES, route_count
from controlplane.config.problems import Problem
from controlplane.model.call_policy import PART_NAMES, CallPolicy
from controlplane.model.configuration import Configuration
from controlplane.model.identity import Origin
from meshsdk.model.matching import PathKind


def called_hosts(policy: CallPolicy) -> Iterator[tuple[str, Origin]]:
    """Yields the services that a policy names, each with its place."""
    yield policy.host, Origin(policy.origin.file, policy.origin.line, "spec.targetRef.name")
    if policy.service.rate_limit and policy.service.rate_limit.cluster:
        yield (
            policy.service.rate_limit.cluster,
            Origin(policy.origin.file, policy.origin.line, "spec.rateLimit.service"),
        )


def unfit(policy: CallPolicy, configuration: Configuration) -> Iterator[Problem]:
    """Yields what stands against a policy."""
    yield from _decided_before(policy, configuration)
    if not configuration.calls_of(policy.host).service.rate_limit:
        for rule in policy.rules:
            if rule.parts.descriptors:
                what = "rateLimit of a rule needs spec.rateLimit, which says whom to ask, in a CallPolicy for"
                yield Problem(rule.origin, f"{what} {policy.host}")
    yield from _asked_of_itself(policy)
    yield from _beside_patterns(policy, configuration)
    total = route_count(policy.host, configuration)
    if total > MOST_ROUTES:
        what = (
            f"the methods of CallPolicies make about {total} routes of {policy.host}; at most {MOST_ROUTES} are served"
        )
        yield Problem(policy.origin, what)


def _asked_of_itself(policy: CallPolicy) -> Iterator[Problem]:
    asked = policy.service.rate_limit
    if asked and asked.cluster == policy.host:
        what = "is the service that the policy is for: each question would ask itself whether it may be asked"
        yield Problem(Origin(policy.origin.file, policy.origin.line, "spec.rateLimit.service"), what)


def _decided_before(policy: CallPolicy, configuration: Configuration) -> Iterator[Problem]:
    taken: dict[tuple[str, str], CallPolicy] = {}
    for other in configuration.calls.get(policy.host, ()):
        if other.id == policy.id:
            break
        taken |= {(path, part): other for path, part, _ in other.claims()}
    for path, part, place in policy.claims():
        first = taken.get((path, part))
        if first is not None:
            calls = f"{path} of {policy.host}" if path else f"the service {policy.host}"
            what = f"{policy.id} and {first.id} (in {first.origin}) both say {PART_NAMES[part]} for {calls}"
            yield Problem(place, f"conflict: {what}; merge them into one")
            return


def _beside_patterns(policy: CallPolicy, configuration: Configuration) -> Iterator[Problem]:
    """Yields rules for a gRPC service where routes match by a pattern: no path says where the two meet."""
    service = configuration.virtual_services.get(policy.host)
    for route in service.routes if service else ():
        for match in route.matches:
            if match.path.kind is not PathKind.REGEX or match.impossible:
                continue
            for rule in policy.rules:
                if any(path.kind is PathKind.PREFIX for path in rule.paths):
                    pattern = f"the pattern {match.path.value} of the rule in {match.origin}"
                    yield Problem(rule.origin, f"match.service cannot be told from {pattern}; list match.methods")
                    return


def idle(policy: CallPolicy, configuration: Configuration) -> Iterator[Problem]:
    """Yields what has no effect: of a policy beside routes, and of a DestinationRule beside the policy."""
    calls = configuration.calls_of(policy.host)
    if policy.service.rate_limit and not (calls.parts.descriptors or any(part.descriptors for _, part in calls.paths)):
        what = f"has no effect: no CallPolicy for {policy.host} has descriptors, so nothing is ever asked"
        yield Problem(Origin(policy.origin.file, policy.origin.line, "spec.rateLimit"), what)
    service = configuration.virtual_services.get(policy.host)
    hedged = policy.parts.hedging or any(rule.parts.hedging for rule in policy.rules)
    for route in service.routes if service and hedged else ():
        if route.retries:
            where = f"calls of the rule in {route.origin}, whose retries stand over it"
            yield Problem(policy.origin, f"hedging of {policy.id} has no effect on {where}")
    rule = configuration.rules.get(policy.host)
    balancers = [each.load_balancer for each in (rule.policy, *(part.policy for part in rule.subsets))] if rule else []
    if rule and policy.service.weighted and any(balancers):
        what = f"the policy in loadBalancer of {rule.id} has no effect: {policy.id} in {policy.origin} stands over it"
        yield Problem(Origin(rule.origin.file, rule.origin.line, "spec.trafficPolicy"), what)

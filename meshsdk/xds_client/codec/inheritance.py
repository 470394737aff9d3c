"""What route configurations and virtual hosts say for the routes below them. Called by `route` and `action`.

Each level says anew (retry policy, hedging, mirrors: the most specific that says something counts), or adds (header
edits, in Envoy's order; rate limits, where the route asks for them). Spec: envoy.config.route.v3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from meshsdk.model.filters import HeaderEdit, RateLimitActions
from meshsdk.model.policy import Hedging, Mirror, RetryPolicy
from meshsdk.xds_client.codec import retry
from meshsdk.xds_client.codec.header_edits import edits
from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.rate_limit_actions import rate_limits
from meshsdk.xds_client.codec.runtime_values import DEFAULT_ONLY, fraction
from meshsdk.xds_client.codec.values import required

EDITS: Honoured = {
    "request_headers_to_add": None,
    "request_headers_to_remove": None,
    "response_headers_to_add": None,
    "response_headers_to_remove": None,
}
_MIRROR: Honoured = {"cluster": None, "runtime_fraction": DEFAULT_ONLY}
CONFIGURATION: Honoured = {
    **EDITS,
    "most_specific_header_mutations_wins": None,
    "request_mirror_policies": _MIRROR,
}
HOST: Honoured = {
    **EDITS,
    "retry_policy": retry.HONOURED,
    "hedge_policy": retry.HEDGING,
    "request_mirror_policies": _MIRROR,
    "rate_limits": None,  # lists for itself
}
ACTION: Honoured = {
    "retry_policy": retry.HONOURED,
    "hedge_policy": retry.HEDGING,
    "request_mirror_policies": _MIRROR,
    "rate_limits": None,
    "include_vh_rate_limits": None,
    "priority": None,
}


@dataclass(frozen=True, slots=True)
class Level:
    """What has been said down to some level. `hedge`: an envoy.config.route.v3.HedgePolicy or None.

    `specific_last`: a more specific edit runs after the others, not before.
    """

    retry: RetryPolicy | None = None
    hedge: Any = None
    mirrors: tuple[Mirror, ...] = ()
    rate_limits: tuple[RateLimitActions, ...] = ()
    request_edits: tuple[HeaderEdit, ...] = ()
    response_edits: tuple[HeaderEdit, ...] = ()
    specific_last: bool = False

    def edited(self, message: Any, path: str, noted: set[str], listed: str) -> Level:
        """Returns the level below, which edits headers as `message` says."""
        if not any(len(getattr(message, name)) for name in EDITS):
            return self  # nearly always
        requests, responses = own_edits(message, path, noted, listed)
        if self.specific_last:
            return replace(
                self, request_edits=self.request_edits + requests, response_edits=self.response_edits + responses
            )
        return replace(
            self, request_edits=requests + self.request_edits, response_edits=responses + self.response_edits
        )


def own_edits(
    message: Any, path: str, noted: set[str], listed: str
) -> tuple[tuple[HeaderEdit, ...], tuple[HeaderEdit, ...]]:
    """Returns the edits of requests and of responses that one message asks for; paths are empty or end in a dot."""
    return (
        edits(
            message.request_headers_to_add,
            message.request_headers_to_remove,
            f"{path}request_headers",
            noted,
            f"{listed}request_headers",
        ),
        edits(
            message.response_headers_to_add,
            message.response_headers_to_remove,
            f"{path}response_headers",
            noted,
            f"{listed}response_headers",
        ),
    )


def of_configuration(message: Any, noted: set[str]) -> Level:
    """Returns what a RouteConfiguration says."""
    level = Level(
        mirrors=_mirrors(message.request_mirror_policies, "request_mirror_policies"),
        specific_last=message.most_specific_header_mutations_wins,
    )
    return level.edited(message, "", noted, "")


def of_host(host: Any, above: Level, path: str, noted: set[str], listed: str) -> Level:
    """Returns what a VirtualHost says."""
    level = above
    if host.HasField("retry_policy"):
        level = replace(level, retry=retry.retry_policy(host.retry_policy, f"{path}.retry_policy"))
        noted.update(f"{listed}.retry_policy.{one}" for one in retry.without_effect(host.retry_policy))
    if host.HasField("hedge_policy"):
        level = replace(level, hedge=host.hedge_policy)
    mirrors = _mirrors(host.request_mirror_policies, f"{path}.request_mirror_policies")
    limits = rate_limits(host.rate_limits, f"{path}.rate_limits", noted, f"{listed}.rate_limits")
    level = replace(level, mirrors=mirrors or level.mirrors, rate_limits=limits)
    return level.edited(host, f"{path}.", noted, f"{listed}.")


def of_action(action: Any, above: Level, path: str, noted: set[str], listed: str) -> Level:
    """Returns what a RouteAction says."""
    level = above
    if action.HasField("retry_policy"):
        level = replace(level, retry=retry.retry_policy(action.retry_policy, f"{path}.retry_policy"))
        noted.update(f"{listed}.retry_policy.{one}" for one in retry.without_effect(action.retry_policy))
    if action.HasField("hedge_policy"):
        level = replace(level, hedge=action.hedge_policy)
    if level.hedge is not None:
        where = listed if action.HasField("hedge_policy") else listed.partition(".")[0]
        without = retry.hedging_without_effect(level.hedge, level.retry)
        noted.update(f"{where}.hedge_policy.{one}" for one in without)
    if action.request_mirror_policies:
        mirrors = _mirrors(action.request_mirror_policies, f"{path}.request_mirror_policies")
        level = replace(level, mirrors=mirrors or level.mirrors)
    if action.rate_limits:
        limits = rate_limits(action.rate_limits, f"{path}.rate_limits", noted, f"{listed}.rate_limits")
        inherited = above.rate_limits if action.include_vh_rate_limits.value else ()
        level = replace(level, rate_limits=limits + inherited)
    return level


def hedging(level: Level) -> Hedging | None:
    """Returns the hedging of a route, None for none."""
    return None if level.hedge is None else retry.hedging(level.hedge, level.retry)


def _mirrors(policies: Any, path: str) -> tuple[Mirror, ...]:
    """Returns RequestMirrorPolicies. One whose cluster a header names is listed, one that mirrors no call left out."""
    found = []
    for i, policy in enumerate(policies):
        if policy.cluster_header:
            continue
        cluster = required(policy.cluster, f"{path}[{i}].cluster")
        share = fraction(policy, "runtime_fraction", f"{path}[{i}]", 1.0)
        if share > 0:
            found.append(Mirror(cluster, share))
    return tuple(found)


def inherited(above: Level, level: Level) -> frozenset[str]:
    """Returns the names of what a route has from the virtual host, or the configuration, `above` it."""
    found = {
        "retry": level.retry is not None and level.retry is above.retry,
        "hedging": level.hedge is not None and level.hedge is above.hedge,
        "mirrors": bool(level.mirrors) and level.mirrors is above.mirrors,
        "rate_limits": bool(level.rate_limits) and level.rate_limits == above.rate_limits,
    }
    return frozenset(name for name, is_inherited in found.items() if is_inherited)

"""RateLimit of a route or a filter -> `RateLimitActions`. Called by `inheritance` and `filters.limits`.

Spec: envoy.config.route.v3.RateLimit. An entry that cannot be made here leaves out its whole descriptor, as Envoy does
where an action yields nothing: such limits are listed, and never widened.
"""

from __future__ import annotations

from typing import Any

from meshsdk.model.filters import (
    CalledCluster,
    CallerCluster,
    DescriptorAction,
    GenericKey,
    HeaderValueMatch,
    RateLimitActions,
    RequestHeader,
)
from meshsdk.xds_client.codec.ignored import unhonoured
from meshsdk.xds_client.codec.matching import header_matches
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.values import required

_STAGES = 10  # the highest
_KNOWN = frozenset({"generic_key", "request_headers", "header_value_match", "source_cluster", "destination_cluster"})


def rate_limits(limits: Any, path: str, noted: set[str], listed: str) -> tuple[RateLimitActions, ...]:
    """Returns the limits that can be asked about here; `noted` gets what has no effect, below `listed`."""
    found = []
    for i, limit in enumerate(limits):
        where = f"{path}[{i}]"
        if limit.stage.value > _STAGES:
            raise FieldError(f"{where}.stage", f"{limit.stage.value} is more than {_STAGES}")
        if not limit.actions:
            raise FieldError(f"{where}.actions", "is empty")
        noted.update(unhonoured(limit, {"stage": None, "actions": None}, listed))
        kinds = [one.WhichOneof("action_specifier") or "action_specifier" for one in limit.actions]
        unknown = [kind for kind in kinds if kind not in _KNOWN]
        if unknown or limit.apply_on_stream_done:
            noted.update(f"{listed}.actions.{kind}" for kind in unknown)
            continue
        actions = tuple(_action(one, f"{where}.actions[{j}]") for j, one in enumerate(limit.actions))
        found.append(RateLimitActions(actions, limit.stage.value, limit.disable_key))
    return tuple(found)


def _action(action: Any, path: str) -> DescriptorAction:
    kind = action.WhichOneof("action_specifier")
    said, where = getattr(action, kind), f"{path}.{kind}"
    if kind == "source_cluster":
        return CallerCluster()
    if kind == "destination_cluster":
        return CalledCluster()
    if kind == "generic_key":
        return GenericKey(
            required(said.descriptor_value, f"{where}.descriptor_value"), said.descriptor_key or GenericKey("").key
        )
    if kind == "request_headers":
        return RequestHeader(
            required(said.header_name, f"{where}.header_name").lower(),
            required(said.descriptor_key, f"{where}.descriptor_key"),
            said.skip_if_absent,
        )
    if not said.headers:
        raise FieldError(f"{where}.headers", "is empty")
    return HeaderValueMatch(
        required(said.descriptor_value, f"{where}.descriptor_value"),
        header_matches(said.headers, f"{where}.headers"),
        said.expect_match.value if said.HasField("expect_match") else True,
        said.descriptor_key or HeaderValueMatch("", ()).key,
    )

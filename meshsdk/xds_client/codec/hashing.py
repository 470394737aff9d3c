"""RouteAction.hash_policy -> `HashPolicy` (gRFC A42). Called by `action`; hashes nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshsdk.model.policy import HashChannelId, HashHeader, HashPolicy
from meshsdk.routing.regex import compile_rewrite
from meshsdk.xds_client.codec.refusal import FieldError, cut
from meshsdk.xds_client.codec.strings import regex
from meshsdk.xds_client.codec.values import required

_CHANNEL_ID = "io.grpc.channel_id"


def hash_policies(policies: Any, path: str) -> tuple[HashPolicy, ...]:
    """Returns the policies that gRPC honours, in order; A42 skips the others (`unhonoured_policies`)."""
    return tuple(_one(policy, f"{path}[{i}]") for i, policy in enumerate(policies) if _is_honoured(policy))


def unhonoured_policies(policies: Any) -> Iterator[str]:
    """Yields the kinds of the policies that are skipped."""
    for policy in policies:
        if not _is_honoured(policy):
            yield policy.WhichOneof("policy_specifier") or "policy_specifier"


def _is_honoured(policy: Any) -> bool:
    kind = policy.WhichOneof("policy_specifier")
    return kind == "header" or bool(kind == "filter_state" and policy.filter_state.key == _CHANNEL_ID)


def _one(policy: Any, path: str) -> HashPolicy:
    if policy.WhichOneof("policy_specifier") == "filter_state":
        return HashChannelId(terminal=policy.terminal)
    header = policy.header
    pattern, substitution = None, ""
    if header.HasField("regex_rewrite"):
        where = f"{path}.header.regex_rewrite"
        pattern, substitution = (
            regex(header.regex_rewrite.pattern, f"{where}.pattern"),
            header.regex_rewrite.substitution,
        )
        try:
            compile_rewrite(pattern, substitution)
        except ValueError as error:
            raise FieldError(f"{where}.substitution", cut(str(error))) from error
    name = required(header.header_name, f"{path}.header.header_name").lower()
    return HashHeader(name, pattern, substitution, policy.terminal)

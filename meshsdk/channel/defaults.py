"""What a server says of its own methods (`@meshsdk.rpc`), put below what the route says. Pure.

Called by `stack.Routes` as it chooses a lane, for clusters whose instances published such options.
"""

from __future__ import annotations

from dataclasses import replace

from meshsdk.model.policy import RetryPolicy, RpcDefaults
from meshsdk.model.resources import Forward

_NO_CAP = 0.0
IDEMPOTENT = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, avoid_previous=True, avoid_attempts=5)
"""How a call that may be executed twice is retried where nobody says more.

Five draws for an endpoint that it has not tried, as the control plane gives routes: one would often go where it failed.
"""


def defaulted(forward: Forward, said: RpcDefaults) -> Forward:
    """Returns the route's action with what it leaves open filled in from the server's word.

    A retry policy of the route stands, whatever it says. The server's timeout is for calls that bring no deadline of
    their own, to a route without a cap.
    """
    if forward.retry is None:
        retry = said.retry or (IDEMPOTENT if said.idempotent else None)
        forward = forward if retry is None else replace(forward, retry=retry)
    if forward.max_duration is None and said.timeout is not None:
        forward = replace(forward, max_duration=said.timeout, header_max_duration=_NO_CAP)
    return forward

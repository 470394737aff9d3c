"""Session affinity to Envoy's `stateful_session` filter with a cookie (gRFC A55). Pure; used by `http_filters`."""

from __future__ import annotations

from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2

from controlplane.translate.durations import duration
from controlplane.translate.packing import packed
from meshsdk.model.filters import StatefulSession


def stateful_session(value: StatefulSession) -> stateful_session_pb2.StatefulSession:
    """Returns the wire form. Without a `ttl` the cookie lasts as long as the session."""
    state = cookie_pb2.CookieBasedSessionState()
    state.cookie.name, state.cookie.path = value.name, value.path
    if value.ttl:
        state.cookie.ttl.CopyFrom(duration(value.ttl))
    message = stateful_session_pb2.StatefulSession(strict=value.strict)
    message.session_state.name = "envoy.http.stateful_session.cookie"
    message.session_state.typed_config.CopyFrom(packed(state))
    return message

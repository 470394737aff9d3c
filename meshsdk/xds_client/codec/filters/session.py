"""StatefulSession and StatefulSessionPerRoute -> `StatefulSession` (gRFC A55). Called by `http_filters`."""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2

from meshsdk.model.filters import StatefulSession
from meshsdk.xds_client.codec.ignored import unhonoured
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.typed_struct import unpacked
from meshsdk.xds_client.codec.values import required, seconds

MESSAGE = stateful_session_pb2.StatefulSession
PER_ROUTE = stateful_session_pb2.StatefulSessionPerRoute
_COOKIE = "envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState"
_COOKIE_FIELDS = {"cookie": {"name": None, "ttl": None, "path": None}}


def stateful_session(message: Any, path: str, noted: set[str], listed: str) -> StatefulSession:
    """Returns a StatefulSession; without a `session_state` it does nothing (A55)."""
    noted.update(unhonoured(message, {"session_state": None, "strict": None, "stat_prefix": None}, listed))
    if not message.HasField("session_state"):
        return StatefulSession(enabled=False)
    where = f"{path}.session_state.typed_config"
    packed = unpacked(message.session_state.typed_config, where)
    if packed.name != _COOKIE:
        raise FieldError(where, f"{shown(packed.name)} is not supported; only CookieBasedSessionState is (gRFC A55)")
    state = packed.message(cookie_pb2.CookieBasedSessionState, where)
    noted.update(unhonoured(state, _COOKIE_FIELDS, f"{listed}.session_state"))
    cookie, place = state.cookie, f"{where}.cookie"
    return StatefulSession(
        name=required(cookie.name, f"{place}.name"),
        path=cookie.path,
        ttl=seconds(cookie.ttl, f"{place}.ttl"),
        strict=message.strict,
    )


def stateful_session_route(message: Any, path: str, noted: set[str], listed: str) -> StatefulSession | None:
    """Returns what a route says in place of the listener; None: no sessions."""
    kind = message.WhichOneof("override")
    if kind == "stateful_session":
        return stateful_session(message.stateful_session, f"{path}.{kind}", noted, f"{listed}.{kind}")
    if kind is None or not message.disabled:
        raise FieldError(path, "says neither disabled: true nor stateful_session")
    return None

"""The access log: one line of JSON for each call that is chosen, with where it went and why it ended.

Written to the logger `meshsdk.access` at level INFO as the call ends. Around another observation, or none. No metadata
value is ever written but those of keys that the application named.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from meshsdk.errors import ConfigurationError
from meshsdk.model.resources import Locality
from meshsdk.telemetry.port import AttemptObservation, Attributes, CallObservation, CallObserver, Metadata

_LOG = logging.getLogger("meshsdk.access")
_VALUE = 256  # characters kept of a metadata value and of a status's details
_ATTEMPTS = 16  # attempts of a call that are written one by one


def write_somewhere() -> None:
    """Has the logger write to stderr, unless the application has set it up (or one above it) so that lines go anywhere.

    For processes that only the environment has asked for the log: `logging` throws INFO away by default.
    """
    if _LOG.level > logging.INFO or (_LOG.isEnabledFor(logging.INFO) and _LOG.hasHandlers()):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False  # else a handler above, which was set up for warnings, would write each line again


@dataclass(frozen=True, slots=True)
class AccessLog:
    """Which calls are logged: a `sample` of all (0 to 1), or of those of a route (`routes`: by the route's name).

    `errors`: calls that do not end OK are all logged; every call is watched for that. `metadata`: lower-case keys of
    request metadata to be written; keys ending in `-bin` and `authorization`, `cookie` are refused.
    """

    sample: float = 1.0
    routes: Mapping[str, float] = field(default_factory=dict)
    errors: bool = False
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ConfigurationError for a share out of 0 to 1 and for metadata that may hold a secret."""
        for share in (self.sample, *self.routes.values()):
            if not 0 <= share <= 1:
                raise ConfigurationError(f"access log: a sample of {share!r}; give a share of the calls, 0 to 1")
        for key in self.metadata:
            if key != key.lower() or key.endswith("-bin") or key in ("authorization", "cookie"):
                raise ConfigurationError(f"access log: the metadata {key!r} is not written: name lower-case text keys")

    @property
    def highest(self) -> float:
        """The largest share of any route: no more calls need to be watched."""
        return 1.0 if self.errors else max(self.sample, *self.routes.values(), 0.0)

    def chosen(self, draw: float, route: str, code: str) -> bool:
        """Tells whether a call that has ended is written; `draw` in [0, 1), one a call."""
        return draw < self.routes.get(route, self.sample) or (self.errors and code != "OK")


class LoggedAttempt:
    """See `port.AttemptObservation`. Used by one thread at a time."""

    __slots__ = ("_began", "_inner", "_told", "metadata")

    def __init__(self, inner: AttemptObservation | None, metadata: Metadata | None, told: dict[str, object]) -> None:
        self._inner = inner
        self._told = told
        self._began = time.perf_counter()
        self.metadata = metadata if inner is None else inner.metadata

    def ended(self, code: str) -> None:
        """See `port.AttemptObservation`."""
        if self._inner is not None:
            self._inner.ended(code)
        self._told["status"] = code
        self._told["seconds"] = round(time.perf_counter() - self._began, 6)


class LoggedCall:
    """See `port.CallObservation`. Thread rule: `_attempts` and `_events` are appended to by any thread, in turn."""

    __slots__ = ("_attempts", "_began", "_draw", "_events", "_inner", "_log", "_made", "_metadata", "_what")

    def __init__(self, log: AccessLog, draw: float, inner: CallObservation | None, what: dict[str, object]) -> None:
        """`what`: target, method and trace of the call."""
        self._log = log
        self._draw = draw
        self._inner = inner
        self._what = what
        self._began = time.perf_counter()
        self._made = 0
        self._metadata: dict[str, str] = {}
        self._attempts: list[dict[str, object]] = []
        self._events: list[dict[str, object]] = []

    def attempt(
        self, number: int, address: str, cluster: str, locality: Locality | None, metadata: Metadata | None
    ) -> AttemptObservation:
        """See `port.CallObservation`."""
        inner = None if self._inner is None else self._inner.attempt(number, address, cluster, locality, metadata)
        told: dict[str, object] = {"endpoint": address, "cluster": cluster, **_where(locality)}
        self._made += 1
        if len(self._attempts) < _ATTEMPTS:
            self._attempts.append(told)
        for key, value in metadata or ():
            if key in self._log.metadata and isinstance(value, str):
                self._metadata[key] = value[:_VALUE]
        return LoggedAttempt(inner, metadata, told)

    def event(self, name: str, attributes: Attributes) -> None:
        """See `port.CallObservation`."""
        if self._inner is not None:
            self._inner.event(name, attributes)
        if len(self._events) < _ATTEMPTS:
            self._events.append({"event": name, **attributes})

    def ended(self, code: str, details: str, route: str, cluster: str) -> None:
        """Writes the line, if this call is one of the chosen."""
        if self._inner is not None:
            self._inner.ended(code, details, route, cluster)
        if not self._log.chosen(self._draw, route, code) or not _LOG.isEnabledFor(logging.INFO):
            return
        line = {
            "time": round(time.time(), 6),
            **self._what,
            "route": route,
            "cluster": cluster,
            "endpoint": self._attempts[-1]["endpoint"] if self._attempts else "",
            "status": code,
            "seconds": round(time.perf_counter() - self._began, 6),
            "attempts": self._made,
        }
        if code != "OK":
            line["details"] = details[:_VALUE]
        if self._made > 1:
            line["tried"] = self._attempts
        if self._events:
            line["events"] = self._events
            rejected = [event["category"] for event in self._events if event["event"] == "reject"]
            line |= {"rejected_by": rejected[-1]} if rejected else {}
        if self._metadata:
            line["metadata"] = self._metadata
        _LOG.info("%s", json.dumps(line, separators=(",", ":"), default=str))


def _where(locality: Locality | None) -> dict[str, object]:
    known = () if locality is None else (locality.region, locality.zone, locality.sub_zone)
    return {"locality": "/".join(known).strip("/")} if any(known) else {}


class CallLogger:
    """See `port.CallObserver`. `inner`: what else looks at the calls."""

    __slots__ = ("_highest", "_inner", "_log")

    def __init__(self, log: AccessLog, inner: CallObserver | None) -> None:
        self._log = log
        self._highest = log.highest
        self._inner = inner

    def began(self, target: str, method: str) -> CallObservation | None:
        """Watches a call that may be chosen; the others cost one draw."""
        inner = None if self._inner is None else self._inner.began(target, method)
        draw = random.random()
        if draw >= self._highest:
            return inner
        what: dict[str, object] = {"target": target, "method": method}
        trace_id = getattr(inner, "trace_id", "")
        return LoggedCall(self._log, draw, inner, {**what, "trace_id": trace_id} if trace_id else what)

"""How a service is to go online and offline: the arguments of `serve` beside those of the instance, checked.

Called by `serve_sync`, `serve_aio` and `announce` before anything is started.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.lifecycle.readiness import Dependencies, Readiness

PATIENCE = 300.0  # seconds that dependencies may take before the service gives up


class PlanOptions(TypedDict, total=False):
    """Further arguments of `serve` and `announce`.

    `drain`: its timing. `handle_signals` (True): drain on SIGTERM and SIGINT. `ready` (True): the application need not
    call `service.ready()` to go online. `depends_on`: targets that must be resolved first; after `depends_timeout`
    seconds (300) without, the service gives up and stops, and its `wait` raises. `dependencies` resolves them; the
    façade gives the process's mesh. `health_port`: /readyz and /livez over HTTP on this port of loopback (0: a free
    one), or at `host:port`.
    """

    drain: DrainTiming | None
    handle_signals: bool
    ready: bool
    depends_on: Iterable[str]
    depends_timeout: float
    dependencies: Dependencies | None
    health_port: int | str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """`patience`: seconds that dependencies may take."""

    drain: DrainTiming
    readiness: Readiness
    patience: float
    handle_signals: bool
    health_port: int | str | None


def make_plan(options: PlanOptions) -> Plan:
    """Builds the plan. Raises ConfigurationError."""
    _check_names_and_types(options)
    given: object = options.get("depends_on", ())
    targets = _texts(given)
    if targets is None:
        raise ConfigurationError(f"serve(depends_on={given!r}) must be a list of targets such as xds:///payments")
    patience = options.get("depends_timeout", PATIENCE)
    if not _is_duration(patience):
        raise ConfigurationError(f"serve(depends_timeout={patience!r}) must be a number of seconds above 0")
    dependencies = options.get("dependencies")
    if targets and dependencies is None:
        raise ConfigurationError("serve(depends_on=...) needs a mesh that resolves targets; call meshsdk.serve")
    return Plan(
        drain=options.get("drain") or DrainTiming(),
        readiness=Readiness(ready=options.get("ready", True), targets=targets, dependencies=dependencies),
        patience=patience,
        handle_signals=options.get("handle_signals", True),
        health_port=options.get("health_port"),
    )


def _check_names_and_types(options: Mapping[str, object]) -> None:
    known = PlanOptions.__annotations__
    if unknown := [name for name in options if name not in known]:
        raise ConfigurationError(f"serve({unknown[0]}=...): there is no such option; there are {', '.join(known)}")
    drain = options.get("drain")
    if drain is not None and not isinstance(drain, DrainTiming):
        raise ConfigurationError(f"serve(drain={drain!r}) must be a DrainTiming")
    for name in ("ready", "handle_signals"):
        if not isinstance(given := options.get(name, True), bool):
            raise ConfigurationError(f"serve({name}={given!r}) must be True or False")


def _texts(given: object) -> tuple[str, ...] | None:
    if isinstance(given, str) or not isinstance(given, Iterable):
        return None
    texts = tuple(given)
    return texts if all(isinstance(text, str) for text in texts) else None


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0

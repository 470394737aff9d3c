"""What each call did and why: spans, metrics and the access log. See docs/telemetry.md.

Off until the environment asks for it (OpenTelemetry's standard variables, MESHSDK_METRICS_PORT, MESHSDK_ACCESS_LOG),
the application has set a provider of OpenTelemetry's SDK, or one of the functions here is called. Loads what it needs
then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any


def enable(
    *,
    traces: bool = True,
    metrics: bool = True,
    prometheus: int | str | None = None,
    prometheus_address: str | None = None,
    tracer_provider: Any = None,
    meter_provider: Any = None,
) -> None:
    """Switches spans and metrics on (or off) for all channels, and for servers whose interceptors are made afterwards.

    `prometheus`: serves them at this port too, `0` any free one, `"9464-9479"` the first free of these;
    `prometheus_address` None: loopback. Providers None: OpenTelemetry's global ones, as set when this is called.
    The access log stays as it is. What is said here stands above the environment. Raises ConfigurationError; nothing
    changes then.
    """
    from meshsdk.telemetry.environment import Listening  # noqa: PLC0415 - `import meshsdk` does not pay for this
    from meshsdk.telemetry.switch import SWITCH  # noqa: PLC0415 - as above

    settings = replace(
        SWITCH.settings,
        traces=traces,
        metrics=metrics,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
    if prometheus is not None:
        listening = Listening.read(prometheus, prometheus_address, "meshsdk.telemetry.enable: prometheus")
        settings = replace(settings, endpoint=listening)
    SWITCH.put(settings, ("traces", "metrics", *(() if prometheus is None else ("endpoint",))))


def disable() -> None:
    """Switches everything off: spans, metrics, the Prometheus endpoint and the access log.

    Called before the first mesh, it stands above what the environment asks for.
    """
    from meshsdk.telemetry.switch import SWITCH, Settings  # noqa: PLC0415 - `import meshsdk` does not pay for this

    SWITCH.put(Settings(), Settings.__slots__)


def access_log(
    sample: float = 1.0,
    *,
    routes: Mapping[str, float] | None = None,
    errors: bool = False,
    metadata: Iterable[str] = (),
) -> None:
    """Writes a line of JSON to the logger `meshsdk.access` for a share of the calls, 0 to 1; 0 for none.

    `routes`: other shares by the route's name. `errors`: calls that fail are all written. `metadata`: keys of request
    metadata to write, no other value is ever written. Where lines go is for `logging` to say. Raises
    ConfigurationError.
    """
    from meshsdk.errors import ConfigurationError  # noqa: PLC0415 - `import meshsdk` does not pay for this
    from meshsdk.telemetry.access_lines import AccessLog  # noqa: PLC0415 - `import meshsdk` does not pay for this
    from meshsdk.telemetry.switch import SWITCH  # noqa: PLC0415 - as above

    if isinstance(metadata, str):
        raise ConfigurationError(f"access log: metadata={metadata!r}: give a list of keys, [{metadata!r}]")
    log = AccessLog(sample, dict(routes or {}), errors, tuple(metadata))
    SWITCH.put(replace(SWITCH.settings, access_log=log if log.highest > 0 else None), ("access_log",))


def prometheus_port() -> int | None:
    """Returns the port of this process's Prometheus endpoint, None where there is none."""
    from meshsdk.telemetry.switch import SWITCH  # noqa: PLC0415 - `import meshsdk` does not pay for this

    return SWITCH.port

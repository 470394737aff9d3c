"""What the environment asks of telemetry: OpenTelemetry's standard variables, and two of our own.

Read by `switch` when a mesh or a server starts. `MESHSDK_METRICS_PORT` serves Prometheus, `MESHSDK_ACCESS_LOG` is the
share of calls that are logged. Imports nothing of OpenTelemetry before something was asked for.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from meshsdk.errors import ConfigurationError

PORT = "MESHSDK_METRICS_PORT"
ADDRESS = "MESHSDK_METRICS_ADDRESS"
ACCESS = "MESHSDK_ACCESS_LOG"
_LOOPBACK = "127.0.0.1"
_HIGHEST_PORT = 65535
_MOST_PORTS = 1000
_SIGNALS = ("TRACES", "METRICS", "LOGS")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the Prometheus endpoint listens: the first of `ports` that is free."""

    address: str
    ports: range

    @classmethod
    def read(cls, ports: int | str, address: str | None = None, origin: str = PORT) -> Listening:
        """Reads `9464`, `0` (any free port) or `9464-9479` (one each for the workers of a machine).

        `address` None: loopback. Raises ConfigurationError for anything else.
        """
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", str(ports).strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last <= _HIGHEST_PORT or last - first >= _MOST_PORTS or (last > first == 0):
            raise ConfigurationError(f"{origin}={ports!r}: give a port (9464), 0 for any, or a range (9464-9479)")
        return cls(address or _LOOPBACK, range(first, last + 1))


@dataclass(frozen=True, slots=True)
class Asked:
    """What the environment asks for. `sdk`: what OpenTelemetry's SDK is to be configured for: TRACES, METRICS, LOGS."""

    traces: bool = False
    metrics: bool = False
    sdk: frozenset[str] = frozenset()
    endpoint: Listening | None = None
    access: float | None = None


def asked(environ: Mapping[str, str]) -> Asked:
    """Reads the environment. Raises ConfigurationError for a value of our own variables that cannot be meant."""
    endpoint = Listening.read(environ[PORT], environ.get(ADDRESS)) if environ.get(PORT) else None
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    traces = not off and (_exports(environ, "TRACES") or _sdk_provides("trace", "TracerProvider"))
    metrics = not off and (_exports(environ, "METRICS") or _sdk_provides("metrics", "MeterProvider"))
    sdk = frozenset(signal for signal in _SIGNALS if not off and _exports(environ, signal))
    return Asked(traces, metrics or endpoint is not None, sdk, endpoint, _share(environ))


def _exports(environ: Mapping[str, str], signal: str) -> bool:
    exporter = environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower()
    if exporter or signal == "LOGS":
        return exporter not in ("", "none")
    return bool(environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def _sdk_provides(signal: str, kind: str) -> bool:
    """Tells whether the application has set a global provider of the SDK; what was not even imported is not set."""
    api, sdk = sys.modules.get(f"opentelemetry.{signal}"), sys.modules.get(f"opentelemetry.sdk.{signal}")
    if api is None or sdk is None:
        return False
    get = getattr(api, "get_tracer_provider" if signal == "trace" else "get_meter_provider")
    return isinstance(get(), getattr(sdk, kind))


def _share(environ: Mapping[str, str]) -> float | None:
    text = environ.get(ACCESS)
    if not text:
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigurationError(f"{ACCESS}={text!r}: give the share of calls that are logged, 0 to 1")
    return share


def configure_sdk(signals: Collection[str], environ: Mapping[str, str] = os.environ) -> bool:
    """Has OpenTelemetry's SDK configure itself from the environment, for `signals` (TRACES, METRICS, LOGS).

    An endpoint without a named exporter means OTLP, as in the specification. Where somebody has set a provider before,
    the SDK cannot be configured for the others alone: that is logged, once, and what is set is used. What fails is
    logged, and False returned: no application ends for want of telemetry.
    """
    provided = {
        "TRACES": _sdk_provides("trace", "TracerProvider"),
        "METRICS": _sdk_provides("metrics", "MeterProvider"),
    }
    if any(provided.values()):
        for signal in sorted(signals):
            if not provided.get(signal, True):
                _LOG.warning(
                    "OTEL_%s_EXPORTER or an OTLP endpoint is set, but the application configures OpenTelemetry itself "
                    "and has set no provider for that: nothing is exported there; set one",
                    signal,
                )
        return True
    names = {f"OTEL_{one}_EXPORTER": _exporter(environ, one) if one in signals else "none" for one in _SIGNALS}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)  # the SDK reads nothing else; children that the application starts are not to have it
    try:
        sdk: Any = importlib.import_module("opentelemetry.sdk._configuration")
        sdk._OTelSDKConfigurator().configure()  # noqa: SLF001 - the one way to have what opentelemetry-instrument has
    except Exception:  # noqa: BLE001 - an exporter that is not installed, an address that cannot be meant ...
        _LOG.exception(
            "OpenTelemetry could not be configured from the environment (OTEL_*): nothing is exported; "
            "for OTLP install meshsdk[otlp]"
        )
        return False
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    return True


def _exporter(environ: Mapping[str, str], signal: str) -> str:
    return environ.get(f"OTEL_{signal}_EXPORTER", "").strip() or "otlp"

"""Values with a runtime key: what they are where there is no runtime (envoy.config.core.v3.Runtime*).

Called by the decoders of filters and routes. The default value counts; `unhonoured` with `FRACTION` or `PLAIN` lists
the key.
"""

from __future__ import annotations

from typing import Any

from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.values import MILLION, per_million
from meshsdk.xds_client.codec.values import share as percentage

DEFAULT_ONLY: Honoured = {"default_value": None}


def fraction(message: Any, name: str, path: str, default: float) -> float:
    """Returns a field of type RuntimeFractionalPercent as a share of 0-1, `default` where it is not set."""
    if not message.HasField(name):
        return default
    return share_of(getattr(message, name).default_value, f"{path}.{name}.default_value")


def share_of(fraction_value: Any, path: str) -> float:
    """Returns an envoy.type.v3.FractionalPercent as a share of 0-1."""
    return per_million(fraction_value, path) / MILLION


def flag(message: Any, name: str, *, default: bool) -> bool:
    """Returns a field of type RuntimeFeatureFlag."""
    holder = getattr(message, name)
    return bool(holder.default_value.value) if holder.HasField("default_value") else default


def percent(message: Any, name: str, path: str, default: float) -> float:
    """Returns a field of type RuntimePercent as a share of 0-1, `default` where it is not set."""
    if not message.HasField(name):
        return default
    return percentage(getattr(message, name).default_value, f"{path}.{name}.default_value")

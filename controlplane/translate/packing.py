"""Messages to `google.protobuf.Any` and shares to fractions, the same bytes for the same values. Pure."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.any_pb2 import Any


def packed(message: object) -> Any:
    """Packs with a deterministic encoding, so that equal configuration has equal bytes and versions."""
    any_message = Any()
    any_message.Pack(message, deterministic=True)  # type: ignore[arg-type]  # xds-protos has no types
    return any_message


def fraction(share: float) -> percent_pb2.FractionalPercent:
    """Returns a share (0-1) to a ten-thousandth of a percent, which is as fine as xDS has it."""
    return percent_pb2.FractionalPercent(
        numerator=round(share * 1_000_000), denominator=percent_pb2.FractionalPercent.MILLION
    )


def fixed_fraction(share: float) -> base_pb2.RuntimeFractionalPercent:
    """Returns a share (0-1) that no runtime layer changes."""
    return base_pb2.RuntimeFractionalPercent(default_value=fraction(share))

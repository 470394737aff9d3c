"""The status that a handler's call ends with, read from its context: for those who look at calls.

Used by `observed_sync` and `observed_aio`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from meshsdk.telemetry.port import ServedCall

_BY_NUMBER = {code.value[0]: code.name for code in grpc.StatusCode}


def ended(served: ServedCall, context: Any, error: BaseException | None) -> None:
    """Ends the observation as grpc ends the call: `error` is what the handler raised, None where it returned."""
    code, details = _said(context)
    if error is not None and code in ("", "OK"):
        cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
        code, details = ("CANCELLED", "") if cancelled else ("UNKNOWN", f"{type(error).__name__} in the handler")
    served.ended(code or "OK", details)


def _said(context: Any) -> tuple[str, str]:
    """Returns what the handler set: `set_code`, `set_details` or `abort`; ("", "") where it set nothing."""
    try:
        code, details = context.code(), context.details()
    except (AttributeError, NotImplementedError):  # grpc.aio's context for handlers on threads cannot be asked
        return "", ""
    if isinstance(details, bytes):
        details = details.decode("utf-8", "replace")
    if isinstance(code, grpc.StatusCode):
        return code.name, details or ""
    return (_BY_NUMBER.get(code, "UNKNOWN") if code else ""), details or ""

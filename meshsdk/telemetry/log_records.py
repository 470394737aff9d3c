"""Trace ids in log records: a filter that gives each record the ids of the span that is current where it was made.

For applications that write their own logs as text or JSON; an OpenTelemetry LoggingHandler has the ids by itself.
"""

from __future__ import annotations

import logging

from opentelemetry import trace


class TraceIds(logging.Filter):
    """Adds `trace_id` and `span_id` (hexadecimal, "" without a span) and `trace_sampled`; lets every record pass.

    Put it on handlers, not on loggers: a logger's filter sees nothing of its children.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        where = trace.get_current_span().get_span_context()
        record.trace_id = trace.format_trace_id(where.trace_id) if where.is_valid else ""
        record.span_id = trace.format_span_id(where.span_id) if where.is_valid else ""
        record.trace_sampled = where.trace_flags.sampled
        return True

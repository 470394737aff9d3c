"""docs/parity.md, made of the rows: `python -m tests.e2e.parity.document` writes it, `test_parity` compares it."""

from __future__ import annotations

from tests.e2e.parity.rows import ROWS
from tests.e2e.parity.ways import ENVOY, OURS, XDS
from tests.e2e.processes import ROOT

PLACE = ROOT / "docs" / "parity.md"
_HEAD = """\
# Parity with stock peers

The same YAML on one control plane, the same five servers and the same faults: our SDK (on threads and on asyncio, which
have to give the same), grpcio's own `xds:///`, and plain grpcio through a stock Envoy 1.40. `tests/e2e/parity` measures
each row on each of them and prints what it found; this table is made of its rows, and a test compares it.

A range is what chance, or a busy machine, may make of a value. A difference has a number, and its reason below.

"""
_NOTES = """\
Beyond the rows:

- Envoy tells its workers of ejections at most once a second (`update_merge_window`): after the first one, further
  endpoints go on getting calls for that long. Ours leave and come back at once.
- An Envoy lets three retries run at a time unless `maxRetries` or `retryBudget` says otherwise; ours and gRPC have no
  limit unless one is set.
- A hedged attempt that gives no answer within `delay` counts as a failure of its endpoint, as in Envoy: a server that
  is overtaken again and again, slow or black-holed, is ejected. gRPC has no hedging by xDS: it reads retries.
- gRPC ends a call on its route's `timeout` too soon: grpcio 1.85 (Linux, x86-64, a virtual machine) ended calls with a
  timeout of 3 s after 1.2 s, of 1.5 s after 0.15 s, and of 1 s at once. So the row says only that it ends.
"""


def text() -> str:
    """Returns the page."""
    reasons: list[str] = []
    lines = [
        f"| policy | configuration, and what is measured | {OURS} | {XDS} | {ENVOY} | |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        if row.why and row.why not in reasons:
            reasons.append(row.why)
        note = f"[{reasons.index(row.why) + 1}]" if row.why else ""
        cells = (row.policy, row.what, *(row.expected(way).words(row.unit) for way in (OURS, XDS, ENVOY)), note)
        lines.append(f"| {' | '.join(cells)} |")
    numbered = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([_HEAD + "\n".join(lines), "", *numbered, "", _NOTES])


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="utf-8")

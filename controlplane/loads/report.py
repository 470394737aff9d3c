"""What the calls of a span came to, for `meshctl rollout-report` and the admin interface: sums, and a statement.

`facts` says what one control plane knows; `conclude` puts the facts of one or several together. JSON-like values
throughout, because they travel from the one to the other. Pure: times are arguments, in unix seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from controlplane.loads.book import INTERVAL, SOON, Page
from controlplane.loads.buckets import FIELDS, Counted
from controlplane.loads.roll import Stay

_LATE = 3 * INTERVAL  # seconds without a report after which an open stream counts as silent
_AHEAD = 1.0  # seconds by which a stream of reports may be booked before its xDS stream
LATEST = 253_402_300_799  # the last second of the year 9999: times in reports are from 0 to here
_SHOWN = 10  # clients and clusters named in the statement; the others are counted
Row = dict[str, Any]


def service_of(cluster: str) -> str:
    """Returns the service of a cluster: `orders` of `orders|v1`, `orders||east`, `orders@both` and `orders:50051`."""
    name = cluster.partition("|")[0].partition("@")[0]
    host, colon, port = name.rpartition(":")
    return host if colon and port.isdecimal() else name


def facts(
    page: Page, app: str, since: float, until: float, now: float, concerns: Mapping[str, bool], replicas: int = 1
) -> Row:
    """Returns what one control plane knows of a span. `app` "": of all services.

    `concerns`: clients connected now, by node, and whether they may call the app. `replicas`: control planes there are.
    """
    rows = [
        {"client": node, "cluster": cluster, **_row(counted)}
        for (node, cluster), counted in sorted(page.counted.items())
        if not app or service_of(cluster) == app
    ]
    doubts = list(_doubts(page, since, min(page.end, now), concerns))
    if page.kept_since > since:
        doubts.insert(0, f"nothing is known of calls before {_time(page.kept_since)}")
    notes = []
    if until > now - INTERVAL:
        notes.append(f"clients report every {INTERVAL:g} s: the last calls may not be in yet")
    if replicas > 1:
        notes.append(f"{replicas} control planes share the store, each with its own clients' reports")
    return {
        "app": app,
        "since": page.begin,
        "until": min(page.end, max(now, page.begin)),
        "clients": rows,
        "doubts": doubts,
        "notes": notes,
        "replicas": replicas,
    }


def _row(counted: Counted) -> Row:
    calls = counted.succeeded + counted.failed + counted.cancelled
    numbers = dict(zip(FIELDS, counted.numbers(), strict=True))
    return {"calls": calls, **numbers, "statuses": dict(counted.statuses)}


def _doubts(page: Page, since: float, until: float, concerns: Mapping[str, bool]) -> Iterator[str]:
    """Yields whose calls may be missing, and why."""
    for stay in page.reporters:
        told = stay.opened if stay.told is None else stay.told
        if stay.closed is None:
            if told < until - _LATE:
                yield f"{stay.node} is silent since {_time(told)}"
        elif not stay.complete and told < until and stay.closed >= page.begin:
            last = (
                "ever reporting" if stay.told is None else f"a last report: the one before came at {_time(stay.told)}"
            )
            yield f"{stay.node} went at {_time(stay.closed)} without {last}"
        if stay.elsewhere and page.kept_since <= since and page.begin < stay.opened:
            yield f"{stay.node} came at {_time(stay.opened)}, and {stay.elsewhere} reports of it before that did not"
    for stay in _silent(page, until, concerns):
        when = "is connected" if stay.closed is None else f"was connected until {_time(stay.closed)}"
        yield f"{stay.node} ({stay.agent or 'unknown client'}) {when} and does not report"


def _silent(page: Page, until: float, concerns: Mapping[str, bool]) -> Iterator[Stay]:
    """Yields one xDS stream of each node that has more of them than streams of reports went with.

    By streams, because two processes may have one node id: each reports on a stream of its own, which begins after its
    xDS stream.
    """
    reporters: dict[str, list[Stay]] = {}
    for stay in sorted(page.reporters, key=_closed):
        reporters.setdefault(stay.node, []).append(stay)
    told: set[str] = set()
    for stay in sorted(page.connected, key=_closed):
        free = reporters.get(stay.node, [])
        its = next((one for one in free if _goes_with(one, stay)), None)
        if its is not None:
            if its.process:
                free.remove(its)
            continue
        new = stay.opened > until - SOON
        if stay.node in told or new or not concerns.get(stay.node, stay.closed is not None):
            continue
        told.add(stay.node)
        yield stay


def _goes_with(reporter: Stay, stay: Stay) -> bool:
    """Tells whether a client may report on one stream for another, of xDS. Stock ones go on with it on the next."""
    begun = stay.opened - _AHEAD if reporter.process else -math.inf
    return begun <= reporter.opened <= _closed(stay) + SOON and _closed(reporter) >= stay.opened


def _closed(stay: Stay) -> float:
    return math.inf if stay.closed is None else stay.closed


def conclude(found: Sequence[tuple[str, Mapping[str, Any]]]) -> Row:
    """Returns the report: `found` has the facts of each control plane that was asked, with its name.

    Beside the facts: `total`, `clusters` (sums), `zero_failed`, `complete` (no doubts) and `statement`.
    """
    several = len(found) > 1
    merged: dict[tuple[str, str], list[Row]] = {}
    doubts: list[str] = []
    notes: list[str] = []
    for name, each in found:
        for row in each["clients"]:
            merged.setdefault((row["client"], row["cluster"]), []).append(row)
        doubts += [f"{name}: {text}" if several else text for text in each["doubts"]]
        notes += [text for text in each["notes"] if text not in notes]
    most = max((each["replicas"] for _, each in found), default=1)
    if most > len(found):
        doubts.append(f"{len(found)} of {most} control planes were asked: name all with --server")
    clients = [{"client": node, "cluster": cluster, **_sum(rows)} for (node, cluster), rows in sorted(merged.items())]
    by_cluster: dict[str, list[Row]] = {}
    for row in clients:
        by_cluster.setdefault(row["cluster"], []).append(row)
    report: Row = {
        "app": found[0][1]["app"],
        "since": min(each["since"] for _, each in found),
        "until": max(each["until"] for _, each in found),
        "total": _sum(clients),
        "clusters": [{"cluster": name, **_sum(rows)} for name, rows in sorted(by_cluster.items())],
        "clients": clients,
        "doubts": doubts,
        "notes": notes,
    }
    report["zero_failed"] = report["total"]["failed"] == 0
    report["complete"] = not doubts
    report["statement"] = _statement(report)
    return report


def _sum(rows: Iterable[Row]) -> Row:
    listed = list(rows)
    statuses: Counter[str] = Counter()
    for row in listed:
        statuses.update(row["statuses"])
    return {**{name: sum(row[name] for row in listed) for name in ("calls", *FIELDS)}, "statuses": dict(statuses)}


def _statement(report: Row) -> str:
    total = report["total"]
    callers = len({row["client"] for row in report["clients"]})
    to = f" to {report['app']}" if report["app"] else ""
    span = f"between {_time(report['since'])} and {_time(report['until'])}"
    if not total["calls"]:
        what = f"no calls through the mesh{to} were reported {span}"
    else:
        rest = ", ".join(f"{total[name]} {name}" for name in ("failed", "cancelled", "retried", "moved", "doubled"))
        clients = f"{callers} client{'' if callers == 1 else 's'}"
        head = "zero failed" if report["zero_failed"] else "NOT zero"
        what = f"{head}: {total['calls']} calls through the mesh{to} from {clients} {span}: {rest}"
    if not report["zero_failed"]:
        what += f"; failed: {_failures(report['clients'])}"
    doubts = report["doubts"]
    if doubts:
        shown = [*doubts[:_SHOWN], *([f"{len(doubts) - _SHOWN} more"] if len(doubts) > _SHOWN else [])]
        what += f". This is not all: {'; '.join(shown)}"
    return what


def _failures(clients: Iterable[Row]) -> str:
    failing = sorted((row for row in clients if row["failed"]), key=lambda row: -row["failed"])
    shown = []
    for row in failing[:_SHOWN]:
        why = ", ".join(f"{count} {status}" for status, count in sorted(row["statuses"].items()))
        shown.append(f"{row['failed']} of {row['client']} to {row['cluster']}{f' ({why})' if why else ''}")
    if len(failing) > _SHOWN:
        shown.append(f"and {len(failing) - _SHOWN} more clients and clusters")
    return ", ".join(shown)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

"""What the calls of a span came to, for `meshctl rollout-report` and the admin interface: sums, and a statement.

`facts` says what one control plane knows; `conclude` puts the facts of one or several together. JSON-like values
throughout, because they travel from the one to the other. Pure: times are arguments, in unix seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from controlplane.loads.book import INTERVAL, Page
from controlplane.loads.buckets import FIELDS, Counted
from controlplane.loads.roll import Stay

_LATE = 3 * INTERVAL  # seconds without a report after which an open stream counts as silent
_SOON = 3.0  # seconds that a new client may take to open its stream of reports
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
    doubts = list(_doubts(page, since, min(until, now), concerns))
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
    known = {stay.node for stay in page.reporters}
    for stay in page.reporters:
        if stay.closed is None:
            told = stay.opened if stay.told is None else stay.told
            if told < until - _LATE:
                yield f"{stay.node} is silent since {_time(told)}"
        elif not stay.complete and stay.closed >= since and not _came_back(stay, page.reporters):
            last = (
                "ever reporting" if stay.told is None else f"a last report: the one before came at {_time(stay.told)}"
            )
            yield f"{stay.node} went at {_time(stay.closed)} without {last}"
    for stay in _silent(page.connected, known, until, concerns):
        when = "is connected" if stay.closed is None else f"was connected until {_time(stay.closed)}"
        yield f"{stay.node} ({stay.agent or 'unknown client'}) {when} and does not report"


def _silent(connected: Iterable[Stay], known: set[str], until: float, concerns: Mapping[str, bool]) -> Iterator[Stay]:
    told: set[str] = set()
    for stay in connected:
        new = stay.closed is None and stay.opened > until - _SOON
        if stay.node in known or stay.node in told or new or not concerns.get(stay.node, stay.closed is not None):
            continue
        told.add(stay.node)
        yield stay


def _came_back(stay: Stay, reporters: Iterable[Stay]) -> bool:
    """Tells whether the same process reports again: then what it had not told came with its next report."""
    return bool(stay.process) and any(
        one.process == stay.process and one.node == stay.node and one.opened >= (stay.closed or 0.0)
        for one in reporters
    )


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
        what = f"no calls{to} were reported {span}"
    else:
        rest = ", ".join(f"{total[name]} {name}" for name in ("failed", "cancelled", "retried", "moved", "doubled"))
        clients = f"{callers} client{'' if callers == 1 else 's'}"
        head = "zero failed" if report["zero_failed"] else "NOT zero"
        what = f"{head}: {total['calls']} calls{to} from {clients} {span}: {rest}"
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

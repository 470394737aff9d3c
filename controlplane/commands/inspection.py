"""`meshctl status|routes|endpoints|clients`: what a control plane does, and for whom."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from controlplane.admin.client import AdminClient
from controlplane.commands.output import OK, say, show, yaml_text

_ROUTES = ("route", "match", "to", "units", "timeout", "retries", "from")
_ENDPOINTS = ("cluster", "address", "health", "weight", "locality", "labels")
_CLIENTS = ("node", "app", "agent", "peer", "service", "transport", "sent", "state", "nacks")
_TRAFFIC = ("service", "clients", "calls", "per_second", "success", "failed", "retried", "moved")
_COUNTS = ("services", "applications", "instances", "leases", "revisions", "watchers", "clients", "views", "shims")
_APART = (("skipped", "skipped"), ("doubted", "kept in doubt"))
_LISTS = ("problems", "rejected_by_clients", "warnings")


def status(arguments: argparse.Namespace) -> int:
    """Shows addresses, counts, problems and warnings."""
    found = AdminClient(arguments.server).get("status")
    if arguments.output == "json":
        say(json.dumps(found, indent=2))
    elif arguments.output == "yaml":
        say(yaml_text(found))
    elif isinstance(found, dict):
        _summarise(found)
    return OK


def _summarise(found: Mapping[str, object]) -> None:
    say(f"xds {found['xds']}, admin {found['admin']}, store {found['store']}, config {found['config'] or '(none)'}")
    waiting = found["waiting_for"]
    if isinstance(waiting, list) and waiting:
        say(f"xDS is not answered yet: waiting for {', '.join(waiting)}")
    kinds = found["resources"]
    if isinstance(kinds, Mapping):
        say("resources: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    say(", ".join(f"{found[name]} {name}" for name in _COUNTS))
    _others(found)
    for name in _LISTS:
        lines = found[name]
        if isinstance(lines, list) and lines:
            say(f"{name.replace('_', ' ')}:")
            for line in lines:
                say(f"  {line}")
    _traffic(found["traffic"])
    if found["in_force"]:
        say("configuration: in force")
    else:
        say("configuration: the newest one is refused, the last good one is in force")


def _traffic(rows: object) -> None:
    """Shows the calls of the last minute, as clients report them."""
    if not isinstance(rows, list) or not rows:
        return
    say("traffic of the last minute, as clients report it:")
    shown = [{**row, "success": f"{row['success'] * 100:.4g} %"} for row in rows]
    show(shown, "table", _TRAFFIC)


def _others(found: Mapping[str, object]) -> None:
    """Says how the store, the registries and the other control planes fare."""
    health = found["store_health"]
    if isinstance(health, Mapping) and health:
        facts = ", ".join(f"{name} {value}" for name, value in health.items() if name != "problem")
        say(f"store: {health['problem'] or 'up'}{', ' if facts else ''}{facts}")
    if problem := found.get("rate_limit_store"):
        say(f"rate limit store: {problem}")
    feeds, upstreams = found["feeds"], found["upstreams"]
    for feed in feeds if isinstance(feeds, list) else ():
        state = "up" if feed["up"] else f"down ({feed['problem'] or 'has not answered yet'})"
        apart = "".join(f", {feed[what]} {word}" for what, word in _APART if feed[what])
        say(
            f"registry {feed['name']} {feed['url']}: {state}, {feed['applications']} applications, "
            f"{feed['instances']} instances{apart}"
        )
    for upstream in upstreams if isinstance(upstreams, list) else ():
        say(
            f"source {upstream['url']}: {'up' if upstream['up'] else 'see problems'}, {upstream['resources']} resources"
        )


def routes(arguments: argparse.Namespace) -> int:
    """Shows the routes of a service in the order in which they are tried."""
    return _rows(arguments, "routes", _ROUTES)


def endpoints(arguments: argparse.Namespace) -> int:
    """Shows the endpoints of a service and its subsets."""
    return _rows(arguments, "endpoints", _ENDPOINTS)


def _rows(arguments: argparse.Namespace, subject: str, columns: tuple[str, ...]) -> int:
    found = AdminClient(arguments.server).get(subject, arguments.app)
    show(found if isinstance(found, list) else [], arguments.output, columns)
    return OK


def clients(arguments: argparse.Namespace) -> int:
    """Shows the open xDS streams."""
    found = AdminClient(arguments.server).get("clients")
    rows = found if isinstance(found, list) else []
    refusals: list[tuple[str, str, Mapping[str, object]]] = []
    if arguments.output == "table":
        refusals = [(row["node"], row["peer"], each) for row in rows for each in row["nacks"]]
        rows = [{**row, "state": _state(row), "nacks": sum(each["count"] for each in row["nacks"])} for row in rows]
    show(rows, arguments.output, _CLIENTS)
    for node, peer, nack in refusals:
        now = "refuses" if nack["in_force"] else "has refused"
        text = " ".join(str(nack["text"]).split())
        say(f"{node} ({peer}) {now} {nack['type']} {nack['version']}, {nack['count']} times: {text}")
    return OK


def _state(row: Mapping[str, object]) -> str:
    subscriptions = row["subscriptions"]
    if not isinstance(subscriptions, list):
        return ""
    return ", ".join(f"{each['type']} {each['held']} {each['state']}" for each in subscriptions)

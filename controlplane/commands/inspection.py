"""`meshctl status|routes|endpoints|clients`: what a control plane does, and for whom."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from controlplane.admin.client import AdminClient
from controlplane.commands.output import OK, say, show, yaml_text

_ROUTES = ("route", "match", "to", "timeout", "retries", "from")
_ENDPOINTS = ("cluster", "address", "health", "weight", "locality", "labels")
_CLIENTS = ("node", "app", "agent", "peer", "service", "transport", "sent", "state")
_COUNTS = ("services", "applications", "instances", "revisions", "watchers", "clients", "views")
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
    kinds = found["resources"]
    if isinstance(kinds, Mapping):
        say("resources: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    say(", ".join(f"{found[name]} {name}" for name in _COUNTS))
    for name in _LISTS:
        lines = found[name]
        if isinstance(lines, list) and lines:
            say(f"{name.replace('_', ' ')}:")
            for line in lines:
                say(f"  {line}")
    if not found["problems"]:
        say("configuration: in force")
    else:
        say("configuration: the newest one is refused, the last good one is in force")


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
    if arguments.output == "table":
        rows = [{**row, "state": _state(row)} for row in rows]
    show(rows, arguments.output, _CLIENTS)
    return OK


def _state(row: Mapping[str, object]) -> str:
    subscriptions = row["subscriptions"]
    if not isinstance(subscriptions, list):
        return ""
    return ", ".join(f"{each['type']} {each['held']} {each['state']}" for each in subscriptions)

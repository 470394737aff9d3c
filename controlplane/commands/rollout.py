"""`meshctl rollout-report`: what the calls of a time span came to, by the clients' own counts."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.admin.client import AdminClient, AdminError
from controlplane.commands.output import OK, say, table, yaml_text
from controlplane.commands.serve import ADMIN
from controlplane.loads.report import LATEST, conclude

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_NUMBERS = ("calls", "failed", "cancelled", "retried", "moved", "doubled")


def moment(text: str) -> float:
    """Reads `10m` (ago), or ISO 8601 (local time unless it says); returns unix seconds. Raises ValueError."""
    ago = _AGO.fullmatch(text)
    if ago:
        at = time.time() - float(ago[1]) * _UNITS[ago[2]]
    else:
        at = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()  # Python 3.10 knows no Z
    if not 0 <= at <= LATEST:
        raise ValueError(f"{text[:40]!r} is before 1970, or after the year 9999")
    return at


def report(arguments: argparse.Namespace) -> int:
    """Asks every control plane that was named, and shows what their reports come to together."""
    servers = arguments.server or [os.environ.get("MESHCTL_SERVER", ADMIN)]
    query = {"app": arguments.app, "since": f"{arguments.since:.3f}", "until": f"{arguments.until:.3f}"}
    found = conclude([(server, _ask(server, query)) for server in dict.fromkeys(servers)])
    if arguments.output == "json":
        say(json.dumps(found, indent=2))
    elif arguments.output == "yaml":
        say(yaml_text(found))
    else:
        _show(found)
    return OK


def _ask(server: str, query: dict[str, str]) -> Mapping[str, Any]:
    found = AdminClient(server).ask("rollout-report", query)
    if not isinstance(found, dict) or not isinstance(found.get("clients"), list):
        raise AdminError(f"{server} answers with what is no report")
    return found


def _show(found: Mapping[str, Any]) -> None:
    if found["clients"]:
        rows = [_cells("all", "", found["total"])]
        rows += [_cells("", row["cluster"], row) for row in found["clusters"]]
        rows += [_cells(row["client"], row["cluster"], row) for row in found["clients"]]
        table(rows, ("client", "cluster", *_NUMBERS, "statuses"))
    say(found["statement"])
    for note in found["notes"]:
        say(f"note: {note}")


def _cells(client: str, cluster: str, row: Mapping[str, Any]) -> list[str]:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(row["statuses"].items()))
    return [client, cluster, *(str(row[name]) for name in _NUMBERS), statuses]

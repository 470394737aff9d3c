"""What is to be intercepted, and the file of it that outlives a shim that was killed: its rules stay in the kernel.

Called by `intercepting`, and by `command` when a shim starts: rules that lead to nothing are taken out before anything
else may fail. The file is in the shim's folder, which is held.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from meshsdk.errors import MeshError
from meshsdk.private_file import replace_file
from meshsdk.shim.intercept.netfilter import backend
from meshsdk.shim.intercept.rules import read_networks, read_ports, table_name

_LOG = logging.getLogger("meshsdk.shim")
_FILE = "intercept.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What `on` was asked to intercept. `way`: to the kernel's tables, see `netfilter.backend`."""

    ports: tuple[int, ...] = ()
    networks: tuple[str, ...] = ()
    way: str = "auto"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the control plane lets be intercepted: calls out (`client`), calls in (`server`)."""

    client: bool = True
    server: bool = True


def keep(folder: Path, plan: Plan | None, allowed: Allowed) -> None:
    """Writes what is asked for, and allowed; None: nothing is."""
    file = folder / _FILE
    try:
        if plan is None:
            file.unlink(missing_ok=True)
        else:
            replace_file(file, [json.dumps({**asdict(plan), **asdict(allowed)}).encode()])
    except OSError as error:
        _LOG.warning("what is intercepted cannot be kept in %s: %s", file, error.strerror or error)


def recalled(folder: Path) -> tuple[Plan | None, Allowed]:
    """Reads what `keep` wrote; what cannot be read is nothing, and the log says so."""
    file = folder / _FILE
    try:
        kept = json.loads(file.read_bytes())
        plan = Plan(read_ports(kept["ports"]), read_networks(kept["networks"]), str(kept["way"]))
        return plan, Allowed(bool(kept["client"]), bool(kept["server"]))
    except FileNotFoundError:
        return None, Allowed()
    except (OSError, ValueError, KeyError, TypeError, MeshError) as error:
        _LOG.warning("%s cannot be read (%s): nothing is intercepted", file, error)
        return None, Allowed()


def take_out(app: str, folder: Path) -> None:
    """Takes out the rules of a shim that was killed: they lead to listeners that are not there."""
    if not (folder / _FILE).exists():
        return
    plan, _ = recalled(folder)
    try:
        backend(plan.way if plan else "auto").remove(table_name(app, folder))
    except MeshError as error:
        _LOG.error("connections may still be led to a shim that was killed: %s", error)

"""`meshctl serve`: the control plane as a process."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from controlplane.admin.address import is_loopback, split_address
from controlplane.commands.output import FAILED, OK, complain, say
from meshsdk.errors import MeshError

if TYPE_CHECKING:
    from controlplane.assembly import ControlPlane

XDS, ADMIN = "127.0.0.1:18000", "127.0.0.1:18001"


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT. Prints one line when ready."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if arguments.registry:
        complain([f"meshctl: --registry {arguments.registry[0]}: registries are not available in this version"])
        return FAILED
    try:
        plane = _start(arguments)
    except MeshError as error:
        complain([f"meshctl: {line}" for line in str(error).splitlines()])
        return FAILED
    say(f"meshctl: ready: xds {plane.xds_address}, admin {plane.admin_address}, config {arguments.config}")
    stop.wait()
    plane.stop()
    return OK


def _start(arguments: argparse.Namespace) -> ControlPlane:
    from controlplane.assembly import ControlPlane  # noqa: PLC0415 - gRPC and xDS, which no other command needs

    plane = ControlPlane(Path(arguments.config), arguments.store, arguments.xds, arguments.admin)
    try:
        if not is_loopback(split_address(arguments.admin)[0]):
            complain([f"meshctl: warning: the admin interface has no login, and others can reach {arguments.admin}"])
        status = plane.plane.status()
        for what in ("problems", "warnings"):
            lines = status[what]
            complain(f"meshctl: {what[:-1]}: {line}" for line in (lines if isinstance(lines, list) else []))
        plane.start()
    except BaseException:
        plane.stop(0)
        raise
    return plane

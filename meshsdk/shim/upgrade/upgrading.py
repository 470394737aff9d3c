"""Performs upgrades in place: starts the new Envoy, drains and ends the old one, as `machine` decides.

Made by `upgrade`, one for a shim; one upgrade at a time. Says in the registry (`enrolment`) what goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from meshsdk.errors import ConfigurationError, LifecycleError, MeshError
from meshsdk.shim.envoy.admin import EnvoyUnreachable
from meshsdk.shim.envoy.process import EnvoyFailed, EnvoyProcess
from meshsdk.shim.port import Shim
from meshsdk.shim.upgrade.machine import End, HandOver, Sight, UpgradeMachine, UpgradePhase, UpgradeTiming
from meshsdk.shim.upgrade.versions import find, find_version, said_version

_LOG = logging.getLogger("meshsdk.shim")
_STOP = 5.0  # seconds from SIGTERM to SIGKILL
_TURN = 0.2  # seconds between looks whether the shim ends, while another upgrade is waited for
_CONNECTIONS = "/stats?filter=^http%5C..*%5C.downstream_cx_active$"
_ADMIN = "http.admin."  # the admin interface's own connections


@dataclass(frozen=True, slots=True)
class Upgraded:
    """How an upgrade ended. `drained`: seconds from the hand-over until the old one was gone."""

    former: str
    version: str
    former_pid: int
    pid: int
    drained: float


class UpgradeFailed(LifecycleError):
    """The shim runs what it ran before; the text says why."""


@final
class Upgrading:
    """Methods are for any thread. `_busy` is held by the upgrade that is under way; `_doing` is that one's to write."""

    def __init__(self, shim: Shim, environ: Mapping[str, str]) -> None:
        self._shim = shim
        self._environ = environ
        self._busy = threading.Lock()
        self._doing = ""
        self._closing = threading.Event()

    def upgrade(self, wanted: str, timing: UpgradeTiming) -> Upgraded:
        """Upgrades to a path or a version and waits until the old Envoy is gone. Raises MeshError, at once if busy."""
        with self._turn(wanted, waits=False):
            executable = find(wanted, self._environ)
            version = said_version(executable)
            if "/" not in wanted:
                _check_version(executable, version, wanted)
            return self._replace(executable, version, timing)

    def follow(self, version: str, timing: UpgradeTiming) -> None:
        """Upgrades to the version that the control plane wants, "" for the one that runs. Raises MeshError.

        Waits for an upgrade that is under way. All that makes up the new order is said at once: a `wanted` beside the
        phase of the last one would be the refusal of a version that was never tried.
        """
        enrolment = self._shim.enrolment
        with self._turn(version, waits=True):
            if not version or version == enrolment.labels.get("meshsdk.io/version"):
                enrolment.stay(version)
                return
            enrolment.say(wanted=version, phase="upgrading", problem="")
            executable = find_version(version, self._environ)  # a control plane names versions, never programs
            said = said_version(executable)
            _check_version(executable, said, version)
            self._replace(executable, said, timing)

    def renew(self, timing: UpgradeTiming) -> None:
        """Puts another Envoy of the same program in place; waits for an upgrade under way. Raises MeshError."""
        with self._turn("the same program", waits=True):
            executable = self._shim.supervision.executable
            self._exchange(executable, said_version(executable), timing)

    def close(self) -> None:
        """The shim ends: an upgrade that is under way is rolled back or left as it is."""
        self._closing.set()

    @contextmanager
    def _turn(self, doing: str, *, waits: bool) -> Iterator[None]:
        """One upgrade at a time, and however it fails, the registry is told and the text is one line."""
        if not waits and not self._busy.acquire(blocking=False):
            raise LifecycleError(f"an upgrade to {self._doing} is under way; try again when it has ended")
        while waits and not self._busy.acquire(timeout=_TURN):
            if self._closing.is_set():
                raise UpgradeFailed("the shim was stopped meanwhile")
        try:
            self._doing = doing
            yield
        except MeshError as error:
            self._say_failed(str(error))
            raise
        except Exception as error:  # noqa: BLE001 - whoever follows the control plane must outlive a defect in one upgrade
            _LOG.exception("an upgrade failed in an unexpected way; please report it")
            words = f"the upgrade to {doing!r} failed: {type(error).__name__}: {error}".replace("\n", " ")
            self._say_failed(words)
            raise ConfigurationError(words) from None
        finally:
            self._busy.release()

    def _say_failed(self, problem: str) -> None:
        """Says that it was tried, if it was; a shim that ends has not refused anything."""
        _LOG.warning("upgrade to %s: %s", self._doing, problem)
        if self._closing.is_set():
            return
        enrolment = self._shim.enrolment
        phase = enrolment.labels.get("meshsdk.io/phase")
        if phase == "upgrading":
            enrolment.say(phase="rolled-back", problem=problem)
        elif phase == "running":  # nothing was touched
            enrolment.say(problem=problem)

    def _replace(self, executable: Path, version: str, timing: UpgradeTiming) -> Upgraded:
        done = self._exchange(executable, version, timing, phase="upgrading")
        self._shim.enrolment.say(version=done.version, phase="running", problem="")
        _LOG.info("upgraded from Envoy %s to %s", done.former, done.version)
        return done

    def _exchange(self, executable: Path, version: str, timing: UpgradeTiming, *, phase: str | None = None) -> Upgraded:
        """Has another Envoy take over. `phase`: what is said once there is anything to go back from."""
        supervision = self._shim.supervision
        former = said_version(supervision.executable)
        new = EnvoyProcess(supervision.next_launch(executable), supervision.place())
        try:
            new.start()
        except EnvoyFailed as error:
            raise UpgradeFailed(f"Envoy {former} stays: {error}") from None
        try:
            if phase is not None:
                self._shim.enrolment.say(phase=phase, problem="")
            return self._taken_over(new, former, version, timing)
        except BaseException:
            self._give_up(new)
            raise

    def _taken_over(self, new: EnvoyProcess, former: str, version: str, timing: UpgradeTiming) -> Upgraded:
        supervision = self._shim.supervision
        machine = UpgradeMachine(timing)
        machine.begin(time.monotonic())
        handed_over = 0.0
        old = supervision.current
        while not isinstance(decision := machine.look(time.monotonic(), self._sight(machine, new, old)), End):
            if isinstance(decision, HandOver):
                handed_over = time.monotonic()
                old = self._hand_over(new)
                continue
            if self._closing.wait(max(0.0, decision.at - time.monotonic())):
                raise UpgradeFailed("the shim was stopped meanwhile")
            if not handed_over:
                old = supervision.current  # another one if it died and was started again
        if machine.phase is UpgradePhase.ROLLED_BACK:
            why = f"{decision.problem}: {new.words()}" if new.poll() is not None else decision.problem
            self._roll_back(new, old, timing, restore=decision.restore)
            raise UpgradeFailed(f"Envoy {former} is back: {version} ({new.launch.executable}) failed: {why}")
        supervision.settle()
        _end(old)
        return Upgraded(former, version, old.pid, new.pid, time.monotonic() - handed_over)

    def _sight(self, machine: UpgradeMachine, new: EnvoyProcess, old: EnvoyProcess) -> Sight:
        new_runs, old_runs = new.poll() is None, old.poll() is None
        if machine.phase is UpgradePhase.DRAINING_OLD:
            return Sight(new_runs, new_runs, old_runs, _connections(old) if old_runs else None)
        return Sight(new_runs, new_runs and new.serves() and _listeners(old) <= _listeners(new), old_runs)

    def _hand_over(self, new: EnvoyProcess) -> EnvoyProcess:
        """Makes the new one current and returns the former, which no longer accepts."""
        supervision = self._shim.supervision
        with supervision.exclusive:
            old = supervision.current
            supervision.adopt(new, on_trial=True)
        _retire(old)
        return old

    def _roll_back(self, new: EnvoyProcess, old: EnvoyProcess, timing: UpgradeTiming, *, restore: bool) -> None:
        if not restore:
            if new.poll() is None and new.serves():  # callers may have come to it
                _retire(new)
                self._wait_empty(new, timing.drain)
            _end(new)
            return
        # `supervision` starts the old program again, and connections wait in the queue until it serves.
        deadline = time.monotonic() + timing.start
        while not self._shim.supervision.current.serves() and time.monotonic() < deadline:
            if self._closing.wait(0.05):
                break
        self._wait_empty(old, timing.drain)
        _end(old)

    def _give_up(self, new: EnvoyProcess) -> None:
        if new.poll() is None and self._shim.supervision.current is not new:
            _end(new)

    def _wait_empty(self, process: EnvoyProcess, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while process.poll() is None and _connections(process) != 0 and time.monotonic() < deadline:
            if self._closing.wait(0.05):
                return


def _check_version(executable: Path, said: str, wanted: str) -> None:
    if said != wanted:
        raise ConfigurationError(f"{executable} says that it is Envoy {said}, and {wanted} is wanted")


def _retire(process: EnvoyProcess) -> None:
    """It accepts no more, and every answer asks its caller to leave (GOAWAY, `connection: close`)."""
    try:
        process.admin.post("/drain_listeners?graceful&skip_exit")
        process.admin.post("/drain_listeners")
    except EnvoyUnreachable as error:
        _LOG.warning("the Envoy with pid %s cannot be drained: %s", process.pid, error)


def _connections(process: EnvoyProcess) -> int | None:
    try:
        lines = process.admin.get(_CONNECTIONS).splitlines()
    except EnvoyUnreachable:
        return None
    counts = [line.rpartition(": ")[2] for line in lines if not line.startswith(_ADMIN)]
    return sum(int(count) for count in counts if count.isdigit())


def _listeners(process: EnvoyProcess) -> frozenset[str]:
    try:
        return process.admin.listeners()
    except EnvoyUnreachable:
        return frozenset()


def _end(process: EnvoyProcess) -> None:
    process.terminate()
    if process.wait(_STOP) is None:
        process.kill()
        process.wait(_STOP)

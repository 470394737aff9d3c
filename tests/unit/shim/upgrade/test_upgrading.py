"""What an upgrade says in the registry, whose turn it is, and that no failure stays half done. No Envoy is started."""

from __future__ import annotations

import argparse
import threading
from types import SimpleNamespace

import pytest

from meshsdk.errors import ConfigurationError, LifecycleError, MeshError
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.shim.enrolment import Enrolment
from meshsdk.shim.upgrade import operation, upgrading
from meshsdk.shim.upgrade.machine import UpgradeTiming
from meshsdk.shim.upgrade.upgrading import Upgraded, UpgradeFailed, Upgrading

OFF = {"MESHSDK_ENVOY_INSTALL": "off", "MESHSDK_ENVOY_VERSIONS": "/nowhere"}
TIMING = UpgradeTiming()


class Register:
    """Keeps what was said, each time."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []  # wanted, phase, problem
        self.states: list[InstanceState] = []
        self.changed = threading.Event()

    def amend(self, labels, _started_at) -> None:
        """As a keeper does."""
        self.said.append(tuple(labels.get(f"meshsdk.io/{key}", "") for key in ("wanted", "phase", "problem")))
        self.changed.set()

    def want(self, state) -> None:
        """As a keeper does."""
        self.states.append(state)


class Desk:
    """Upgrades of a shim that runs 1.39.0; `outcome` is what the exchange of Envoys does."""

    def __init__(self, monkeypatch) -> None:
        self.register = Register()
        labels = {"meshsdk.io/version": "1.39.0", "meshsdk.io/phase": "running"}
        self.enrolment = Enrolment(self.register, Instance("meshsdk.shim", "s", "127.0.0.1:1", labels=labels))
        settings = SimpleNamespace(drain=SimpleNamespace(timeout=5.0))
        self.shim = _Shim(enrolment=self.enrolment, settings=settings)
        self.upgrading = Upgrading(self.shim, OFF)
        self.outcome = lambda version: Upgraded("1.39.0", version, 1, 2, 0.0)
        self.programs = {"1.40.0": "1.40.0", "1.41.0": "1.41.0"}
        monkeypatch.setattr(upgrading, "find_version", lambda version, _: self.programs[version])
        monkeypatch.setattr(upgrading, "find", lambda wanted, _: self.programs[wanted])
        monkeypatch.setattr(upgrading, "said_version", str)
        monkeypatch.setattr(Upgrading, "_exchange", self._exchange)

    def _exchange(self, _executable, version, _timing, *, phase=None):
        if phase:
            self.enrolment.say(phase=phase, problem="")
        return self.outcome(version)

    def fails(self, _version):
        """The exchange was in vain."""
        raise UpgradeFailed("it ended")

    @property
    def now(self) -> tuple[str, str, str]:
        """What it says now."""
        return self.register.said[-1]


class _Shim(SimpleNamespace):
    __hash__ = object.__hash__


@pytest.fixture
def desk(monkeypatch) -> Desk:
    """A shim's upgrades."""
    return Desk(monkeypatch)


def test_a_new_order_is_never_beside_the_refusal_of_the_last_one(desk):
    """After a version was refused the next one is tried, and at no moment does the registry say it was refused."""
    desk.outcome = desk.fails
    with pytest.raises(UpgradeFailed):
        desk.upgrading.follow("1.40.0", TIMING)
    assert desk.now == ("1.40.0", "rolled-back", "it ended")
    desk.outcome = lambda version: Upgraded("1.39.0", version, 1, 2, 0.0)
    desk.upgrading.follow("1.41.0", TIMING)
    assert [said for said in desk.register.said if said[0] == "1.41.0" and said[1] != "upgrading"] == [
        ("1.41.0", "running", "")
    ]
    assert desk.enrolment.labels["meshsdk.io/version"] == "1.41.0"


def test_a_command_that_is_refused_has_not_been_tried(desk):
    """Nothing was touched: running, with the problem; and the record of a refused order stays as it is."""
    desk.programs["1.40.0"] = "1.38.0"
    with pytest.raises(ConfigurationError, match=r"says that it is Envoy 1\.38\.0, and 1\.40\.0 is wanted"):
        desk.upgrading.upgrade("1.40.0", TIMING)
    assert desk.now[1] == "running"
    assert "1.38.0" in desk.now[2]
    desk.enrolment.say(wanted="1.41.0", phase="rolled-back", problem="it ended")
    with pytest.raises(ConfigurationError):
        desk.upgrading.upgrade("1.40.0", TIMING)
    assert desk.now == ("1.41.0", "rolled-back", "it ended")


def test_an_order_whose_program_says_another_version(desk):
    """It is refused before anything is started, and counts as refused."""
    desk.programs["1.40.0"] = "1.38.0"
    desk.outcome = lambda _: pytest.fail("it was started")
    with pytest.raises(ConfigurationError, match=r"1\.38\.0"):
        desk.upgrading.follow("1.40.0", TIMING)
    assert desk.now[:2] == ("1.40.0", "rolled-back")


def test_orders_wait_and_commands_do_not(desk):
    """While one upgrade is under way a command is refused; an order and a renewal wait, and are carried out then."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(version):
        begun.set()
        assert go_on.wait(30)
        return Upgraded("1.39.0", version, 1, 2, 0.0)

    desk.outcome = slow
    desk.shim.supervision = SimpleNamespace(executable="1.41.0")
    threads = [threading.Thread(target=desk.upgrading.upgrade, args=("1.40.0", TIMING))]
    threads[0].start()
    assert begun.wait(30)
    done = []
    for words in (lambda: desk.upgrading.follow("1.41.0", TIMING), lambda: desk.upgrading.renew(TIMING)):
        threads.append(threading.Thread(target=lambda words=words: done.append(words())))
        threads[-1].start()
    with pytest.raises(LifecycleError, match="under way"):
        desk.upgrading.upgrade("1.41.0", TIMING)
    assert desk.now[0] == "", "what is waited for is not said"
    assert done == []
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert len(done) == 2
    assert desk.now == ("1.41.0", "running", "")


@pytest.mark.parametrize("error", [PermissionError(13, "no"), ValueError("embedded null byte"), KeyError("x")])
def test_whatever_goes_wrong_is_one_line_and_over(desk, error):
    """Any exception ends the upgrade: a ConfigurationError, the phase is reset, and the next one has its turn."""

    def bad(_version):
        raise error

    desk.outcome = bad
    with pytest.raises(ConfigurationError, match=type(error).__name__) as caught:
        desk.upgrading.upgrade("1.40.0", TIMING)
    assert "\n" not in str(caught.value)
    assert desk.now[1] == "rolled-back"
    desk.outcome = lambda version: Upgraded("1.39.0", version, 1, 2, 0.0)
    assert desk.upgrading.upgrade("1.40.0", TIMING).version == "1.40.0"
    assert desk.now[1:] == ("running", "")


def test_the_worker_outlives_it(desk):
    """The thread that follows the control plane takes the next order after one that went wrong."""
    want = operation.wanted(desk.shim)
    del desk.programs["1.40.0"]  # a KeyError
    try:
        want({"version": "1.40.0"})
        _until(desk, ("1.40.0", "rolled-back"))
        want({"version": "1.41.0"})
        _until(desk, ("1.41.0", "running"))
    finally:
        operation.closing(desk.shim)


def test_a_shim_that_ends_has_refused_nothing(desk):
    """Stopped in the middle of an upgrade it says DRAINING, and no failure."""

    def stopped(_version):
        desk.enrolment.drain()
        desk.upgrading.close()
        raise UpgradeFailed("the shim was stopped meanwhile")

    desk.outcome = stopped
    with pytest.raises(MeshError):
        desk.upgrading.follow("1.40.0", TIMING)
    assert desk.now == ("1.40.0", "upgrading", "")
    assert desk.register.states == [InstanceState.DRAINING]


def test_trouble_is_said_until_it_is_over(desk):
    """An Envoy that does not stay up: failing, with the problem; well again: running, and no problem."""
    desk.enrolment.trouble("it ended", failing=True)
    assert desk.now == ("", "failing", "it ended")
    desk.upgrading.follow("1.39.0", TIMING)
    assert desk.now == ("1.39.0", "failing", "it ended"), "an order for what runs does not make it well"
    desk.enrolment.trouble("", failing=False)
    assert desk.now[1:] == ("running", "")
    desk.enrolment.trouble("it ended after a day", failing=False)
    assert desk.now[1:] == ("running", "it ended after a day")
    desk.enrolment.trouble("", failing=False)
    assert desk.now[1:] == ("running", "")
    desk.enrolment.say(phase="rolled-back", problem="refused")
    desk.enrolment.trouble("it ended", failing=True)
    desk.enrolment.trouble("", failing=False)
    assert desk.now[1:] == ("rolled-back", "refused")


@pytest.mark.parametrize(("field", "option"), [("start", "--timeout"), ("watch", "--watch")])
def test_seconds_that_cannot_be(desk, field, option):
    """The option is named as it is written."""
    with pytest.raises(ConfigurationError, match=f"{option} is a number of seconds from 0 to 240"):
        operation.handler(desk.shim)({"to": "1.40.0", field: -3})


def test_a_home_that_nobody_has():
    """The command says so in one line before it asks the shim."""
    with pytest.raises(ConfigurationError, match="--to ~nosuchuser/envoy"):
        operation.request(argparse.Namespace(to="~nosuchuser/envoy", timeout=1.0, watch=1.0))


def _until(desk: Desk, said: tuple[str, str]) -> None:
    while not any(each[:2] == said for each in desk.register.said):
        desk.register.changed.clear()
        if not any(each[:2] == said for each in desk.register.said):
            assert desk.register.changed.wait(30), desk.register.said

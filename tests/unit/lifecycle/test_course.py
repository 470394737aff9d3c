"""The course of a service: steps out, answers in, and a clock of the test's. No registry, no server, no threads."""

from __future__ import annotations

import pytest

from meshsdk.errors import LifecycleError
from meshsdk.interceptors.activity import Sight
from meshsdk.lifecycle.course import Asked, Course, Perform, Tell
from meshsdk.lifecycle.cycle import Cycle
from meshsdk.lifecycle.drain import DrainTiming, Look, Stop
from meshsdk.lifecycle.plan import make_plan
from meshsdk.model.instance import Instance, InstanceState

ONLINE, DRAINING, OFFLINE = InstanceState.ONLINE, InstanceState.DRAINING, InstanceState.OFFLINE
TIMING = DrainTiming(quiet=1.0, timeout=15.0, announce=2.0, deregister=2.0, grace=1.0)


class Presence:
    """Takes every state at once."""

    instance = Instance("orders", "1", "10.0.0.1:50051")

    def __init__(self) -> None:
        self.state: InstanceState | None = InstanceState.STARTING
        self.left = False
        self.calls = Sight(0, 0)
        self.labels: dict[str, str | None] = {}
        self.cuts = 0

    def online(self):
        """Takes ONLINE."""
        self.state = ONLINE

    def draining(self):
        """Takes DRAINING."""
        self.state = DRAINING

    def leave(self):
        """Is gone."""
        self.state, self.left = None, True

    def relabel(self, labels):
        """Notes the labels."""
        self.labels.update(labels)

    def sight(self):
        """The calls that the test says."""
        return self.calls

    def cut(self, details):
        """Counts."""
        self.cuts += self.calls.in_flight
        return self.calls.in_flight


class Drive:
    """Drives a course: `look` answers one Look and returns the next, having done what came between."""

    def __init__(self, **options) -> None:
        self.now = 0.0
        self.presence = Presence()
        self.told: list[bool] = []
        self.course = Course(self.presence, make_plan({"drain": TIMING, **options}), lambda: self.now)
        self.steps = self.course.run()
        self.raises: BaseException | None = None
        self.step = self._act(next(self.steps))

    def _act(self, step):
        while not isinstance(step, Look | Stop):
            if isinstance(step, Perform):
                step.change()
                step = self.steps.send(self.raises)
            elif isinstance(step, Tell):
                self.told.append(step.serving)
                step = self.steps.send(None)
        return step

    def look(self, asked=None, now: float | None = None):
        """Answers the Look."""
        self.now = self.now if now is None else now
        self.step = self._act(self.steps.send(asked))
        return self.step


def test_online_then_drained():
    """The straight way: ONLINE, asked to drain, quiet for its time, gone from the registry, Stop; then it is over."""
    drive = Drive()
    assert (drive.course.state, drive.presence.state, drive.told) == (ONLINE, ONLINE, [True])
    assert isinstance(drive.look(Asked.DRAIN), Look)
    assert (drive.course.state, drive.presence.state, drive.told) == (DRAINING, DRAINING, [True, False])
    assert isinstance(drive.look(now=0.9), Look)
    assert isinstance(drive.look(now=1.1), Stop)
    assert (drive.course.state, drive.presence.left) == (OFFLINE, True)
    with pytest.raises(StopIteration):
        drive.steps.send(None)


def test_calls_that_outlast_the_drain_are_cut():
    """One call never ends: at the deadline, or a second signal, it is cut, and its status gets time to be sent."""
    for asked, at in ((None, 15.1), (Asked.SIGNAL, 3.0)):
        drive = Drive()
        drive.presence.calls = Sight(1, 1)
        drive.look(Asked.SIGNAL)
        assert isinstance(drive.look(now=2.9), Look)
        stop = drive.look(asked, now=at)
        assert isinstance(stop, Stop)
        assert stop.grace >= 0.5
        assert drive.presence.cuts == 1


def test_offline_keeps_the_server_until_its_end_is_asked_for():
    """`meshsdk offline`, then SIGTERM: no Stop at the first, no further wait for quiet at the second."""
    drive = Drive()
    drive.look(Asked.OFFLINE)
    assert isinstance(drive.look(now=1.1), Look)
    assert (drive.course.state, drive.presence.left) == (OFFLINE, True)
    assert isinstance(drive.look(Asked.OFFLINE, now=2.0), Look)
    assert isinstance(drive.look(Asked.SIGNAL, now=100.0), Stop)


def test_a_signal_during_offline_is_heard_afterwards():
    """SIGTERM comes while `meshsdk offline` still drains: the drain ends as it began, and the Stop follows at once."""
    drive = Drive()
    drive.look(Asked.OFFLINE)
    assert isinstance(drive.look(Asked.SIGNAL, now=0.5), Look)
    assert isinstance(drive.look(now=1.1), Stop)


def test_a_cycle_comes_back_with_its_labels():
    """DRAINING, quiet, the change, ONLINE; a change that raised leaves the labels, and its caller is told."""
    drive = Drive()
    seen = []
    for raises in (None, ValueError("no")):
        drive.raises = raises
        cycle = Cycle(lambda: seen.append(drive.presence.state), {"switch": str(raises)})
        start = drive.now
        drive.look(cycle)
        assert drive.presence.state is DRAINING
        drive.look(now=start + 1.1)
        assert drive.presence.state is ONLINE
        assert cycle.result.exception() is raises
    assert seen == [DRAINING, DRAINING]
    assert drive.presence.labels == {"switch": "None"}
    assert drive.told == [True, False, True, False, True]


def test_an_end_cancels_what_waits_to_cycle():
    """Two cycles are asked for and then the end: both callers are told, and nothing was changed."""
    drive = Drive()
    drive.presence.calls = Sight(1, 1)
    changed = []
    cycles = [Cycle(lambda: changed.append(1), {}) for _ in range(2)]
    for cycle in cycles:
        drive.look(cycle)
    drive.look(Asked.DRAIN)
    late = Cycle(lambda: changed.append(1), {})
    drive.look(late)
    for cycle in (*cycles, late):
        assert isinstance(cycle.result.exception(), LifecycleError)
    assert changed == []


def test_not_ready_is_not_online():
    """It waits for the application's word, looks again when told to, and can be ended before."""
    drive = Drive(ready=False)
    assert (drive.presence.state, drive.told) == (InstanceState.STARTING, [])
    drive.look(Asked.LOOK, now=50.0)
    assert drive.presence.state is InstanceState.STARTING
    assert drive.course.report()["ready"] is False
    drive.course._readiness.say()
    drive.look(Asked.LOOK)
    assert drive.presence.state is ONLINE
    assert drive.course.report() | {"calls": 0} == drive.course.report()
    assert isinstance(Drive(ready=False).look(Asked.STOP), Stop)

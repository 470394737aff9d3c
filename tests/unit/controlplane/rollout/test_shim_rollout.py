"""The ShimSet controller, with simulated shims and a clock that the tests move."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.model.shims import Share
from controlplane.rollout.controller import Controller
from controlplane.rollout.shim_rollout import GONE
from controlplane.rollout.status import SetPhase
from meshsdk.model.instance import InstanceState
from tests.unit.controlplane.rollout.fleet import EDGE, NEW, NEWER, OLD, Fleet, Shim, shim_set


def test_ten_shims_one_by_one() -> None:
    """With maxUnavailable 1 ten shims are upgraded one at a time, until all run the new version."""
    fleet = Fleet(10)
    assert [fleet.round().updated for _ in range(10)] == list(range(1, 11))
    assert fleet.most_away == 1
    assert fleet.status.phase is SetPhase.COMPLETE
    assert (fleet.status.shims, fleet.status.ready, fleet.status.failed, fleet.status.message) == (10, 10, 0, "")
    assert fleet.look() == dict.fromkeys(fleet.shims, NEW)
    assert {order.shim_set for order in fleet.controller.outcome.orders.values()} == {"edge"}


@pytest.mark.parametrize(
    ("share", "most"), [(Share(number=3), 3), (Share(percent=20), 2), (Share(percent=1), 1), (Share(number=99), 10)]
)
def test_as_many_at_a_time_as_may_be_away(share: Share, most: int) -> None:
    """maxUnavailable is a number or a percentage, rounded down, and at least one."""
    fleet = Fleet(10, shim_set(max_unavailable=share))
    assert fleet.run().phase is SetPhase.COMPLETE
    assert fleet.most_away == most


def test_picking_again_picks_the_same() -> None:
    """As long as those picked have not said so, looking again asks nobody else: not by another replica either."""
    fleet = Fleet(10, shim_set(max_unavailable=Share(number=2)))
    first = fleet.look()
    assert len(first) == 2
    assert fleet.look() == first
    fleet.restart()
    assert fleet.look() == first


@pytest.mark.parametrize(
    ("share", "updated"), [(Share(number=7), 3), (Share(percent=75), 2), (Share(percent=100), 0), (Share(number=20), 0)]
)
def test_a_partition_stays_as_it_is(share: Share, updated: int) -> None:
    """So many shims stay, a part of one rounded up; a smaller partition keeps those that were upgraded."""
    fleet = Fleet(10, shim_set(partition=share))
    status = fleet.run()
    assert (status.phase, status.updated) == (SetPhase.PARTITIONED, updated)
    assert status.message == f"{10 - updated} stay as they are (partition)"
    first = {key for key, shim in fleet.shims.items() if shim.version == NEW}
    fleet.sets = [replace(fleet.sets[0], partition=Share(number=4))]
    assert fleet.run().updated == 6
    assert first <= {key for key, shim in fleet.shims.items() if shim.version == NEW}
    fleet.sets = [replace(fleet.sets[0], partition=Share(number=9))]
    assert fleet.run().updated == 6, "a larger one takes nobody back"


def test_a_pause_begins_nothing_and_ends_what_has_begun() -> None:
    """Paused, the shim that is on its way arrives and no other one is asked; then it goes on."""
    fleet = Fleet(4)
    fleet.tell()
    fleet.sets = [replace(fleet.sets[0], paused=True)]
    status = fleet.run()
    assert (status.phase, status.updated) == (SetPhase.PAUSED, 1)
    assert status.message == "3 stay as they are while it is paused"
    fleet.sets = [shim_set()]
    assert fleet.run().phase is SetPhase.COMPLETE


def test_a_broken_version_stops_at_the_first_and_nobody_else_tries() -> None:
    """The first shim goes back, which is more than may fail: nobody else is asked, and it is not asked again."""
    fleet = Fleet(10)
    fleet.broken = {NEW}
    status = fleet.run()
    assert (status.phase, status.failed, status.updated, fleet.at(OLD)) == (SetPhase.ROLLED_BACK, 1, 0, 10)
    (failed,) = [shim for shim in fleet.shims.values() if shim.phase == "rolled-back"]
    assert status.message == f"1 of 1 tried failed, 10% may: {failed.name}: {NEW} did not become healthy"
    assert status.failures == ((failed.name, f"{NEW} did not become healthy"),)
    assert fleet.look() == {failed.name: NEW}


def test_those_upgraded_are_taken_back() -> None:
    """Too many of the later ones fail: those that run the new version are told the old one, and run it again."""
    fleet = Fleet(10, shim_set(max_failures=20.0))
    for _ in range(4):
        fleet.round()
    fleet.broken = {NEW}
    assert fleet.round().phase is SetPhase.PROGRESSING, "1 of 5 may fail"
    status = fleet.round()
    assert (status.phase, status.failed, status.updated) == (SetPhase.ROLLING_BACK, 2, 4)
    assert sorted(fleet.look().values()) == [OLD] * 4 + [NEW] * 2
    assert fleet.run().phase is SetPhase.ROLLED_BACK
    assert (fleet.at(OLD), fleet.status.previous) == (10, OLD)
    fleet.restart()
    fleet.broken = set()
    assert fleet.run().phase is SetPhase.ROLLED_BACK, "a restarted control plane finds it in the reports"
    assert fleet.at(NEW) == 0


def test_those_on_their_way_are_taken_back_and_have_not_failed() -> None:
    """Three are away when one fails: the two others are told to stay with what they run, which is no failure."""
    fleet = Fleet(6, shim_set(max_unavailable=Share(number=3)))
    first, second, third = sorted(fleet.tell())
    fleet.look()
    fleet.shims[first].end({NEW})
    assert fleet.look() == {first: NEW, second: OLD, third: OLD}
    assert fleet.status.phase is SetPhase.ROLLING_BACK
    fleet.tell()
    assert fleet.run().failures == ((first, f"{NEW} did not become healthy"),)
    assert (fleet.status.phase, fleet.at(OLD)) == (SetPhase.ROLLED_BACK, 6)


def test_without_rollback_it_only_stops() -> None:
    """rollback: false leaves those upgraded as they are."""
    fleet = Fleet(10, shim_set(max_failures=20.0, rollback=False))
    for _ in range(4):
        fleet.round()
    fleet.broken = {NEW}
    status = fleet.run()
    assert (status.phase, status.updated, status.failed) == (SetPhase.STOPPED, 4, 2)


def test_failures_that_are_allowed_do_not_stop_it() -> None:
    """With 50% of those tried allowed to fail, one that fails late is left behind, and all others arrive."""
    fleet = Fleet(6, shim_set(max_failures=50.0))
    fleet.round()
    fleet.broken = {NEW}
    fleet.round()
    fleet.broken = set()
    status = fleet.run()
    assert (status.phase, status.updated, status.failed) == (SetPhase.COMPLETE, 5, 1)
    assert status.message == "1 failed, which is allowed"


def test_a_changed_spec_begins_anew() -> None:
    """After a stop a new version goes out to all, also to the one that failed; more allowed failures go on as well."""
    fleet = Fleet(6)
    fleet.broken = {NEW}
    fleet.run()
    generation = fleet.status.generation
    fleet.sets = [shim_set(version=NEWER)]
    status = fleet.run()
    assert (status.phase, status.failed, fleet.at(NEWER)) == (SetPhase.COMPLETE, 0, 6)
    assert status.generation != generation
    other = Fleet(6)
    other.broken = {NEW}
    other.run()
    other.broken = set()
    other.sets = [shim_set(max_failures=100.0)]
    assert (other.run().phase, other.at(NEW)) == (SetPhase.COMPLETE, 5)


def test_a_new_version_while_one_is_on_its_way() -> None:
    """The shim that is still on its way to the last version ends that, and is asked for the new one in its turn."""
    fleet = Fleet(3)
    (busy,) = fleet.tell()
    fleet.sets = [shim_set(version=NEWER)]
    assert fleet.look() == {}, "it is away, so nobody else is asked"
    fleet.shims[busy].end(())
    assert fleet.run().phase is SetPhase.COMPLETE
    assert fleet.at(NEWER) == 3


def test_one_that_vanishes_on_its_way_has_failed() -> None:
    """A shim that does not survive the new version has failed, though it says nothing; until then it is waited for."""
    fleet = Fleet(5)
    (lost,) = fleet.tell()
    fleet.look()
    del fleet.shims[lost]
    assert fleet.look() == {}
    assert fleet.status.phase is SetPhase.PROGRESSING
    assert fleet.controller.outcome.deadline == fleet.now + GONE
    fleet.now += GONE
    assert fleet.look() == {}
    assert fleet.status.phase is SetPhase.ROLLED_BACK
    assert fleet.status.message == f"1 of 1 tried failed, 10% may: {lost}: vanished on its way to {NEW}"


def test_one_that_is_started_anew_on_its_way_has_failed() -> None:
    """A shim that crashed, and came up again under its name with the old version, is not asked again and again."""
    fleet = Fleet(5)
    (lost,) = fleet.tell()
    fleet.look()
    fleet.shims[lost] = Shim(lost)
    fleet.look()
    assert fleet.status.failures == ((lost, f"was started anew on its way to {NEW}"),)
    assert fleet.status.phase is SetPhase.ROLLED_BACK


def test_one_that_is_scaled_down_has_not_failed() -> None:
    """A shim that drains and goes while it is on its way is no failure; the next one is asked."""
    fleet = Fleet(5)
    (gone,) = fleet.tell()
    fleet.shims[gone].state = InstanceState.DRAINING
    fleet.look()
    del fleet.shims[gone]
    status = fleet.run()
    assert (status.phase, status.failed, status.shims) == (SetPhase.COMPLETE, 0, 4)


def test_one_that_drains_and_comes_anew_has_not_failed() -> None:
    """A shim restarted by its orchestrator while it was on its way: it is asked again in its turn."""
    fleet = Fleet(5)
    (again,) = fleet.tell()
    fleet.look()
    fleet.shims[again].state = InstanceState.DRAINING
    fleet.look()
    fleet.shims[again] = Shim(again)
    status = fleet.run()
    assert (status.phase, status.failed, status.updated) == (SetPhase.COMPLETE, 0, 5)


def test_one_that_drains_for_long_has_not_failed() -> None:
    """The timeout is for shims that are to arrive."""
    fleet = Fleet(5, shim_set(timeout=60.0))
    (leaving,) = fleet.tell()
    fleet.look()
    fleet.shims[leaving].state = InstanceState.DRAINING
    fleet.look()
    fleet.now = 60.0
    fleet.look()
    assert fleet.status.failures == ()


def test_one_that_does_not_stay_up_stops_it_and_is_taken_back() -> None:
    """It arrived and was ready; then its data plane crash-loops: failed, and all go back."""
    fleet = Fleet(5)
    fleet.round()
    fleet.round()
    sick = next(shim for shim in fleet.shims.values() if shim.version == NEW)
    sick.phase, sick.problem = "failing", "Envoy ended with exit code -11"
    assert fleet.look()[sick.name] == OLD
    assert fleet.status.phase is SetPhase.ROLLING_BACK
    assert fleet.status.failures == ((sick.name, f"{NEW} does not stay up: Envoy ended with exit code -11"),)
    assert (fleet.run().phase, fleet.at(OLD)) == (SetPhase.ROLLED_BACK, 5)


def test_one_that_does_not_stay_up_while_it_leaves() -> None:
    """A shim that is being ended is no witness against a version."""
    fleet = Fleet(5)
    fleet.round()
    sick = next(shim for shim in fleet.shims.values() if shim.version == NEW)
    sick.phase, sick.state = "failing", InstanceState.DRAINING
    fleet.look()
    assert fleet.status.failures == ()


def test_one_that_does_not_arrive_in_time_has_failed() -> None:
    """Asked and not there within the timeout: failed, and told to stay with what it runs."""
    fleet = Fleet(5, shim_set(timeout=60.0))
    (slow,) = fleet.tell()
    fleet.look()
    assert fleet.controller.outcome.deadline == 60.0
    fleet.now = 59.9
    fleet.look()
    assert fleet.status.phase is SetPhase.PROGRESSING
    fleet.now = 60.0
    assert fleet.look() == {slow: OLD}
    assert fleet.status.failures == ((slow, f"did not get to {NEW} within 60 s"),)


def test_one_that_runs_it_and_does_not_become_ready_has_failed() -> None:
    """It runs the new version and gets no calls: it counts as away, after the timeout as failed, and is taken back."""
    fleet = Fleet(5, shim_set(timeout=60.0))
    (sick,) = fleet.tell()
    fleet.look()
    fleet.shims[sick].end(())
    fleet.shims[sick].state = InstanceState.STARTING
    assert fleet.look() == {sick: NEW}, "nobody else is asked"
    fleet.now = 60.0
    assert fleet.look() == {sick: OLD}
    assert fleet.status.failures == ((sick, f"runs {NEW} and was not ready within 60 s"),)
    fleet.shims[sick].state = InstanceState.ONLINE
    assert fleet.run().phase is SetPhase.ROLLED_BACK
    assert fleet.at(OLD) == 5


def test_shims_that_are_not_ready_hold_it_up() -> None:
    """Who is not ready for whatever reason counts as away; it is said who."""
    fleet = Fleet(3)
    fleet.shims["s1"].state = InstanceState.STARTING
    assert fleet.look() == {}
    assert fleet.status.message == "held up by shims that are not ready: s1"
    fleet.shims["s1"].state = InstanceState.ONLINE
    assert fleet.run().phase is SetPhase.COMPLETE


def test_a_restart_in_the_middle_goes_on_where_it_was() -> None:
    """Whenever the control plane is restarted, no more are away than may be, and all arrive."""
    fleet = Fleet(8, shim_set(max_unavailable=Share(number=2)))
    while fleet.at(NEW) < 8:
        fleet.restart()
        fleet.tell()
        fleet.restart()
        fleet.look()
        next(shim for shim in fleet.shims.values() if shim.phase == "upgrading").end(())
        fleet.now += 1.0
    assert fleet.most_away == 2
    fleet.look()
    assert fleet.status.phase is SetPhase.COMPLETE


def test_nobody_is_picked_before_it_is_known_who_there_is() -> None:
    """After a start with a store that forgets, shims are only asked once they had time to register again."""
    fleet = Fleet(3, ready_at=10.0)
    fleet.shims["s0"].version, fleet.shims["s0"].wanted = NEW, NEW
    assert fleet.look() == {"s0": NEW}
    assert (fleet.status.phase, fleet.controller.outcome.deadline) == (SetPhase.WAITING, 10.0)
    fleet.now = 10.0
    assert len(fleet.look()) == 2


def test_newcomers() -> None:
    """Shims that register later are upgraded in their turn; in a rolled back set those with the broken one go back."""
    fleet = Fleet(2)
    fleet.run()
    fleet.shims["late"] = Shim("late")
    assert fleet.run().updated == 3
    broken = Fleet(3)
    broken.broken = {NEW}
    broken.run()
    broken.shims["late"] = Shim("late", NEW)
    broken.run()
    assert broken.at(OLD) == 4


def test_a_shim_belongs_to_the_set_that_names_more_labels() -> None:
    """Of two sets that select a shim the narrower one decides, and the other one says so; deleted, it takes it over."""
    canary = shim_set("canary", version=NEWER, selector={"app": "orders", "track": "canary"})
    fleet = Fleet(3)
    fleet.shims["c"] = Shim("c", track="canary")
    fleet.sets = [shim_set(), canary]
    fleet.run()
    assert (fleet.at(NEW), fleet.at(NEWER)) == (3, 1)
    assert fleet.status.message == "1 shims are left to a ShimSet that names more labels, or comes first by name"
    fleet.sets = [shim_set()]
    fleet.run()
    assert fleet.at(NEW) == 4
    fleet.sets = []
    assert fleet.look() == {}


def test_no_shims() -> None:
    """A set whose selector nobody carries says so."""
    controller = Controller(0.0)
    controller.look([shim_set()], {}, 0.0)
    status = controller.outcome.statuses[EDGE]
    assert (status.phase, status.message) == (SetPhase.WAITING, "no shim carries the labels of the selector")


def test_it_looks_when_something_changed_and_rests_in_between() -> None:
    """Nothing new: no look. Changes soon after a look are taken together, after a time that grows with the fleet."""
    controller = Controller(0.0)
    shims = {f"s{number}": Shim(f"s{number}").instance() for number in range(1_000)}
    assert controller.look([shim_set()], shims, 5.0)
    assert not controller.look([], shims, 6.0), "nobody woke it"
    controller.wake()
    assert controller.look([], shims, 6.0)
    controller.wake()
    assert not controller.look([shim_set()], shims, 6.05)
    assert controller.due == 6.1
    assert controller.look([shim_set()], shims, 6.1)

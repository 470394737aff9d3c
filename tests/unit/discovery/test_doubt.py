"""Doubts: who is kept though a registry says that he is gone, for how long, and who comes back with him."""

from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.doubt import Doubts, Verdict

PERIOD = 60.0
NOTHING: Verdict[str] = Verdict((), {}, ())


def doubts(count: int, period: float = PERIOD) -> Doubts[str]:
    """A registry that has told `count` ONLINE instances of `orders`, named "0", "1", ..., at 0."""
    made: Doubts[str] = Doubts("set", period)
    for number in range(count):
        made.told("orders", str(number), before=False, after=True)
    assert made.conclude("orders", {}, 0) == NOTHING
    return made


def kept(*identifiers: int) -> dict[str, str]:
    """What the owner keeps of instances."""
    return {str(one): f"kept of {one}" for one in identifiers}


def back(made: Doubts[str], identifier: int) -> None:
    """One in doubt is listed again."""
    made.told("orders", str(identifier), before=True, after=True)


def test_a_small_loss_is_believed():
    """Two of four: they are gone, and kept aside."""
    made = doubts(4)
    assert made.conclude("orders", kept(0, 1), 1) == Verdict((), {}, ("0", "1"))
    assert (len(made), made.aside, made.deadline()) == (0, 2, None)


def test_a_large_loss_is_doubted_until_its_time_is_over():
    """Three of four stay; one is listed again, the others go when the period is over, and not before."""
    made = doubts(4)
    assert made.conclude("orders", kept(0, 1, 2), 1) == Verdict(("0", "1", "2"), {}, ())
    back(made, 1)
    assert made.conclude("orders", {}, 2) == NOTHING
    assert (len(made), made.deadline()) == (2, 1 + PERIOD)
    assert made.settle(PERIOD, away=False) == []
    assert made.settle(1 + PERIOD, away=False) == [("orders", "0"), ("orders", "2")]
    assert (len(made), made.deadline()) == (0, None)


def test_one_in_doubt_that_is_missing_again_stays_as_it_is():
    """A second listing without it neither ends the doubt nor begins it anew."""
    made = doubts(2)
    made.conclude("orders", kept(0, 1), 1)
    assert made.conclude("orders", kept(0, 1), 30) == NOTHING
    assert made.deadline() == 1 + PERIOD


def test_those_gone_before_are_recalled_by_a_doubt():
    """Leases lapse one by one: with the third of four the first two come back, with what was kept of them."""
    made = doubts(4)
    made.conclude("orders", kept(0), 1)
    made.conclude("orders", kept(1), 2)
    assert made.conclude("orders", kept(2), 3) == Verdict(("2",), kept(0, 1), ())
    assert (len(made), made.aside) == (3, 0)
    assert made.conclude("orders", kept(3), 4) == Verdict(("3",), {}, ())
    assert made.settle(3 + PERIOD, away=False) == [("orders", "2"), ("orders", "0"), ("orders", "1")]


def test_the_recalled_go_as_soon_as_all_others_are_back():
    """They had been believed gone, and the registry is well."""
    made = doubts(4)
    made.conclude("orders", kept(0, 1), 1)
    made.conclude("orders", kept(2, 3), 2)
    back(made, 2)
    back(made, 0)
    assert made.conclude("orders", {}, 3) == NOTHING
    back(made, 3)
    assert made.conclude("orders", {}, 4) == Verdict((), {}, ("1",))
    assert len(made) == 0


def test_the_recalled_go_when_the_last_other_runs_out():
    """One was recalled by a second loss, and its own time is not over: the others of both are back, but for one."""
    made = doubts(10)
    made.conclude("orders", kept(0, 1, 2, 3, 4, 5), 1)
    for number in range(5):
        back(made, number)
    assert made.conclude("orders", kept(6), 2).gone == ("6",)
    assert made.conclude("orders", kept(0, 1, 2, 3, 4), 3).recalled == kept(6)
    for number in range(5):
        back(made, number)
    assert made.conclude("orders", {}, 4) == NOTHING
    assert made.settle(1 + PERIOD, away=False) == [("orders", "5"), ("orders", "6")]
    assert made.deadline() is None


def test_while_the_registry_is_away_doubts_go_on():
    """Nobody could dispel them: those that are due have their time anew, and end after those that were not."""
    made = doubts(4)
    made.conclude("orders", kept(0, 1, 2), 1)
    made.conclude("orders", kept(3), 20)
    assert made.settle(1 + PERIOD, away=True) == []
    assert made.settle(1 + 2 * PERIOD, away=False) == [
        ("orders", "3"),
        ("orders", "0"),
        ("orders", "1"),
        ("orders", "2"),
    ]


def test_who_is_told_of_is_not_recalled():
    """One that was believed gone is listed again, another says farewell, a third went too long ago."""
    made = doubts(10)
    made.conclude("orders", kept(0), 1)
    made.conclude("orders", kept(1, 2, 3), 30)
    made.told("orders", "1", before=False, after=True)
    made.told("orders", "2", before=False, after=False)
    made.conclude("orders", {}, 31)
    assert made.conclude("orders", kept(4, 5, 6, 7, 8), 1 + PERIOD).recalled == kept(3)


def test_a_farewell_recalls_nobody():
    """Fewer than half are left because one more drained: no loss is doubted, so none that was believed comes back."""
    made = doubts(10)
    made.conclude("orders", kept(0, 1, 2, 3, 4), 1)
    made.told("orders", "5", before=True, after=False)
    assert made.conclude("orders", {}, 2) == NOTHING
    assert (len(made), made.aside) == (0, 5)


def test_what_is_kept_aside_is_bounded():
    """Instances that come and vanish all the time leave no more behind than there were at once, for no longer."""
    made = doubts(10)
    for number in range(10, 110):
        made.told("orders", str(number), before=False, after=True)
        made.conclude("orders", kept(number - 1) if number > 10 else {}, 1)
    assert made.aside == 12  # one comes before the one before it goes
    made.settle(1 + PERIOD, away=False)
    assert made.aside == 0


def test_no_more_are_recalled_than_there_were():
    """Those who said farewell are not missed: what was aside beyond the rest does not come back."""
    made = doubts(10)
    for number in range(10, 30):
        made.told("orders", str(number), before=False, after=True)
        made.conclude("orders", kept(number), 1)
    for number in range(5):
        made.told("orders", str(number), before=True, after=False)
    assert len(made.conclude("orders", kept(5, 6, 7, 8, 9), 2).recalled) == 6


def test_applications_are_doubted_each_for_itself():
    """A doubt about one application recalls nobody of another, and is over for itself."""
    made = doubts(4)
    for identifier in "ab":
        made.told("users", identifier, before=False, after=True)
    made.conclude("users", {"a": "x"}, 1)
    made.conclude("orders", kept(0, 1, 2), 2)
    assert (len(made), made.aside) == (3, 1)
    assert made.conclude("users", {"b": "y"}, 3) == Verdict(("b",), {"a": "x"}, ())


def test_an_application_that_is_forgotten_leaves_nothing_behind():
    """Neither a deadline nor what was kept aside."""
    made = doubts(4)
    made.conclude("orders", kept(0), 1)
    made.conclude("orders", kept(1, 2), 2)
    back(made, 1)
    made.conclude("orders", {}, 3)
    made.conclude("orders", kept(1), 4)
    made.forget("orders")
    made.forget("orders")
    assert (len(made), made.aside, made.deadline()) == (0, 0, None)
    assert made.settle(10 * PERIOD, away=False) == []


def test_without_a_period_all_is_believed():
    """Nothing is doubted, and nothing kept aside."""
    made = doubts(4, period=0)
    assert made.conclude("orders", kept(0, 1, 2, 3), 1).gone == ("0", "1", "2", "3")
    assert (len(made), made.aside) == (0, 0)


def test_a_doubt_is_one_line_when_it_begins_and_one_when_it_ends(caplog):
    """However many increments it takes; the recalled are counted in both."""
    caplog.set_level(logging.INFO)
    made = doubts(4)
    made.conclude("orders", kept(0), 1)
    made.conclude("orders", kept(1, 2), 2)
    made.conclude("orders", kept(3), 3)
    assert caplog.messages == [
        (
            "set: the registry says that 3 of 4 instances of 'orders' are gone without a word; in doubt, they stay in "
            "use until they are listed again, for 60 s at most (longer while the registry is away)"
        )
    ]
    caplog.clear()
    for number in (1, 2, 3):
        back(made, number)
    made.conclude("orders", {}, 4)
    assert caplog.messages == [
        "set: the doubt about 4 instances of 'orders' is over; 1 are not listed again and no longer used"
    ]


moves = st.lists(
    st.tuples(
        st.sampled_from(["listed", "left", "vanished", "settled"]),
        st.sets(st.integers(0, 5), max_size=6),
        st.sampled_from([0, 1, 20, 61]),
        st.booleans(),
    ),
    max_size=20,
)


@given(moves)
def test_whatever_happens_the_owner_has_who_is_there_or_in_doubt(history):
    """Verdicts never name one twice, or one the owner lacks; after two quiet periods it has what the registry has."""
    made: Doubts[str] = Doubts("set", PERIOD)
    owned: set[str] = set()
    there: set[str] = set()
    now = 0.0

    def let_go(gone):
        assert len(set(gone)) == len(gone)
        assert owned.issuperset(gone)
        owned.difference_update(gone)

    for what, numbers, later, away in [*history, ("settled", set(), 61, False), ("settled", set(), 61, False)]:
        now += later
        names = {str(number) for number in numbers}
        silent: dict[str, str] = {}
        if what == "settled":
            let_go([identifier for _, identifier in made.settle(now, away=away)])
        elif what == "vanished":
            there -= names
            silent = {name: name for name in sorted(names & owned)}
        else:
            for name in sorted(names):
                made.told("orders", name, before=name in owned, after=what == "listed")
            (owned.update if what == "listed" else owned.difference_update)(names)
            (there.update if what == "listed" else there.difference_update)(names)
        verdict = made.conclude("orders", silent, now)
        assert owned.issuperset(verdict.doubted)
        assert not owned & verdict.recalled.keys()
        assert all(name == of for name, of in verdict.recalled.items())
        let_go(verdict.gone)
        owned.update(verdict.recalled)
        assert len(owned - there) == len(made)
    assert owned == there

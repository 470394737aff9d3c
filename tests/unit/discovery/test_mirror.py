"""A mirror of a registry's entries: whatever comes in, its listener ends with what the entries say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.mirror import Mirror
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance

ONE = Instance("a", "1", "10.0.0.1:1", unit="u1")
TWO = Instance("a", "2", "10.0.0.2:1", unit="u2")
OTHER = Instance("b", "1", "10.0.1.1:1", unit="u1")
State = dict[tuple[str, str], Instance]


def decode(key: str, raw: Instance | str) -> Instance:
    """Raw values are instances; a text stands for a broken entry and is what is wrong with it."""
    if isinstance(raw, str):
        raise RegistryError(raw)
    return raw


class Listener:
    """Applies increments, as the port's documentation says."""

    def __init__(self) -> None:
        self.told: list[Increment] = []
        self.state: State = {}
        self.marks = 0
        self._since_mark: set[str] = set()

    def __call__(self, increment: Increment) -> None:
        """Takes one."""
        self.told.append(increment)
        if not increment.app:
            assert increment == Increment("", reset=True)
            self.marks += 1
            self.state = {key: held for key, held in self.state.items() if key[0] in self._since_mark}
            self._since_mark = set()
            return
        self._since_mark.add(increment.app)
        if increment.reset:
            self.state = {key: held for key, held in self.state.items() if key[0] != increment.app}
        for identifier in increment.removed:
            assert (increment.app, identifier) in self.state, "only what is known is removed"
            del self.state[increment.app, identifier]
        for instance in increment.put:
            assert self.state.get((instance.app, instance.id)) != instance, "only what changed is told"
            self.state[instance.app, instance.id] = instance


def mirror_of(app: str = "a", unit: str = "") -> tuple[Mirror[Instance | str], Listener]:
    """Returns a mirror and its listener."""
    listener = Listener()
    return Mirror("registry", app, unit, decode, listener), listener


def test_a_listing_and_its_changes():
    """A reset, then increments of what changed; what did not change is not told."""
    mirror, listener = mirror_of()
    mirror.reset({"k1": ONE})
    moved = replace(ONE, address="10.0.0.9:1")
    mirror.change({"k1": moved, "k2": TWO})
    mirror.change({"k1": moved})
    mirror.change({}, ["k2", "unknown"])
    assert listener.told == [
        Increment("a", (ONE,), reset=True),
        Increment("a", (moved, TWO)),
        Increment("a", removed=("2",)),
    ]


def test_an_empty_listing_is_told():
    """Of one application: that it has no instances. Of all: the end mark alone."""
    mirror, listener = mirror_of()
    mirror.reset({})
    assert listener.told == [Increment("a", reset=True)]
    mirror, listener = mirror_of("")
    mirror.reset({})
    assert listener.told == [Increment("", reset=True)]


def test_a_listing_of_everything_tells_each_application_and_the_end():
    """Applications that had instances and have none now are told as empty, before the mark."""
    mirror, listener = mirror_of("")
    mirror.reset({"k1": ONE, "k2": OTHER})
    listener.told.clear()
    mirror.reset({"k1": ONE})
    assert sorted(listener.told[:-1], key=lambda increment: increment.app) == [
        Increment("a", (ONE,), reset=True),
        Increment("b", reset=True),
    ]
    assert listener.told[-1] == Increment("", reset=True)


def test_a_change_of_the_key_alone_is_no_change():
    """An instance whose entry moves to another key in one change was never gone."""
    mirror, listener = mirror_of()
    mirror.reset({"k1": ONE})
    mirror.change({"k9": ONE}, ["k1"])
    assert listener.told == [Increment("a", (ONE,), reset=True)]


def test_the_youngest_of_two_claims_counts_and_the_other_is_kept():
    """Two entries with one id: the one that started last is told; when it goes, the other stands in."""
    mirror, listener = mirror_of()
    young = replace(ONE, started_at=9.0, address="10.0.0.9:1")
    mirror.reset({"k1": ONE, "k2": young})
    assert listener.state == {("a", "1"): young}
    mirror.change({"k1": replace(ONE, weight=5)})
    assert len(listener.told) == 1
    mirror.change({}, ["k2"])
    assert listener.told[-1] == Increment("a", (replace(ONE, weight=5),))


def test_another_unit_s_instances_are_left_out():
    """They are not told; one that moves away is removed, one that moves in is put."""
    mirror, listener = mirror_of(unit="u1")
    mirror.reset({"k1": ONE, "k2": TWO})
    assert listener.state == {("a", "1"): ONE}
    mirror.change({"k1": replace(ONE, unit="u2"), "k2": replace(TWO, unit="u1")})
    assert listener.state == {("a", "2"): replace(TWO, unit="u1")}
    assert mirror.skipped == 0


def test_broken_entries_are_skipped_counted_and_logged_once(caplog):
    """Each is logged once with its key; counted while it is there; one that broke removes what it held."""
    mirror, listener = mirror_of()
    mirror.reset({"k1": ONE, "k2": "not JSON", "k3": OTHER})
    assert (listener.state, mirror.skipped) == ({("a", "1"): ONE}, 2)
    mirror.change({"k2": "still not JSON", "k1": "broke"})
    assert (listener.state, mirror.skipped) == ({}, 3)
    mirror.change({"k1": ONE, "k2": TWO}, ["k3"])
    assert (listener.state, mirror.skipped) == ({("a", "1"): ONE, ("a", "2"): TWO}, 0)
    mirror.change({"k2": "again"})
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "'k2' is skipped: not JSON" in messages[0]
    assert "'k3' is skipped: app is 'b', not 'a'" in messages[1]
    assert "'k1' is skipped: broke" in messages[2]


def test_no_more_keys_are_logged_than_can_be_read(caplog):
    """A registry full of rubbish does not flood the log, and is still counted."""
    mirror, _ = mirror_of()
    mirror.reset({f"k{n}": "rubbish" for n in range(3000)})
    assert len(caplog.records) == 1000
    assert mirror.skipped == 3000


def test_a_listener_that_fails_is_logged(caplog):
    """Its exception is its own: the next increments are told all the same."""
    told: list[Increment] = []

    def listener(increment: Increment) -> None:
        told.append(increment)
        raise RuntimeError("listener's own")

    mirror: Mirror[Instance | str] = Mirror("registry", "a", "", decode, listener)
    mirror.reset({"k1": ONE})
    mirror.change({"k2": TWO})
    assert len(told) == 2
    assert [str(record.exc_info[1]) for record in caplog.records] == ["listener's own"] * 2


_VALUES = st.one_of(
    st.just("rubbish"),
    st.builds(
        Instance,
        app=st.sampled_from(["a", "b", "c"]),
        id=st.sampled_from(["1", "2"]),
        address=st.just("10.0.0.1:1"),
        unit=st.sampled_from(["", "u1", "u2"]),
        weight=st.integers(1, 3),
        started_at=st.sampled_from([0.0, 1.0]),
    ),
)
_ENTRIES = st.dictionaries(st.sampled_from("klmnop"), _VALUES, max_size=6)
_STEPS = st.lists(
    st.one_of(
        _ENTRIES.map(lambda entries: ("reset", entries, frozenset())),
        st.tuples(st.just("change"), _ENTRIES, st.frozensets(st.sampled_from("klmnop"))),
    ),
    max_size=12,
)


@given(_STEPS, st.sampled_from(["", "a", "b"]), st.sampled_from(["", "u1"]))
def test_any_history_ends_in_what_the_entries_say(steps, app, unit):
    """After every step of any sequence, what was told adds up to what a fresh look at the entries gives."""
    mirror, listener = mirror_of(app, unit)
    entries: dict[str, Instance | str] = {}
    mirror.reset({})
    for kind, put, removed in steps:
        marks = listener.marks
        if kind == "reset":
            entries = dict(put)
            mirror.reset(put)
            assert listener.marks == marks + (not app)
        else:
            entries = {key: value for key, value in entries.items() if key not in removed} | put
            mirror.change(put, removed)
        assert listener.state == model(entries, app, unit)
        broken = [v for v in entries.values() if isinstance(v, str) or (app and v.app != app)]
        assert mirror.skipped == len(broken)


def model(entries: dict[str, Instance | str], app: str, unit: str) -> State:
    """Returns what entries say: per identity the usable instance of the unit that started last (then by key)."""
    state: State = {}
    usable = [(key, value) for key, value in entries.items() if isinstance(value, Instance)]
    for _, value in sorted(usable, key=lambda item: (item[1].started_at, item[0])):
        if app in ("", value.app) and unit in ("", value.unit):
            state[value.app, value.id] = value
    return state


def test_an_entry_that_the_adapter_did_not_foresee(caplog):
    """A decoder that fails on an entry's text (a lone surrogate) costs that entry, and no other."""

    def failing(key: str, raw: str) -> Instance:
        raw.encode()
        return replace(ONE, id=key)

    listener = Listener()
    mirror: Mirror[str] = Mirror("r", "a", "", failing, listener)
    mirror.reset({"1": "", "2": "\ud800"})
    assert [instance.id for instance in listener.told[0].put] == ["1"]
    assert mirror.skipped == 1
    assert "entry '2' is skipped: 'utf-8' codec can't encode" in caplog.text

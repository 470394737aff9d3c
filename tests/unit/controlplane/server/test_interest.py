"""The index of who wants what: only streams that a change concerns are found."""

from __future__ import annotations

from controlplane.server.interest import Interest
from controlplane.server.resource_map import Change
from controlplane.server.subscription import Shift
from tests.unit.controlplane.server.packs import CDS, EDS


def found(interest, view, **names):
    """What is affected by a change, sorted."""
    types = {"cds": CDS, "eds": EDS}
    return sorted(interest.affected(Change(view, {types[key]: tuple(value) for key, value in names.items()})))


def test_only_subscribers_are_affected():
    """A change of one name reaches those who named it and the wildcards of its type, and nobody else."""
    interest: Interest[str] = Interest()
    interest.apply("n1", "one", Shift(EDS, frozenset("ab")))
    interest.apply("n1", "two", Shift(EDS, frozenset("b")))
    interest.apply("n2", "all", Shift(CDS, wildcard=True))
    assert found(interest, None, eds="a") == [("one", EDS, "a")]
    assert found(interest, None, eds="b") == [("one", EDS, "b"), ("two", EDS, "b")]
    assert found(interest, None, cds="a") == [("all", CDS, "")]
    assert found(interest, None, eds="z") == []


def test_change_of_one_view_reaches_its_streams_only():
    """What is set for one view wakes no stream of another."""
    interest: Interest[str] = Interest()
    interest.apply("n1", "one", Shift(EDS, frozenset("a")))
    interest.apply("n2", "two", Shift(EDS, frozenset("a")))
    assert found(interest, "n2", eds="a") == [("two", EDS, "a")]
    assert found(interest, "n3", eds="a") == []


def test_nothing_is_left_of_what_was_dropped():
    """Dropped names, ended wildcards and closed streams leave no entry behind."""
    interest: Interest[str] = Interest()
    interest.apply("n", "one", Shift(EDS, frozenset("ab")))
    interest.apply("n", "one", Shift(CDS, wildcard=True))
    interest.apply("n", "one", Shift(EDS, dropped=frozenset("a")))
    interest.apply("n", "one", Shift(CDS, wildcard=False))
    assert found(interest, "n", eds="ab", cds="a") == [("one", EDS, "b")]
    interest.drop("n", "one", {EDS: {"b"}, CDS: set()})
    assert interest._views == {}

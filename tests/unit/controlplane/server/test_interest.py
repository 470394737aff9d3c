"""The index of who wants what: only streams that a change concerns are found."""

from __future__ import annotations

from controlplane.server.interest import Interest
from controlplane.server.resource_map import Change
from controlplane.server.shift import Shift
from controlplane.server.type_urls import LB_ENDPOINT
from tests.unit.controlplane.server.packs import CDS, EDS


def found(interest, views, collections=None, **names):
    """What is affected by a change, sorted: (stream, type, name)."""
    types = {"cds": CDS, "eds": EDS}
    seen = None if views is None else frozenset(views)
    named = {types[key]: tuple(value) for key, value in names.items()}
    keys = {LB_ENDPOINT: frozenset(collections)} if collections else {}
    return sorted(concern[:3] for concern in interest.affected(Change(seen, named, keys)))


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
    """What is set for some views wakes no stream of another."""
    interest: Interest[str] = Interest()
    interest.apply("n1", "one", Shift(EDS, frozenset("a")))
    interest.apply("n2", "two", Shift(EDS, frozenset("a")))
    assert found(interest, ["n2", "n9"], eds="a") == [("two", EDS, "a")]
    assert found(interest, ["n3"], eds="a") == []


def test_collections_are_found_by_key():
    """A change in a glob collection reaches the streams that subscribe to it, not those of its neighbour."""
    interest: Interest[str] = Interest()
    interest.apply("n", "one", Shift(LB_ENDPOINT, collections_added=frozenset({"k1"})))
    interest.apply("n", "two", Shift(LB_ENDPOINT, collections_added=frozenset({"k2"})))
    assert found(interest, None, {"k1", "k3"}) == [("one", LB_ENDPOINT, "k1")]


def test_views_of_a_name():
    """Who asks for a name is told by view, be it by the name, by asking for all, or by the key of a collection."""
    interest: Interest[str] = Interest()
    interest.apply("n1", "one", Shift(EDS, frozenset("a")))
    interest.apply("n2", "all", Shift(EDS, wildcard=True))
    assert interest.views(EDS, "a") == {"n1", "n2"}
    assert interest.views(EDS, "b") == {"n2"}
    assert interest.views(CDS, "a") == frozenset()
    interest.apply("n3", "some", Shift(LB_ENDPOINT, collections_added=frozenset({"k"})))
    assert interest.views(LB_ENDPOINT, "k") == {"n3"}


def test_nothing_is_left_of_what_was_dropped():
    """Dropped names, ended wildcards and closed streams leave no entry behind."""
    interest: Interest[str] = Interest()
    interest.apply("n", "one", Shift(EDS, frozenset("ab")))
    interest.apply("n", "one", Shift(CDS, wildcard=True))
    interest.apply("n", "one", Shift(LB_ENDPOINT, collections_added=frozenset({"k"})))
    interest.apply("n", "one", Shift(EDS, dropped=frozenset("a")))
    interest.apply("n", "one", Shift(CDS, wildcard=False))
    assert found(interest, "n", eds="ab", cds="a") == [("one", EDS, "b")]
    rest = [Shift(EDS, dropped=frozenset("b")), Shift(LB_ENDPOINT, collections_dropped=frozenset({"k"}))]
    interest.drop("one", rest)
    assert (interest._named, interest._collected, interest._wild) == ({}, {}, {})

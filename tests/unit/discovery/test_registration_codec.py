"""Instances, increments and revisions over the wire, and what a hostile or later peer may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery import registration_codec as codec
from meshsdk.discovery import registration_pb2 as pb
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState, MethodInfo, Revision

_CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc"])
_TEXT = st.text(_CHARACTERS, max_size=40)
_INSTANCES = st.builds(
    Instance,
    app=st.from_regex(r"[a-z]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True),
    id=st.text(_CHARACTERS, min_size=1, max_size=40),
    address=st.integers(1, 65535).map(lambda port: f"10.0.0.1:{port}"),
    revision=_TEXT,
    unit=_TEXT,
    region=_TEXT,
    zone=_TEXT,
    weight=st.integers(1, 65535),
    labels=st.dictionaries(st.text(_CHARACTERS, min_size=1, max_size=20), _TEXT, max_size=5),
    state=st.sampled_from(InstanceState),
    started_at=st.floats(0, 1e12),
)


@given(_INSTANCES)
def test_instances_survive_the_wire(instance):
    """Whatever an instance holds comes back the same."""
    raw = codec.instance_to_wire(instance).SerializeToString()
    assert codec.instance_from_wire(pb.Instance.FromString(raw)) == instance


def test_unset_fields_have_their_defaults():
    """A peer that says neither weight nor state means 1 and ONLINE."""
    instance = codec.instance_from_wire(pb.Instance(app="a", id="1", address="10.0.0.1:1"))
    assert (instance.weight, instance.state) == (1, InstanceState.ONLINE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"app": "a b"}, "is not a name"),
        ({"app": "x" * 300}, "is not a name"),
        ({"id": ""}, "instance id"),
        ({"address": "10.0.0.1"}, "not host:port"),
        ({"weight": 70_000}, "weight"),
        ({"state": 77}, "state 77"),
        ({"started_at": float("nan")}, "started_at"),
        ({"labels": {str(n): "" for n in range(100)}}, "labels"),
        ({"labels": {"k": "v" * 5000}}, "longer than"),
    ],
)
def test_what_is_not_acceptable_is_said(change, words):
    """Each broken field is refused in words."""
    fields = {"app": "a", "id": "1", "address": "10.0.0.1:1", **change}
    with pytest.raises(RegistryError, match=words):
        codec.instance_from_wire(pb.Instance(**fields))


def test_one_bad_instance_does_not_spoil_an_increment():
    """The good ones of an increment are kept, the bad one is told with its key."""
    message = pb.Increment(
        app="a",
        put=[pb.Instance(app="a", id="1", address="10.0.0.1:1"), pb.Instance(app="a", id="2", address="?")],
        removed_ids=["3"],
        reset=True,
    )
    increment, problems = codec.increment_from_wire(message)
    assert [instance.id for instance in increment.put] == ["1"]
    assert (increment.removed, increment.reset) == (("3",), True)
    assert len(problems) == 1
    assert problems[0].startswith("a/2: ")
    assert codec.increment_from_wire(codec.increment_to_wire(increment)) == (increment, ())


def test_revisions_survive_the_wire():
    """Methods and their options come back the same."""
    revision = Revision("a", "r", (MethodInfo("/p.S/M", {"idempotent": True, "limit": {"rate": 1.5}}),))
    assert codec.revision_from_wire(codec.revision_to_wire(revision)) == revision


@pytest.mark.parametrize("text", ["[1]", "{", '"x"', "[" * 100_000])
def test_options_that_are_no_object_are_refused(text):
    """Options are a JSON object; anything else, however deep, is refused."""
    message = pb.Revision(app="a", revision="r", methods=[pb.Method(name="/p.S/M", options_json=text)])
    with pytest.raises(RegistryError, match="options_json"):
        codec.revision_from_wire(message)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"revision": ""}, "revision"),
        ({"methods": [pb.Method(name="Get")]}, "is not /pkg.Service/Method"),
        ({"methods": [pb.Method(name=f"/a.B/C{n}") for n in range(5001)]}, "5001 methods"),
    ],
)
def test_revisions_have_limits(change, words):
    """A revision without a name, with odd methods or with too many is refused."""
    with pytest.raises(RegistryError, match=words):
        codec.revision_from_wire(pb.Revision(**{"app": "a", "revision": "r", **change}))

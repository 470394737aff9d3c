"""Keys and texts of key-value registries: what goes in comes out, and what others wrote is refused in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery import entries
from meshsdk.discovery.registry import MalformedEntry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState, MethodInfo, Revision

LAYOUT = entries.Layout()
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30)
_SEGMENT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=30)
_INSTANCES = st.builds(
    Instance,
    app=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True),
    id=_SEGMENT,
    address=st.integers(1, 65535).map(lambda port: f"10.0.0.1:{port}"),
    revision=_TEXT,
    unit=_TEXT,
    region=_TEXT,
    zone=_TEXT,
    weight=st.integers(1, 65535),
    labels=st.dictionaries(_SEGMENT, _TEXT, max_size=5),
    state=st.sampled_from(InstanceState),
    started_at=st.floats(0, 1e12),
)
PLAIN = {"app": "orders", "id": "1", "address": "10.0.0.1:1"}


@given(_INSTANCES)
def test_instances_survive_as_text(instance):
    """Whatever an instance holds comes back the same."""
    assert entries.instance_from_text(entries.instance_to_text(instance)) == instance


@given(_INSTANCES)
def test_keys_say_whose_they_are(instance):
    """A key is made of three segments, whatever is in the names, and gives application, unit and id back."""
    key = LAYOUT.instance(instance)
    assert key.startswith(LAYOUT.instances())
    assert key.startswith(LAYOUT.instances(instance.app))
    assert not instance.unit or key.startswith(LAYOUT.instances(instance.app, instance.unit))
    assert LAYOUT.instance_of(key) == (instance.app, instance.unit, instance.id)


@given(_SEGMENT, _SEGMENT, _SEGMENT)
def test_no_name_reaches_into_another_s_range(one, other, identifier):
    """The range of one application or unit holds no key of another, whatever their names are."""
    instance = Instance(one, identifier, "10.0.0.1:1", unit=one)
    if one != other:
        assert not LAYOUT.instance(instance).startswith(LAYOUT.instances(other))
        assert not LAYOUT.instance(instance).startswith(LAYOUT.instances(one, other))
        assert not LAYOUT.service(one, identifier).startswith(LAYOUT.services(other))


def test_the_keys_are_as_documented():
    """Other programs rely on them: the layout of design and docs, to the letter."""
    layout = entries.Layout("/p")
    instance = Instance("orders", "10.0.0.1:1", "10.0.0.1:1")
    assert layout.instance(instance) == "/p/instances/orders/-/10.0.0.1%3A1"
    assert layout.instance(replace(instance, unit="-")) == "/p/instances/orders/%2D/10.0.0.1%3A1"
    assert layout.instances() == "/p/instances/"
    assert layout.instances("orders") == "/p/instances/orders/"
    assert layout.instances("orders", "u/1") == "/p/instances/orders/u%2F1/"
    assert layout.revision("orders", "r1") == "/p/revisions/orders/r1"
    assert layout.service("shop.Orders", "orders") == "/p/services/shop.Orders/orders"
    assert entries.last_segment(layout.service("shop.Orders", "a b")) == "a b"


@pytest.mark.parametrize(
    "key", ["", "/meshsdk/instances/", "/meshsdk/instances/a/b", "/meshsdk/instances/a//b", "/other/instances/a/b/c"]
)
def test_other_keys_are_none_of_an_instance(key):
    """A key of another form is refused, with the form it should have."""
    with pytest.raises(RegistryError, match="APP/UNIT/ID"):
        LAYOUT.instance_of(key)


def test_empty_fields_are_left_out_and_have_their_defaults():
    """A minimal entry, as somebody may write it by hand, is weight 1 and ONLINE; unknown fields are skipped."""
    instance = entries.instance_from_text(json.dumps({**PLAIN, "invented": [1]}).encode())
    assert instance == Instance("orders", "1", "10.0.0.1:1")
    assert json.loads(entries.instance_to_text(instance)) == {**PLAIN, "weight": 1, "state": "ONLINE"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (b" " * (128 * 1024 + 1), "bytes are more than"),
        (b'{"app": "orders"}', "id, address missing"),
        (json.dumps({**PLAIN, "app": ""}).encode(), "app missing"),
        (json.dumps({**PLAIN, "id": 7}).encode(), "id is 7, not str"),
        (json.dumps({**PLAIN, "weight": True}).encode(), "weight is True"),
        (json.dumps({**PLAIN, "weight": 0}).encode(), "weight 0"),
        (json.dumps({**PLAIN, "started_at": "now"}).encode(), "not int or float"),
        (json.dumps({**PLAIN, "started_at": float("inf")}).encode(), "started_at"),
        (json.dumps({**PLAIN, "labels": {"k": 1}}).encode(), "not a string"),
        (json.dumps({**PLAIN, "labels": []}).encode(), "labels is"),
        (json.dumps({**PLAIN, "state": "GONE"}).encode(), "STARTING, ONLINE"),
        (json.dumps({**PLAIN, "state": None}).encode(), "state is None"),
        (json.dumps({**PLAIN, "address": "nowhere"}).encode(), "host:port"),
    ],
)
def test_what_is_not_acceptable_is_said(raw, words):
    """Each way to be wrong is refused in words, however odd the bytes are."""
    with pytest.raises(RegistryError, match=words):
        entries.instance_from_text(raw)


def test_revisions_survive_as_text():
    """Methods and their options come back the same."""
    revision = Revision("a", "r", (MethodInfo("/p.S/M", {"idempotent": True, "limit": {"rate": 1.5}}),))
    assert entries.revision_from_text(entries.revision_to_text(revision)) == revision


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"app": "a", "revision": "r"}, "methods"),
        ({"app": 1, "revision": "r", "methods": {}}, "strings"),
        ({"app": "a", "revision": "r", "methods": {"/p.S/M": 1}}, "options"),
        ({"app": "a", "revision": "r", "methods": {"M": {}}}, "/pkg.Service/Method"),
    ],
)
def test_revisions_of_others_are_checked(values, words):
    """A revision that cannot be one is refused in words."""
    with pytest.raises(MalformedEntry, match=words):
        entries.revision_from_text(json.dumps(values).encode())


def test_services_of_a_revision_are_told_once():
    """Each service of its methods, sorted."""
    methods = tuple(MethodInfo(name) for name in ("/b.S/M", "/a.S/M", "/b.S/N"))
    assert entries.services_of(Revision("a", "r", methods)) == ["a.S", "b.S"]

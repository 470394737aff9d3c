"""Slices and pods laid over each other: whatever order they change in, the entries are those of the present."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.kubernetes.assembly import Assembly, Entry, instance_of
from meshsdk.discovery.kubernetes.pods import PodFacts
from meshsdk.discovery.kubernetes.slices import Endpoint, Slice
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

ONLINE, STARTING, DRAINING = InstanceState.ONLINE, InstanceState.STARTING, InstanceState.DRAINING
PLAIN = PodFacts(MappingProxyType({}))

endpoints = st.builds(
    Endpoint,
    st.sampled_from(["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]),
    st.sampled_from([ONLINE, STARTING, DRAINING]),
    st.sampled_from(["", "z"]),
    st.sampled_from(["", "p", "q"]),
)


def _slice(name: str, app: str, known: list[Endpoint], kind: str) -> Slice:
    if kind == "broken":
        return Slice(name, app, problem="broken")
    if kind == "own" and known:
        own = Instance(app, name, known[0].address)
        return Slice(name, app, (known[0],), own)
    return Slice(name, app, tuple({each.address: each for each in known}.values()))


slices = st.builds(
    _slice,
    st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from(["a", "b"]),
    st.lists(endpoints, max_size=3),
    st.sampled_from(["plain", "own", "broken"]),
)
facts = st.builds(PodFacts, st.just(MappingProxyType({})), unit=st.sampled_from(["", "u"]))
steps = st.one_of(
    st.tuples(st.just("put"), st.lists(slices, min_size=1, max_size=2)),
    st.tuples(st.just("remove"), st.sampled_from(["s1", "s2", "s3"])),
    st.tuples(st.just("pod"), st.tuples(st.sampled_from(["p", "q"]), facts)),
)


@given(st.lists(steps, max_size=12))
def test_changes_add_up_to_the_present(sequence):
    """After any sequence of changes the entries told are those that a fresh listing would give."""
    pods: dict[str, PodFacts] = {}
    present: dict[str, Slice] = {}
    assembly = Assembly(pods.get)
    told: dict[str, Entry] = dict(assembly.replace(()))
    for kind, what in sequence:
        if kind == "put":
            put, removed = assembly.change(what, ())
            present.update({each.name: each for each in what})
        elif kind == "remove":
            put, removed = assembly.change((), [what])
            present.pop(what, None)
        else:
            pods[what[0]] = what[1]
            put, removed = assembly.pods_changed([what[0]])
        assert not set(put) & set(removed)
        for key in removed:
            del told[key]
        told.update(put)
        assert told == Assembly(pods.get).replace(present.values())


def test_a_change_touches_its_own_endpoints_alone():
    """One changed endpoint among many is one entry."""
    assembly = Assembly({}.get)
    many = [Slice(f"s{n}", "a", (Endpoint(f"10.0.0.{n}:1"),)) for n in range(1, 200)]
    assembly.replace(many)
    put, removed = assembly.change([Slice("s7", "a", (Endpoint("10.0.0.7:1", STARTING),))], ())
    assert (list(put), removed) == (["a/10.0.0.7:1"], [])


@pytest.mark.parametrize(
    ("said", "limit", "terminating", "state"),
    [
        (ONLINE, ONLINE, False, ONLINE),
        (ONLINE, STARTING, False, STARTING),
        (ONLINE, ONLINE, True, DRAINING),
        (ONLINE, DRAINING, False, DRAINING),
        (DRAINING, STARTING, False, DRAINING),
        (STARTING, ONLINE, True, STARTING),
        (InstanceState.OFFLINE, ONLINE, False, InstanceState.OFFLINE),
    ],
)
def test_kubernetes_can_only_make_a_state_worse(said, limit, terminating, state):
    """What an instance says of itself counts, unless it says ONLINE and Kubernetes knows better."""
    instance = Instance("a", "i", "10.0.0.1:1", state=said)
    pods = {"p": replace(PLAIN, terminating=terminating)}
    assembly = Assembly(pods.get)
    own = Slice("own", "a", (Endpoint(instance.address, pod="p"),), instance)
    kept = Slice("kept", "a", (Endpoint(instance.address, limit, pod="p"),))
    (entry,) = assembly.replace([own, kept]).values()
    assert instance_of("", entry).state is state


def test_an_entry_that_cannot_be_says_why():
    """A broken slice, and labels that together are too many, are refused in words."""
    assembly = Assembly({"p": PodFacts(MappingProxyType({f"k{n}": "" for n in range(65)}))}.get)
    entries = assembly.replace([Slice("s", "a", problem="why"), Slice("t", "a", (Endpoint("10.0.0.1:1", pod="p"),))])
    with pytest.raises(RegistryError, match="why"):
        instance_of("", entries["slice s"])
    with pytest.raises(RegistryError, match="65 labels"):
        instance_of("", entries["a/10.0.0.1:1"])

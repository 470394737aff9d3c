"""Instances as Nacos has them: ours come back as they went, others' are taken as they are."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.nacos.hosts import from_host, to_host
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

characters = st.characters(codec="utf-8", exclude_categories=["Cc"])
texts = st.text(characters, max_size=20)
instances = st.builds(
    Instance,
    st.just("orders"),
    st.text(characters, min_size=1, max_size=20),
    st.sampled_from(["10.0.0.1:80", "[2001:db8::1]:80", "host.example:80"]),
    revision=texts,
    unit=st.sampled_from(["", "u1", "eu-1"]),
    region=texts,
    zone=texts,
    weight=st.integers(1, 65535),
    labels=st.dictionaries(st.text(characters, min_size=1, max_size=20), texts, max_size=4).map(MappingProxyType),
    state=st.sampled_from(InstanceState),
    started_at=st.floats(0, 2e9),
)


@given(instances)
def test_an_instance_comes_back_as_it_went(instance):
    """Through JSON, as Nacos sends it."""
    assert from_host("orders", json.loads(json.dumps(to_host(instance)))) == instance


def test_others_do_not_call_what_is_not_online():
    """A client that knows weights alone does not pick an instance that starts or drains."""
    assert to_host(Instance("a", "i", "10.0.0.1:1", weight=3))["weight"] == 3.0
    assert to_host(Instance("a", "i", "10.0.0.1:1", weight=60_000))["weight"] == 10_000.0
    assert to_host(Instance("a", "i", "10.0.0.1:1", state=InstanceState.DRAINING))["weight"] == 0.0


def test_somebody_elses_instance():
    """A Dubbo or Spring instance: id = address, metadata = labels, cluster = unit; documents in it are left out."""
    metadata = {"version": "v1", "dubbo.metadata.revision": "abc", "huge": "x" * 2000, "": "no name"}
    host = {"ip": "10.0.0.1", "port": 20880, "weight": 2.4, "clusterName": "HANGZHOU", "metadata": metadata}
    labels = {"version": "v1", "dubbo.metadata.revision": "abc"}
    assert from_host("orders", host) == Instance(
        "orders", "10.0.0.1:20880", "10.0.0.1:20880", revision="abc", unit="HANGZHOU", weight=2, labels=labels
    )


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, InstanceState.ONLINE),
        ({"weight": 0}, InstanceState.DRAINING),
        ({"weight": 0.2}, InstanceState.ONLINE),
        ({"healthy": False}, InstanceState.OFFLINE),
    ],
)
def test_the_state_of_somebody_elses_instance(change, state):
    """Weight 0 takes no new calls, unhealthy takes none."""
    assert from_host("a", {"ip": "10.0.0.1", "port": 1, **change}).state is state


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({}, "no ip and port"),
        ({"ip": "10.0.0.1", "port": "80"}, "no ip and port"),
        ({"ip": "", "port": 80}, "not host:port"),
        ({"ip": "10.0.0.1", "port": 80, "metadata": {"meshsdk.id": "i", "meshsdk.state": "LOST"}}, "none of STARTING"),
        ({"ip": "10.0.0.1", "port": 80, "metadata": {"meshsdk.id": "i", "meshsdk.weight": "-1"}}, "not a weight"),
        ({"ip": "10.0.0.1", "port": 80, "metadata": {"meshsdk.started-at": "noon"}}, "not unix seconds"),
        ({"ip": "10.0.0.1", "port": 80, "metadata": {"meshsdk.started-at": "nan"}}, "not unix seconds"),
    ],
)
def test_what_cannot_be_used_says_why(host, words):
    """Anything unexpected is an error in words."""
    with pytest.raises(RegistryError, match=words):
        from_host("a", host)


@pytest.mark.parametrize(
    "instance",
    [
        Instance("a", "i", "10.0.0.1:1", unit="u_1"),
        Instance("a", "i", "10.0.0.1:1", unit="DEFAULT"),
        Instance("a", "i", "10.0.0.1:1", labels={"meshsdk.state": "x"}),
    ],
)
def test_what_nacos_cannot_have_is_refused(instance):
    """Units that are no cluster names, labels with our own names."""
    with pytest.raises(RegistryError):
        to_host(instance)

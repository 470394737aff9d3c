"""EndpointSlices as values: what is read, and what is refused of objects that anybody may have written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.kubernetes.own_slice import Owner, own_slice, with_state
from meshsdk.discovery.kubernetes.slices import Slice, slice_of
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

OWNER = Owner("ns", "pod", "uid")
GOOD = {
    "metadata": {"labels": {"kubernetes.io/service-name": "a"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.1"]}],
    "ports": [{"port": 1}],
}


@pytest.mark.parametrize("address", ["10.0.0.1:80", "[2001:db8::1]:80", "host.example:80"])
def test_an_instances_own_slice_reads_back(address):
    """Written and read, with every kind of address, and with another state."""
    instance = Instance("app", "id", address, zone="z", labels={"k": "v"}, started_at=1.5)
    written = own_slice(instance, "token", OWNER)
    read = slice_of("s", written, "ignored")
    assert (read.own, read.problem) == (instance, "")
    assert [endpoint.address for endpoint in read.endpoints] == [address]
    again = slice_of("s", with_state(written, InstanceState.DRAINING), "")
    assert again.own is not None
    assert again.own.state is again.endpoints[0].state is InstanceState.DRAINING


def test_an_own_slice_must_agree_with_its_annotation():
    """An annotation about another address or application is not believed."""
    written = own_slice(Instance("app", "id", "10.0.0.1:80"), "token", OWNER)
    moved = {**written, "endpoints": [{"addresses": ["10.0.0.2"]}]}
    assert "its annotation is about app at 10.0.0.1:80" in slice_of("s", moved, "").problem
    assert slice_of("s", {**written, "endpoints": None}, "").problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"addressType": "MAC"}, "addressType 'MAC'"),
        ({"endpoints": {}}, "endpoints is not a list"),
        ({"endpoints": ["x"]}, "an endpoint is not an object"),
        ({"endpoints": [{"addresses": []}]}, "no address"),
        ({"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001}, "at most 1000"),
        ({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": []}]}, ""),
        ({"ports": None}, "its TCP ports"),
        ({"metadata": None}, "metadata is not an object"),
    ],
)
def test_what_is_no_slice_says_why(change, problem):
    """Anything unexpected is a problem in words, and never an exception."""
    read = slice_of("s", {**GOOD, **change}, "")
    assert problem in read.problem
    assert bool(problem) != bool(read.endpoints)


def test_an_empty_slice_needs_no_ports():
    """Services without endpoints have slices without ports."""
    assert slice_of("s", {**GOOD, "endpoints": None, "ports": None}, "") == Slice("s", "a")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(GOOD)), json_values)
def test_no_value_breaks_the_reader(field, value):
    """Whatever JSON stands in a field, reading it gives a slice."""
    assert isinstance(slice_of("s", {**GOOD, field: value}, ""), Slice)


def test_an_application_that_is_no_label_is_refused():
    """Kubernetes could not name it."""
    with pytest.raises(RegistryError, match="at most 63"):
        own_slice(Instance("a" * 64, "id", "10.0.0.1:80"), "token", OWNER)

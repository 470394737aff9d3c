"""What `limits` takes and refuses: whatever passes can be dialled and written as UTF-8."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.limits import address_problem, instance_problem, revision_problem
from meshsdk.model.instance import Instance, MethodInfo, Revision

ONE = Instance("orders", "1", "10.0.0.1:50051")


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1:1", "[::1]:65535", "[2001:db8::7]:80", "localhost:80", "my_service-1:80", "a.b.svc.cluster.local:80"],
)
def test_what_can_be_dialled(address):
    """Names, IPv4 addresses and IPv6 addresses in brackets are taken."""
    assert address_problem(address) == ""


@pytest.mark.parametrize(
    "address",
    [
        "\ud800:1",
        "a\nb:1",
        "a\n:1",
        "a\0b:1",
        " :1",
        "%zz:1",
        "b\u00fccher.example:1",
        "[zz]:1",
        "[::1:1",
        "[::1]]:1",
        "::1]:1",
        "::1:1",
        "[fe80::1%eth0]:1",
        "999.0.0.1:1",
        "10.0.1:1",
        "127.0.0.1:1,127.0.0.1:2",
        "dns:///orders:1",
        "-a:1",
        "a..b:1",
        f"{'a' * 64}.example:1",
        f"{'a.' * 126}aa:1",
        "10.0.0.1:\u0661",
        "10.0.0.1:65536",
    ],
)
def test_what_cannot_be_dialled(address):
    """Anything else is refused, in words that can be logged."""
    assert address_problem(address).encode().startswith(b"address '")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[0:0::0]", "*"])  # noqa: S104 - refused, not bound
def test_an_address_of_every_interface(host):
    """What a server binds to is no address of it, however it is written."""
    assert "no address that peers can dial" in address_problem(f"{host}:1")


@pytest.mark.parametrize("bad", ["\ud800", "a\nb", "\0", "\x7f", "\x85"])
@pytest.mark.parametrize("field", ["id", "revision", "unit", "region", "zone"])
def test_texts_that_cannot_be_written(field, bad):
    """No text of an instance has control characters, or what UTF-8 has no bytes for."""
    assert instance_problem(replace(ONE, **{field: bad})).encode().startswith(field.encode())


@pytest.mark.parametrize("labels", [{"\ud800": "x"}, {"a\nb": "x"}, {"x": "\udfff"}, {"x": "\0"}])
def test_labels_that_cannot_be_written(labels):
    """Neither have its labels."""
    assert instance_problem(replace(ONE, labels=MappingProxyType(labels))).encode().startswith(b"label ")


def test_a_label_may_have_lines():
    """Other programs keep documents of several lines in a registry: they cost no instance."""
    assert instance_problem(replace(ONE, labels=MappingProxyType({"doc": "a:\r\n\tb"}))) == ""


@pytest.mark.parametrize("moment", [-1, float("nan"), float("inf"), 10**400])
def test_moments(moment):
    """A start that is no moment is refused, also one that fits into no float."""
    assert instance_problem(replace(ONE, started_at=moment)) == "started_at is not unix seconds"


@pytest.mark.parametrize(
    "revision",
    [
        Revision("orders", "\ud800", ()),
        Revision("orders", "a\0", ()),
        Revision("orders", "1", (MethodInfo("/a.B/\ud800"),)),
        Revision("orders", "1", (MethodInfo("/a.B/C", MappingProxyType({"doc": ["\ud800"]})),)),
    ],
)
def test_revisions_that_cannot_be_written(revision):
    """Nor has a revision such texts, its methods or their options."""
    assert revision_problem(revision).encode()


@given(st.text(st.characters(exclude_categories=()), max_size=12))
def test_every_instance_that_passes_can_be_written(text):
    """Whatever text comes in: what passes has bytes in UTF-8, and what does not is refused in words that have."""
    instance = replace(ONE, id=text, zone=text, address=f"{text}:80", labels=MappingProxyType({text: text}))
    said = instance_problem(instance) or f"{instance.id}{instance.zone}{instance.address}{text}"
    assert said.encode()

"""As what a woven server registers."""

from __future__ import annotations

import pytest

from meshsdk.bootstrap import Node
from meshsdk.instrument.instance import Bound, address_of, app_of


def test_the_application_is_named_from_near_to_far():
    """The environment, the node's labels, its metadata, its cluster."""
    node = Node(id="n", cluster="c", metadata={"LABELS": {"app": "l"}, "app": "m"})
    assert app_of({"MESHSDK_APP": "e"}, node) == "e"
    assert app_of({}, node) == "l"
    assert app_of({"MESHSDK_APP": ""}, Node(id="n", cluster="c", metadata={"app": "m", "LABELS": 3})) == "m"
    assert app_of({}, Node(id="n", cluster="c", metadata={})) == "c"
    assert app_of({}, Node(id="n", metadata={})) == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[::]:0", "10.0.0.9:7"),
        ("0.0.0.0:7", "10.0.0.9:7"),
        ("*:7", "10.0.0.9:7"),
        (":7", "10.0.0.9:7"),
        ("dns:///0.0.0.0:7", "10.0.0.9:7"),
        ("127.0.0.1:0", "127.0.0.1:7"),
        ("localhost:0", "127.0.0.1:7"),
        ("10.1.1.1:7", "10.1.1.1:7"),
        ("[fd00::1]:7", "[fd00::1]:7"),
        ("orders.local:7", "orders.local:7"),
    ],
)
def test_the_address_is_the_one_bound(given, expected):
    """All addresses: the host's; else the one that the program bound."""
    assert address_of({}, [Bound("unix:/tmp/x", 1), Bound(given, 7), Bound("127.0.0.1:9", 9)], "10.0.0.9") == expected


def test_the_environment_stands_before_what_was_bound():
    """Behind a port mapping only the operator knows; a host alone takes the port that was bound."""
    bound = [Bound("[::]:7", 7)]
    assert address_of({"MESHSDK_ADDRESS": "1.2.3.4:5"}, bound, "h") == "1.2.3.4:5"
    assert address_of({"MESHSDK_ADDRESS": "[fd00::2]:5"}, bound, "h") == "[fd00::2]:5"
    assert address_of({"MESHSDK_ADDRESS": "1.2.3.4"}, bound, "h") == "1.2.3.4:7"
    assert address_of({"MESHSDK_ADDRESS": "fd00::2"}, bound, "h") == "[fd00::2]:7"


def test_without_a_port_of_tcp_there_is_no_address():
    """A server on a Unix socket, or none at all."""
    assert address_of({}, [Bound("unix:/tmp/x", 1)], "h") == ""
    assert address_of({}, [], "h") == ""

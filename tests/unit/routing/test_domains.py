"""Virtual host selection."""

from __future__ import annotations

import pytest

from meshsdk.model.resources import VirtualHost
from meshsdk.routing.domains import best_match


@pytest.mark.parametrize(
    ("authority", "hosts", "best"),
    [
        ("orders", ["*", "orders"], 1),
        ("ORDERS", ["*", "orders"], 1),
        ("orders", ["*", "Orders"], 1),
        ("a.shop.com", ["*.com", "*.shop.com", "*"], 1),
        ("a.shop.com", ["a.*", "*.com"], 1),  # any suffix beats any prefix
        ("a.shop.com", ["a.*", "a.shop.*", "*"], 1),
        ("a.shop.com", ["*", "b.shop.com"], 0),
        (".shop.com", ["*.shop.com"], None),  # the asterisk stands for at least one character
        ("a.", ["a.*"], None),
        ("a", ["b", "c"], None),
        ("a", ["a", "a"], 0),
        ("a.b", ["*b", "*b"], 0),
        ("x:8080", ["x", "x:8080"], 1),
        ("*", ["a", "*"], 1),
        ("a", [], None),
    ],
)
def test_best_domain(authority, hosts, best):
    """The host with the exact, else longest suffix, else longest prefix, else universal domain is chosen."""
    virtual_hosts = [VirtualHost(str(index), (domain,), ()) for index, domain in enumerate(hosts)]
    chosen = best_match(authority, virtual_hosts)
    assert (None if chosen is None else int(chosen.name)) == best


def test_any_domain_of_a_host_counts():
    """A host is as good as the best of its domains, wherever that stands."""
    hosts = [
        VirtualHost("wide", ("*",), ()),
        VirtualHost("many", ("x.*", "*.org", "a.b"), ()),
        VirtualHost("b", ("*b",), ()),
    ]
    assert best_match("a.b", hosts) is hosts[1]

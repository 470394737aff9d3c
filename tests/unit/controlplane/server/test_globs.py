"""Names of glob collections: one key however a client writes them, and the client's own words on the way back."""

from __future__ import annotations

import pytest

from controlplane.server.globs import collection_of, glob_of, is_of_client, parameters_of

TYPE = "xdstp:///envoy.config.endpoint.v3.LbEndpoint"


@pytest.mark.parametrize(
    ("glob", "member"),
    [
        (f"{TYPE}/orders/eu:a:/*", f"{TYPE}/orders/eu%3Aa%3A/10.0.0.1%3A80"),
        (f"{TYPE}/orders%7Cv1/-/*", f"{TYPE}/orders|v1/-/x"),
        (f"{TYPE}/o/-/*?xds.node.id=n&xds.node.cluster=c", f"{TYPE}/o/-/x"),
        (f"{TYPE}/o/-/*?b=2&a=1&xds.node.id=n%26m", f"{TYPE}/o/-/x?a=1&b=2"),
        ("xdstp://auth/T/*", "xdstp://auth/T/x"),
    ],
)
def test_key_is_the_same_however_it_is_written(glob: str, member: str) -> None:
    """Percent-encoding, the order of parameters, and what clients say of themselves make no other collection."""
    assert glob_of(glob).key == collection_of(member)


@pytest.mark.parametrize(
    ("glob", "member"),
    [
        (f"{TYPE}/orders/a/*", f"{TYPE}/orders/b/x"),
        (f"{TYPE}/orders/*", f"{TYPE}/orders/a/x"),
        (f"{TYPE}/o/-/*", f"{TYPE}/o/-/x?env=prod"),
        ("xdstp://one/T/*", "xdstp://two/T/x"),
    ],
)
def test_other_collections_have_other_keys(glob: str, member: str) -> None:
    """Directories are not searched, and parameters of the resource choose."""
    assert glob_of(glob).key != collection_of(member)


@pytest.mark.parametrize("name", ["orders", "*", "orders/*", f"{TYPE}/o/-/x", f"{TYPE}/o/-/x*", "xdstp:"])
def test_single_names_are_no_globs(name: str) -> None:
    """Only xdstp names whose last segment is a star stand for a collection."""
    assert glob_of(name) is None
    if not name.startswith("xdstp:"):
        assert collection_of(name) == ""


def test_members_come_under_the_clients_own_parameters() -> None:
    """A member's name carries the context parameters that the subscriber wrote, as it wrote them."""
    glob = glob_of(f"{TYPE}/o/-/*?xds.node.id=a/b&x=1")
    assert glob.named(f"{TYPE}/o/-/10.0.0.1%3A80?x=1") == f"{TYPE}/o/-/10.0.0.1%3A80?xds.node.id=a/b&x=1"
    assert glob_of(f"{TYPE}/o/-/*").named(f"{TYPE}/o/-/x") == f"{TYPE}/o/-/x"


def test_parameters_of_a_name() -> None:
    """The names of context parameters are read from a resource name; those of clients are known by their prefix."""
    assert parameters_of(f"{TYPE}/o/x?a=1&xds.node.id=n") == ("a", "xds.node.id")
    assert [is_of_client(name) for name in ("a", "xds.node.id", "meshsdk.turned")] == [False, True, True]

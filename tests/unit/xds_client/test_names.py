"""Targets, listener templates and xdstp names (gRFC A47)."""

from __future__ import annotations

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.errors import ConfigurationError
from meshsdk.xds_client.names import authority_of, canonical, member_of, parse_target

SERVERS = [{"server_uri": "x:1", "channel_creds": [{"type": "insecure"}]}]


def bootstrap(**fields):
    """A bootstrap with the given top-level fields."""
    return load_bootstrap({"xds_servers": SERVERS, **fields}, {})


@pytest.mark.parametrize("text", ["xds:///orders:80", "xds:orders:80"])
def test_plain_target(text):
    """Without authority and template the listener is named as the target is."""
    target = parse_target(text, bootstrap())
    assert (target.listener, target.host) == ("orders:80", "orders:80")


def test_target_with_authority_uses_its_template():
    """An authority without a template gets the xdstp one of A47."""
    target = parse_target("xds://auth/orders", bootstrap(authorities={"auth": {}}))
    assert target.listener == "xdstp://auth/envoy.config.listener.v3.Listener/orders"
    assert target.host == "orders"


def test_template_of_an_authority():
    """The name is percent-encoded as a path, and context parameters are put in order."""
    template = "xdstp://auth/envoy.config.listener.v3.Listener/c/%s?z=1&a=2"
    target = parse_target(
        "xds://auth/a b/c", bootstrap(authorities={"auth": {"client_listener_resource_name_template": template}})
    )
    assert target.listener == "xdstp://auth/envoy.config.listener.v3.Listener/c/a%20b/c?a=2&z=1"
    assert target.host == "a%20b%2Fc"


def test_default_template_is_not_encoded_unless_xdstp():
    """Old-style names take the target's name as it is."""
    target = parse_target("xds:///a b", bootstrap(client_default_listener_resource_name_template="web/%s"))
    assert target.listener == "web/a b"


def test_default_template_may_name_an_authority():
    """A target without authority may become an xdstp name; the authority must be known."""
    template = {"client_default_listener_resource_name_template": "xdstp://auth/envoy.config.listener.v3.Listener/%s"}
    assert parse_target("xds:///a", bootstrap(**template, authorities={"auth": {}})).listener.endswith("Listener/a")
    with pytest.raises(ConfigurationError, match="'auth'"):
        parse_target("xds:///a", bootstrap(**template))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dns:///a", "not an xds: target"),
        ("orders", "not an xds: target"),
        ("xds:///", "names no service"),
        ("xds://nobody/a", "authority 'nobody' is not among"),
    ],
)
def test_targets_that_cannot_be(text, words):
    """A bad target is refused with what is wrong and the form that is right."""
    with pytest.raises(ConfigurationError, match=words):
        parse_target(text, bootstrap())


def test_authority_of_names():
    """xdstp names have an authority, possibly an empty one; others have none."""
    assert authority_of("orders") is None
    assert authority_of("xdstp://a.b/T/x") == "a.b"
    assert authority_of("xdstp:///T/x") == ""
    assert authority_of("xdstp:T/x") == ""


@pytest.mark.parametrize(
    ("name", "glob", "identifier"),
    [
        ("xdstp:///T/a/x", "xdstp:///T/a/*", "x"),
        ("xdstp://auth/T/x%2Fy", "xdstp://auth/T/*", "x%2Fy"),
        ("xdstp:///T/a/x?b=2&a=1/2", "xdstp:///T/a/*?a=1/2&b=2", "x"),
        ("plain", "/*", "plain"),
    ],
)
def test_member_of_a_collection(name, glob, identifier):
    """A resource is in the glob collection of its parent path with its parameters."""
    assert member_of(name) == (glob, identifier)


def test_canonical_names():
    """Parameters are sorted, the last of equal ones counts; what is not xdstp is left alone."""
    assert canonical("xdstp://a/T/x?b=2&a=1&b=3") == "xdstp://a/T/x?a=1&b=3"
    assert canonical("xdstp://a/T/x?b=2&a=1#alt") == "xdstp://a/T/x?a=1&b=2#alt"
    assert canonical("xdstp://a/T/x?") == "xdstp://a/T/x"
    assert canonical("x?b&a") == "x?b&a"

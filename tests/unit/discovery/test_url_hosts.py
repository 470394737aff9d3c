"""meshsdk.discovery.url_hosts."""

from urllib.parse import urlsplit

import pytest

from meshsdk.discovery.url_hosts import hosts_of, no_path, prefix_of
from meshsdk.discovery.url_parameters import parameters_of
from meshsdk.errors import ConfigurationError


def test_hosts_in_order():
    """Names, IPv4 and IPv6 addresses with their ports, in the order they are written."""
    url = urlsplit("etcd://a.b_c-d:1,10.0.0.1:2379,[::1]:65535")
    assert hosts_of(url) == (("a.b_c-d", 1), ("10.0.0.1", 2379), ("[::1]", 65535))


@pytest.mark.parametrize("netloc", ["", "a", "a:", ":1", "a:0", "a:65536", "a:1,", "::1:1", "a:1 ", "a:\u0661"])
def test_what_is_no_host(netloc):
    """A missing or impossible host or port is refused with what was written."""
    with pytest.raises(ConfigurationError, match="is not HOST:PORT"):
        hosts_of(urlsplit("etcd://x")._replace(netloc=netloc))


def test_paths_and_prefixes():
    """A path after the hosts is refused with what to write; a prefix starts with a slash and ends without."""
    no_path(urlsplit("etcd://a:1/"), "prefix=/PATH")
    with pytest.raises(ConfigurationError, match=r"write \?prefix=/PATH"):
        no_path(urlsplit("etcd://a:1/x"), "prefix=/PATH")

    def prefix(query):
        return prefix_of(parameters_of(urlsplit(f"etcd://a:1?{query}"), ("prefix",)))

    assert prefix("") == "/meshsdk"
    assert prefix("prefix=/a/b") == "/a/b"
    for bad in ("a", "/a/", "/"):
        with pytest.raises(ConfigurationError, match="must start with '/'"):
            prefix(f"prefix={bad}")

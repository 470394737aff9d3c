"""URLs of Nacos registries, and what is refused."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from meshsdk.discovery.nacos.place import Server, place_of
from meshsdk.errors import ConfigurationError


def test_a_url_says_everything():
    """Several servers, each with its gRPC port a thousand above; what is not said has a default."""
    place = place_of(urlsplit("nacos://h1:8848,[::1]:8849?namespace=dev&group=G&grace=0&ca=/ca.pem"))
    assert place.servers == (Server("h1:8848", "h1:9848"), Server("[::1]:8849", "[::1]:9849"))
    assert (place.namespace, place.group, place.grace, place.tls) == ("dev", "G", 0.0, True)
    plain = place_of(urlsplit("nacos://h1:80?grpc_port=443"))
    assert plain.servers == (Server("h1:80", "h1:443"),)
    assert (plain.namespace, plain.group, plain.tls) == ("", "DEFAULT_GROUP", False)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nacos://h1", "not HOST:PORT"),
        ("nacos://u:p@h1:8848", "password in the URL"),
        ("nacos://h1:8848/nacos", "nothing may follow the hosts"),
        ("nacos://h1:8848?user=u", "go together"),
        ("nacos://h1:8848?namespace=a b", "not a name of Nacos"),
        ("nacos://h1:65000", "the gRPC port '66000'"),
        ("nacos://h1:8848?grpc_port=x", "the gRPC port 'x'"),
        ("nacos://h1:8848?unit=x", "parameter 'unit'"),
    ],
)
def test_what_is_refused(url, words):
    """Every mistake is told in a few words."""
    with pytest.raises(ConfigurationError, match=words):
        place_of(urlsplit(url))

"""Where a cluster is, as its URL says."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from meshsdk.discovery.etcd.place import Place, place_of
from meshsdk.errors import ConfigurationError, RegistryError


def test_a_plain_url_has_its_defaults():
    """One member, the usual prefix, 3 seconds, no TLS, no login."""
    place = place_of(urlsplit("etcd://127.0.0.1:2379"))
    assert place == Place(("127.0.0.1:2379",), "/meshsdk", 3.0)
    assert place.credentials() is None


def test_members_are_all_kept_in_an_order_of_this_process():
    """Names, IPv4 and IPv6; which is asked first is drawn, so that members share the load."""
    endpoints = ["a.example:1", "10.0.0.1:2", "[::1]:65535"]
    places = [place_of(urlsplit(f"etcd://{','.join(endpoints)}")) for _ in range(100)]
    assert all(sorted(place.endpoints) == sorted(endpoints) for place in places)
    assert {place.endpoints[0] for place in places} == set(endpoints)


def test_parameters_are_taken():
    """Each one that there is."""
    url = "etcd://h:1?prefix=/a/b&timeout=0.5&ca=ca.pem&cert=c.pem&key=k.pem&user=u&password_file=p"
    place = place_of(urlsplit(url))
    assert place == Place(("h:1",), "/a/b", 0.5, True, "ca.pem", "c.pem", "k.pem", "u", "p")
    assert place_of(urlsplit("etcd://h:1?tls=1")).tls
    assert not place_of(urlsplit("etcd://h:1?tls=0")).tls


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("etcd://", "not HOST:PORT"),
        ("etcd://h", "not HOST:PORT"),
        ("etcd://h:0", "not HOST:PORT"),
        ("etcd://h:70000", "not HOST:PORT"),
        ("etcd://h:1,", "not HOST:PORT"),
        ("etcd://h h:1", "not HOST:PORT"),
        ("etcd://u:p@h:1", "password_file=FILE"),
        ("etcd://h:1/path", "prefix=/PATH"),
        ("etcd://h:1?prefix=a", "must start with"),
        ("etcd://h:1?prefix=/a/", "not end with"),
        ("etcd://h:1?cert=c", "cert and key"),
        ("etcd://h:1?key=k", "cert and key"),
        ("etcd://h:1?user=u", "user and password_file"),
        ("etcd://h:1?timeout=61", "timeout"),
        ("etcd://h:1?tls=yes", "tls"),
        ("etcd://h:1?tsl=1", "parameter 'tsl'"),
    ],
)
def test_what_is_wrong_is_said(url, words):
    """Each way to be wrong in a few words."""
    with pytest.raises(ConfigurationError, match=words):
        place_of(urlsplit(url))


def test_files_are_read_when_they_are_needed(tmp_path):
    """A password is the first line of its file; a file that is not there is an error of the registry, with its name."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"pass word\r\nmore\n")
    assert Place(("h:1",), password_file=str(secret)).password() == "pass word"
    with pytest.raises(RegistryError, match="absent"):
        Place(("h:1",), password_file=str(tmp_path / "absent")).password()
    with pytest.raises(RegistryError, match=r"absent\.pem"):
        Place(("h:1",), tls=True, ca=str(tmp_path / "absent.pem")).credentials()

"""What a zookeeper:// URL says."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from meshsdk.discovery.zookeeper.place import Place, place_of
from meshsdk.errors import ConfigurationError, RegistryError


def test_all_parameters():
    """Every part of the URL is where it belongs."""
    url = (
        "zookeeper://a:1,[::1]:2/some/root?prefix=/m&session_timeout=8&timeout=1.5&user=u&password_file=/p&acl=private"
        "&ca=/ca&cert=/c&key=/k"
    )
    assert place_of(urlsplit(url)) == Place(
        ("a:1", "[::1]:2"),
        "/some/root/m",
        8.0,
        1.5,
        user="u",
        password_file="/p",  # noqa: S106 - a file
        acl="private",
        tls=True,
        ca="/ca",
        cert="/c",
        key="/k",
    )


def test_defaults():
    """A host and nothing else: open nodes below /meshsdk."""
    place = place_of(urlsplit("zookeeper://a:2181"))
    assert place == Place(("a:2181",), "/meshsdk", 15.0, 3.0)
    assert place.credentials() == ""
    assert place.security() is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("zookeeper://", "not HOST:PORT"),
        ("zookeeper://a", "not HOST:PORT"),
        ("zookeeper://a:1,,b:2", "not HOST:PORT"),
        ("zookeeper://a:99999", "not HOST:PORT"),
        ("zookeeper://user:secret@a:1", "user=NAME&password_file=FILE"),
        ("zookeeper://a:1?user=u", "go together"),
        ("zookeeper://a:1?cert=/c", "go together"),
        ("zookeeper://a:1?acl=private", "needs user"),
        ("zookeeper://a:1?acl=all", "none of open"),
        ("zookeeper://a:1?session_timeout=0", "session_timeout"),
        ("zookeeper://a:1/x/../y", "not a path"),
        ("zookeeper://a:1//x", "not a path"),
        ("zookeeper://a:1?prefix=m", "must start with"),
        ("zookeeper://a:1?prefix=/", "must start with"),
        ("zookeeper://a:1?sesion_timeout=3", "none of"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(url, words):
    """Each mistake says what is wrong; a password in the URL is refused and not repeated."""
    with pytest.raises(ConfigurationError, match=words) as refused:
        place_of(urlsplit(url))
    assert "secret" not in str(refused.value)


def test_credentials_are_the_first_line_of_their_file(tmp_path):
    """The file is read when they are needed; a missing one is told with its name."""
    file = tmp_path / "password"
    place = Place(("a:1",), user="u", password_file=str(file))
    with pytest.raises(RegistryError, match=str(file)):
        place.credentials()
    file.write_text("pass:word\r\nmore\n")
    assert place.credentials() == "u:pass:word"


def test_files_that_secure_nothing_are_told(tmp_path):
    """A file of authorities that has none is refused with its name."""
    file = tmp_path / "ca"
    file.write_text("no certificate")
    with pytest.raises(RegistryError, match=str(file)):
        Place(("a:1",), tls=True, ca=str(file)).security()

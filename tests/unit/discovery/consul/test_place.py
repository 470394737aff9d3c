"""What a consul:// URL says."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from meshsdk.discovery.consul.place import Place, place_of
from meshsdk.errors import ConfigurationError, RegistryError


def test_all_parameters():
    """Every part of the URL is where it belongs."""
    url = (
        "consul://a:8501?prefix=/m&dc=east&consistency=stale&timeout=2&wait=30&deregister_after=120&token_file=/t"
        "&ca=/ca&cert=/c&key=/k"
    )
    assert place_of(urlsplit(url)) == Place(
        "a",
        8501,
        prefix="/m",
        dc="east",
        consistency="stale",
        timeout=2.0,
        wait=30.0,
        deregister_after=120.0,
        token_file="/t",  # noqa: S106 - a file
        tls=True,
        ca="/ca",
        cert="/c",
        key="/k",
    )


def test_the_token_is_of_the_environment_or_of_a_file(tmp_path, monkeypatch):
    """CONSUL_HTTP_TOKEN as for Consul's own tools; a file that is named counts more; it is in no representation."""
    place = place_of(urlsplit("consul://a:1"))
    monkeypatch.delenv("CONSUL_HTTP_TOKEN", raising=False)
    assert place.token() == ""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "of-the-environment")
    assert place.token() == "of-the-environment"
    named = place_of(urlsplit(f"consul://a:1?token_file={tmp_path / 'token'}"))
    with pytest.raises(RegistryError, match="token"):
        named.token()
    (tmp_path / "token").write_text("of-the-file\n")
    assert named.token() == "of-the-file"
    assert "of-the" not in repr(named)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("consul://", "not HOST:PORT"),
        ("consul://a", "not HOST:PORT"),
        ("consul://a:1,b:2", "not HOST:PORT"),
        ("consul://token:secret@a:1", "token_file=FILE"),
        ("consul://a:1?token=secret", "token_file=FILE"),
        ("consul://a:1/path", "nothing may follow"),
        ("consul://a:1?consistency=weak", "none of default"),
        ("consul://a:1?deregister_after=5", "between 60"),
        ("consul://a:1?key=/k", "go together"),
        ("consul://a:1?prefix=m", "must start with"),
        ("consul://a:1?datacenter=east", "none of"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(url, words):
    """Each mistake says what is wrong; a token in the URL is refused and not repeated."""
    with pytest.raises(ConfigurationError, match=words) as refused:
        place_of(urlsplit(url))
    assert "secret" not in str(refused.value)

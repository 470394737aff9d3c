"""The files that a URL names: what is read of them, and what is said where that fails."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import pytest

from meshsdk.discovery.etcd.place import place_of
from meshsdk.discovery.url_parameters import Parameters
from meshsdk.discovery.url_secrets import first_line, read_file, tls_context, tls_files, together
from meshsdk.errors import ConfigurationError, RegistryError


def test_the_first_line(tmp_path):
    """A secret is the first line, whatever the file's line ends are, and whatever follows."""
    file = tmp_path / "secret"
    file.write_bytes("pass:wörd \r\n\xff\n".encode() + b"\xff")
    assert first_line(str(file)) == "pass:wörd "


def test_secrets_that_are_no_text(tmp_path):
    """Bytes that are no text are refused by the file's name, without what is in it; so the etcd password's."""
    file = tmp_path / "secret"
    file.write_bytes(b"hunter2\xff")
    place = place_of(urlsplit(f"etcd://127.0.0.1:1?user=me&password_file={file}"))
    for read in (place.password, lambda: first_line(str(file)), lambda: first_line(str(file), "ascii")):
        with pytest.raises(RegistryError, match=r"cannot read '.*secret': it is not (UTF-8|ASCII) text") as refused:
            read()
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("path", ["no/such/file", "null\0"])
def test_files_that_are_not_there(path):
    """A file that cannot be read is named."""
    with pytest.raises(RegistryError, match=r"cannot read '(no/such/file|null.*)': "):
        read_file(path)


def test_certificates(tmp_path):
    """The system's authorities are enough; files that are none are named."""
    assert tls_context("", "", "").verify_mode is ssl.CERT_REQUIRED
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(RegistryError, match=r"cannot use .*ca\.pem"):
        tls_context(str(file), "", "")


def test_parameters_that_go_together():
    """A certificate without its key is refused, and the other way round."""
    assert tls_files(Parameters({"cert": "c", "key": "k"})) == {"ca": "", "cert": "c", "key": "k"}
    for given in ({"cert": "c"}, {"key": "k"}):
        with pytest.raises(ConfigurationError, match="cert and key go together"):
            tls_files(Parameters(given))
    with pytest.raises(ConfigurationError, match="user and password_file go together"):
        together("user", "me", "password_file", "")

"""The files that a registry's URL names: certificates, keys, and a secret (password or token) in a file's first line.

Called by the `place` of adapters: at first to check that parameters go together, and when the client connects to read
the files. Each failure names the file, and none shows what is in it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult

from meshsdk.discovery.url_parameters import Parameters
from meshsdk.errors import ConfigurationError, RegistryError

TLS_FILES = ("ca", "cert", "key")


def tls_files(given: Parameters) -> Mapping[str, str]:
    """Returns the paths of `ca`, `cert` and `key`, "" for none; ConfigurationError for one of the last two alone."""
    files = {name: given.text(name) for name in TLS_FILES}
    together("cert", files["cert"], "key", files["key"])
    return files


def user_of(url: SplitResult, given: Parameters) -> tuple[str, str]:
    """Returns the parameters `user` and `password_file`, "" for none; refuses one alone, and a user in the host."""
    if "@" in url.netloc:
        raise ConfigurationError("write user=NAME&password_file=FILE instead of a password in the URL")
    user, password_file = given.text("user"), given.text("password_file")
    together("user", user, "password_file", password_file)
    return user, password_file


def together(one: str, value: str, other: str, other_value: str) -> None:
    """Refuses one parameter without the other."""
    if bool(value) != bool(other_value):
        raise ConfigurationError(f"{one} and {other} go together")


def read_file(path: str) -> bytes:
    """Returns what is in a file. RegistryError for one that cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise RegistryError(f"cannot read {path!r}: {reason}") from None


def first_line(path: str, encoding: str = "utf-8") -> str:
    """Returns the first line of a file, without its end. RegistryError for a file that cannot be read."""
    try:
        return read_file(path).partition(b"\n")[0].decode(encoding).rstrip("\r")
    except UnicodeDecodeError:
        raise RegistryError(f"cannot read {path!r}: it is not {encoding.upper()} text") from None


def tls_context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """Returns what connections are secured with; without `ca` the system's authorities count.

    RegistryError for a file that cannot be read or used.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(file for file in (ca, cert, key) if file)
        raise RegistryError(f"cannot use {files}: {error.strerror or error}") from None
    return context

"""A kubeconfig file as a login. Called by `place` when the registry's URL names one; needs PyYAML.

Reads clusters, users and contexts as kubectl does. Runs no credential plugins and skips no verification: what asks for
either is refused in words.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import yaml

from meshsdk.discovery.kubernetes.login import Login
from meshsdk.errors import ConfigurationError

_MAX_FILE = 1024 * 1024  # bytes
_FOREIGN_LOGINS = ("exec", "auth-provider", "username", "password", "impersonate", "as")


def login_of_kubeconfig(path: Path, context: str) -> Login:
    """Returns the login of `context`, the file's current one where it is ""; ConfigurationError says what is wrong."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ConfigurationError(f"{path} is larger than {_MAX_FILE} bytes")
        whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ConfigurationError(f"{path} is not YAML") from None
    if not isinstance(whole, dict):
        raise ConfigurationError(f"{path} is not a kubeconfig")
    name = context or _text(whole, "current-context")
    chosen = _named(whole, "contexts", name, "context", path)
    cluster = _named(whole, "clusters", _text(chosen, "cluster"), "cluster", path)
    user = _named(whole, "users", _text(chosen, "user"), "user", path) if _text(chosen, "user") else {}
    if cluster.get("insecure-skip-tls-verify"):
        raise ConfigurationError(f"{path}: insecure-skip-tls-verify is not accepted; name the authority")
    if foreign := [field for field in _FOREIGN_LOGINS if user.get(field)]:
        raise ConfigurationError(f"{path}: a user's {foreign[0]} is not supported; use a token or a certificate")
    server = _text(cluster, "server")
    if not server.startswith(("https://", "http://")):
        raise ConfigurationError(f"{path}: server {server!r} is not a URL")
    folder = path.parent
    return Login(
        server.rstrip("/"),
        token_file=_file(folder, user, "tokenFile"),
        token=_text(user, "token"),
        ca_file=_file(folder, cluster, "certificate-authority"),
        ca=_decoded(cluster, "certificate-authority-data", path),
        cert_file=_file(folder, user, "client-certificate"),
        key_file=_file(folder, user, "client-key"),
        cert=_decoded(user, "client-certificate-data", path),
        key=_decoded(user, "client-key-data", path),
        namespace=_text(chosen, "namespace"),
    )


def _named(whole: dict[object, object], group: str, name: str, field: str, path: Path) -> dict[object, object]:
    entries = whole.get(group)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(field), dict):
            found: dict[object, object] = entry[field]
            return found
    raise ConfigurationError(f"{path}: there is no {field} {name!r}")


def _text(values: dict[object, object], field: str) -> str:
    value = values.get(field)
    return value if isinstance(value, str) else ""


def _file(folder: Path, values: dict[object, object], field: str) -> str:
    """A relative path counts from the folder of the kubeconfig."""
    value = _text(values, field)
    return str(folder / value) if value else ""


def _decoded(values: dict[object, object], field: str, path: Path) -> str:
    try:
        return base64.b64decode(_text(values, field), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ConfigurationError(f"{path}: {field} is not base64 of PEM") from None

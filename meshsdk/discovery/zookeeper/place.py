"""Where a ZooKeeper ensemble is and how to talk to it, read from a URL.

    zookeeper://HOST:PORT[,HOST:PORT ...][/CHROOT]?PARAMETER=VALUE&...

    prefix=/meshsdk        below which (and below the chroot) all nodes are
    session_timeout=15     seconds after which the servers end the session of a process that is silent: the ttl of all
                           instances. Servers have bounds of their own (2 to 20 of their ticks: 4 to 40 s by default)
    timeout=3              seconds for one answer
    user=NAME              who it is in ZooKeeper's digest scheme ...
    password_file=FILE     ... with the first line of FILE (a password in the URL would end up in logs: refused)
    acl=open               who may do what with the nodes made here: `open` (anyone anything; the default without a
                           user), `readable` (anyone reads, the user does the rest; the default with one), `private`
    tls=1                  TLS with the system's authorities; implied by each of the next three
    ca=FILE                PEM of the authorities to trust
    cert=FILE, key=FILE    PEM of the client's certificate and key

Called by `open_url`. Reads files when the client connects, not before.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote

from meshsdk.discovery.entries import DEFAULT_PREFIX
from meshsdk.discovery.url_hosts import hosts_of, prefix_of
from meshsdk.discovery.url_parameters import parameters_of
from meshsdk.discovery.url_secrets import TLS_FILES, first_line, tls_context, tls_files, user_of
from meshsdk.errors import ConfigurationError

_KNOWN = frozenset({"prefix", "session_timeout", "timeout", "user", "password_file", "acl", "tls", *TLS_FILES})
_ACLS = ("open", "readable", "private")


@dataclass(frozen=True, slots=True)
class Place:
    """A ZooKeeper ensemble. `hosts` are `host:port`; times are seconds; "" where there is no user or file."""

    hosts: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    session_timeout: float = 15.0
    timeout: float = 3.0
    user: str = ""
    password_file: str = ""
    acl: str = "open"
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"ZooKeeper {','.join(self.hosts)}"

    def credentials(self) -> str:
        """Returns `user:password`, "" without a user. RegistryError for a file that cannot be read."""
        if not self.user:
            return ""
        return f"{self.user}:{first_line(self.password_file)}"

    def security(self) -> ssl.SSLContext | None:
        """Returns what connections are secured with, None for nothing. RegistryError for a file that cannot be read."""
        if not self.tls:
            return None
        return tls_context(self.ca, self.cert, self.key)


def place_of(url: SplitResult) -> Place:
    """Reads a URL; ConfigurationError says in a few words what is wrong with it."""
    given = parameters_of(url, _KNOWN)
    user, password_file = user_of(url, given)
    acl = given.text("acl", "readable" if user else "open")
    if acl not in _ACLS:
        raise ConfigurationError(f"acl {acl!r} is none of {', '.join(_ACLS)}")
    if acl != "open" and not user:
        raise ConfigurationError(f"acl={acl} needs user and password_file")
    files = tls_files(given)
    return Place(
        tuple(f"{host}:{port}" for host, port in hosts_of(url)),
        _below(unquote(url.path), prefix_of(given)),
        session_timeout=given.seconds("session_timeout", 15.0, 1.0, 120.0),
        timeout=given.seconds("timeout", 3.0, 0.1, 60.0),
        user=user,
        password_file=password_file,
        acl=acl,
        tls=given.switch("tls") or any(files.values()),
        **files,
    )


def _below(chroot: str, prefix: str) -> str:
    joined = f"{chroot.rstrip('/')}{prefix}"
    # kazoo would resolve dots: to somebody else's node.
    if any(segment in ("", ".", "..") or "\0" in segment for segment in joined.split("/")[1:]):
        raise ConfigurationError(f"{joined!r} is not a path such as /mesh/sdk")
    return joined

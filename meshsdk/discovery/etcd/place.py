"""Where an etcd cluster is and how to log in to it, read from a URL.

    etcd://HOST:PORT[,HOST:PORT ...]?PARAMETER=VALUE&...

    prefix=/meshsdk        below which all keys are
    timeout=3              seconds that one operation may take, over all members
    tls=1                  TLS with the system's authorities; implied by ca and cert
    ca=FILE                PEM of the authorities to trust
    cert=FILE, key=FILE    PEM of the client's certificate and key
    user=NAME              logs in as NAME ...
    password_file=FILE     ... with the first line of FILE (a password in the URL would end up in logs: refused)

Called by `open_url` and by the control plane's store. Reads files when the client connects, not before.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult

import grpc

from meshsdk.discovery.entries import DEFAULT_PREFIX
from meshsdk.discovery.url_hosts import hosts_of, no_path, prefix_of
from meshsdk.discovery.url_parameters import parameters_of
from meshsdk.discovery.url_secrets import TLS_FILES, first_line, read_file, tls_files, user_of

_PARAMETERS = ("prefix", "timeout", "tls", *TLS_FILES, "user", "password_file")


@dataclass(frozen=True, slots=True)
class Place:
    """An etcd cluster. `endpoints` are `host:port`, tried in order; `timeout` is seconds per operation."""

    endpoints: tuple[str, ...]
    prefix: str = DEFAULT_PREFIX
    timeout: float = 3.0
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Returns what the channel is secured with, None for none. RegistryError for a file that cannot be read."""
        if not self.tls:
            return None
        authority, key, certificate = (read_file(path) if path else None for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def password(self) -> str:
        """Returns the user's password. RegistryError for a file that cannot be read."""
        return first_line(self.password_file)


def place_of(url: SplitResult, also: Collection[str] = ()) -> Place:
    """Reads a URL; ConfigurationError says in a few words what is wrong with it. `also`: parameters of the caller's."""
    given = parameters_of(url, (*_PARAMETERS, *also))
    user, password_file = user_of(url, given)
    endpoints = [f"{host}:{port}" for host, port in hosts_of(url)]
    no_path(url, "prefix=/PATH")
    files = tls_files(given)
    random.shuffle(endpoints)  # each process begins at another member, so that members share the load
    return Place(
        tuple(endpoints),
        prefix=prefix_of(given),
        timeout=given.seconds("timeout", 3.0, 0.1, 60.0),
        tls=given.switch("tls", default=any(files.values())),
        user=user,
        password_file=password_file,
        **files,
    )

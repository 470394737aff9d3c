"""Where a Consul agent is and how to talk to it, read from a URL.

    consul://HOST:PORT?PARAMETER=VALUE&...

    prefix=/meshsdk        below which keys of revisions and of the service mapping are; instances are Consul's services
    dc=NAME                datacenter that is watched and holds the keys; the agent's own by default
    consistency=default    of reads: `default`, `stale` (any server answers, also without a leader), `consistent`
    timeout=3              seconds for one answer
    wait=55                seconds that a watch waits at the agent for a change (the agent adds up to a sixteenth)
    deregister_after=60    seconds after which Consul removes an instance that lapsed; at least 60, as Consul has it
    token_file=FILE        whose first line is the ACL token; by default the environment's CONSUL_HTTP_TOKEN
    tls=1                  https with the system's authorities; implied by each of the next three
    ca=FILE                PEM of the authorities to trust
    cert=FILE, key=FILE    PEM of the client's certificate and key

Called by `open_url`. Reads files when it connects, not before.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult

from meshsdk.discovery.entries import DEFAULT_PREFIX
from meshsdk.discovery.url_hosts import no_path, prefix_of
from meshsdk.discovery.url_parameters import parameters_of
from meshsdk.discovery.url_secrets import TLS_FILES, first_line, tls_context, tls_files
from meshsdk.errors import ConfigurationError

_CONSISTENCIES = ("default", "stale", "consistent")
_KNOWN = frozenset(
    {"prefix", "dc", "consistency", "timeout", "wait", "deregister_after", "token", "token_file", "tls", *TLS_FILES}
)


@dataclass(frozen=True, slots=True)
class Place:
    """A Consul agent. Times are seconds; "" where there is no datacenter or file."""

    host: str
    port: int
    prefix: str = DEFAULT_PREFIX
    dc: str = ""
    consistency: str = "default"
    timeout: float = 3.0
    wait: float = 55.0
    deregister_after: float = 60.0
    token_file: str = ""
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"Consul {self.host}:{self.port}"

    def token(self) -> str:
        """Returns the ACL token, "" for none. RegistryError for a file that cannot be read."""
        if not self.token_file:
            return os.environ.get("CONSUL_HTTP_TOKEN", "")
        return first_line(self.token_file, "ascii").strip()

    def security(self) -> ssl.SSLContext | None:
        """Returns what connections are secured with, None for none. RegistryError for a file that cannot be read."""
        if not self.tls:
            return None
        return tls_context(self.ca, self.cert, self.key)


def place_of(url: SplitResult) -> Place:
    """Reads a URL; ConfigurationError says in a few words what is wrong with it."""
    given = parameters_of(url, _KNOWN)
    if "@" in url.netloc or given.text("token"):
        raise ConfigurationError("write token_file=FILE, or set CONSUL_HTTP_TOKEN, instead of a token in the URL")
    host, port = _address(url)
    no_path(url, "prefix=/PATH")
    consistency = given.text("consistency", "default")
    if consistency not in _CONSISTENCIES:
        raise ConfigurationError(f"consistency {consistency!r} is none of {', '.join(_CONSISTENCIES)}")
    files = tls_files(given)
    return Place(
        host,
        port,
        prefix=prefix_of(given),
        dc=given.text("dc"),
        consistency=consistency,
        timeout=given.seconds("timeout", 3.0, 0.1, 60.0),
        wait=given.seconds("wait", 55.0, 1.0, 600.0),
        deregister_after=given.seconds("deregister_after", 60.0, 60.0, 86_400.0),
        token_file=given.text("token_file"),
        tls=given.switch("tls") or any(files.values()),
        **files,
    )


def _address(url: SplitResult) -> tuple[str, int]:
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ConfigurationError(f"{url.netloc!r} is not HOST:PORT")
    return host, port

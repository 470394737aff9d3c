"""Where a Redis is and how to log in to it, read from what `--rate-limit-store` says.

    redis://HOST:PORT[/DB]?PARAMETER=VALUE&...      rediss:// for TLS

    timeout=0.5            seconds that a question may wait for Redis
    prefix=NAME            what the names of all counters begin with (meshsdk:ratelimit)
    user=NAME              logs in as NAME, with a password
    password_file=FILE     the password: the first line of FILE, or what MESHCTL_REDIS_PASSWORD says
    ca=FILE                PEM of the authorities to trust (rediss)
    cert=FILE, key=FILE    PEM of the client's certificate and key (rediss)

Called by `opening`. A password in the URL would end up in logs and process lists: refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult

from meshsdk.discovery.url_hosts import hosts_of
from meshsdk.discovery.url_parameters import parameters_of
from meshsdk.discovery.url_secrets import TLS_FILES, first_line, tls_files
from meshsdk.errors import ConfigurationError

PASSWORD = "MESHCTL_REDIS_PASSWORD"  # noqa: S105 - the name of a variable
_PARAMETERS = ("timeout", "prefix", "user", "password_file", *TLS_FILES)
_DATABASE = re.compile(r"/?|/[0-9]{1,5}")
_PREFIX = re.compile(r"[A-Za-z0-9._:{}/-]{1,64}")


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """One Redis. `timeout`: seconds for one question, over all that it takes. Shows no password."""

    host: str
    port: int
    database: int = 0
    prefix: str = "meshsdk:ratelimit"
    timeout: float = 0.5
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Returns it for messages."""
        return f"Redis {self.host}:{self.port}/{self.database}"


def redis_place(url: SplitResult, environment: Mapping[str, str]) -> RedisPlace:
    """Reads a URL of redis or rediss. Raises ConfigurationError in a few words, RegistryError for its files."""
    if "@" in url.netloc:
        raise ConfigurationError(f"write user=NAME and password_file=FILE, or set {PASSWORD}; no password in the URL")
    given = parameters_of(url, _PARAMETERS)
    hosts = hosts_of(url)
    if len(hosts) > 1:
        raise ConfigurationError("one HOST:PORT is expected")
    if not _DATABASE.fullmatch(url.path):
        raise ConfigurationError(f"{url.path!r} is not the number of a database")
    prefix = given.text("prefix", "meshsdk:ratelimit")
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError("prefix has 1 to 64 letters, digits and ._:{}/-")
    tls, files = url.scheme == "rediss", tls_files(given)
    if not tls and any(files.values()):
        raise ConfigurationError("ca, cert and key need rediss://")
    named = given.text("password_file")
    password = first_line(named) if named else environment.get(PASSWORD, "")
    if given.text("user") and not password:
        raise ConfigurationError(f"user needs password_file=FILE, or {PASSWORD}")
    return RedisPlace(
        hosts[0][0].strip("[]"),
        hosts[0][1],
        database=int(url.path.strip("/") or 0),
        prefix=prefix,
        timeout=given.seconds("timeout", 0.5, 0.01, 10.0),
        tls=tls,
        user=given.text("user"),
        password=password,
        **files,
    )

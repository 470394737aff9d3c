"""The part of a registry's URL after the "//": the servers it names, and the prefix of the keys. Pure.

Called by the `place` of adapters. Every refusal is a ConfigurationError of a few words, which never shows what may be
a secret.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult

from meshsdk.discovery.entries import DEFAULT_PREFIX
from meshsdk.discovery.url_parameters import Parameters
from meshsdk.errors import ConfigurationError

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
MAX_PORT = 65_535


def hosts_of(url: SplitResult) -> tuple[tuple[str, int], ...]:
    """Returns the (host, port) of each server in `HOST:PORT[,HOST:PORT ...]`; an IPv6 address keeps its brackets."""
    return tuple(_host_port(each) for each in url.netloc.split(","))


def no_path(url: SplitResult, instead: str) -> None:
    """Refuses a path after the hosts; `instead` is the parameter that was meant, as it is written."""
    if url.path.strip("/"):
        raise ConfigurationError(f"nothing may follow the hosts but ?parameters; write ?{instead}")


def prefix_of(given: Parameters) -> str:
    """Returns the parameter `prefix`, below which all keys are."""
    prefix = given.text("prefix", DEFAULT_PREFIX)
    if not prefix.startswith("/") or prefix.endswith("/"):
        raise ConfigurationError(f"prefix {prefix!r} must start with '/' and not end with it")
    return prefix


def _host_port(text: str) -> tuple[str, int]:
    found = _HOST_PORT.fullmatch(text)
    if not found or not 0 < int(found[2]) <= MAX_PORT:
        raise ConfigurationError(f"{text!r} is not HOST:PORT")
    return found[1], int(found[2])

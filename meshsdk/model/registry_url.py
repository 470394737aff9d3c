"""The URL of a registry as it is written: which schemes there are, and how a message shows one. Pure.

Called when a bootstrap is read (a wrong scheme is refused there), by `meshsdk.discovery.opening` and by whoever names
a registry in a message. What follows the scheme is the adapters' to read.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from meshsdk.errors import ConfigurationError

SCHEMES = ("grpc", "etcd", "zookeeper", "consul", "nacos", "kubernetes", "sqlite", "memory")
_HIDDEN = "***"
_START = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_VALUE = re.compile(r"=[^&]*")


def split_registry_url(url: str) -> SplitResult:
    """Returns the parts of a URL of a known scheme (in lower case); ConfigurationError says what is wrong with it."""
    try:
        parts = urlsplit(url)
    except ValueError:  # whose words may hold the user and the password
        raise ConfigurationError(f"{shown_url(url)!r} is not a URL") from None
    if parts.scheme not in SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigurationError(f"{shown_url(url)!r} is not a registry; its scheme is none of {schemes}")
    return parts


def shown_url(url: str) -> str:
    """Returns a URL as it is written, but for what may be a secret: user, password, parameters' values, fragment."""
    found = _START.match(url)
    start = found.end() if found else 0
    at = url.rfind("@")
    if at >= start and url[start : start + 1] != "/":  # whatever comes before the last "@" may be of a password
        url = f"{url[:start]}{_HIDDEN}{url[at:]}"
    place, mark, fragment = url.partition("#")
    place, query_mark, query = place.partition("?")
    return f"{place}{query_mark}{_VALUE.sub(f'={_HIDDEN}', query)}{mark}{_HIDDEN if fragment else ''}"

"""Opens the store that an `etcd://` URL names. Called by `store.open`; dials nothing, `start` does.

etcd://HOST:PORT[,HOST:PORT ...]?PARAMETER=VALUE&...

grace=15       seconds that an instance is kept which vanished because etcd was away, so that it can register again
timeout=2, prefix=/meshsdk, tls, ca, cert, key, user, password_file: see `meshsdk.discovery.etcd.place`
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

from controlplane.store.etcd.contents import GRACE
from controlplane.store.etcd.store import EtcdStore
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import place_of
from meshsdk.errors import ConfigurationError

_LONGEST_GRACE = 3_600.0  # seconds
_TIMEOUT = 2.0  # seconds, unless the URL says otherwise: less than an SDK waits for the control plane


def open_etcd_store(url: str) -> EtcdStore:
    """Returns the store, not yet started. ConfigurationError says what is wrong with the URL."""
    parts = urlsplit(url)
    try:
        place = place_of(parts, also=("grace",))
        grace = _grace(parts.query)
    except ConfigurationError as error:
        raise ConfigurationError(f"--store {url!r}: {error}; expected etcd://HOST:PORT[,HOST:PORT]") from None
    if "timeout=" not in parts.query:
        place = replace(place, timeout=_TIMEOUT)
    return EtcdStore(EtcdClient(place), place.prefix, place.timeout, grace)


def _grace(query: str) -> float:
    text = dict(parse_qsl(query, keep_blank_values=True)).get("grace", str(GRACE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= _LONGEST_GRACE:
        raise ConfigurationError(f"grace {text!r} is not between 0 and {_LONGEST_GRACE:g} seconds")
    return seconds

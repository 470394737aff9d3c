"""etcd as a registry, and the small client under it (`client`, `prefix`), which the control plane's store uses too.

`open_url` is called by `meshsdk.discovery.opening`; the parameters of an `etcd://` URL are told in `place`.
"""

from __future__ import annotations

from urllib.parse import SplitResult

from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import place_of
from meshsdk.discovery.etcd.registry import EtcdRegistry


def open_url(url: SplitResult) -> EtcdRegistry:
    """Returns the registry at `etcd://HOST:PORT[,HOST:PORT]?prefix=/meshsdk&...`; ConfigurationError in a few words."""
    place = place_of(url)
    return EtcdRegistry(EtcdClient(place), place.prefix)

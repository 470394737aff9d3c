"""ZooKeeper as a registry, over kazoo (extra `zookeeper`).

`open_url` is called by `meshsdk.discovery.opening`; the parameters of a `zookeeper://` URL are told in `place`.
"""

from __future__ import annotations

from urllib.parse import SplitResult

from meshsdk.discovery.zookeeper.place import place_of
from meshsdk.discovery.zookeeper.registry import ZooKeeperRegistry
from meshsdk.discovery.zookeeper.session import Session


def open_url(url: SplitResult) -> ZooKeeperRegistry:
    """Returns the registry at `zookeeper://HOST:PORT[,HOST:PORT]/chroot?...`; ConfigurationError in a few words."""
    place = place_of(url)
    return ZooKeeperRegistry(Session(place), place.prefix)

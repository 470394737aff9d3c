"""Nacos 2 and 3 as a registry, over its own gRPC protocol (no extra; docs/adr/005-nacos-over-its-own-protocol.md).

    nacos://HOST:PORT[,HOST:PORT][?parameters]       `place` has the parameters

An application is a service; the unit is the Nacos cluster. Instances are ephemeral: they last as long as the connection
that registered them. docs/registries.md has the mapping.
"""

from __future__ import annotations

from urllib.parse import SplitResult

from meshsdk.discovery.nacos.place import place_of
from meshsdk.discovery.nacos.registry import NacosRegistry


def open_url(url: SplitResult) -> NacosRegistry:
    """Opens a URL as above; dials nothing. ConfigurationError says what is wrong."""
    return NacosRegistry(place_of(url))

"""Consul as a registry, over the HTTP API of an agent.

`open_url` is called by `meshsdk.discovery.opening`; the parameters of a `consul://` URL are told in `place`.
"""

from __future__ import annotations

from urllib.parse import SplitResult

from meshsdk.discovery.consul.agent import Agent
from meshsdk.discovery.consul.place import place_of
from meshsdk.discovery.consul.registry import ConsulRegistry


def open_url(url: SplitResult) -> ConsulRegistry:
    """Returns the registry at `consul://HOST:PORT?...`; ConfigurationError in a few words."""
    return ConsulRegistry(Agent(place_of(url)))

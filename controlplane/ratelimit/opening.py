"""Opens the store of counts that `--rate-limit-store` names. Called by `assembly`."""

from __future__ import annotations

import importlib
import os
from urllib.parse import urlsplit

from controlplane.ratelimit.counters import CounterStore
from controlplane.ratelimit.memory import MemoryCounters
from controlplane.ratelimit.redis_place import redis_place
from meshsdk.errors import ConfigurationError, MeshError
from meshsdk.model.registry_url import shown_url


def open_counters(text: str) -> CounterStore:
    """Opens `memory` or a Redis; connects to nothing yet. Raises ConfigurationError."""
    if text == "memory":
        return MemoryCounters()
    where = f"--rate-limit-store {shown_url(text)}"
    try:
        url = urlsplit(text)
    except ValueError:
        raise ConfigurationError(f"{where}: not a URL") from None
    if url.scheme not in {"redis", "rediss"}:
        raise ConfigurationError(f"{where}: expected memory, or redis://HOST:PORT/DB (rediss: with TLS)")
    try:
        place = redis_place(url, os.environ)
    except MeshError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    store: CounterStore = importlib.import_module("controlplane.ratelimit.redis_store").RedisCounters(place)
    return store

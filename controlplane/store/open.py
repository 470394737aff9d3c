"""Opens the store that a command line names. Called by `meshctl serve` and by the embedded control plane."""

from __future__ import annotations

from controlplane.store.memory import MemoryStore
from controlplane.store.port import Store, StoreError
from controlplane.store.sqlite import SqliteStore


def open_store(name: str) -> Store:
    """Opens `memory` or `sqlite:PATH`. Raises StoreError, for what this version cannot open as well."""
    if name == "memory":
        return MemoryStore()
    scheme, _, rest = name.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteStore(rest)
    if scheme == "etcd":
        raise StoreError(f"the store {name} is not available in this version; use memory or sqlite:PATH")
    raise StoreError(f"unknown store {name!r}; expected memory or sqlite:PATH")

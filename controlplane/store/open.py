"""Opens the store that a command line names. Called by `meshctl serve` and by the embedded control plane."""

from __future__ import annotations

from controlplane.store.memory import MemoryStore
from controlplane.store.port import Store, StoreError
from controlplane.store.shared import SharedStore
from controlplane.store.sqlite import SqliteStore


def open_store(name: str) -> Store | SharedStore:
    """Opens `memory`, `sqlite:PATH` or `etcd://HOST:PORT[,HOST:PORT]`.

    Raises StoreError where it cannot be, ConfigurationError for an address that is none.
    """
    if name == "memory":
        return MemoryStore()
    scheme, _, rest = name.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteStore(rest)
    if scheme == "etcd" and rest.startswith("//"):
        from controlplane.store.etcd.opening import open_etcd_store  # noqa: PLC0415 - gRPC: not for every command

        return open_etcd_store(name)
    raise StoreError(f"unknown store {name!r}; expected memory, sqlite:PATH or etcd://HOST:PORT")

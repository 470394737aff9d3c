"""Registers in a SQLite registry and renews as fast as it can; sets the states that it reads from standard input."""

from __future__ import annotations

import sys
import threading

from meshsdk.discovery.opening import open_registry
from meshsdk.model.instance import Instance, InstanceState

registry = open_registry(sys.argv[1], "the command line")
lease = registry.register(Instance("orders", sys.argv[2], f"10.0.0.{int(sys.argv[2]) + 1}:50051"), 3.0)


def renew() -> None:
    """Renews for as long as the process lives."""
    while True:
        registry.renew(lease)


threading.Thread(target=renew, daemon=True).start()
print("registered", flush=True)
for line in sys.stdin:
    registry.set_state(lease, InstanceState(line.strip()))
    print("done", flush=True)

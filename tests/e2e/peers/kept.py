"""An instance with a short lease, kept as the SDK keeps one: renewed, and registered again when it is lost.

Goes through whatever control plane answers. For tests that cannot wait for the SDK's own lease to run out.
"""

from __future__ import annotations

import threading
import time

from meshsdk.discovery.registry import Lease, LeaseLapsed, Registrar
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance


class Kept:
    """A thread from the start to `stop` or `leave`. `registries` are tried in order, from the one that last worked."""

    def __init__(self, instance: Instance, *registries: Registrar, ttl: float = 2.0) -> None:
        self.instance = instance
        self._registries = list(registries)
        self.ttl = ttl
        self._lease: Lease | None = None  # owned by the thread until it has ended
        self._ended = threading.Event()
        self.registered = threading.Event()
        self.registrations = 0  # written by the thread
        self._heard = time.monotonic()  # written by the thread
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def silence(self) -> float:
        """Seconds since the lease was last granted or renewed."""
        return time.monotonic() - self._heard

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                if self._lease is None:
                    self._lease = self._registries[0].register(self.instance, self.ttl)
                    self.registrations += 1
                    self.registered.set()
                else:
                    self._registries[0].renew(self._lease)
                self._heard = time.monotonic()
            except LeaseLapsed:
                self._lease = None
                continue
            except RegistryError:
                self._registries.append(self._registries.pop(0))
            self._ended.wait(self.ttl / 4)

    def stop(self) -> None:
        """Goes without a word."""
        self._ended.set()
        self._thread.join()

    def leave(self) -> None:
        """Deregisters."""
        self.stop()
        if self._lease is not None:
            self._registries[0].deregister(self._lease)

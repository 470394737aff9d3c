"""This control plane's place among those that share a store: a key under a lease, renewed every second.

Made by `store`. Two uses: the others (and `meshctl status`) see who runs, and the renewals tell from moment to moment
whether etcd is in touch, also while nothing else is asked of it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

from controlplane.store.etcd.layout import StoreLayout
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError

_LOG = logging.getLogger(__name__)
_EVERY = 1.0  # seconds
_LATE = 2.5  # seconds without an answer: from then on etcd counts as not in touch
_TTL = 10.0  # seconds


class Presence:
    """A thread from `start` to `stop`; the rest may be asked from any.

    `meanwhile` is called on the thread after each renewal; it may raise RegistryError. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        client: EtcdClient,
        layout: StoreLayout,
        meanwhile: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._client = client
        self._meanwhile = meanwhile
        self._key = layout.replica(secrets.token_hex(8))
        about = {"host": socket.gethostname(), "pid": os.getpid(), "started_at": time.time()}
        self._about = json.dumps(about).encode()
        self._lease = 0  # owned by the thread; 0 for none
        self._answered = self._clock()  # written by the thread, as are the next two
        self._silent_until = float("-inf")  # a silence ended not long before this moment
        self._problem = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-plane-presence", daemon=True)

    @property
    def problem(self) -> str:
        """Why etcd does not take renewals at present, or ""."""
        return self._problem

    def late(self, now: float) -> bool:
        """Tells whether etcd is, or was a moment ago, silent for so long that leases may have run out meanwhile."""
        return self._silent(now) or now < self._silent_until

    def check(self) -> None:
        """Raises RegistryError while etcd is known to be away: who asks need not wait to learn it."""
        if self._problem:
            raise RegistryError(self._problem)

    def start(self) -> None:
        """Starts the thread."""
        self._answered = self._clock()
        self._thread.start()

    def stop(self) -> None:
        """Ends it, and takes the key away if etcd is in touch. Idempotent."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._lease and not self._problem:
            try:
                self._client.revoke(self._lease)
            except RegistryError as error:
                _LOG.debug("the presence in %s is left to lapse: %s", self._client.name, error)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.beat()
            self._ended.wait(_EVERY)

    def beat(self) -> None:
        """Renews once. Called by the thread, and by tests in its place."""
        try:
            self._renew()
            now = self._clock()
            if self._silent(now):
                self._silent_until = now + _LATE
            self._problem, self._answered = "", now
            self._meanwhile()
        except RegistryError as error:
            self._problem = str(error)

    def _silent(self, now: float) -> bool:
        return now - self._answered > _LATE or bool(self._problem)

    def _renew(self) -> None:
        if self._lease:
            try:
                self._client.keep_alive(self._lease)
                return
            except LeaseLapsed:
                self._lease = 0
        lease = self._client.grant(_TTL).id
        self._client.put(self._key, self._about, lease)
        self._lease = lease

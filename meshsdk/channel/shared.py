"""What all scopes of a mesh share of the policies' state: breakers count, and gates remember, for the whole process.

Made by `mesh.Mesh`, handed to its scopes and from there to every target; a scope that was given none has its own.
"""

from __future__ import annotations

import random
import threading
import weakref
from typing import NamedTuple

from meshsdk.channel.breakers import Breakers
from meshsdk.channel.mirrored import Mirrored
from meshsdk.interceptors.policies import gates
from meshsdk.interceptors.policies.gate import Gate
from meshsdk.model.filters import FilterConfig, LocalRateLimit, RateLimitService


class GateKey(NamedTuple):
    """What a gate is one of. `place`: where its configuration comes from, so that two routes' buckets are two."""

    target: str
    filter: str
    place: object
    config: FilterConfig


class KeptGate:
    """A gate, or None for a filter that keeps no call back; as long as some plan in force holds it, it is the one."""

    __slots__ = ("__weakref__", "gate")

    def __init__(self, gate: Gate | None) -> None:
        """Holds it."""
        self.gate = gate


class Shared:
    """State of policies. Safe from any thread. `app`: this process's own application, "" where it has no name."""

    def __init__(self, app: str = "") -> None:
        """`app` is told to gates (rate limits by `source_cluster`)."""
        self.app = app
        self.breakers = Breakers()
        self.mirrored = Mirrored()
        self._lock = threading.Lock()
        self._gates: weakref.WeakValueDictionary[GateKey, KeptGate] = weakref.WeakValueDictionary()

    def gate(self, key: GateKey) -> KeptGate:
        """Returns the gate of a filter: the one in force where its configuration did not change, with what it counted.

        Raises ValueError for a configuration that cannot be used (codecs refuse it before).
        """
        with self._lock:
            kept = self._gates.get(key)
            if kept is None:
                config = key.config
                actions = config.rate_limits if isinstance(config, LocalRateLimit | RateLimitService) else ()
                made = gates.make(config, actions, random.random, threading.Lock)
                kept = self._gates[key] = KeptGate(made)
            return kept

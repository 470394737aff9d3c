"""What became of the responses of one xDS server, in numbers: gRFC A78's, and ACKs and NACKs.

Written by `AdsMachine` and `ServerLink` on the driver thread; read by metrics from any thread.
"""

from __future__ import annotations

from meshsdk.model.resources import Kind


class StreamTally:
    """Counts by kind of resource. Thread rule: written by the driver thread alone; a reader sees each number whole."""

    __slots__ = ("__weakref__", "acks", "failures", "invalid", "nacks", "valid")

    def __init__(self) -> None:
        self.failures = 0
        """How often the server went from reachable to unreachable (A57)."""
        self.valid = dict.fromkeys(Kind, 0)
        self.invalid = dict.fromkeys(Kind, 0)
        self.acks = dict.fromkeys(Kind, 0)
        self.nacks = dict.fromkeys(Kind, 0)

    def took(self, kind: Kind, accepted: int, refused: int) -> None:
        """A response was taken over: resources `accepted` and `refused` in it; one refused makes it a NACK."""
        self.valid[kind] += accepted
        self.invalid[kind] += refused
        answers = self.nacks if refused else self.acks
        answers[kind] += 1

"""The shim as upgrades and interception see it."""

from __future__ import annotations

from typing import Protocol

from meshsdk.shim.enrolment import Enrolment
from meshsdk.shim.envoy.supervision import Supervision
from meshsdk.shim.presence import Presence
from meshsdk.shim.settings import Settings


class Shim(Protocol):
    """A running shim. `presence` is None where no application is registered: there is no inbound listener."""

    @property
    def settings(self) -> Settings:
        """What it was asked to be."""

    @property
    def supervision(self) -> Supervision:
        """Its Envoy."""

    @property
    def presence(self) -> Presence | None:
        """Its application in the registry."""

    @property
    def enrolment(self) -> Enrolment:
        """Itself in the registry."""

"""What routes would do with calls, read from the bytes of an RDS resource as a control plane would send them.

Loaded by name by `meshctl diff-routes`: what is asked here is the SDK's own codec and its own matching.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshsdk.errors import ConfigurationError
from meshsdk.model.resources import Kind, RouteConfiguration
from meshsdk.routing.domains import best_match
from meshsdk.routing.explained import Decision, DescribedCall, Taken, decide
from meshsdk.xds_client.codec.decoding import decode


class WhatIf:
    """The routes of one target. Read-only after init."""

    def __init__(self, routes: bytes | None, authority: str) -> None:
        """`routes`: a serialised RouteConfiguration; None: the control plane has no such resource.

        Raises InvalidResource for bytes that the SDK would refuse.
        """
        self._problem = f"no routes for {authority!r}"
        self._host = None
        if routes is not None:
            resource = decode(Kind.ROUTE, routes)[1]
            if not isinstance(resource, RouteConfiguration):
                raise ConfigurationError("the bytes are those of another resource than a RouteConfiguration")
            self._host = best_match(authority, resource.virtual_hosts)

    def decide(
        self, method: str, metadata: tuple[tuple[str, str], ...], fields: Mapping[str, tuple[str, ...]] | None
    ) -> Decision:
        """Returns what becomes of such calls; see `DescribedCall`."""
        if self._host is None:
            return Decision((), (Taken("", "", 1.0, self._problem),))
        return decide(self._host, DescribedCall(method, metadata, fields))

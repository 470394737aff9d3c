"""What a service registry tells of one set of instances: from `meshsdk.discovery` to the session of the xDS client."""

from __future__ import annotations

from dataclasses import dataclass

from meshsdk.model.resources import ClusterEndpoints
from meshsdk.model.snapshot import Key


@dataclass(frozen=True, slots=True)
class Told:
    """The endpoints of a key (`Kind.INSTANCES`), or the `problem` in words why there are none, or only old ones.

    `note`: what is to be known of endpoints that are in force (none at all, or some in doubt), "" as a rule.
    `origin` names the registry, or "cache" where the endpoints are those that an earlier process knew last.
    """

    key: Key
    endpoints: ClusterEndpoints | None
    problem: str = ""
    origin: str = ""
    note: str = ""

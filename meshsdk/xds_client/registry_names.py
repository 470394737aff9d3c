"""Refuses clusters that name a service registry which this client does not have. Pure.

A layer on the codec, which knows no bootstrap: made by `XdsClient` around its `Decode`.
"""

from __future__ import annotations

from collections.abc import Collection

from meshsdk.errors import InvalidResource
from meshsdk.model.resources import Cluster, Kind, RegistrySource, Resource
from meshsdk.xds_client.intake import Decode

_SHOWN = 80  # characters of a foreign name that a NACK repeats


def checking(decode: Decode, registries: Collection[str]) -> Decode:
    """Returns `decode` with the refusal; `registries` are the names in the bootstrap's `meshsdk.registries`."""

    def checked(
        kind: Kind, raw: bytes, previous: Resource | None = None, previous_raw: bytes = b""
    ) -> tuple[str, Resource]:
        name, resource = decode(kind, raw, previous, previous_raw)
        if isinstance(resource, Cluster) and isinstance(resource.source, RegistrySource):
            registry = resource.source.registry
            if registry not in registries:
                known = ", ".join(sorted(registries)) or "none"
                raise InvalidResource(
                    f"Cluster {name!r}: cluster_type.typed_config.value.registry: {registry[:_SHOWN]!r} is not among "
                    f"meshsdk.registries of this client's bootstrap ({known})",
                    name,
                )
        return name, resource

    return checked

"""Instances as services see them: all but the shims, which are no application that anybody calls. Pure.

Shims register in the same registry, under `meshsdk.shim`; only the ShimSet controller reads them. Kept by the plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from controlplane.model.shims import SHIM_APP
from controlplane.registries.layers import Group, Hidden, Layers


class Served(Mapping[str, Group]):
    """Application -> id -> instance over all layers, without the shims. A live view; guarded by the plane's lock."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def __getitem__(self, app: str) -> Group:
        if app == SHIM_APP:
            raise KeyError(app)
        return self._layers[app]

    def __iter__(self) -> Iterator[str]:
        return (app for app in self._layers if app != SHIM_APP)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def shims(self) -> Group:
        """Returns the shims, by id."""
        return self._layers.get(SHIM_APP, {})

    def conflicts(self) -> Iterator[Hidden]:
        """Yields every instance, shims included, that is hidden by one of a higher layer."""
        return self._layers.conflicts()

"""The meshes of this process that can say what they hold. Asked by `csds` and by the admin socket."""

from __future__ import annotations

from typing import Any

from meshsdk import facade
from meshsdk.xds_client.client import Dump


def engines() -> list[Any]:
    """Returns the engines of all meshes that are open, in the order of their making."""
    return [mesh.engine for mesh in facade.meshes()]


def dumps() -> list[Dump]:
    """Returns what each of them holds."""
    return [engine.dump() for engine in engines()]

"""The one exception tree of the SDK. Imported by every layer, imports nothing.

Errors of a *call* are `grpc.RpcError`s with a status code, as on a plain channel; the classes here are for
everything else: configuration, start-up, use after close.
"""

from __future__ import annotations


class MeshError(Exception):
    """Root of all errors raised by meshsdk and its control plane."""


class ConfigurationError(MeshError):
    """Input of a user (bootstrap, YAML, target, decorator) cannot be used; says what, where and what to do."""


class BootstrapError(ConfigurationError):
    """The bootstrap (gRFC A27 "xDS Client Bootstrap File") is missing, unreadable or not valid."""


class InvalidResource(MeshError):
    """An xDS resource is not acceptable. `str(error)` is the text of the NACK (`error_detail.message`).

    `name`: the resource's name as its own bytes say it, "" where it could not be read.
    """

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


class RegistryError(MeshError):
    """A service registry refused an operation or cannot be reached."""


class LifecycleError(MeshError):
    """An operation does not fit the state of the mesh, server or service (for example use after close)."""
